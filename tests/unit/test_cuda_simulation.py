"""A simulation whose models lie on a device (here the twin's: the CPU, see cuda_twin.py) is the one on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from collegium import _core, dl
from collegium.errors import Diverged


class Pull:
    """A learner of a few lines: every step pulls a model a little towards its node's own target."""

    def __init__(self, device: str, rate: float = 0.25) -> None:
        self.shapes = {"weight": (3, 5), "bias": (7,)}
        self.device, self.rate = device, np.float32(rate)

    def bind(self, population: dl.Population, seed: int) -> None:
        self.population = population
        self.target = np.random.default_rng(seed).normal(size=(population.n, population.size)).astype(np.float32)

    def _put(self, values: np.ndarray) -> None:
        if self.population.device == "cpu":
            self.population.X[...] = values
        else:
            self.population.X.fill_from(values)

    def init(self, mode: str) -> None:
        self._put(np.zeros((self.population.n, self.population.size), np.float32))

    def train(self, rows: Any, steps: int, ctx: Any) -> np.ndarray:
        x = self.population.numpy().copy()
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in range(steps):
                x[rows] += self.rate * (self.target[rows] - x[rows])
        self._put(x)
        return np.zeros(len(rows))

    def evaluate(self, X: Any) -> dict[str, np.ndarray]:
        x = X if isinstance(X, np.ndarray) else X.numpy_sync()
        return {"loss": np.square(x - self.target.mean(0)).mean(axis=1, dtype=np.float64)}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Any) -> None:
        pass

    def fingerprint(self) -> dict[str, Any]:
        return {"rate": float(self.rate)}


class Doubt:
    """A mechanism: what is sent is a tenth too large; one's own copy stays."""

    def messages(self, x, weights, *, round, sender, recipients, seed):
        out = np.repeat(x[None], len(recipients), 0)
        out[recipients != sender] *= np.float32(1.1)
        return out


def simulate(device: str, rate: float = 0.25, **options: Any) -> dl.Simulation:
    options = {"schedule": dl.SkipTrain(2, 2), "local_steps": 2, "seed": 3, **options}
    return dl.Simulation(dl.topology.regular(12, 4, seed=1), learner=Pull(device, rate), **options)


def same(a: dl.Simulation, b: dl.Simulation) -> bool:
    x, y = a.population.numpy(), b.population.numpy()
    return np.allclose(x, y, rtol=1e-5, atol=1e-6) if _core.isa() == "base" else np.array_equal(x, y)


@pytest.mark.parametrize("options", [{}, {"mechanism": Doubt()}, {"exchange": dl.Mixing(rounds=2)}])
def test_a_run_is_the_cpus(twin, options):
    here, there = simulate("cpu", **options), simulate("cuda:0", **options)
    assert (here.population.device, there.population.device) == ("cpu", "cuda:0")
    ours, theirs = (s.run(8, eval_every=4, log_consensus=True) for s in (there, here))
    assert same(there, here)
    for column in ("round", "loss", "consensus", "trainings", "bytes_sent"):
        np.testing.assert_allclose(ours.frame()[column], theirs.frame()[column], rtol=1e-5)


def test_a_checkpoint_goes_from_device_to_device(twin, tmp_path):
    whole = simulate("cuda")
    whole.run(8, checkpoint=tmp_path / "whole")
    parts = simulate("cuda")
    parts.run(8, eval_every=4, callback=lambda sim: sim.round == 4, checkpoint=tmp_path / "parts", checkpoint_every=4)
    for device in ("cuda", "cpu"):
        folder = tmp_path / device
        folder.mkdir()
        for file in ("checkpoint.safetensors", "history.jsonl"):
            (folder / file).write_bytes((tmp_path / "parts" / file).read_bytes())
        resumed = simulate(device)
        resumed.run(8, eval_every=4, checkpoint=folder, checkpoint_every=4, resume=True)
        assert resumed.population.device == {"cuda": "cuda:0"}.get(device, device)
        assert same(resumed, whole)


def test_a_model_that_diverges_is_found_on_the_device(twin, tmp_path):
    sim = simulate("cuda", rate=1e20, local_steps=3)
    with pytest.raises(Diverged) as e:
        sim.run(8, checkpoint=tmp_path, checkpoint_every=1)
    assert (e.value.node, e.value.round, e.value.parameter) == (0, 0, "weight")
    assert np.isfinite(sim.population.numpy()).all()


def test_starts_from_a_state_and_refuses_one_that_is_not_finite(twin):
    state = {"weight": np.full((3, 5), 2, np.float32), "bias": np.arange(7, dtype=np.float32)}
    sim = simulate("cuda", init=state)
    assert (sim.population.numpy() == np.r_[np.full(15, 2), np.arange(7)]).all()
    bad = sim.population.numpy()
    bad[5, 16] = np.nan
    sim.population.X.fill_from(bad)
    with pytest.raises(ValueError, match="population: expected finite models, got nan in 'bias' of node 5"):
        sim.run(2)


def test_without_the_extension_the_models_stay_on_the_cpu(monkeypatch):
    monkeypatch.setattr("collegium.cuda.status", lambda: (None, "no driver"))
    with pytest.warns(UserWarning, match="device: the models stay on the CPU .* collegium.cuda is off: no driver"):
        assert simulate("cuda:0").population.device == "cpu"
    assert simulate("mps").population.device == "cpu"


class Pool:
    """An exchange that knows nothing of devices: everybody takes the mean."""

    def step(self, X, *, round, ctx=None):
        X[...] = X.mean(0)
        return 0


def test_an_exchange_that_knows_no_device_gets_the_models_on_the_host(twin):
    here, there = simulate("cpu", exchange=Pool()), simulate("cuda", exchange=Pool())
    here.run(4)
    there.run(4)
    assert np.array_equal(here.population.X, there.population.numpy())


def test_a_function_that_takes_the_array_for_numpys_is_told_what_to_call(twin):
    sim = simulate("cuda")
    with pytest.raises(TypeError, match=r"lies on a device: numpy_sync\(\) copies it"):
        sim.run(2, eval_fn=lambda s: {"norm": np.linalg.norm(s.population.X)})
    assert sim.evaluate(eval_fn=lambda s: {"norm": np.linalg.norm(s.population.numpy())})["norm"] > 0


def test_auto_takes_the_cpu_where_there_is_no_gpu():
    parts = [(np.zeros((4, 64), np.float32), np.zeros(4, int))] * 6
    test = (np.zeros((2, 64), np.float32), np.zeros(2, int))
    options = {"data": parts, "test": test, "device": "auto"}
    native = dl.Simulation(dl.topology.ring(6), model=dl.models.MLP(64, 8, 10), **options)
    assert (type(native.learner), native.population.device) == (dl.NativeLearner, "cpu")


def test_refusals():
    parts = [(np.zeros((4, 64), np.float32), np.zeros(4, int))] * 6
    ring, mlp = dl.topology.ring(6), dl.models.MLP(64, 8, 10)
    with pytest.raises(ValueError, match="device: 'cuda': built-in models are trained in C on the CPU"):
        dl.Simulation(ring, model=mlp, data=parts, device="cuda")
    with pytest.raises(ValueError, match="batched: built-in models"):
        dl.Simulation(ring, model=mlp, data=parts, batched=True)
    with pytest.raises(TypeError, match="batched: expected True or False, got 4"):
        dl.Simulation(ring, model=mlp, data=parts, batched=4)
    with pytest.raises(TypeError, match="learner: a learner of your own brings its model, data, device"):
        dl.Simulation(ring, learner=Pull("cpu"), device="cuda")
