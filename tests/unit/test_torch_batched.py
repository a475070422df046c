"""The batched torch learner: the same training as node by node, groups and padding, refusals, graphs, state."""

from __future__ import annotations

import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from collegium import data, dl
from collegium.engine import Context

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'collegium[torch]'")
nn = torch.nn
graphs = pytest.importorskip("collegium.dl.torch_graphs")

TRAINING = {"batch_size": 8, "lr": 0.1}


def mlp():
    return nn.Sequential(nn.Linear(64, 16), nn.ReLU(inplace=True), nn.Linear(16, 10))


def conv():
    """LeNet's kinds of layers on 8x8 digits; average pooling, since a maximum turns rounding into another gradient."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(8, 12, 3, padding=1), nn.GroupNorm(3, 12), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(48, 10),
    )  # fmt: skip


def parts(n=6, **options):
    return data.digits().partition(n, **{"kind": "shards", "shards": 2, "seed": 1, **options})


def uneven():
    """Nodes of 0, 1, 5, 8, 21 and 60 samples: every size of a batch from 1 to 8."""
    ds, cuts = data.digits(), [0, 0, 1, 6, 14, 35, 95]
    return data.Parts(ds, [np.arange(a, b) for a, b in pairwise(cuts)])


def simulate(model=mlp, held=None, *, batched=True, schedule=None, init="common", exchange=None, seed=5, **options):
    kind = dl.BatchedTorchLearner if batched else dl.TorchLearner
    if batched:
        options = {"chunk": 6, **options}  # all of them
    learner = kind(model, held or parts(), **{**TRAINING, **options})
    return dl.Simulation(
        dl.topology.ring(learner.n), learner=learner, schedule=schedule, local_steps=3, init=init, exchange=exchange,
        seed=seed,
    )  # fmt: skip


def same_as_per_row(model, *, rounds=4, atol=2e-6, chunk=6, **options):
    """Both learners on the same run; the batched simulation."""
    a, b = simulate(model, chunk=chunk, **options), simulate(model, batched=False, **options)
    np.testing.assert_array_equal(a.population.X, b.population.X)
    ours, theirs = a.run(rounds, eval_every=2), b.run(rounds, eval_every=2)
    np.testing.assert_allclose(a.population.X, b.population.X, atol=atol)
    for column in ("loss", "accuracy", "mean_model_accuracy"):
        np.testing.assert_allclose(ours.column(column), theirs.column(column), rtol=1e-4, atol=1e-12)
    assert a.learner.steps_done.tolist() == b.learner.steps_done.tolist()
    return a


# ---- the same as one node after another ----


@pytest.mark.parametrize("model", [mlp, conv], ids=["mlp", "conv"])
@pytest.mark.parametrize("options", [{}, {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-2}], ids=["sgd", "all"])
def test_the_same_models_as_the_per_row_learner(model, options):
    sim = same_as_per_row(model, rounds=3, schedule=dl.SkipTrain(1, 1), **options)
    assert sim.learner._padded and not sim.learner._copies  # all rows: in place


@pytest.mark.parametrize("chunk", [1, 4])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_chunks_and_nodes_that_skip_rounds(chunk, momentum):
    class Some:
        def plan(self, rounds, n, seed):
            return (np.random.default_rng(seed).random((rounds, n)) < 0.6).astype(np.uint8)

    options = {"schedule": Some(), "momentum": momentum, "init": "own"}
    sim = same_as_per_row(mlp, chunk=chunk, reset_optimizer="after_sync", **options)
    assert len(set(sim.learner.steps_done.tolist())) > 1
    assert chunk == 1 or len(sim.learner._copies) == (2 if momentum else 1)


def test_only_the_rows_asked_for_are_trained_whatever_their_order():
    sim, one = simulate(momentum=0.5), simulate(momentum=0.5, batched=False)
    before = sim.population.X.copy()
    rows = np.array([4, 0, 5])
    loss, want = (s.learner.train(rows, 3, Context(seed=5)) for s in (sim, one))
    np.testing.assert_allclose(loss, want, rtol=1e-5)
    np.testing.assert_allclose(sim.population.X, one.population.X, atol=1e-6)
    np.testing.assert_array_equal(sim.population.X[1:4], before[1:4])
    assert np.abs(sim.population.X[rows] - before[rows]).max(1).min() > 1e-3


def test_a_lenet_of_the_paper():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (60, 3, 32, 32), dtype=np.uint8), rng.integers(0, 10, 60)
    held = data.Dataset(x, y, x[:8], y[:8]).partition(3)
    sims = [simulate(dl.models.gn_lenet(), held, batched=b, lr=0.01, batch_size=4) for b in (True, False)]
    start = sims[0].population.X.copy()
    for sim in sims:
        sim.run(1)
    moved, apart = (np.linalg.norm(sims[0].population.X - other) for other in (start, sims[1].population.X))
    assert (
        apart < 1e-2 * moved
    )  # not closer: where the maximum of a pool is a tie, rounding decides who gets the gradient
    np.testing.assert_allclose(sims[0].history.last["loss"], sims[1].history.last["loss"], rtol=1e-3)


@pytest.mark.parametrize("how", ["padded", "grouped"])
def test_batches_of_every_size_and_nodes_without_samples(how):
    loss = None if how == "padded" else nn.functional.cross_entropy
    sim = same_as_per_row(mlp, held=uneven(), loss=loss, momentum=0.5, weight_decay=1e-2)
    assert sim.learner._padded == (how == "padded")
    losses = sim.learner.train(np.arange(6), 2, Context(seed=5, round=4))
    assert math.isnan(losses[0]) and np.isfinite(losses[1:]).all()


class SeesOthers(nn.Module):
    """Samples of a batch see each other: padding would change what they say."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        return self.fc(x - x.mean(0))


