"""The engine, the four slots and dl.Simulation: the spec's traps as far as they live above the kernels."""

from __future__ import annotations

import numpy as np
import pytest

from collegium import Diverged, data, dl, engine

MODEL = dl.models.MLP(64, 16, 10)


def simulate(n=8, degree=3, seed=5, **options):
    options = {"local_steps": 4, "seed": seed, **options}
    if "learner" not in options:
        options = {"batch_size": 8, "lr": 0.1, "model": MODEL, **options}
    if "data" not in options and "learner" not in options:
        options["data"] = data.digits().partition(n, kind="shards", shards=2, seed=1)
    return dl.Simulation(dl.topology.regular(n, degree, seed=1), **options)


# ---- schedules: traps 1 to 4 ----


def test_trap_1_a_period_starts_with_training():
    assert dl.SkipTrain(4, 4).plan(10, 3).tolist() == [[a] * 3 for a in (1, 1, 1, 1, 0, 0, 0, 0, 1, 1)]
    assert dl.SkipTrain(3, 0).plan(10, 2).all() and dl.DPSGD().plan(10, 2).all()


def test_trap_2_rounds_that_are_no_multiple_of_the_period():
    s = dl.SkipTrain(4, 4, budget=[3, 6, 60])
    assert s.training_rounds(10) == 6
    assert s.probabilities(10).tolist() == [0.5, 1.0, 1.0]
    assert [dl.SkipTrain(4, 4).training_rounds(t) for t in range(10)] == [0, 1, 2, 3, 4, 4, 4, 4, 4, 5]


def test_trap_3_coins_are_independent_and_addressed():
    rounds = 10_000
    s = dl.SkipTrain(1, 0, budget=[rounds // 2] * 4)
    plan = s.plan(rounds, 4, seed=3)
    # Until budgets run out (about the end), the columns are fair coins.
    c = np.corrcoef(plan[:9000].T.astype(float))
    assert np.abs(c - np.eye(4)).max() < 0.03
    assert not np.array_equal(plan, s.plan(rounds, 4, seed=4))
    np.testing.assert_array_equal(plan, s.plan(rounds, 4, seed=3))


def test_trap_4_never_over_budget():
    budget = np.array([0, 3, 20, 40, 41, 1000])
    plan = dl.SkipTrain(4, 4, budget=budget).plan(80, 6, seed=1)
    used = plan.sum(axis=0)
    assert (used <= budget).all() and used[3:].tolist() == [40, 40, 40]
    assert dl.Greedy(budget).plan(80, 6).sum(axis=0).tolist() == [0, 3, 20, 40, 41, 80]


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: dl.SkipTrain(0, 4), ValueError, "gamma_train: expected at least 1, got 0"),
        (lambda: dl.SkipTrain(1, -1), ValueError, "gamma_sync: expected at least 0, got -1"),
        (lambda: dl.SkipTrain(1.0, 1), TypeError, "gamma_train: expected an integer, got 1.0"),
        (lambda: dl.SkipTrain(1, 1, [1, -2]), ValueError, "budget: expected whole .* got -2 at node 1"),
        (lambda: dl.Greedy([1.5]), ValueError, "budget: expected whole .* got 1.5 at node 0"),
        (lambda: dl.Greedy([float("nan")]), ValueError, "budget: expected whole numbers, got nan at node 0"),
        (lambda: dl.Greedy("many"), TypeError, "budget: expected a sequence of integers"),
        (lambda: dl.Greedy([1, 2]).plan(4, 3), ValueError, r"budget: expected one number a node, shape \(3,\)"),
        (lambda: dl.DPSGD().plan(0, 3), ValueError, "rounds: expected at least 1, got 0"),
    ],
)
def test_schedules_refuse(make, error, text):
    with pytest.raises(error, match=text):
        make()


# ---- energy: trap 12 ----


def test_trap_12_energy_of_the_four_phones():
    cifar = dl.energy.DeviceFleet.phones(4, task="cifar10")
    np.testing.assert_allclose(cifar.e_wh, [0.006532875, 0.005986076, 0.002556283, 0.008519120], rtol=0, atol=1e-9)
    assert cifar.rounds.tolist() == [272, 324, 681, 272]
    femnist = dl.energy.DeviceFleet.phones(4, task="femnist")
    np.testing.assert_allclose(femnist.e_wh, [0.021508007, 0.019707797, 0.008415981, 0.028047269], rtol=0, atol=1e-9)
    assert femnist.rounds.tolist() == [413, 492, 1034, 413]


