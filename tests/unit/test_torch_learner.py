"""The torch learner: views, samples, buffers, seeds, optimizers, state."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

from collegium import data, dl

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'collegium[torch]'")
nn = torch.nn

SIZES = (64, 16, 10)


def mlp():
    return nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


def parts(n=6, **options):
    return data.digits().partition(n, **{"kind": "shards", "shards": 2, "seed": 1, **options})


def simulate(model=mlp, n=6, **options):
    options = {"local_steps": 3, "batch_size": 8, "lr": 0.1, "seed": 5, "data": None, **options}
    if options["data"] is None:
        options["data"] = parts(n)
    return dl.Simulation(dl.topology.ring(n), model=model, **options)


# ---- the same as the native learner ----


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}])
def test_same_samples_and_the_same_models_as_the_native_learner(options):
    torch_sim = simulate(schedule=dl.SkipTrain(2, 1), **options)
    native = simulate(dl.models.MLP(*SIZES), schedule=dl.SkipTrain(2, 1), **options)
    names = {"0.weight": "fc1.weight", "0.bias": "fc1.bias", "2.weight": "fc2.weight", "2.bias": "fc2.bias"}
    for theirs, ours in names.items():
        torch_sim.population.parameter(theirs)[...] = native.population.parameter(ours)
    a, b = torch_sim.run(9, eval_every=3), native.run(9, eval_every=3)
    np.testing.assert_allclose(torch_sim.population.X, native.population.X, atol=2e-5)
    np.testing.assert_allclose(a.column("loss"), b.column("loss"), rtol=1e-4)
    np.testing.assert_allclose(a.column("accuracy"), b.column("accuracy"), atol=1 / 360)
    assert torch_sim.learner.steps_done.tolist() == native.learner.steps_done.tolist()


def test_a_plain_torch_loop_gives_the_same_bits():
    sim = simulate(n=2, exchange=dl.Mixing(weights=np.eye(2)), local_steps=7)
    rows = sim.population.X.copy()
    sim.run(1)
    own = sim.learner.parts.indices
    from collegium import _core

    for i in range(2):
        module = mlp()
        torch.nn.utils.vector_to_parameters(torch.from_numpy(rows[i].copy()), module.parameters())
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        picked, starts = _core.sample_batches(5, i, 0, 7, len(own[i]), 8)
        for t in range(7):
            x, y = sim.learner.parts.dataset.fetch(own[i][picked[starts[t] : starts[t + 1]]])
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(torch.from_numpy(x)), torch.from_numpy(y)).backward()
            optimizer.step()
        want = torch.nn.utils.parameters_to_vector(module.parameters()).detach().numpy()
        np.testing.assert_array_equal(sim.population.X[i], want)


# ---- views ----


def test_a_module_of_ones_own_is_a_view():
    sim = simulate()
    module = sim.learner.module(3)
    with torch.no_grad():
        module[2].bias.fill_(7.0)
    assert (sim.population.parameter("2.bias")[3] == 7).all() and not (sim.population.parameter("2.bias")[2] == 7).any()
    sim.population.X[3] = 0
    assert float(module[0].weight.detach().abs().sum()) == 0
    with pytest.raises(ValueError, match="i: expected 0 to 5, got 6"):
        sim.learner.module(6)


class Moves(nn.Module):
    """Breaks its views while it is trained, in one of several ways."""

    def __init__(self, how):
        super().__init__()
        self.fc, self.how = nn.Linear(64, 10), how

    def forward(self, x):
        if self.training and self.how == "to":
            self.fc.to(torch.float64).to(torch.float32)
        if self.training and self.how == "parametrization" and not hasattr(self.fc, "parametrizations"):
            torch.nn.utils.parametrizations.weight_norm(self.fc)
        if self.training and self.how == "replaced":
            self.fc.weight = nn.Parameter(self.fc.weight.detach().clone())
        return self.fc(x)


class Rebinds(torch.optim.SGD):
    def step(self, closure=None):
        loss = super().step(closure)
        for group in self.param_groups:
            for p in group["params"]:
                p.data = p.data.clone()
        return loss


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("to", r"'fc\.weight' of node 0 is no longer a view of its row after training: \.to\(\), a parametrization"),
        ("replaced", r"'fc\.weight' of node 0 is no longer a view"),
        ("parametrization", r"the parameters \[.*original0.*\] came or went"),
    ],
)
def test_broken_views_are_refused_with_the_reason(how, text):
    with pytest.raises(RuntimeError, match=text):
        simulate(lambda: Moves(how)).run(1)


def test_an_optimizer_that_replaces_parameters_is_refused():
    sim = simulate(optimizer=lambda p: Rebinds(p, lr=0.1), lr=0.1)
    with pytest.raises(RuntimeError, match=r"'0\.weight' of node 0 is no longer a view"):
        sim.run(1)


def test_parametrizations_and_shared_weights_made_by_the_function_train():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.utils.parametrizations.weight_norm(nn.Linear(64, 64))
            self.b, self.c = nn.Linear(64, 64), nn.Linear(64, 10)
            self.b.weight = self.a.parametrizations.weight.original1

        def forward(self, x):
            return self.c(torch.relu(self.b(torch.relu(self.a(x)))))

    sim = simulate(Tied)
    assert [n for n in sim.population.shapes if n.startswith("b.")] == ["b.bias"]
    before = sim.population.X.copy()
    sim.run(2)
    assert np.abs(sim.population.X - before).max() > 1e-3 and np.isfinite(sim.population.X).all()


# ---- initial models ----


def test_initial_models_are_seeded_and_leave_the_generator_alone():
    torch.manual_seed(3)
    state = torch.get_rng_state()
    a, b, c, own = simulate(), simulate(), simulate(seed=6), simulate(init="own")
    a.run(1)
    b.run(1)
    assert torch.equal(state, torch.get_rng_state())
    np.testing.assert_array_equal(a.population.X, b.population.X)
    assert not np.array_equal(a.population.X, c.population.X)
    assert len(np.unique(own.population.X[:, 0])) == 6
    module = mlp()
    given = simulate(module)
    for name, p in module.named_parameters():
        np.testing.assert_array_equal(given.population.parameter(name)[4], p.detach().numpy())
    with pytest.raises(ValueError, match="init: 'own' needs a function that makes a model, got a module"):
        simulate(module, init="own")


def test_warm_start_from_a_state_dict_and_from_a_file(tmp_path):
    from safetensors.torch import save_file

    module = nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Linear(16, 10))
    with torch.no_grad():
        module[1].running_mean.fill_(2.5)
    make = lambda: nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Linear(16, 10))
    path = tmp_path / "m.safetensors"
    save_file(module.state_dict(), path)
    for init in (module.state_dict(), str(path), path):
        sim = simulate(make, init=init)
        got = sim.learner.module(5).state_dict()
        assert all(torch.equal(got[k], v) for k, v in module.state_dict().items())
    with pytest.raises(ValueError, match=r"init: missing \['0\.bias'.* not known here \['x'\]"):
        simulate(make, init={"x": np.zeros(3)})
    with pytest.raises(ValueError, match=r"init\['0\.weight'\]: expected shape \(16, 64\), got \(16, 63\)"):
        simulate(make, init={**module.state_dict(), "0.weight": torch.zeros(16, 63)})
    with pytest.raises(ValueError, match="init: expected one of 'common', 'own'"):
        simulate(make, init="no such file")
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="is no safetensors file"):
        simulate(make, init=path)


def test_nodes_whose_models_differ_are_refused():
    made = []

    def grows():
        made.append(None)
        return nn.Linear(64, 10 if len(made) < 4 else 11)

    with pytest.raises(
        ValueError, match="expected the same parameters for every node, node 2 differs in '(bias|weight)'"
    ):
        simulate(grows, init="own")


# ---- buffers ----


class Counting(nn.Module):
    """Floating and integer buffers, one of them replaced in every step."""

    def __init__(self):
        super().__init__()
        self.norm, self.fc = nn.BatchNorm1d(64), nn.Linear(64, 10)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        if self.training:
            self.seen = self.seen + len(x)
        return self.fc(self.norm(x))


def test_local_buffers_stay_with_their_node():
    sim = simulate(Counting, schedule=dl.DPSGD())
    assert not any("running" in name or name == "seen" for name in sim.population.shapes)
    sim.run(2)
    states = [sim.learner.module(i).state_dict() for i in range(6)]
    assert all(float(s["seen"]) == 2 * 3 * 8 and int(s["norm.num_batches_tracked"]) == 6 for s in states)
    assert not torch.equal(states[0]["norm.running_mean"], states[1]["norm.running_mean"])


def test_floating_buffers_travel_on_request_and_integers_stay_said_once():
    with pytest.warns(UserWarning, match="'norm.num_batches_tracked' hold integers and are not averaged") as caught:
        sim = simulate(Counting, buffers="average", exchange=dl.Mixing(weights=np.full((6, 6), 1 / 6)))
    assert len(caught) == 1
    assert list(sim.population.shapes)[-3:] == ["seen", "norm.running_mean", "norm.running_var"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sim.run(2)
    states = [sim.learner.module(i).state_dict() for i in range(6)]
    assert all(torch.allclose(s["norm.running_mean"], states[0]["norm.running_mean"]) for s in states)
    assert all(float(s["seen"]) == pytest.approx(48) and int(s["norm.num_batches_tracked"]) == 6 for s in states)
    hooked = []
    with pytest.warns(UserWarning, match="hold integers"):
        sim = simulate(Counting, buffers="average", gradient_hook=lambda g, **_: hooked.append(g.shape))
    sim.run(1)
    assert set(hooked) == {(1, sim.population.size)}


def test_the_average_model_gets_the_average_of_local_buffers():
    sim = simulate(Counting)
    sim.run(1)
    mean = sim.population.X.mean(0, dtype=np.float64).astype(np.float32)
    module = Counting()
    states = [sim.learner.module(i).state_dict() for i in range(6)]
    at = 0
    for _, p in module.named_parameters():
        p.data = torch.from_numpy(mean[at : at + p.numel()]).view_as(p)
        at += p.numel()
    module.norm.running_mean = torch.stack([s["norm.running_mean"] for s in states]).mean(0)
    module.norm.running_var = torch.stack([s["norm.running_var"] for s in states]).mean(0)
    x, y = sim.learner.parts.dataset.fetch_test(np.arange(360))
    with torch.no_grad():
        want = float((module.eval()(torch.from_numpy(x)).argmax(1).numpy() == y).mean())
    assert sim.history.last["mean_model_accuracy"] == pytest.approx(want, abs=1e-12)


# ---- randomness, optimizers ----


def dropout():
    return nn.Sequential(nn.Linear(64, 32), nn.Dropout(0.5), nn.Linear(32, 10))


def test_dropout_is_seeded_by_node_and_round():
    whole, cut, other = simulate(dropout), simulate(dropout), simulate(dropout, seed=6)
    whole.run(4)
    for total in (1, 3, 4):
        torch.manual_seed(total)  # whatever happens to the generator in between
        cut.run(total)
    other.run(4)
    np.testing.assert_array_equal(whole.population.X, cut.population.X)
    assert not np.array_equal(whole.population.X, other.population.X)
    one = simulate(dropout, n=2, data=[parts(2)[0]] * 2, test=parts(2)[1], exchange=dl.Mixing(weights=np.eye(2)))
    one.run(1)
    assert not np.array_equal(one.population.X[0], one.population.X[1])  # own masks (and own order of samples)


@pytest.mark.parametrize("kind", ["torch", "native"])
def test_trap_8_reset_optimizer(kind):
    model = mlp if kind == "torch" else dl.models.MLP(*SIZES)
    ends = {}
    for momentum in (0.0, 0.9):
        for mode in ("never", "every_round", "after_sync"):
            sim = simulate(model, schedule=dl.SkipTrain(2, 2), momentum=momentum, reset_optimizer=mode)
            sim.run(8)
            ends[momentum, mode] = sim.population.X.copy()
    for mode in ("every_round", "after_sync"):
        np.testing.assert_array_equal(ends[0.0, "never"], ends[0.0, mode])
        assert not np.array_equal(ends[0.9, "never"], ends[0.9, mode])
    assert not np.array_equal(ends[0.9, "every_round"], ends[0.9, "after_sync"])
    with pytest.raises(ValueError, match="reset_optimizer: expected one of 'never'"):
        simulate(model, reset_optimizer="sometimes")


@pytest.mark.parametrize("kind", ["torch", "native"])
def test_learning_rate_as_a_function_of_the_round(kind):
    model = mlp if kind == "torch" else dl.models.MLP(*SIZES)
    asked = []

    def rate(round):
        asked.append(round)
        return 0.1 if round < 2 else 1e-12

    sim = simulate(model, lr=rate, exchange=dl.Mixing(weights=np.eye(6)))
    sim.run(2)
    at_two = sim.population.X.copy()
    sim.run(4)
    np.testing.assert_allclose(sim.population.X, at_two, atol=1e-6)
    assert set(asked) == {0, 1, 2, 3}
    with pytest.raises(ValueError, match=r"lr\(0\): expected a number above 0, got -1"):
        simulate(model, lr=lambda round: -1).run(1)


def test_schedulers_step_once_a_training_round_of_their_node():
    seen = []

    def scheduler(optimizer):
        s = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 3], gamma=0.1)
        seen.append(s)
        return s

    sim = simulate(lr=0.5, scheduler=scheduler, schedule=dl.SkipTrain(1, 1), data=parts(6))
    sim.run(8)
    assert len(seen) == 6 and all(s.get_last_lr() == pytest.approx([0.005]) for s in seen)


def test_any_optimizer_any_loss_any_hook():
    for make in (lambda p: torch.optim.Adam(p, 1e-3), lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=2)):
        sim = simulate(optimizer=make, data=parts(kind="iid"))
        first = sim.run(1).last["loss"]
        assert sim.run(8).last["loss"] < first
    with pytest.raises(ValueError, match="optimizer: set lr, momentum, weight_decay and nesterov in it"):
        simulate(optimizer=lambda p: torch.optim.Adam(p, 1e-3), momentum=0.5)
    with pytest.raises(TypeError, match=r"optimizer: expected a torch\.optim\.Optimizer, got int"):
        simulate(optimizer=lambda p: 3).run(1)
    half = simulate(loss=lambda output, y: 0.5 * nn.functional.cross_entropy(output, y), lr=0.2)
    whole = simulate(lr=0.1)
    half.run(3)
    whole.run(3)
    np.testing.assert_allclose(half.population.X, whole.population.X, atol=1e-6)

    def clip(gradients, *, X, rows, ctx):
        gradients *= np.float32(0)

    still = simulate(gradient_hook=clip)
    before = still.population.X.copy()
    still.run(2)
    np.testing.assert_allclose(still.population.X, before, atol=1e-7)


def test_parameter_groups_and_state_of_any_kind_are_kept(tmp_path):
    def groups(parameters):
        parameters = [*parameters]
        biases = [p for p in parameters if p.ndim == 1]
        return torch.optim.SGD([{"params": [p for p in parameters if p.ndim > 1]}, {"params": biases, "lr": 0.3}], 0.1)

    def generator_twice(parameters):
        return torch.optim.SGD([{"params": [p for p in parameters if p.ndim > 1]},
                                {"params": [p for p in parameters if p.ndim == 1]}], 0.1)  # fmt: skip

    lr = torch.optim.lr_scheduler
    makers = {
        "groups": (groups, None), "twice": (generator_twice, None),
        "lbfgs": (lambda p: torch.optim.LBFGS(p, lr=0.1, max_iter=2), None),
        "tensor lr": (lambda p: torch.optim.Adam(p, torch.tensor(1e-3)), None),
        "chained": (
            lambda p: torch.optim.SGD(p, 0.1), lambda o: lr.ChainedScheduler([lr.StepLR(o, 2), lr.ConstantLR(o)]),
        ),
    }  # fmt: skip
    for name, (optimizer, scheduler) in makers.items():
        whole, first, second = (simulate(optimizer=optimizer, scheduler=scheduler) for _ in range(3))
        start = whole.population.X.copy()
        whole.run(6)
        first.run(3, checkpoint=tmp_path / name)
        second.run(6, checkpoint=tmp_path / name, resume=True)
        np.testing.assert_array_equal(second.population.X, whole.population.X, err_msg=name)
        moved = np.abs(whole.population.X - start).max(0)
        assert moved[-10:].max() > 1e-4, name  # the last layer's bias too
    with pytest.raises(TypeError, match="scheduler: ReduceLROnPlateau needs a metric"):
        simulate(scheduler=lr.ReduceLROnPlateau).run(1)
    with pytest.raises(TypeError, match=r"scheduler: expected a torch LRScheduler, got NoneType"):
        simulate(scheduler=lambda o: None).run(1)
    with pytest.raises(ValueError, match="another configuration: .*model was"):
        simulate(dropout, optimizer=groups).run(6, checkpoint=tmp_path / "groups", resume=True)
    with pytest.raises(ValueError, match="another configuration: .*optimizer was"):
        simulate(optimizer=generator_twice).run(6, checkpoint=tmp_path / "groups", resume=True)


def test_evaluation_changes_nothing_and_random_transforms_are_the_same_every_time():
    noisy = {"test_transform": lambda x: x + 0.5 * torch.randn(x.shape), "transform": lambda x: x}
    a, b = simulate(**noisy), simulate(**noisy)
    torch.manual_seed(1)
    a.run(4, eval_every=1)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    b.run(4, eval_every=4)
    assert torch.equal(state, torch.get_rng_state()) and repr(a.history.last) == repr(b.history.last)
    assert repr(a.evaluate()) == repr(a.evaluate())

    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(64, 10)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return self.fc(x)

    for buffers in ("local", "average"):
        often, once = simulate(Counts, buffers=buffers), simulate(Counts, buffers=buffers)
        often.run(4, eval_every=1)
        once.run(4)
        assert float(often.learner.module(2).calls) == float(once.learner.module(2).calls) == pytest.approx(12)


def test_frozen_empty_and_lazy_parameters():
    def frozen():
        model = mlp()
        model[0].weight.requires_grad_(False)
        model.register_parameter("nothing", nn.Parameter(torch.zeros(0)))
        return model

    sim = simulate(frozen)
    before = sim.population.parameter("0.weight").copy()
    sim.run(2)
    np.testing.assert_allclose(sim.population.parameter("0.weight"), before, rtol=1e-6)
    with pytest.raises(TypeError, match="'weight' of a lazy module has none yet: run it once"):
        simulate(lambda: nn.LazyLinear(10))
    learner = simulate().learner
    with pytest.raises(RuntimeError, match="learner: it trains another population already"):
        dl.Simulation(dl.topology.ring(6), learner=learner)


def test_torch_threads_are_left_alone():
    before = torch.get_num_threads()
    sim = simulate()
    sim.run(2)
    assert torch.get_num_threads() == before and sim.learner.fingerprint()["torch threads"] == before


# ---- data ----


class Pairs(torch.utils.data.Dataset):
    """A data set with a random transform, as torchvision's are."""

    def __init__(self, x, y, noise=0.0):
        self.x, self.targets, self.noise, self.read = x, y, noise, 0

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, k):
        self.read += 1
        x = torch.from_numpy(self.x[k])
        return x + self.noise * torch.randn(x.shape), int(self.targets[k])