def no_statistics():
    return nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16, track_running_stats=False), nn.ReLU(), nn.Linear(16, 10))


@pytest.mark.parametrize("model", [SeesOthers, no_statistics])
def test_samples_that_see_each_other_are_not_padded(model):
    ds = data.digits()
    held = data.Parts(ds, [np.arange(20), np.arange(20, 54), np.arange(54, 67), np.arange(67, 102)])
    sim = simulate(model, held)
    assert not sim.learner._padded
    one = simulate(model, held, batched=False)
    for s in (sim, one):
        s.learner.train(np.arange(4), 9, Context(seed=5))
    np.testing.assert_allclose(sim.population.X, one.population.X, atol=5e-5)


def test_any_loss_mappings_and_outputs_with_logits():
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = mlp()

        def forward(self, pixels):
            return SimpleNamespace(logits=self.inner(pixels))

    wrapped, plain = simulate(Wrapped, transform=lambda x: {"pixels": x}), simulate(mlp)
    np.testing.assert_array_equal(wrapped.run(2).column("loss"), plain.run(2).column("loss"))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(81, 4)).astype(np.float32)
    y = (x @ np.array([1, -2, 3, 0.5])).astype(np.float32)
    held = data.Dataset(x[:61], y[:61], x[61:], y[61:]).partition(3)
    sim = same_as_per_row(lambda: nn.Linear(4, 1), held=held, loss=lambda o, y: nn.functional.mse_loss(o[:, 0], y))
    assert math.isnan(sim.history.last["accuracy"])


def test_frozen_and_unused_parameters_stay_as_torch_leaves_them():
    def model():
        m = mlp()
        m[0].weight.requires_grad_(False)
        m.register_parameter("unused", nn.Parameter(torch.ones(3)))
        return m

    sim = same_as_per_row(model, weight_decay=0.1, momentum=0.5)
    np.testing.assert_allclose(sim.population.parameter("unused"), 1, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # torch's, for weight_norm: it goes row by row
def test_tied_weights_and_parametrizations():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.utils.parametrizations.weight_norm(nn.Linear(64, 64))
            self.b, self.c = nn.Linear(64, 64), nn.Linear(64, 10)
            self.b.weight = self.a.parametrizations.weight.original1

        def forward(self, x):
            return self.c(torch.relu(self.b(torch.relu(self.a(x)))))

    same_as_per_row(Tied, atol=2e-5)


class Reads(nn.Module):
    """An LSTM over the digits' rows: torch.func has no batched form of it in evaluation."""

    def __init__(self):
        super().__init__()
        self.lstm, self.fc = nn.LSTM(8, 12, batch_first=True), nn.Linear(12, 10)

    def forward(self, x):
        return self.fc(self.lstm(x.unflatten(1, (8, 8)))[0][:, -1])


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_models_that_are_batched_in_training_only_are_evaluated_one_by_one():
    sim = same_as_per_row(Reads, momentum=0.9, rounds=2)
    assert sim.learner._of_rows.one_by_one and not simulate(mlp).learner._of_rows.one_by_one


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_attention_and_embeddings():
    class Attends(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.fc = nn.Embedding(50, 16), nn.Linear(16, 4)
            self.layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)

        def forward(self, x):
            return self.fc(self.layer(self.embed(x)).mean(1))

    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 50, (80, 6)), rng.integers(0, 4, 80)
    held = data.Dataset(x[:60], y[:60], x[60:], y[60:]).partition(3)
    same_as_per_row(Attends, held=held, rounds=2)