def test_network_totals_of_the_paper():
    from collegium import _core

    for task, rounds, wanted, digits in (("cifar10", 1000, 1510.04, 0.01), ("femnist", 3000, 14914.4, 0.1)):
        fleet = dl.energy.DeviceFleet.phones(256, task=task)
        full = _core.energy(dl.DPSGD().plan(rounds, 256), fleet.e_wh)[1][-1]
        half = _core.energy(dl.SkipTrain(4, 4).plan(rounds, 256), fleet.e_wh)[1][-1]
        assert abs(full - wanted) < digits
        assert half == pytest.approx(full / 2, rel=1e-12)
    cifar = dl.energy.DeviceFleet.phones(256, task="cifar10")
    assert float(cifar.e_wh @ cifar.rounds) == pytest.approx(497.6, abs=0.1)


def test_fleet_refuses():
    with pytest.raises(ValueError, match="e_wh: expected finite numbers above 0, got 0.0 at node 1"):
        dl.energy.DeviceFleet([1, 0])
    with pytest.raises(ValueError, match="e_wh: expected finite numbers above 0, got nan at node 0"):
        dl.energy.DeviceFleet([float("nan")])
    with pytest.raises(ValueError, match=r"rounds: expected shape \(2,\), got \(1,\)"):
        dl.energy.DeviceFleet([1, 1], [3])
    with pytest.raises(ValueError, match="energy: expected one device a node"):
        simulate(energy=[1.0, 2.0])


# ---- the run ----


def test_trap_9_energy_is_the_action_matrix_times_e():
    e = np.linspace(0.1, 0.9, 8)
    sim = simulate(schedule=dl.SkipTrain(2, 1, budget=[3] * 8), energy=e)
    plan = sim.plan(12)
    hist = sim.run(12, eval_every=3)
    for row in hist.frame().to_dict("records"):
        done = plan.actions[: row["round"]]
        assert row["trainings"] == done.sum()
        assert row["energy_wh"] == pytest.approx(float(done.sum(0) @ e), rel=1e-12)
    assert plan.total_wh == pytest.approx(row["energy_wh"], rel=1e-12)
    np.testing.assert_allclose(plan.node_wh, plan.actions.sum(0) * e, rtol=1e-12)


def test_bytes_are_four_a_parameter_a_directed_edge_a_round():
    sim = simulate(schedule=dl.SkipTrain(1, 3), exchange=dl.Mixing(rounds=2))
    sim.run(8)
    assert sim.history.last["bytes_sent"] == 8 * 2 * (8 * 3) * MODEL.size * 4


class Recording:
    """A learner that counts, so that what the engine asks for can be seen."""

    def __init__(self):
        self.shapes = {"w": (3,)}
        self.log = []

    def bind(self, population, seed):
        self.X = population.X

    def init(self, mode):
        self.X[...] = np.arange(len(self.X))[:, None]

    def train(self, rows, steps, ctx):
        self.log.append(("train", ctx.round, rows.tolist(), steps))
        self.X[rows] += 1
        return np.zeros(len(rows))

    def evaluate(self, X):
        self.log.append(("evaluate", X.copy()))
        return {"accuracy": X[:, 0].astype(float), "loss": np.zeros(len(X)), "norm": np.abs(X).sum(1).astype(float)}


def test_trap_10_evaluation_sees_the_models_after_mixing():
    learner = Recording()
    sim = simulate(4, 2, learner=learner, exchange=dl.Mixing(weights=np.full((4, 4), 0.25)))
    sim.run(3, eval_every=1)
    seen = [x for kind, *x in learner.log if kind == "evaluate" and len(x[0]) == 4]
    # complete mixing: right after it all rows are equal; right after training they are not
    assert len(seen) == 3 and all((x[0] == x[0][0]).all() for x in seen)
    assert sim.history.column("norm").tolist() == [7.5, 10.5, 13.5]


def test_trap_11_mean_of_accuracies_is_not_accuracy_of_the_mean_model():
    class Sign(Recording):
        def init(self, mode):
            self.X[...] = np.array([-3, 1, 1, 1])[:, None]

        def train(self, rows, steps, ctx):
            return np.zeros(len(rows))

        def evaluate(self, X):
            return {"accuracy": (X[:, 0] > 0).astype(float), "loss": np.zeros(len(X))}

    sim = simulate(4, 2, learner=Sign(), exchange=dl.Mixing(weights=np.eye(4)))
    row = sim.run(1).last
    assert row["accuracy"] == 0.75 and row["mean_model_accuracy"] == 0.0 and row["consensus"] == pytest.approx(3)