def test_torch_data_sets_go_in_as_data():
    digits = data.digits()
    train, test = Pairs(digits.x, digits.y), Pairs(digits.x_test, digits.y_test)
    ds = data.Dataset.from_torch(train, test)
    a = simulate(data=ds.partition(6, kind="shards", shards=2, seed=1))
    assert train.read == 0
    b = simulate()
    for sim in (a, b):
        sim.run(2)
    np.testing.assert_array_equal(a.population.X, b.population.X)
    assert train.read == 2 * 6 * 3 * 8 and a.history.last["loss"] == pytest.approx(b.history.last["loss"], rel=1e-5)
    noisy = [
        simulate(data=data.Dataset.from_torch(Pairs(digits.x, digits.y, 0.1), test).partition(6)) for _ in range(2)
    ]
    for k, sim in enumerate(noisy):
        torch.manual_seed(k)
        sim.run(2)
    np.testing.assert_array_equal(noisy[0].population.X, noisy[1].population.X)  # transforms are seeded too
    subsets = [torch.utils.data.Subset(train, p.tolist()) for p in parts().indices]
    c = simulate(data=subsets, test=test)
    c.run(2)
    np.testing.assert_array_equal(c.population.X, b.population.X)


def test_uint8_is_scaled_and_transforms_replace_that():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (60, 3, 4, 4), dtype=np.uint8), rng.integers(0, 10, 60)
    ds = data.Dataset(x, y, x[:20], y[:20])
    seen = []

    class Look(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(48, 10)

        def forward(self, x):
            seen.append((x.dtype, float(x.max())))
            return self.fc(x.flatten(1))

    simulate(Look, n=3, data=ds.partition(3)).run(1)
    assert all(d == torch.float32 and 0.5 < m <= 1 for d, m in seen)
    seen.clear()
    simulate(Look, n=3, data=ds.partition(3), transform=lambda x: x.float() * 0 + 3).run(1)
    assert {m for _, m in seen} == {3.0}


def test_empty_nodes_and_evaluation_of_a_subset():
    ds = data.digits()
    own = data.Parts(ds, [np.arange(20), np.empty(0, np.int64), np.arange(20, 40)])
    sim = simulate(n=3, data=own)
    loss = sim.learner.train(np.arange(3), 2, sim._ctx)
    assert math.isnan(loss[1]) and np.isfinite(loss[[0, 2]]).all() and sim.learner.steps_done.tolist() == [2, 0, 2]
    picked = np.arange(0, 360, 7)
    part = sim.learner.evaluate(sim.population.X, picked)
    native = simulate(dl.models.MLP(*SIZES), n=3, data=own)
    native.population.X[...] = sim.population.X
    other = native.learner.evaluate(native.population.X, picked)
    np.testing.assert_allclose(part["accuracy"], other["accuracy"], atol=1e-12)
    np.testing.assert_allclose(part["loss"], other["loss"], rtol=1e-5)


def test_outputs_with_logits_and_regression():
    from types import SimpleNamespace

    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = mlp()

        def forward(self, x):
            return SimpleNamespace(logits=self.inner(x))

    a, b = simulate(Wrapped), simulate(mlp)
    np.testing.assert_array_equal(a.run(2).column("loss"), b.run(2).column("loss"))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 4)).astype(np.float32)
    y = (x @ np.array([1, -2, 3, 0.5])).astype(np.float32)
    ds = data.Dataset(x[:60], y[:60], x[60:], y[60:])
    fit = simulate(
        lambda: nn.Linear(4, 1), n=3, data=ds.partition(3), loss=lambda o, y: nn.functional.mse_loss(o[:, 0], y)
    )
    hist = fit.run(60, eval_every=30)
    assert hist.last["loss"] < 0.01 and math.isnan(hist.last["accuracy"])
    assert "loss 0.0" in repr(hist) and fit.history.plot().axes[0].get_ylabel().startswith("test loss")


