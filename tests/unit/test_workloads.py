"""Workloads: the paper's shuffles exactly, skew, real pairs replayed; and reports that hide nothing."""

from __future__ import annotations

import random

import numpy as np
import pytest

from collegium import data
from collegium.data import workloads

# Hits of a perfect matcher, FIFO, on the paper's shuffles (seeds 42 ... 46). The order is all that these depend on.
MMLU = {10: [31, 35, 29, 30, 27], 50: [157, 157, 155, 147, 150], 100: [321, 324, 332, 322, 321], 200: [393] * 5}
MEDRAG = {10: [33, 35, 27, 30, 26], 50: [157, 132, 140, 174, 141], 100: [320, 300, 307, 326, 319], 200: [600] * 5}


def oracle(questions, capacity):
    kept, hits = [], 0
    for q in questions.tolist():
        if q in kept:
            hits += 1
        else:
            kept = [*kept, q][-capacity:]
    return hits


@pytest.mark.parametrize("n, table", [(131, MMLU), (200, MEDRAG)])
def test_variants_are_the_published_shuffles(n, table):
    streams = [workloads.variants([str(i) for i in range(n)], seed=s) for s in range(42, 47)]
    for capacity, wanted in table.items():
        assert [oracle(v.question, capacity) for v in streams] == wanted


def test_variants():
    v = workloads.variants(["why?", "how?"], ["", "Well: "], seed=7)
    assert len(v) == 4 and v.ceiling == 0.5
    assert sorted(v.texts) == ["Well: how?", "Well: why?", "how?", "why?"]
    assert [["", "Well: "][p] + ["why?", "how?"][q] for q, p in zip(v.question, v.prefix)] == v.texts
    wanted = [(0, 0), (0, 1), (1, 0), (1, 1)]
    random.seed(7)
    random.shuffle(wanted)
    assert list(zip(v.question, v.prefix)) == wanted
    assert len(workloads.PREFIXES) == 4 and "" in workloads.PREFIXES
    assert len(workloads.variants([], seed=1)) == 0 and workloads.variants([]).ceiling == 0
    with pytest.raises(TypeError, match="questions: expected a sequence of strings, got str"):
        workloads.variants("why?")
    with pytest.raises(TypeError, match="seed: expected an integer"):
        workloads.variants(["a"], seed=1.5)


@pytest.mark.parametrize("s", [0.0, 0.8, 1.0, 2.0])
def test_zipf_has_its_frequencies(s):
    draws = workloads.zipf(20, s=s, size=200_000, seed=3)
    p = np.arange(1, 21) ** -s
    p /= p.sum()
    found = np.bincount(draws, minlength=20) / len(draws)
    assert (np.abs(found - p) < 5 * np.sqrt(p * (1 - p) / len(draws))).all()
    np.testing.assert_array_equal(draws[:1000], workloads.zipf(20, s=s, size=1000, seed=3))
    assert (draws[:1000] != workloads.zipf(20, s=s, size=1000, seed=4)).any()


def test_zipf_edges():
    assert workloads.zipf(1, size=5).tolist() == [0] * 5 and workloads.zipf(3, size=0).shape == (0,)
    for bad in ({"n_items": 0}, {"n_items": 2, "s": -1}, {"n_items": 2, "s": float("nan")}, {"n_items": 2, "size": -1}):
        with pytest.raises(ValueError):
            workloads.zipf(**bad)


def pairs(same):
    n = len(same)
    return data.Pairs("p", [f"a{i}" for i in range(n)], [f"b{i}" for i in range(n)], np.array(same, np.int64))


