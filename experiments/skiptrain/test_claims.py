"""SkipTrain's claims as assertions, small: four seeds, on a 3- and a 6-regular graph."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import digits
import images

from collegium import data, dl

SEEDS = 4
outcome = functools.cache(lambda name, degree: digits.means(name, degree, SEEDS))
degrees = pytest.mark.parametrize("degree", [3, 6])


@degrees
def test_half_the_training_energy_exactly(degree):
    full, half = outcome("D-PSGD", degree), outcome("SkipTrain(4,4)", degree)
    assert half.trainings * 2 == full.trainings
    assert half.energy_wh == pytest.approx(full.energy_wh / 2, rel=1e-12)


@degrees
def test_at_equal_rounds_as_accurate_as_dpsgd(degree):
    assert outcome("SkipTrain(4,4)", degree).accuracy >= outcome("D-PSGD", degree).accuracy - 0.005


@degrees
def test_at_equal_energy_clearly_more_accurate(degree):
    assert outcome("SkipTrain(4,4)", degree).energy_wh == pytest.approx(outcome("D-PSGD, T/2", degree).energy_wh)
    assert outcome("SkipTrain(4,4)", degree).accuracy >= outcome("D-PSGD, T/2", degree).accuracy + 0.015


@degrees
def test_nodes_agree_more(degree):
    assert outcome("SkipTrain(4,4)", degree).spread < outcome("D-PSGD", degree).spread


@degrees
def test_budgets_constrained_beats_greedy_and_keeps_them(degree):
    ours, greedy = outcome("SkipTrain(4,4), budgets", degree), outcome("Greedy", degree)
    assert ours.accuracy >= greedy.accuracy + 0.03
    assert ours.most_over_budget <= 0 and greedy.most_over_budget <= 0


@pytest.mark.slow
def test_the_same_claims_on_torch():
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'collegium[torch]'")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # matrices this small only wait for a second one
    names = ("D-PSGD", "D-PSGD, T/2", "SkipTrain(4,4)", "Greedy", "SkipTrain(4,4), budgets")
    full, half, ours, greedy, constrained = (digits.run(name, 3, 1, "torch") for name in names)
    torch.set_num_threads(threads)
    assert ours.energy_wh == pytest.approx(full.energy_wh / 2, rel=1e-12)
    assert ours.accuracy >= full.accuracy - 0.005 and ours.spread < full.spread
    assert ours.accuracy >= half.accuracy + 0.015
    assert constrained.accuracy >= greedy.accuracy + 0.03 and constrained.most_over_budget <= 0


def test_the_papers_energy_totals():
    for task, rounds, wanted, within in (("cifar10", 1000, 1510.04, 0.01), ("femnist", 3000, 14_914.4, 0.1)):
        e = dl.energy.DeviceFleet.phones(256, task=task).e_wh
        assert abs(float((dl.DPSGD().plan(rounds, 256) * e).sum()) - wanted) < within


@degrees
def test_what_the_paper_does_not_report_the_average_model_is_better_without_skipping(degree):
    # Not a claim of the paper: at equal rounds the average of all models gains from twice the training.
    assert outcome("D-PSGD", degree).mean_model > outcome("SkipTrain(4,4)", degree).mean_model


def test_what_full_size_would_take(capsys):
    pytest.importorskip("torch", reason="torch is not installed: pip install 'collegium[torch]'")
    for task in images.PAPER:
        images.dry_run(task)
    said = capsys.readouterr().out
    for text in ("256 nodes, gn_lenet(10, 3) (89,834 parameters)", "1510.04 Wh", "755.02 Wh", "14914.38 Wh",
                 "256,000 trainings", "connected: yes", "PFLOP of training", "memory: models 92 MB"):  # fmt: skip
        assert text in said


@pytest.mark.slow
def test_images_run_and_resume_in_small(tmp_path):
    pytest.importorskip("torch", reason="torch is not installed: pip install 'collegium[torch]'")
    task = images.quick(images.SMALL)
    try:
        first = images.run(task, [1], tmp_path, progress=False)
    except data.MissingData as missing:
        pytest.skip(str(missing))
    again = images.run(task, [1], tmp_path, progress=False)
    assert first.drop(columns="seconds").equals(again.drop(columns="seconds")) and len(first) == 3
    assert (tmp_path / "cifar10" / "D-PSGD-3-1" / "report.html").exists()


def test_denser_graphs_mix_faster():
    published = {6: 0.762, 8: 0.693, 10: 0.618}
    for degree, wanted in published.items():
        found = [dl.topology.regular(256, degree, seed=s).lambda2 for s in range(4)]
        assert np.mean(found) == pytest.approx(wanted, abs=0.03)