def test_buffers_that_stay_are_each_nodes_own():
    class Projected(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(20, 10)
            self.register_buffer("projection", torch.randn(64, 20))

        def forward(self, x):
            return self.fc(x @ self.projection)

    sim = same_as_per_row(Projected, init="own", held=uneven(), loss=nn.functional.cross_entropy, atol=2e-5)
    assert not torch.equal(sim.learner.module(0).projection, sim.learner.module(1).projection)


def test_torch_data_sets_uint8_and_transforms():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (60, 64), dtype=np.uint8), rng.integers(0, 10, 60)
    same_as_per_row(mlp, held=data.Dataset(x, y, x[:20], y[:20]).partition(3))
    pairs = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    held = data.Dataset.from_torch(pairs, pairs).partition(3)
    same_as_per_row(mlp, held=held, transform=lambda x: x.float() / 300, test_transform=lambda x: x.float() / 400)


# ---- evaluation ----


@pytest.mark.parametrize("chunk", [None, 6])
def test_evaluation_of_all_models_at_once(chunk):
    sim, one = simulate(conv, init="own", chunk=chunk), simulate(conv, init="own", batched=False)
    mean = sim.population.X.mean(0)[None]
    for X, samples in ((sim.population.X, None), (mean, None), (sim.population.X, np.arange(0, 360, 7))):
        got, want = sim.learner.evaluate(X, samples), one.learner.evaluate(X.copy(), samples)
        np.testing.assert_array_equal(got["accuracy"], want["accuracy"])
        np.testing.assert_allclose(got["loss"], want["loss"], rtol=1e-5)


def test_evaluation_repeats_random_transforms_and_leaves_generators_alone():
    sim = simulate(test_transform=lambda x: x + 0.5 * torch.randn(x.shape), chunk=2)
    torch.manual_seed(1)
    first, state = repr(sim.evaluate()), torch.get_rng_state()
    torch.manual_seed(2)
    assert repr(sim.evaluate()) == first
    torch.manual_seed(1)
    sim.run(1)
    assert torch.equal(torch.get_rng_state(), state)


# ---- randomness and state ----


def dropout():
    return nn.Sequential(nn.Linear(64, 32), nn.Dropout(0.5), nn.Linear(32, 10))


def test_dropout_is_each_nodes_own_and_seeded():
    a, b, other = (simulate(dropout, seed=s) for s in (5, 5, 6))
    for k, sim in enumerate((a, b, other)):
        torch.manual_seed(k)
        sim.run(2)
    np.testing.assert_array_equal(a.population.X, b.population.X)
    assert not np.array_equal(a.population.X, other.population.X)
    ones = data.Dataset(np.ones((8, 64), np.float32), np.zeros(8, np.int64), np.ones((1, 64), np.float32), [0])
    same = simulate(dropout, data.Parts(ones, [np.arange(8)] * 4), exchange=dl.Mixing(weights=np.eye(4)))
    same.run(1)
    assert len(np.unique(same.population.X, axis=0)) == 4


@pytest.mark.parametrize("options", [{"momentum": 0.9}, {}], ids=["momentum", "plain"])
def test_resumed_runs_end_with_the_same_bits(tmp_path, options):
    options = {"schedule": dl.SkipTrain(1, 1), "chunk": 4, **options}
    whole, first, second = (simulate(dropout, **options) for _ in range(3))
    whole.run(6)
    first.run(3, checkpoint=tmp_path)
    second.run(6, checkpoint=tmp_path, resume=True)
    np.testing.assert_array_equal(second.population.X, whole.population.X)
    with pytest.raises(ValueError, match="another configuration: .*chunk was"):
        simulate(dropout, **{**options, "chunk": 3}).run(6, checkpoint=tmp_path, resume=True)
    with pytest.raises(ValueError, match="another configuration"):
        simulate(dropout, batched=False, schedule=dl.SkipTrain(1, 1), momentum=options.get("momentum", 0.0)).run(
            6, checkpoint=tmp_path, resume=True
        )


