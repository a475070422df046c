"""Proximity's claims as assertions: R1 exactly, R2 ... R5 on real questions, R6 and R7 as times."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import claims
import paper
import run
import streams

from collegium import data

ORACLE = {  # (questions, mode): capacity -> hits for seeds 42 ... 46
    (131, "sequential"): {
        10: [31, 35, 29, 30, 27], 50: [157, 157, 155, 147, 150], 100: [321, 324, 332, 322, 321],
        200: [393] * 5, 300: [393] * 5,
    },
    (131, "snapshot"): {
        10: [40, 30, 29, 20, 33], 50: [144, 126, 135, 120, 140], 100: [291, 282, 293, 291, 304],
        200: [378, 375, 381, 376, 385], 300: [378, 375, 381, 376, 385],
    },
    (200, "sequential"): {
        10: [33, 35, 27, 30, 26], 50: [157, 132, 140, 174, 141], 100: [320, 300, 307, 326, 319],
        200: [600] * 5, 300: [600] * 5,
    },
    (200, "snapshot"): {
        10: [34, 35, 27, 19, 21], 50: [138, 122, 138, 164, 139], 100: [295, 282, 287, 309, 288],
        200: [564, 573, 564, 571, 571], 300: [582, 587, 587, 586, 588],
    },
}  # fmt: skip

# A busy machine must not fail a suite: what measures time runs when it is asked for, where nothing else goes on.
timing = pytest.mark.skipif(not os.environ.get("COLLEGIUM_TIMING"), reason="measures time; COLLEGIUM_TIMING=1 runs it")


@pytest.mark.parametrize("questions, mode", ORACLE)
def test_r1_the_oracle_tables_exactly(questions, mode):
    for capacity, wanted in ORACLE[questions, mode].items():
        assert [claims.r1(questions, capacity, s, mode) for s in streams.SEEDS] == wanted


def test_r1_the_published_hit_rates_are_the_workloads_structure():
    """The published columns lie within 4 points of a matcher that knows the question: they say little of the cache."""
    for questions, queries, _, published in claims.PAPER.values():
        for capacity, percent in zip(claims.CAPACITIES, published):
            hits = [
                sum(claims.r1(questions, capacity, s, mode) for s in streams.SEEDS) / (5 * queries)
                for mode in ("sequential", "snapshot")
            ]
            assert min(abs(100 * h - percent) for h in hits) < 4


def test_t8_coalesce_gives_back_what_snapshots_lose():
    for questions, capacity in ((131, 300), (200, 300)):
        for seed in streams.SEEDS:
            assert claims.r1(questions, capacity, seed, "coalesce") == 3 * questions


@pytest.fixture(params=["tfidf", "minilm"], scope="module")
def world(request):
    try:
        return getattr(streams, request.param)()
    except (data.MissingData, ImportError) as e:
        pytest.skip(str(e))


@functools.cache
def mean(world_name, capacity, tolerance, rho=1):
    return claims.mean(getattr(streams, world_name)(), capacity, tolerance, rho)


@pytest.fixture
def measured(world):
    return functools.partial(mean, "tfidf" if world.name.startswith("TF") else "minilm")


def test_r2_hit_rate_grows_with_capacity_and_tolerance(measured):
    for tau in claims.TOLERANCES:
        rates = [measured(c, tau).hit_rate for c in (50, 100, 200, 300)]
        assert (np.diff(rates) >= 0).all()
    for c in (50, 100, 200, 300):
        rates = [measured(c, tau).hit_rate for tau in claims.TOLERANCES]
        assert (np.diff(rates) >= -0.01).all()


def test_r2_whose_answers_were_served(measured):
    for c in (50, 100, 200, 300):
        for tau in claims.TOLERANCES:
            m = measured(c, tau)
            assert m.hit_rate * m.same_question <= claims.CEILING + 1e-9
            if tau <= 0.5 and c >= 100:
                assert m.same_question >= 0.98
        assert measured(c, 1.2).same_question < 0.5
        assert measured(300, 1.2).hit_rate > claims.CEILING  # the vain hit rate, and what it costs:
        assert measured(300, 1.2).recall < 0.7


def test_r3_hits_without_losing_documents(measured):
    assert any((m := measured(300, tau)).hit_rate >= 0.40 and m.recall >= 0.90 for tau in (0.3, 0.4, 0.5, 0.6))
    assert any((m := measured(300, tau, 4)).hit_rate >= 0.55 and m.recall >= 0.98 for tau in (0.4, 0.6, 0.8))
    recalls = [measured(300, 0.6, rho).recall for rho in (1, 2, 4, 8)]
    assert (np.diff(recalls) > 0).all()


@timing
def test_r4_latency_falls_with_the_hit_rate(world):
    r = claims.r4(world, 0.6)
    assert r["plain_ms"] >= 5 and r["hit_rate"] > 0.3
    assert r["reduction"] >= r["hit_rate"] - 0.03


def test_r5_most_calls_saved_on_a_skewed_workload(world):
    s = world.zipf(2_000)
    assert any((m := claims.measure(s, 300, tau)).hit_rate >= 0.77 and m.recall >= 0.95 for tau in (0.3, 0.4))


def test_r5_under_pressure_fifo_is_the_weakest_policy(world):
    s = world.zipf(10_000)
    rate = {
        e: claims.measure(s, 50, 0.8, eviction=e).hit_rate for e in ("fifo", "lru", "lfu", "clock", "sieve", "s3fifo")
    }
    assert min(rate, key=rate.get) == "fifo" and rate["lru"] > rate["fifo"] + 0.03
    assert max(rate["sieve"], rate["lfu"], rate["s3fifo"]) > rate["lru"] + 0.03  # frequency beats recency here


def test_the_guarantee_is_kept_and_what_it_costs(world):
    s = world.zipf(10_000)
    fixed = claims.measure(s, 300, 0.4)
    for seed in range(3):
        g = claims.guaranteed(s, max_loss=0.1, seed=seed)
        assert g["recall_hits"] >= 0.9 and g["recall_lcb"] <= g["recall_hits"]
        assert 0.4 < g["hit_rate"] < fixed.hit_rate  # audits and caution are paid in hits


@timing
def test_r6_lsh_does_not_slow_down_as_it_grows():
    # The middle of three: the machine may be doing other things.
    assert sorted(claims.r6(100_000) / claims.r6(1_000) for _ in range(3))[1] <= 1.5


@timing
def test_r7_a_lookup_through_python():
    r = claims.r7()
    assert r["ours"] <= r["numpy product"]
    # The reference's binding takes a list only: the conversion alone, before its scan of 31 us or more.
    assert 5 * r["ours"] <= r["list(row)"] + 31


def test_the_papers_scale_runs_on_any_index():
    class Exact:
        def __init__(self, docs):
            self.docs, self.d = docs, docs.shape[1]

        def search(self, x, k):
            d = ((x[:, None] - self.docs) ** 2).sum(2)
            ids = np.argsort(d, axis=1)[:, :k]
            return np.take_along_axis(d, ids, 1), ids

    rng = np.random.default_rng(0)
    task = paper.Task("small", 10, 3, (0.0, 0.5), "")
    wordings = (rng.normal(size=(10, 1, 8)) + 0.01 * rng.normal(size=(10, 4, 8))).astype(np.float32)
    rows = paper.run(task, Exact(rng.normal(size=(50, 8)).astype(np.float32)), wordings, seeds=(42,))
    best = rows[-1]
    assert best["hit_rate"] > 0.1 and best["same_question"] == 1 and best["recall"] > 0.9
    assert rows[0]["hit_rate"] == 0 and rows[0]["recall"] == 1
    with pytest.raises(ValueError, match=r"wordings: expected shape \(10, 4, dim\)"):
        paper.run(task, None, wordings[:3])


def test_the_command(capsys):
    for scale in ("small", "paper"):
        assert run.main(["--scale", scale, "--dry-run"]) == 0
    assert "128 GB" in capsys.readouterr().out
    assert run.main(["--scale", "paper"]) == 2
    assert "--index" in capsys.readouterr().err
    assert run.main(["--only", "r1"]) == 0
    assert "| MMLU | one by one | 5.8% |" in capsys.readouterr().out
