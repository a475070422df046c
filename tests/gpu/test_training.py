"""Training on a device: the same run as on the CPU, graphs, resuming, streams."""

from __future__ import annotations

import numpy as np
import pytest

from collegium import cuda, data, dl
from collegium.errors import Diverged

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'collegium[torch]'")
nn = torch.nn


@pytest.fixture(autouse=True)
def plain_float32():
    """Convolutions in float32, as on the CPU; torch's default on a device is TF32."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def mlp():
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def conv():
    """Average pooling, since a maximum turns rounding into another gradient."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(8, 12, 3, padding=1), nn.GroupNorm(3, 12), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(48, 10),
    )  # fmt: skip


def simulate(model=mlp, device="cuda", **options):
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    parts = data.digits().partition(12, kind="shards", shards=2, seed=1)
    batched = {"batched": True, "chunk": 12} if device == "cpu" else {}
    options = {"schedule": dl.SkipTrain(2, 2), "batch_size": 8, "lr": 0.05, "momentum": 0.9, **batched, **options}
    topology = dl.topology.regular(12, 4, seed=1)
    return dl.Simulation(topology, model=model, data=parts, local_steps=3, seed=5, device=device, **options)


@pytest.mark.parametrize("model", [mlp, conv])
def test_a_run_is_the_cpus_but_for_rounding(model):
    here, there = simulate(model, "cpu"), simulate(model)
    assert there.population.device == "cuda:0"
    assert np.array_equal(here.population.X, there.population.numpy())
    ours, theirs = (s.run(8, eval_every=4) for s in (there, here))
    np.testing.assert_allclose(there.population.numpy(), here.population.X, atol=1e-4)
    for column in ("accuracy", "mean_model_accuracy", "loss", "consensus"):
        np.testing.assert_allclose(ours.frame()[column], theirs.frame()[column], atol=3e-3)
    assert ours.last["trainings"] == theirs.last["trainings"]


@pytest.mark.parametrize("model", [mlp, conv])
def test_a_graph_replays_the_same_steps(model):
    on, off = simulate(model, cuda_graph="on"), simulate(model, cuda_graph="off")
    on.run(8)
    off.run(8)
    np.testing.assert_allclose(on.population.numpy(), off.population.numpy(), atol=1e-5)


def test_resumes_to_the_same_bits(tmp_path):
    whole, first = simulate(), simulate()
    whole.run(8, checkpoint=tmp_path / "whole")
    first.run(8, eval_every=4, callback=lambda sim: sim.round == 4, checkpoint=tmp_path / "cut", checkpoint_every=4)
    again = simulate()
    again.run(8, eval_every=4, checkpoint=tmp_path / "cut", checkpoint_every=4, resume=True)
    assert again.round == 8
    assert again.population.digest() == whole.population.digest()


def test_a_run_on_another_stream(tmp_path):
    usual, other = simulate(), simulate()
    usual.run(8)
    with torch.cuda.stream(torch.cuda.Stream()):
        other.run(8)
    assert other.population.digest() == usual.population.digest()


@pytest.mark.parametrize("graph", ["off", "on"])
def test_a_run_within_a_stream_named_to_collegium(graph):
    """Models are mixed on that stream, training stays on torch's: each waits for the other."""
    usual, other = simulate(conv, cuda_graph=graph), simulate(conv, cuda_graph=graph)
    usual.run(8)
    with cuda.stream(torch.cuda.Stream().cuda_stream):
        other.run(8)
    np.testing.assert_allclose(other.population.numpy(), usual.population.numpy(), atol=1e-5)


def test_divergence_is_found_before_it_spreads():
    with pytest.raises(Diverged):
        simulate(lr=1e30).run(8)


def test_a_module_is_a_view_of_its_row():
    sim = simulate(conv)
    module = sim.learner.module(3)
    with torch.no_grad():
        module[1].weight.fill_(2.5)
    assert (sim.population.row(3)["1.weight"].numpy_sync() == 2.5).all()
    assert module(torch.zeros(2, 64, device="cuda")).shape == (2, 10)


def test_rows_that_are_no_neighbours_are_trained():
    """A greedy schedule trains some rows only: they are gathered, and put back."""
    energy = dl.energy.DeviceFleet.phones(12, task="cifar10", local_steps=3, batch_size=8)
    options = {"schedule": dl.SkipTrain(2, 2, np.arange(12) % 3), "energy": energy}
    here, there = simulate(mlp, "cpu", **options), simulate(mlp, **options)
    here.run(8)
    there.run(8)
    np.testing.assert_allclose(there.population.numpy(), here.population.X, atol=1e-4)