def test_learning_rate_as_a_function_of_the_round():
    same_as_per_row(mlp, lr=lambda round: 0.2 / (1 + round))
    with pytest.raises(ValueError, match=r"lr\(0\): expected a number above 0, got -1"):
        simulate(lr=lambda round: -1).run(1)


# ---- refusals ----


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        out = self.fc(x)
        return out if out.sum() > 0 else -out


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 10)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.seen = self.seen + len(x)
        return self.fc(x)


@pytest.mark.parametrize(
    ("model", "options", "error", "text"),
    [
        (
            lambda: nn.Sequential(nn.Linear(64, 10), nn.BatchNorm1d(10)), {}, ValueError,
            r"model: training changes the running statistics of '1' \(BatchNorm1d\).*: use GroupNorm or LayerNorm, or "
            r"dl\.TorchLearner",
        ),
        (Counting, {}, ValueError, r"model: training changes the buffer 'seen'.*dl\.TorchLearner"),
        (
            lambda: nn.Sequential(nn.Linear(64, 64), Branches()), {}, ValueError,
            r"model: torch\.func cannot train it in batches, in '1' \(Branches\): .*data-dependent.*; use dl\.",
        ),
        (
            mlp, {"loss": lambda o, y: nn.functional.cross_entropy(o, y) * float(y.sum().item() > 0)}, ValueError,
            r"in the loss or the backward pass: .*item",
        ),
        (mlp, {"nesterov": True}, ValueError, "nesterov: needs momentum above 0"),
        (mlp, {"chunk": 0}, ValueError, "chunk: expected at least 1, got 0"),
        (mlp, {"device": "tpu"}, ValueError, "device: expected 'cpu' or 'cuda', got 'tpu'"),
        (mlp, {"device": "meta"}, ValueError, "device: expected 'cpu' or 'cuda', got 'meta'"),
        (mlp, {"cuda_graph": "on"}, ValueError, "cuda_graph: 'on' needs device='cuda', got 'cpu'"),
        (mlp, {"cuda_graph": "maybe"}, ValueError, "cuda_graph: expected one of 'auto', 'on', 'off'"),
        (mlp, {"scheduler": None}, TypeError, "unexpected keyword argument 'scheduler'"),
        (lambda: mlp().double(), {}, TypeError, r"expected float32 .*, got torch\.float64"),
    ],
)  # fmt: skip
def test_refusals(model, options, error, text):
    with pytest.raises(error, match=text):
        simulate(model, **options)


def test_a_learner_belongs_to_one_population_of_its_size():
    learner = simulate().learner
    with pytest.raises(RuntimeError, match="it trains another population already"):
        dl.Simulation(dl.topology.ring(6), learner=learner)
    with pytest.raises(ValueError, match=r"data: expected one part a node \(5\), got 6"):
        dl.Simulation(dl.topology.ring(5), learner=dl.BatchedTorchLearner(mlp, parts()))


# ---- graphs: what is recorded when, with a recorder that needs no device ----


class Recorder:
    """Stands in for CUDA: a replay runs the step on the recorded arguments."""

    def __init__(self, fails=False):
        self.fails, self.recorded = fails, 0

    def __call__(self, step, arguments):
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.recorded += 1
        out = torch.empty(len(arguments[0]))
        return (lambda: out.copy_(step(*arguments))), out


def add(p, v, x):
    p += x
    return p.sum(1)


def test_a_step_is_recorded_at_its_third_time_and_replayed_with_new_inputs():
    recorder = Recorder()
    steps = graphs.Graphs(add, required=False, record=recorder)
    p, q = torch.zeros(2, 3), torch.zeros(4, 3)
    for k in range(5):
        out = steps((p, None), (torch.full((2, 3), float(k)),))
        assert out.tolist() == [3.0 * sum(range(k + 1))] * 2 and recorder.recorded == (k >= 2)
    steps((q, None), (torch.ones(4, 3),))
    assert recorder.recorded == 1 and q[3, 0] == 1  # other memory: known anew
    for k in range(20):
        steps((torch.zeros(2, 3 + k), None), (torch.ones(2, 3 + k),))
    assert len(steps._seen) == graphs._KEPT