def test_records_fuse_only_silent_rounds_without_evaluations_between():
    actions = dl.SkipTrain(2, 3).plan(10, 1)
    records = list(engine.synchronous(actions, first=0, eval_at=lambda t: t == 4, fuse=True))
    short = [(type(r).__name__, r.round, getattr(r, "rounds", 0)) for r in records if type(r) is not engine.Boundary]
    assert short == [
        ("Train", 0, 0), ("Exchange", 0, 1), ("Train", 1, 0), ("Exchange", 1, 3), ("Evaluate", 4, 0),
        ("Exchange", 4, 1), ("Train", 5, 0), ("Exchange", 5, 1), ("Train", 6, 0), ("Exchange", 6, 4),
        ("Evaluate", 10, 0),
    ]  # fmt: skip
    kinds = [type(r).__name__ for r in records]
    assert [r.round for r in records if type(r) is engine.Boundary] == [1, 4, 5, 6, 10] and kinds[-1] == "Boundary"
    saving = engine.synchronous(actions, first=0, eval_at=lambda t: False, save_at=lambda t: t == 8, fuse=True)
    assert [r.rounds for r in saving if isinstance(r, engine.Exchange)] == [1, 4, 1, 2, 2]
    single = engine.synchronous(actions, first=0, eval_at=lambda t: False, fuse=False)
    assert [r.rounds for r in single if isinstance(r, engine.Exchange)] == [1] * 10


@pytest.mark.parametrize("threads", [1, 2], indirect=True)
def test_fused_and_single_rounds_one_and_two_runs_give_the_same_bits(threads):
    runs = []
    for log, cuts in ((False, [24]), (True, [24]), (False, [8, 9, 24])):
        sim = simulate(schedule=dl.SkipTrain(2, 2), momentum=0.9, weight_decay=1e-3)
        for total in cuts:
            sim.run(total, log_consensus=log)
        runs.append(sim.population.X.copy())
    assert np.isfinite(runs[0]).all() and runs[0].std() > 0
    for other in runs[1:]:
        np.testing.assert_array_equal(runs[0], other)


def test_same_seed_same_bits_other_seed_other_models():
    a, b, c = (simulate(seed=s) for s in (5, 5, 6))
    for sim in (a, b, c):
        sim.run(4)
    np.testing.assert_array_equal(a.population.X, b.population.X)
    assert not np.array_equal(a.population.X, c.population.X)


def test_init_common_and_own():
    common, own = simulate(), simulate(init="own")
    assert (common.population.X == common.population.X[0]).all()
    assert len(np.unique(own.population.X[:, 0])) == 8
    np.testing.assert_array_equal(own.population.X[0], common.population.X[0])


def test_trap_5_synchronization_keeps_the_mean_and_shrinks_disagreement():
    sim = simulate(12, 3, schedule=dl.SkipTrain(1, 39))
    sim.run(1)
    before, start = sim.population.X.astype(np.float64).mean(0), sim.population.consensus()[1]
    sim.run(40, log_consensus=True)
    after = sim.population.X.astype(np.float64).mean(0)
    assert np.abs(after - before).max() < 1e-6 * np.abs(before).max()
    log = np.array([start, *sim.history.frame(per="round")["consensus"]])
    # the squared distance shrinks by lambda^2 a round, until float32 rounding is all there is
    big = log[:-1] > 1e-4
    assert (log[1:][big] <= log[:-1][big] * sim.topology.lambda2 * (1 + 1e-4)).all()


def test_a_diverged_model_stops_the_run_before_anyone_hears_of_it():
    sim = simulate(lr=1e30, schedule=dl.SkipTrain(1, 1))
    untouched = sim.population.X.copy()
    with pytest.raises(Diverged, match=r"node \d diverged in round 0: NaN or Inf in 'fc\d\.\w+'") as caught:
        sim.run(4)
    assert caught.value.round == 0 and caught.value.parameter.startswith("fc")

    class Poison(Recording):
        def train(self, rows, steps, ctx):
            self.X[2, 1] = np.nan if ctx.round == 3 else self.X[2, 1]
            return np.zeros(len(rows))

    sim = simulate(4, 2, learner=Poison())
    with pytest.raises(Diverged) as caught:
        sim.run(8, eval_every=1)
    assert (caught.value.node, caught.value.round, caught.value.parameter) == (2, 3, "w")
    assert np.isnan(sim.population.X).sum() == 1  # no neighbour has it
    assert sim.history.column("round").tolist() == [1, 2, 3] and sim.round == 3
    assert untouched.shape == (8, MODEL.size)