@pytest.mark.parametrize(
    ("model", "options", "error", "text"),
    [
        (lambda: 3, {}, TypeError, r"model: expected a function returning a torch\.nn\.Module, it returned int"),
        (lambda: mlp, {}, TypeError, "it returned function; call it"),
        (
            lambda: nn.Linear(64, 10).double(),
            {},
            TypeError,
            r"expected float32 .*, got torch\.float64",
        ),
        (nn.ReLU, {}, ValueError, "model: expected parameters, got none"),
        (mlp, {"buffers": "shared"}, ValueError, "buffers: expected one of 'local', 'average'"),
        (mlp, {"batch_size": 0}, ValueError, "batch_size: expected at least 1"),
        (mlp, {"speed": 1}, TypeError, "unexpected keyword argument 'speed'"),
        (lambda: Wrong(), {}, TypeError, r"model: expected a tensor or an output with \.logits, got str; pass loss="),
    ],
)
def test_refusals(model, options, error, text):
    with pytest.raises(error, match=text):
        simulate(model, **options).run(1)


class Wrong(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return "logits"


def test_the_papers_networks():
    from collegium.dl.torch_models import training_flops

    lenet, cnn = dl.models.gn_lenet(), dl.models.femnist_cnn()
    assert sum(p.numel() for p in lenet().parameters()) == 89_834
    assert sum(p.numel() for p in cnn().parameters()) == 1_690_046
    assert lenet()(torch.zeros(2, 3, 32, 32)).shape == (2, 10) and cnn()(torch.zeros(2, 1, 28, 28)).shape == (2, 62)
    # 12.3 M multiply-adds forward; backward twice that, less the gradient of the images
    macs = 32 * 32 * 32 * 75 + 16 * 16 * 32 * 800 + 8 * 8 * 64 * 800 + 10_240
    assert training_flops(lenet, 4) == 4 * 2 * (3 * macs - 32 * 32 * 32 * 75)
    assert repr(lenet) == "gn_lenet(10, 3)"
