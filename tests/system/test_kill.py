"""kill -9 at random moments, and the run resumes to the same bits."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

KILLS = 20
RUN = textwrap.dedent(
    """
    import sys
    import numpy as np
    from collegium import data, dl

    kind, folder, out = sys.argv[1:]
    n = 8
    if kind == "torch":
        import torch
        from torch import nn
        torch.set_num_threads(1)
        model = lambda: nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Dropout(0.1), nn.Linear(16, 10))
    else:
        model = dl.models.MLP(64, 32, 10)
    sim = dl.Simulation(
        dl.topology.fresh_regular(n, 3, seed=1), schedule=dl.SkipTrain(3, 1), model=model, local_steps=4, momentum=0.9,
        data=data.digits().partition(n, kind="shards", shards=2, seed=1), batch_size=8, lr=0.05, seed=5,
        energy=dl.energy.DeviceFleet(np.ones(n)),
    )
    hist = sim.run(int(120 if kind == "torch" else 800), eval_every=5, checkpoint=folder or None, checkpoint_every=4,
                   resume=True, log_consensus=True, progress=False)
    np.save(out, sim.population.X)
    hist.save(out + ".jsonl")
    """
)


def start(kind: str, folder: Path | str, out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", RUN, kind, str(folder), str(out)], stderr=subprocess.PIPE)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["native", "torch"])
def test_kill_nine_twenty_times_resumes_to_the_same_bits(kind: str, tmp_path: Path) -> None:
    if kind == "torch":
        pytest.importorskip("torch", reason="torch is not installed: pip install 'collegium[torch]'")
    whole, cut, folder = tmp_path / "whole.npy", tmp_path / "cut.npy", tmp_path / "run"
    began = time.monotonic()
    process = start(kind, "", whole)
    assert process.wait(120) == 0, process.communicate()[1].decode()
    length = time.monotonic() - began
    moments, kills = random.Random(7), 0
    while kills < KILLS:
        process = start(kind, folder, cut)
        try:
            assert process.wait(moments.uniform(0.0, 1.2) * length) == 0, process.communicate()[1].decode()
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
        else:  # it got to the end: once more from the beginning
            check(whole, cut, folder)
            shutil.rmtree(folder)
    process = start(kind, folder, cut)
    assert process.wait(120) == 0, process.communicate()[1].decode()
    check(whole, cut, folder)


def check(whole: Path, cut: Path, folder: Path) -> None:
    assert cut.read_bytes() == whole.read_bytes()
    assert Path(f"{cut}.jsonl").read_bytes() == Path(f"{whole}.jsonl").read_bytes()
    assert (folder / "history.jsonl").read_bytes() == Path(f"{whole}.jsonl").read_bytes()