def test_replay_of_pairs_counts_right_wrong_and_missed():
    a = np.eye(4, dtype=np.float32) * 10
    b = a + np.array([[0.1, 0, 0, 0], [0, 0.2, 0, 0], [0, 0, 0.3, 0], [0, 0, 0, 0.4]], np.float32)
    r = workloads.replay(pairs([1, 0, 1, 0]), (a, b), [0.05, 0.15, 0.25, 0.5])
    np.testing.assert_array_equal(r.right, [0, 1, 1, 2])
    np.testing.assert_array_equal(r.wrong, [0, 0, 1, 2])
    np.testing.assert_array_equal(r.missed, [2, 1, 1, 0])
    np.testing.assert_allclose(r.hit_rate, [0, 0.25, 0.5, 1])
    np.testing.assert_allclose(r.wrong_share, [np.nan, 0, 0.5, 0.5])
    assert r.possible == 2 and "| 0.25 | 50.0% | 1 | 1 | 50.0% | 1 |" in str(r)
    # In a stream the nearest of all keys answers, which may be another pair's.
    b[2] = a[0]
    s = workloads.replay(pairs([1, 0, 1, 0]), {"a": a, "b": b}, [0.5], stream=True)
    assert (s.right[0], s.wrong[0], s.missed[0]) == (1, 3, 0)


def test_replay_of_intents_is_a_stream():
    x = np.array([[0, 0], [0.1, 0], [5, 0], [5.1, 0], [0.2, 0], [0.15, 0]], np.float32)
    intents = data.Intents("i", ["t"] * 6, np.array([0, 0, 1, 1, 1, 2]), ("a", "b", "oos"), ["train"] * 6)
    r = workloads.replay(intents, x, [0.0, 0.5])
    # 0.5: row 1 hits 0 rightly, 3 hits 2 rightly, 4 (b) and 5 (oos) hit 0 (a) wrongly.
    assert (r.right.tolist(), r.wrong.tolist(), r.missed.tolist()) == ([0, 2], [0, 2], [3, 0])
    assert r.queries == 6 and r.possible == 3


def test_replay_says_what_does_not_fit():
    a = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match=r"vectors: b: expected shape \(2, dim\)"):
        workloads.replay(pairs([1, 0]), (a, a[:1]), [0.1])
    with pytest.raises(TypeError, match="vectors: expected the pair"):
        workloads.replay(pairs([1, 0]), 3, [0.1])
    with pytest.raises(ValueError, match="tolerances: expected"):
        workloads.replay(pairs([1, 0]), (a, a), [-0.1])
    with pytest.raises(TypeError, match="pairs: expected Pairs or Intents, got list"):
        workloads.replay([], (a, a), [0.1])


@pytest.fixture
def real():
    def get(name):
        try:
            return data.pairs(name), data.embeddings(name)
        except data.MissingData as e:
            pytest.skip(str(e))

    return get


def test_paws_is_the_adversary(real):
    quora = workloads.replay(*real("quora_dev"), [0.1, 0.3, 0.5])
    paws = workloads.replay(*real("paws_wiki_dev"), [0.1, 0.3, 0.5])
    assert (np.diff(quora.right) > 0).all() and (np.diff(quora.wrong) > 0).all()
    # The same words in another order mean something else, and the distance does not see it: near a third of PAWS hits
    # are wrong at the smallest tolerance, where Quora's are 3 %, and half at the larger ones.
    assert (paws.wrong_share[1:] > 0.45).all() and paws.wrong_share[0] > 5 * quora.wrong_share[0]
    assert quora.possible == 7585 and paws.possible == 3539


def test_inverse_cloze_cuts_the_query_out_of_its_passage():
    passages = [" ".join(f"w{i}.{j}" for j in range(10 + i)) for i in range(40)]
    cloze = workloads.inverse_cloze(passages, size=20, seed=3, window=6)
    assert len(cloze) == len(set(cloze.row.tolist())) == 20
    for query, row in zip(cloze.queries, cloze.row):
        assert len(query.split()) == 6 and query in passages[row] and query not in cloze.passages[row]
        assert len(cloze.passages[row].split()) == len(passages[row].split()) - 6
        assert len(passages[row].split()) >= 12
    untouched = set(range(40)) - set(cloze.row.tolist())
    assert all(cloze.passages[i] == passages[i] for i in untouched)
    again = workloads.inverse_cloze(passages, size=20, seed=3, window=6)
    assert again.queries == cloze.queries and (again.row == cloze.row).all()
    with pytest.raises(ValueError, match="size: expected at most 38, .* got 39"):
        workloads.inverse_cloze(passages, size=39, window=6)
    with pytest.raises(TypeError, match="passages"):
        workloads.inverse_cloze("one text")