def test_a_step_that_cannot_be_recorded_runs_without():
    p = torch.zeros(2, 3)
    steps = graphs.Graphs(add, required=False, record=Recorder(fails=True))
    for _ in range(2):
        steps((p, None), (torch.ones(2, 3),))
    with pytest.warns(UserWarning, match="cuda_graph: the training step could not be recorded .*capturing"):
        steps((p, None), (torch.ones(2, 3),))
    steps((p, None), (torch.ones(2, 3),))
    assert p[0, 0] == 4
    required = graphs.Graphs(add, required=True, record=Recorder(fails=True))
    for _ in range(2):
        required((p, None), (torch.ones(2, 3),))
    with pytest.raises(RuntimeError, match="capturing"):
        required((p, None), (torch.ones(2, 3),))


@pytest.mark.parametrize("held", [None, uneven()], ids=["even", "uneven"])
def test_training_through_graphs_is_training(held):
    plain, recorded = (simulate(conv, held, momentum=0.9, schedule=dl.SkipTrain(2, 1)) for _ in range(2))
    recorder = Recorder()
    recorded.learner._graphs = graphs.Graphs(recorded.learner._step, required=True, record=recorder)
    for sim in (plain, recorded):
        sim.run(5)
    assert recorder.recorded == 1  # one width, one set of rows
    np.testing.assert_allclose(recorded.population.X, plain.population.X, atol=1e-6)


# ---- on a GPU ----

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")


def test_a_device_that_is_not_there_is_named():
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ValueError, match="device: 'cuda' cannot be used here: torch"):
        simulate(device="cuda")


@gpu
@pytest.mark.parametrize("cuda_graph", ["on", "off"])
@pytest.mark.parametrize("held", [None, uneven()], ids=["even", "uneven"])
def test_the_same_models_on_a_gpu(cuda_graph, held, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # ten bits of mantissa are not this test's subject
    sim = simulate(conv, held, device="cuda", cuda_graph=cuda_graph, momentum=0.9)
    one = simulate(conv, held, batched=False, momentum=0.9)
    for s in (sim, one):
        s.run(4)
    np.testing.assert_allclose(sim.population.X, one.population.X, atol=1e-3)
    assert sim.history.last["loss"] == pytest.approx(one.history.last["loss"], rel=1e-2)
    if cuda_graph == "on":
        assert any(not isinstance(entry, int) for entry in sim.learner._graphs._seen.values())


@pytest.mark.parametrize("name", ["optimizer", "scheduler", "gradient_hook", "eval_batch_size"])
def test_options_of_the_other_learner_are_refused_in_words(name):
    ring, one = dl.topology.ring(6), {"model": mlp, "data": parts(), name: None}
    with pytest.raises(
        TypeError, match=rf"{name}: no option of training all nodes at once; .* dl\.TorchLearner takes it"
    ):
        dl.Simulation(ring, batched=True, **one)
    with pytest.raises(TypeError, match=r"chunk: no option of training one node .* dl\.BatchedTorchLearner takes it"):
        dl.Simulation(ring, model=mlp, data=parts(), chunk=2)


@pytest.mark.parametrize("device", ["auto", "cpu", torch.device("cpu")])
def test_the_cpu_trains_one_node_after_another_unless_it_is_asked_to(device):
    if device == "auto" and torch.cuda.is_available():
        pytest.skip("torch finds a CUDA device")
    sims = [
        dl.Simulation(dl.topology.ring(6), model=mlp, data=parts(), device=device, batched=b) for b in (False, True)
    ]
    assert [type(s.learner) for s in sims] == [dl.TorchLearner, dl.BatchedTorchLearner]


class Twice(nn.Module):
    """Its output is a gradient of its own: training it takes the gradient of a gradient."""

    def __init__(self):
        super().__init__()
        self.norm, self.fc = nn.GroupNorm(2, 8), nn.Linear(64, 10)

    def forward(self, x):
        def energy(v):
            return self.norm(v.view(-1, 8, 8)).pow(3).sum()

        return self.fc(x + 0.001 * torch.func.grad(energy)(x))


def test_what_the_quicker_layers_cannot_do_goes_torchs_way():
    learner = simulate(Twice).learner
    assert not learner._of_rows.fast
    assert simulate(conv).learner._of_rows.fast
    same_as_per_row(Twice, atol=1e-4)