def test_a_second_run_goes_on_or_says_why_not():
    sim = simulate(schedule=dl.SkipTrain(2, 2))
    sim.run(4)
    sim.run(12, eval_every=4)
    assert sim.history.column("round").tolist() == [4, 8, 12] and sim.round == 12
    sim.run(12)
    assert len(sim.history) == 3
    with pytest.raises(ValueError, match="rounds: 12 rounds are done"):
        sim.run(8)
    budgeted = simulate(schedule=dl.SkipTrain(1, 0, budget=[10] * 8))
    budgeted.run(20)
    with pytest.raises(ValueError, match="plans them otherwise for a total of 40"):
        budgeted.run(40)


def test_callback_stops():
    sim = simulate()
    hist = sim.run(20, eval_every=2, callback=lambda s: s.round >= 6)
    assert hist.column("round").tolist() == [2, 4, 6]
    sim.run(8, eval_every=2)
    assert hist.column("round").tolist() == [2, 4, 6, 8]


def test_a_schedule_of_ones_own_takes_a_few_lines():
    class Fridays:
        def plan(self, rounds, n, seed=0):
            actions = np.zeros((rounds, n), np.uint8)
            actions[4::7] = 1
            return actions

    sim = simulate(schedule=Fridays())
    assert sim.run(14).last["trainings"] == 2 * 8
    for wrong, text in ((np.ones((3, 8)), r"expected shape \(4, 8\)"), (np.full((4, 8), 2), "zeros and ones")):
        Fridays.plan = lambda self, rounds, n, seed=0, w=wrong: w
        with pytest.raises(ValueError, match=text):
            simulate(schedule=Fridays()).plan(4)


def test_an_exchange_of_ones_own_takes_a_few_lines():
    class Median:
        def step(self, X, *, round, ctx=None):
            X[...] = np.median(X, axis=0)
            return X.nbytes

    sim = simulate(exchange=Median())
    sim.run(3)
    assert (sim.population.X == sim.population.X[0]).all()
    assert sim.ledger.bytes_sent == 3 * 8 * MODEL.size * 4


class ZeroSum:
    """Noise per recipient that cancels in the receivers' weights: sum_v W_va Z_v = 0."""

    def __init__(self):
        self.asked = []

    def messages(self, x, weights, *, round, sender, recipients, seed):
        self.asked.append((round, sender, recipients.tolist()))
        z = np.random.default_rng((seed, round, sender)).normal(size=(len(recipients), len(x)))
        z -= (weights @ z) / (len(weights) * weights[:, None])
        return (x + z).astype(np.float32)


def test_a_mechanism_of_ones_own_protects_messages_of_rows_that_trained():
    plain, noisy = simulate(schedule=dl.SkipTrain(1, 2)), None
    mechanism = ZeroSum()
    noisy = simulate(schedule=dl.SkipTrain(1, 2), mechanism=mechanism, exchange=dl.Mixing(rounds=2))
    noisy.run(3)
    assert [a[:2] for a in mechanism.asked] == [(0, a) for a in range(8)]  # first gossip round of round 0 only
    assert all(a[1] in a[2] and len(a[2]) == 4 for a in mechanism.asked)
    reference = simulate(schedule=dl.SkipTrain(1, 2), exchange=dl.Mixing(rounds=2))
    reference.run(3)
    a, b = noisy.population.X.astype(np.float64), reference.population.X.astype(np.float64)
    assert np.abs(a - b).max() > 0.01
    np.testing.assert_allclose(a.mean(0), b.mean(0), atol=2e-6)
    assert noisy.ledger.bytes_sent == reference.ledger.bytes_sent

    class Bare:
        def messages(self, x, weights, **_):
            return np.repeat(x[None], len(weights), axis=0)

    plain.run(3)
    bare = simulate(schedule=dl.SkipTrain(1, 2), mechanism=Bare())
    bare.run(3)
    np.testing.assert_allclose(bare.population.X, plain.population.X, atol=1e-6)
    Bare.messages = lambda self, x, weights, **_: x[None]
    with pytest.raises(ValueError, match=r"messages: expected shape \(4, 1210\), got \(1, 1210\)"):
        simulate(mechanism=Bare()).run(1)


