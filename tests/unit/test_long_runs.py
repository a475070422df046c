"""Long runs: checkpoints, resume, Ctrl-C, divergence, validation, callbacks, energy models, sweeps, reports."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import threading

import numpy as np
import pytest

from collegium import Diverged, History, data, dl

HAVE_TORCH = importlib.util.find_spec("torch") is not None
KINDS = ["native", pytest.param("torch", marks=pytest.mark.skipif(not HAVE_TORCH, reason="torch is not installed"))]


def torch_net():
    from torch import nn

    return nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 10))


def simulate(kind="native", n=6, **options):
    model = dl.models.MLP(64, 16, 10) if kind == "native" else torch_net
    options = {
        "local_steps": 3, "batch_size": 8, "lr": 0.05, "momentum": 0.9, "seed": 5, "model": model,
        "data": data.digits().partition(n, kind="shards", shards=2, seed=1),
        "schedule": dl.SkipTrain(2, 2), "energy": dl.energy.DeviceFleet(np.linspace(1, 2, n)), **options,
    }  # fmt: skip
    return dl.Simulation(dl.topology.ring(n), **options)


def rows(hist):
    return [json.dumps(r) for r in hist._rows]


# ---- checkpoints ----


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("extra", ["plain", "stateful"])
def test_resume_gives_the_bits_of_a_run_without_interruption(kind, extra, tmp_path):
    options = {}
    if extra == "stateful":
        options = {"reset_optimizer": "after_sync", "schedule": dl.SkipTrain(3, 1, budget=[9, 3, 5, 9, 1, 4])}
        if kind == "torch":
            import torch

            adam = lambda p: torch.optim.Adam(p, 1e-3)
            steps = lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [2, 4])
            options |= {"optimizer": adam, "scheduler": steps, "momentum": 0.0, "lr": 0.1}
    whole = simulate(kind, **options)
    whole.run(16, eval_every=4, log_consensus=True)
    for stop in (3, 8, 13):
        first = simulate(kind, **options)
        target = tmp_path / f"cut{stop}"
        with pytest.raises(ZeroDivisionError):
            first.run(16, eval_every=4, log_consensus=True, checkpoint=target, checkpoint_every=3,
                      eval_fn=lambda s, stop=stop: {} if s.round < stop else 1 / 0)  # fmt: skip
        second = simulate(kind, **options)
        hist = second.run(16, eval_every=4, log_consensus=True, checkpoint=target, checkpoint_every=3, resume=True)
        np.testing.assert_array_equal(second.population.X, whole.population.X)
        assert rows(hist) == rows(whole.history)
        assert hist._consensus == whole.history._consensus
        assert History.load(target / "history.jsonl")._rows == hist._rows
        assert second.ledger.trainings == whole.ledger.trainings and second.ledger.energy_wh == whole.ledger.energy_wh


def test_a_finished_run_resumes_to_itself_and_can_be_prolonged(tmp_path):
    a = simulate()
    a.run(8, eval_every=4, checkpoint=tmp_path / "r")
    b = simulate()
    hist = b.run(8, eval_every=4, checkpoint=tmp_path / "r", resume=True)
    assert rows(hist) == rows(a.history) and b.round == 8
    b.run(12, eval_every=4, checkpoint=tmp_path / "r")  # the same simulation goes on without being asked
    c = simulate()
    c.run(12, eval_every=4)
    np.testing.assert_array_equal(b.population.X, c.population.X)
    assert rows(b.history) == rows(c.history)
    d = simulate()
    d.run(12, eval_every=4, checkpoint=tmp_path / "fresh", resume=True)  # resume=True with nothing there starts
    assert rows(d.history) == rows(c.history)
    with pytest.raises(ValueError, match="rounds: 12 rounds are done"):
        simulate().run(8, checkpoint=tmp_path / "r", resume=True)


def test_a_folder_with_another_run_is_refused(tmp_path):
    simulate().run(4, checkpoint=tmp_path)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    with pytest.raises(FileExistsError, match="holds a run already: pass resume=True"):
        simulate().run(4, checkpoint=tmp_path)
    changed = {
        "lr": ({"lr": 0.07}, "lr was '0.05', is '0.07'"),
        "batch": ({"batch_size": 4}, "batch_size was 8, is 4"),
        "seed": ({"seed": 6}, "first models was .*; seed was 5, is 6"),
        "steps": ({"local_steps": 2}, "local_steps was 3, is 2"),
        "schedule": ({"schedule": dl.SkipTrain(2, 1)}, r"schedule was 'SkipTrain\(2, 2\)', is 'SkipTrain\(2, 1\)'"),
        "data": ({"data": data.digits().partition(6, seed=1)}, "data was "),
        "model": ({"model": dl.models.MLP(64, 10)}, "model was .*; shapes was "),
        "other digits": (
            {"data": data.Parts(data.digits(seed=9), data.digits().partition(6, kind="shards", seed=1).indices)},
            "data was ",
        ),
        "weights": ({"exchange": dl.Mixing(weights=dl.topology.ring(6).mixing().mask_nodes([]))}, "weights was "),
        "energy": ({"energy": dl.energy.DeviceFleet(np.ones(6))}, "energy was "),
        "exchange": ({"exchange": dl.Mixing(2)}, r"exchange was .*rounds=1.*is .*rounds=2"),
    }
    for name, (options, text) in changed.items():
        with pytest.raises(ValueError, match=f"resume: .* is of another configuration: .*{text}"):
            simulate(**options).run(4, checkpoint=tmp_path, resume=True)
        assert (tmp_path / "checkpoint.safetensors").read_bytes() == before, name
    sim = dl.Simulation(dl.topology.complete(6), **_arguments())
    with pytest.raises(ValueError, match="edges was"):
        sim.run(4, checkpoint=tmp_path, resume=True)


def _arguments():
    return {
        "local_steps": 3, "batch_size": 8, "lr": 0.05, "momentum": 0.9, "seed": 5, "model": dl.models.MLP(64, 16, 10),
        "data": data.digits().partition(6, kind="shards", shards=2, seed=1), "schedule": dl.SkipTrain(2, 2),
    }  # fmt: skip


def test_damaged_checkpoints_are_refused(tmp_path):
    simulate().run(4, eval_every=2, checkpoint=tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    whole = path.read_bytes()
    for position in (3, 100, len(whole) // 2, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"checkpoint\.safetensors: "):
            simulate().run(8, checkpoint=tmp_path, resume=True)
    path.write_bytes(whole[:-9])
    with pytest.raises(ValueError, match="not a checkpoint file, or a damaged one"):
        simulate().run(8, checkpoint=tmp_path, resume=True)
    path.write_bytes(whole)
    simulate().run(8, checkpoint=tmp_path, resume=True)


def test_lines_behind_the_checkpoint_are_cut_off(tmp_path):
    simulate().run(4, eval_every=2, checkpoint=tmp_path)
    with open(tmp_path / "history.jsonl", "a") as f:
        f.write('{"row": {"round": 6, "acc')  # the process died in the middle of a line
    sim = simulate()
    hist = sim.run(8, eval_every=2, checkpoint=tmp_path, resume=True)
    assert hist.column("round").tolist() == [2, 4, 6, 8]
    assert History.load(tmp_path / "history.jsonl").column("round").tolist() == [2, 4, 6, 8]


def test_a_learner_without_state_says_what_is_missing(tmp_path):
    class Bare:
        def __init__(self):
            self.shapes = {"w": (3,)}

        def bind(self, population, seed):
            self.X = population.X

        def init(self, mode):
            self.X[...] = 0

        def train(self, rows, steps, ctx):
            return np.zeros(len(rows))

        def evaluate(self, X):
            return {"accuracy": np.zeros(len(X))}

    sim = dl.Simulation(dl.topology.ring(4), learner=Bare())
    assert np.isnan(sim.run(2).last["loss"])
    sim = dl.Simulation(dl.topology.ring(4), learner=Bare())
    with pytest.raises(TypeError, match=r"checkpoint: Bare has no state_dict\(\)"):
        sim.run(2, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="eval_samples: Bare has no test_size"):
        sim.run(2, eval_samples=3)


def test_what_a_resume_must_not_take_for_the_same(tmp_path):
    rate = 0.05
    slow = lambda factor: lambda round: factor * rate  # the same name, another value
    cases = {
        "lr": ({"lr": slow(1.0)}, {"lr": slow(0.5)}),
        "energy": ({"energy": None}, {}),
        "joules": ({}, {"energy": dl.energy.DeviceFleet(np.linspace(1, 2, 6), joules_per_byte_sent=1.0)}),
        "validation": ({"validation": 0.5}, {"validation": 0.25}),
        "test": ({}, {"test": (data.digits().x_test[:99], data.digits().y_test[:99])}),
        "schedule": ({"schedule": Every(2)}, {"schedule": Every(3)}),
    }
    for name, (before, after) in cases.items():
        simulate(**before).run(4, checkpoint=tmp_path / name)
        simulate(**before).run(6, checkpoint=tmp_path / name, resume=True)
        with pytest.raises(
            ValueError, match=f"(?s)another configuration: .*{'energy' if name == 'joules' else name} was"
        ):
            simulate(**after).run(8, checkpoint=tmp_path / name, resume=True)


class Every:
    """A schedule that does not say what it is."""

    def __init__(self, k):
        self.k = k

    def plan(self, rounds, n, seed=0):
        return np.repeat((np.arange(rounds) % self.k == 0)[:, None], n, axis=1).astype(np.uint8)


def test_one_run_a_folder_at_a_time(tmp_path):
    def second(sim):
        with pytest.raises(RuntimeError, match="another run is at work in"):
            simulate().run(8, checkpoint=tmp_path, resume=True)
        return True

    old = simulate()
    old.run(4, eval_every=4, checkpoint=tmp_path, callback=second)
    assert old.round == 4
    simulate().run(8, checkpoint=tmp_path, resume=True)
    with pytest.raises(ValueError, match="another run wrote to .* since this simulation did"):
        old.run(12, checkpoint=tmp_path)
    text = (tmp_path / "history.jsonl").read_text()
    for damaged in (text[:-20], text.replace('"round": 4', '"round": 5')):
        (tmp_path / "history.jsonl").write_text(damaged)
        with pytest.raises(ValueError, match="is not the history that the checkpoint was written with"):
            simulate().run(8, checkpoint=tmp_path, resume=True)


def test_a_failing_eval_fn_leaves_the_models_of_a_whole_round(tmp_path):
    sim = simulate()
    with pytest.raises(ZeroDivisionError):
        sim.run(8, eval_every=4, eval_fn=lambda s: 1 / 0, checkpoint=tmp_path)
    sim.run(8, eval_every=4, checkpoint=tmp_path)
    whole = simulate()
    whole.run(8, eval_every=4)
    np.testing.assert_array_equal(sim.population.X, whole.population.X)
    assert sim.history.column("round").tolist() == [8]
    for bad, error, text in (
        (lambda s: None, TypeError, "eval_fn: expected it to return name -> number, got None"),
        (lambda s: {"a": "b"}, TypeError, "eval_fn: 'a': expected numbers, got 'b'"),
        (5, TypeError, "eval_fn: expected a function of the simulation, got 5"),
    ):
        with pytest.raises(error, match=text):
            simulate().run(2, eval_fn=bad)
    with pytest.raises(TypeError, match="callback: expected a function of the simulation, got 5"):
        simulate().run(2, callback=5)


def test_nan_that_was_there_before_training_is_refused():
    sim = simulate(schedule=dl.Greedy([0, 9, 9, 9, 9, 9]))
    sim.population.X[0, 3] = np.nan
    with pytest.raises(ValueError, match=r"population: expected finite models, got nan in 'fc1.weight' of node 0"):
        sim.run(4)
    state = {k: np.full(s, 1e300) for k, s in dl.models.MLP(64, 16, 10).shapes.items()}
    with pytest.raises(ValueError, match=r"state\['fc1.weight'\]: expected finite numbers of float32's range, got inf"):
        simulate(init=state)
    for init, error in ((5, "init: expected one of 'common', 'own'"), (".", "init: expected one of 'common', 'own'")):
        with pytest.raises(ValueError, match=error):
            simulate(init=init)
    with pytest.raises(TypeError, match=r"schedule: expected an object with plan\(rounds, n, seed\), got 3"):
        simulate(schedule=3)


# ---- interruption ----


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_ends_after_a_whole_round(tmp_path):
    sim = simulate()

    def press(s):
        if s.round == 4:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        sim.run(16, eval_every=4, callback=press, checkpoint=tmp_path / "r", checkpoint_every=16)
    assert sim.round == 4 and sim.history.column("round").tolist() == [4]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    sim.run(16, eval_every=4)
    again = simulate()
    again.run(16, eval_every=4, checkpoint=tmp_path / "r", resume=True)
    whole = simulate()
    whole.run(16, eval_every=4)
    np.testing.assert_array_equal(sim.population.X, whole.population.X)
    np.testing.assert_array_equal(again.population.X, whole.population.X)
    assert rows(again.history) == rows(whole.history)


def test_a_second_ctrl_c_does_not_wait_and_the_run_is_then_of_no_round(tmp_path):
    class Impatient(dl.Mixing):
        def step(self, X, *, round, ctx=None):
            if round == 5 and os.environ.get("PRESS"):
                signal.raise_signal(signal.SIGINT)
                signal.raise_signal(signal.SIGINT)
            return super().step(X, round=round, ctx=ctx)

    os.environ["PRESS"] = "1"
    try:
        sim = simulate(exchange=Impatient())
        with pytest.raises(KeyboardInterrupt):
            sim.run(16, eval_every=2, checkpoint=tmp_path / "r")
    finally:
        del os.environ["PRESS"]
    with pytest.raises(RuntimeError, match="cut short inside round 5, .* go on from a checkpoint"):
        sim.run(16)
    sim.run(16, eval_every=2, checkpoint=tmp_path / "r", resume=True)
    whole = simulate(exchange=Impatient())
    whole.run(16, eval_every=2)
    np.testing.assert_array_equal(sim.population.X, whole.population.X)
    assert rows(sim.history) == rows(whole.history)


def test_ctrl_c_without_evaluations_leaves_something_to_look_at(tmp_path):
    class Pressed(dl.Mixing):
        def step(self, X, *, round, ctx=None):
            if round >= 4:
                signal.raise_signal(signal.SIGINT)
            return super().step(X, round=round, ctx=ctx)

    sim = simulate(exchange=Pressed())
    with pytest.raises(KeyboardInterrupt):
        sim.run(16, checkpoint=tmp_path)
    assert sim.history.column("round").tolist() == [sim.round] and sim.round < 16
    sim.history.report(tmp_path / "page.html")


def test_runs_in_other_threads_leave_signals_alone():
    sim = simulate()
    thread = threading.Thread(target=sim.run, args=(4,))
    thread.start()
    thread.join()
    assert sim.round == 4


@pytest.mark.parametrize("kind", KINDS)
def test_divergence_keeps_the_last_good_round(kind, tmp_path):
    rate = lambda round: 0.05 if round < 9 else 1e30
    sim = simulate(kind, lr=rate)
    with pytest.raises(
        Diverged, match=r"node \d diverged in round 9.*models before this round are in .*checkpoint"
    ) as e:
        sim.run(16, eval_every=4, checkpoint=tmp_path, checkpoint_every=8)
    assert e.value.round == 9 and str(tmp_path) in e.value.checkpoint
    good = simulate(kind, lr=rate)
    good.run(9, eval_every=4)
    np.testing.assert_array_equal(sim.population.X, good.population.X)
    assert sim.history.column("round").tolist() == [4, 8]
    kept = simulate(kind, lr=rate)
    kept.run(9, checkpoint=tmp_path, resume=True)
    np.testing.assert_array_equal(kept.population.X, good.population.X)


# ---- what is measured ----


@pytest.mark.parametrize("kind", KINDS)
def test_eval_samples_are_always_the_same(kind):
    a, b = simulate(kind), simulate(kind)
    a.run(4, eval_every=2, eval_samples=50)
    b.run(4, eval_every=4, eval_samples=50)
    assert a.history.last == b.history.last
    assert (a.history.frame()["accuracy"] * 50 * 6).round(6).apply(float.is_integer).all()
    none = simulate(kind).run(2, eval_samples=0)
    assert np.isnan(none.last["accuracy"]) and np.isfinite(none.last["consensus"])
    everything, more = simulate(kind).run(2).last, simulate(kind).run(2, eval_samples=10_000).last
    for name in ("accuracy", "loss"):
        assert everything[name] == pytest.approx(more[name])


def test_evaluate_looks_and_adds_nothing():
    sim = simulate(validation=0.5)
    row = sim.run(2).last
    assert sim.evaluate() == row and len(sim.history) == 1
    assert sim.evaluate(eval_samples=20, eval_fn=lambda s: {"t": s.round})["t"] == 2.0


def test_eval_fn_adds_columns():
    sim = simulate()
    hist = sim.run(4, eval_every=2, eval_fn=lambda s: {"norm": np.linalg.norm(s.population.X, axis=1), "t": s.round})
    assert hist.column("t").tolist() == [2.0, 4.0]
    assert hist.frame(per="node")["norm"].iloc[-1] == pytest.approx(np.linalg.norm(sim.population.X[-1]))
    with pytest.raises(ValueError, match=r"eval_fn: 'x': expected a number or shape \(6,\), got \(3,\)"):
        simulate().run(2, eval_fn=lambda s: {"x": np.zeros(3)})
    with pytest.raises(ValueError, match="eval_fn: 'loss' is a column already"):
        simulate().run(2, eval_fn=lambda s: {"loss": 1})


@pytest.mark.parametrize("kind", KINDS)
def test_validation_is_a_part_of_the_test_set_or_samples_of_its_own(kind):
    half = simulate(kind, validation=0.5)
    row = half.run(2).last
    everything = simulate(kind).run(2).last
    assert 0.5 * (row["accuracy"] + row["val_accuracy"]) == pytest.approx(everything["accuracy"])
    assert len(half._evaluation.validation) == 180
    parts, held = data.holdout(data.digits().partition(6, seed=1), fraction=0.2, seed=3)
    sim = simulate(kind, data=parts, validation=held)
    row = sim.run(2).last
    x, y = data.digits().x[np.concatenate(held.indices)], data.digits().y[np.concatenate(held.indices)]
    same = simulate(kind, data=parts, validation=(x, y)).run(2).last
    assert same == row
    on_it = simulate(kind, data=parts, test=(x, y)).run(2).last
    assert on_it["accuracy"] == pytest.approx(row["val_accuracy"]) and row["accuracy"] != row["val_accuracy"]
    for wrong, error, text in (
        (0.0, ValueError, "validation: expected a part of the 360 test samples, got 0"),
        (1.5, ValueError, "validation: expected at most 1.0"),
        ("half", TypeError, "validation: expected a share of the test set"),
    ):
        with pytest.raises(error, match=text):
            simulate(kind, validation=wrong)


def test_early_stopping_looks_at_the_history_only(tmp_path):
    stop = lambda: dl.EarlyStopping(patience=3)
    sim = simulate(validation=0.5, lr=1e-12)
    sim.run(40, eval_every=2, callback=stop(), checkpoint=tmp_path)
    assert sim.round == 8  # the first evaluation is the best, three more bring nothing
    for _ in range(2):  # a run that was stopped stays stopped
        again = simulate(validation=0.5, lr=1e-12)
        hist = again.run(40, eval_every=2, callback=stop(), checkpoint=tmp_path, resume=True)
        assert again.round == 8 and len(hist) == 4
    more = simulate(validation=0.5, lr=1e-12)
    more.run(10, eval_every=2, checkpoint=tmp_path, resume=True)
    assert more.round == 10
    numpy_says = simulate()
    numpy_says.run(20, eval_every=2, callback=lambda s: np.bool_(s.round >= 4))
    assert numpy_says.round == 4
    again = simulate(validation=0.5, lr=1e-12)
    with pytest.raises(KeyError, match="no column 'f1'"):
        again.run(4, callback=dl.EarlyStopping("f1"))
    both = simulate()
    seen = []
    both.run(20, eval_every=2, callback=[lambda s: s.round >= 6, lambda s: seen.append(s.round)])
    assert both.round == 6 and seen == [2, 4, 6]
    assert dl.EarlyStopping("val_loss").mode == "min" and dl.EarlyStopping().mode == "max"
    with pytest.raises(ValueError, match="patience: expected at least 1, got 0"):
        dl.EarlyStopping(patience=0)


# ---- energy ----


def test_measured_joules_and_joules_a_byte():
    asked = []

    def meter(round, rows):
        asked.append((round, rows.tolist()))
        return np.full(len(rows), 3.6)

    sim = simulate(energy=meter)
    row = sim.run(4).last
    assert row["energy_wh"] == pytest.approx(2 * 6 * 3.6 / 3600) and "communication_wh" not in row
    assert asked == [(0, list(range(6))), (1, list(range(6)))] and np.isnan(sim.plan(4).total_wh)
    fleet = dl.energy.DeviceFleet(np.ones(6), joules_per_byte_sent=1e-6, joules_per_byte_received=np.arange(6) * 1e-6)
    sim = simulate(energy=fleet)
    row = sim.run(4).last
    message = 4 * sim.population.size
    joules = 4 * 6 * 2 * message * 1e-6 + 4 * 2 * message * 1e-6 * sum(range(6))
    assert row["communication_wh"] == pytest.approx(joules / 3600)
    assert row["energy_wh"] == pytest.approx(12 + joules / 3600) and row["bytes_sent"] == 4 * 12 * message

    class Total(dl.Mixing):
        def step(self, X, *, round, ctx=None):
            return int(super().step(X, round=round, ctx=ctx)[0].sum())

    sim = simulate(energy=fleet, exchange=Total())
    assert sim.run(4).last["communication_wh"] == pytest.approx(joules / 3600)
    for joules, text in ((lambda *_: -1.0, "joules of at least 0 in round 0"), (lambda *_: np.ones(2), r"got \(2,\)")):
        with pytest.raises(ValueError, match=text):
            simulate(energy=joules).run(1)


# ---- graphs that change ----


def test_time_varying_topologies_in_a_run(tmp_path):
    G = dl.topology.one_peer_exponential(8)
    parts = data.digits().partition(8, kind="shards", shards=2, seed=1)
    options = {**_arguments(), "data": parts, "schedule": dl.SkipTrain(1, 3)}
    fused = dl.Simulation(G, **options)
    fused.run(8)
    single = dl.Simulation(G, **options)
    single.run(8, log_consensus=True)
    np.testing.assert_array_equal(fused.population.X, single.population.X)
    assert fused.population.consensus()[1] < 1e-6  # three silent rounds of the exponential graph agree exactly
    fresh = dl.topology.fresh_regular(8, 3, seed=2)
    a, b = dl.Simulation(fresh, **options), dl.Simulation(fresh, **options)
    a.run(8)
    b.run(5, checkpoint=tmp_path)
    c = dl.Simulation(dl.topology.fresh_regular(8, 3, seed=2), **options)
    c.run(8, checkpoint=tmp_path, resume=True)
    np.testing.assert_array_equal(a.population.X, c.population.X)
    other = dl.Simulation(dl.topology.fresh_regular(8, 3, seed=3), **options)
    with pytest.raises(ValueError, match="topology was"):
        other.run(8, checkpoint=tmp_path, resume=True)


# ---- many runs, and their pages ----


def test_sweep_over_seeds_and_settings(tmp_path):
    pytest.importorskip("scipy")
    built = []

    def build(seed, gamma):
        built.append((seed, gamma))
        return simulate(seed=seed, schedule=dl.SkipTrain(gamma, gamma))

    sweep = dl.sweep(build, rounds=4, seeds=range(3), grid={"gamma": [1, 2]}, eval_every=2, folder=tmp_path)
    assert built == [(s, g) for g in (1, 2) for s in range(3)]
    frame = sweep.frame()
    assert list(frame.columns[:3]) == ["gamma", "seed", "round"] and len(frame) == 12
    summary = sweep.summary()
    last = summary[(summary["gamma"] == 2) & (summary["round"] == 4)].iloc[0]
    values = frame[(frame["gamma"] == 2) & (frame["round"] == 4)]["accuracy"]
    half = 4.302653 * values.std(ddof=1) / np.sqrt(3)  # Student's t, two degrees of freedom, 95 %
    assert last["mean"] == pytest.approx(values.mean()) and last["high"] - last["mean"] == pytest.approx(half, rel=1e-6)
    again = dl.sweep(build, rounds=4, seeds=range(3), grid={"gamma": [1, 2]}, eval_every=2, folder=tmp_path)
    assert again.frame().equals(frame)
    figure = sweep.plot()
    assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()] == ["gamma=1", "gamma=2"]
    odd = {"schedule": [dl.DPSGD(), None], "lr": [lambda r: 0.1, lambda r: 0.2], "name": ["a/b", "a_b" * 200]}
    make = lambda seed, schedule, lr, name: simulate(seed=seed, schedule=schedule, lr=lr)
    many = dl.sweep(make, rounds=2, seeds=[1, 2], grid=odd, folder=tmp_path / "odd")
    assert len(list((tmp_path / "odd").iterdir())) == 16 and len(many.summary()) == 8
    one = dl.sweep(lambda seed: simulate(seed=seed), rounds=2, seeds=[1])
    assert np.isnan(one.summary()["low"]).all() and one.plot() is not None
    with pytest.raises(ValueError, match="metric: no column 'f1'"):
        sweep.summary("f1")
    with pytest.raises(ValueError, match="seeds, grid: expected at least one"):
        dl.sweep(build, rounds=2, seeds=[])


def test_trap_9_the_report_compares_at_equal_energy(tmp_path):
    from collegium.report import _equal

    fleet = dl.energy.DeviceFleet([1, 1, 1, 10, 10, 10])
    greedy, dpsgd = (
        simulate(schedule=dl.Greedy([8, 8, 8, 0, 0, 0]), energy=fleet),
        simulate(schedule=dl.DPSGD(), energy=fleet),
    )
    for sim in (greedy, dpsgd):
        sim.run(8, eval_every=1)
    table = _equal([greedy.history, dpsgd.history], "energy_wh")
    assert "at most 24" in table
    row = [r for r in dpsgd.history._rows if r["energy_wh"] <= 24]
    assert not row and "NaN" in table  # one round of D-PSGD costs 33: nothing of it fits into 24


def test_report_is_one_self_contained_page(tmp_path):
    from collegium.report import report

    a, b = simulate(), simulate(schedule=dl.DPSGD())
    for sim in (a, b):
        sim.run(8, eval_every=2)
    a.history.name = "SkipTrain <b> costs $5_{"
    path = tmp_path / "run.html"
    a.history.report(path)
    text = path.read_text()
    assert "SkipTrain &lt;b&gt; costs $5_{" in text and "<b>" not in text and text.count("<svg") == 1
    report([a.history, b.history], path)
    text = path.read_text()
    assert text.count("<svg") == 3 and "At equal rounds" in text and "At equal energy" in text
    loads = re.findall(r'(?:src|href)="(?!#)[^"]*"', text)
    assert not [x for x in loads if "http" in x or ".js" in x or ".css" in x], loads
    assert [f.name for f in tmp_path.iterdir()] == ["run.html"]
    with pytest.raises(ValueError, match="runs: expected at least one history"):
        report([], path)
    with pytest.raises(ValueError, match="with at least one row"):
        report([History("x")], path)


# ---- every learner ----


def test_matrix_factorization_runs_saves_and_resumes(tmp_path):
    rng = np.random.default_rng(0)
    users, items, ratings = rng.integers(0, 12, 900), rng.integers(0, 20, 900), rng.integers(1, 6, 900)
    x = np.stack([users, items], axis=1)
    ds = data.Dataset(x[:800], ratings[:800].astype("f4"), x[800:], ratings[800:].astype("f4"), groups=users[:800])
    make = lambda: dl.Simulation(
        dl.topology.ring(4), model=dl.models.MatrixFactorization(12, 20, 5), data=ds.partition(4, kind="groups"),
        local_steps=5, batch_size=16, lr=0.05, seed=3, schedule=dl.SkipTrain(2, 1), validation=0.5,
    )  # fmt: skip
    whole, first, second = make(), make(), make()
    hist = whole.run(12, eval_every=3)
    row = hist.last
    assert np.isnan(row["accuracy"]) and row["rmse"] == pytest.approx(np.mean(hist._nodes[-1]["rmse"]))
    assert row["rmse"] > 0 and "mean_model_rmse" in row and "val_rmse" in row and "loss" in repr(hist)
    assert hist.plot().axes[0].get_ylabel().startswith("test rmse")
    first.run(6, eval_every=3, checkpoint=tmp_path)
    second.run(12, eval_every=3, checkpoint=tmp_path, resume=True)
    np.testing.assert_array_equal(second.population.X, whole.population.X)
    assert json.dumps(second.history._rows[-1]) == json.dumps(whole.history._rows[-1])