def test_gradient_hook_sees_and_changes_gradients():
    seen = []

    def clip(gradients, *, X, rows, ctx):
        seen.append((ctx.round, len(rows), X.shape))
        norms = np.linalg.norm(gradients, axis=1, keepdims=True)
        gradients *= np.minimum(1, 0.01 / np.maximum(norms, 1e-12))

    clipped = simulate(gradient_hook=clip, local_steps=3)
    start = clipped.population.X.copy()
    clipped.run(2)
    assert seen == [(0, 8, (8, MODEL.size))] * 3 + [(1, 8, (8, MODEL.size))] * 3
    assert np.linalg.norm(clipped.population.X - start, axis=1).max() <= 2 * 3 * 0.1 * 0.01 * (1 + 1e-5)
    same = simulate(gradient_hook=lambda gradients, **_: None, momentum=0.5)
    plain = simulate(momentum=0.5)
    same.run(3)
    plain.run(3)
    np.testing.assert_allclose(same.population.X, plain.population.X, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"model": None}, TypeError, "model, data: expected both, or a learner"),
        ({"model": "mlp"}, TypeError, "model: expected a built-in model, a torch module or a function"),
        ({"model": dl.models.MLP(63, 10)}, ValueError, "data: expected 63 values a sample"),
        ({"model": dl.models.MLP(64, 9)}, ValueError, "data: expected labels 0 to 8, got 0 to 9"),
        ({"data": data.digits().partition(7)}, ValueError, r"data: expected one part a node \(8\), got 7"),
        ({"local_steps": 0}, ValueError, "local_steps: expected at least 1, got 0"),
        ({"batch_size": 0}, ValueError, "batch_size: expected at least 1, got 0"),
        ({"lr": 0}, ValueError, "lr: expected a number above 0, got 0"),
        ({"lr": float("inf")}, ValueError, "lr: expected a finite number"),
        ({"lr": "fast"}, TypeError, "lr: expected a number, got 'fast'"),
        ({"momentum": -1}, ValueError, "momentum: expected at least 0"),
        ({"nesterov": True}, ValueError, "nesterov: needs momentum"),
        ({"seed": -1}, ValueError, "seed: expected 0 to"),
        ({"init": "zero"}, ValueError, "init: expected one of 'common', 'own'"),
        ({"exchange": dl.Mixing(weights=np.eye(3))}, ValueError, "weights: expected a matrix for 8 nodes, got 3"),
        ({"learner": Recording(), "model": MODEL}, TypeError, "learner: a learner of your own brings its model"),
    ],
)
def test_simulation_refuses(options, error, text):
    with pytest.raises(error, match=text):
        simulate(**options)


def test_more_refusals():
    with pytest.raises(TypeError, match="topology: expected a Topology or a Dynamic, got int"):
        dl.Simulation(8, model=MODEL, data=[])
    with pytest.raises(ValueError, match="weights: Mixing has no graph yet"):
        dl.Mixing().step(np.zeros((2, 2), np.float32), round=0)
    with pytest.raises(ValueError, match="rounds: expected at least 1, got 0"):
        simulate().run(0)
    x, y = np.zeros((3, 64), np.float32), np.zeros(3, int)
    with pytest.raises(ValueError, match="test: the data set has no test set"):
        simulate(2, 1, data=[(x, y)] * 2)
    simulate(2, 1, data=[(x, y)] * 2, test=(x, y)).run(1)
    with pytest.raises(ValueError, match="sizes: expected inputs and classes"):
        dl.models.MLP(4)
    with pytest.raises(ValueError, match="activation: expected one of 'relu', 'tanh'"):
        dl.models.MLP(4, 2, activation="gelu")


def test_mixing_step_alone():
    G = dl.topology.ring(5)
    X = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    wanted = np.linalg.matrix_power(G.mixing("metropolis").toarray(), 3) @ X
    sent, received = dl.Mixing(rounds=3, weights=G.mixing("metropolis")).step(X, round=0)
    assert sent.tolist() == received.tolist() == [3 * 2 * 7 * 4] * 5
    np.testing.assert_allclose(X, wanted, atol=1e-6)
