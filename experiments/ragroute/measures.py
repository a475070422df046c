"""What the paper claims of routing, measured: one function a claim."""

from __future__ import annotations

import functools
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import corpora
import numpy as np

from collegium import demo_federation, rag
from collegium.rag import baselines

SEEDS = (0, 1, 2)
EPOCHS = 40


def features(world: corpora.World) -> tuple[str, ...]:
    """Without the documents there is no centroid; the one-hot column says as much for a fixed set of sources."""
    return ("query", "centroid", "onehot") if world.counts is not None else ("query", "onehot")


def _counts(world: corpora.World, rows: np.ndarray) -> np.ndarray | None:
    return None if world.counts is None else world.counts[rows]


@functools.cache
def router(world: corpora.World, seed: int, pos_weight: object = None, threshold: object = 0.5) -> rag.SourceRouter:
    """Trained on the world's training rows, which include those it validates on."""
    s = world.split(seed)
    rows = np.concatenate([s.train, s.validation])
    r = rag.SourceRouter(features=features(world), epochs=EPOCHS, pos_weight=pos_weight, seed=seed, threshold=threshold)
    return r.fit(world.Q[rows], world.Y[rows], world.sources, ids=rows, k=world.k)


@functools.cache
def others(world: corpora.World, seed: int) -> dict[str, rag.Router]:
    """The methods to beat; top-m takes the rounded mean number of relevant sources, as the paper's random does."""
    s = world.split(seed)
    rows = np.concatenate([s.train, s.validation])
    m = max(1, round(float(world.Y[rows].sum(axis=1).mean())))
    found: dict[str, rag.Router] = {"logistic regression": baselines.LogisticRouter()}
    if world.counts is not None:
        found["centroid"] = baselines.CentroidRouter(m)
        found["ReDDE"] = baselines.ReDDERouter(m, seed=seed)
        found["CRCS(e)"] = baselines.CRCSRouter(m, seed=seed, kind="e")
    found["prior"] = baselines.PriorRouter()
    return {name: r.fit(world.Q[rows], world.Y[rows], world.sources) for name, r in found.items()}


@functools.cache
def report(world: corpora.World, seed: int) -> dict[str, Any]:
    """name -> Scores on the held-out queries: two routers, the baselines, and what costs nothing to know."""
    s = world.split(seed)
    test, counts = s.test, _counts(world, s.test)
    out: dict[str, Any] = {}
    # The paper's thresholds: 0.5 for MMLU and FeB4RAG, Youden's for MedRAG.
    for name, weight, threshold in (("router", None, 0.5), ("router, balanced, Youden", "balanced", "youden")):
        r = router(world, seed, weight, threshold)
        full = r.evaluate(world.Q[test], world.Y[test], ids=test, counts=counts, baselines=name == "router")
        out[name] = full.router
        if name == "router":
            trivial = {n: v for n, v in full.methods.items() if n != "router"}
    for name, r in others(world, seed).items():
        out[name] = r.evaluate(world.Q[test], world.Y[test], counts=counts, baselines=False).router
    return {**out, **{n: v for n, v in trivial.items() if n not in out}}


def by_part(world: corpora.World, seed: int) -> dict[str, dict[str, float]]:
    """The router on the held-out queries of each part of a world, beside its labels' own bounds."""
    test, r = world.split(seed).test, router(world, seed)
    out = {}
    for part in np.unique(world.part):
        rows, every = test[world.part[test] == part], world.Y[world.part == part]
        scores = r.evaluate(world.Q[rows], world.Y[rows], ids=rows, baselines=False).router
        usual = every.mean(axis=0)
        out[str(part)] = {
            "questions": len(every), "oracle cut": 1 - float(every.mean()),
            "majority": float(np.maximum(usual, 1 - usual).mean()),
            "accuracy": scores.accuracy, "auc": float(scores.auc), "cut": scores.cut,
        }  # fmt: skip
    return out


def cut_at(world: corpora.World, r: rag.Router, rows: np.ndarray, recall: float = 0.9) -> float:
    """The query cut where the mean document recall of these rows is at least `recall`: a point of the router's own
    curve, at a threshold that nobody could have known before."""
    P, counts = r.predict_proba(world.Q[rows]), world.counts[rows]
    best = 0.0
    for threshold in np.quantile(P, np.linspace(0.3, 0.995, 140)):
        mask = r.choose(P, threshold=threshold, max_sources=None)
        if float(np.mean((counts * mask).sum(axis=1) / counts.sum(axis=1))) >= recall:
            best = max(best, 1 - float(mask.mean()))
    return best


def p1(world: corpora.World, seed: int, recall: float = 0.9) -> dict[str, float]:
    """The cut at 90 % of the documents: of the router, tuned beforehand or not, and of its rivals."""
    s = world.split(seed)
    r = router(world, seed)
    out = {"router": cut_at(world, r, s.test, recall)}
    for name, other in others(world, seed).items():
        if name in ("logistic regression", "centroid", "ReDDE"):
            out[name] = cut_at(world, other, s.test, recall)
    validation = s.test[::5]  # queries the router has never seen
    held = np.setdiff1d(s.test, validation)
    before = r.threshold
    r.tune(world.Q[validation], world.Y[validation], counts=world.counts[validation], target_recall=recall)
    tuned = r.evaluate(world.Q[held], world.Y[held], ids=held, counts=world.counts[held], baselines=False).router
    r.threshold = before
    budget = max(1, round(tuned.sources))
    counts = world.counts[held]
    mask = baselines.RandomRouter(budget, seed=seed).fit(None, None, world.sources).select(world.Q[held])
    random = float(np.mean((counts * mask).sum(axis=1) / counts.sum(axis=1)))
    return {**out, "tuned cut": tuned.cut, "tuned recall": tuned.document_recall, "random, as many": random}


def coverage(world: corpora.World, recall: float = 0.9, confidence: float = 0.9, splits: int = 200) -> dict[str, float]:
    """How often a threshold tuned for a recall keeps it: fresh halves of the held-out queries, one to tune on."""
    r, test = router(world, 0), world.split(0).test
    before, rng = r.threshold, np.random.default_rng(0)
    P, counts = r.predict_proba(world.Q[test]), world.counts[test]
    kept, plain, cut = [], [], []
    for _ in range(splits):
        rows = rng.permutation(len(test))
        a, b = rows[: len(rows) // 2], rows[len(rows) // 2 :]
        r.tune(world.Q[test[a]], world.Y[test[a]], counts=counts[a], target_recall=recall, confidence=confidence)
        mask = r.choose(P[b])
        kept.append(float(np.mean((counts[b] * mask).sum(axis=1) / counts[b].sum(axis=1))))
        cut.append(1 - float(mask.mean()))
        naive = r.choose(P[b], threshold=_empirical(r, P[a], counts[a], recall))
        plain.append(float(np.mean((counts[b] * naive).sum(axis=1) / counts[b].sum(axis=1))))
    r.threshold = before
    return {
        "kept": float(np.mean(np.array(kept) >= recall)), "recall": float(np.mean(kept)), "cut": float(np.mean(cut)),
        "kept without the bound": float(np.mean(np.array(plain) >= recall)),
    }  # fmt: skip


def _empirical(r: rag.Router, P: np.ndarray, counts: np.ndarray, recall: float) -> float:
    """The largest threshold whose recall on these queries is enough: what one would do without a bound."""
    scores = np.unique(P)
    low, high = 0, len(scores)
    while high - low > 1:
        middle = (low + high) // 2
        mask = r.choose(P, threshold=scores[middle])
        if float(np.mean((counts * mask).sum(axis=1) / counts.sum(axis=1))) >= recall:
            low = middle
        else:
            high = middle
    return float(scores[low])


@contextmanager
def servers(world: corpora.World) -> Iterator[tuple[list[rag.HttpSource], list[subprocess.Popen]]]:
    """`collegium serve-source`, one process a source; they are gone afterwards."""
    vectors = {s.name: s.vectors(np.arange(len(s))) for s in world.sources}
    with demo_federation.servers(vectors, encoder=world.sources[0].describe().encoder) as (urls, processes):
        yield [rag.HttpSource(url, name=name) for name, url in urls.items()], processes


def p3(world: corpora.World, queries: int = 100) -> dict[str, float]:
    """Bytes over real connections: the cut in replies beside the cut in queries, and in both directions."""
    rows = world.split(0).test[:queries]
    with servers(world) as (sources, _):
        sums = {}
        for name, choice in (("all", "all"), ("router", router(world, 0))):
            with rag.FederatedRetriever(sources, choice, k=world.k, timeout=5.0, deadline=10.0) as fr:
                found = [fr.search(q) for q in world.Q[rows]]
            sums[name] = [sum(x) for x in zip(*((len(r.selected), r.bytes_in, r.bytes_out) for r in found))]
    queries_cut, replies_cut = (1 - sums["router"][i] / sums["all"][i] for i in (0, 1))
    both = 1 - sum(sums["router"][1:]) / sum(sums["all"][1:])
    return {"query cut": queries_cut, "reply bytes cut": replies_cut, "bytes cut, both ways": both}


def p6(world: corpora.World, queries: int = 20, deadline: float = 0.6) -> dict[str, dict[str, float]]:
    """Four processes; one is stopped, then another killed: seconds to an answer, and what of it is missing."""
    four = corpora.World(
        world.name, world.sources[:4], world.Q, world.Y[:, :4], world.counts[:, :4], world.k, world.part
    )
    rows = world.split(0).test[:queries]
    out = {}
    with servers(four) as (sources, processes), rag.FederatedRetriever(
        sources, "all", k=world.k, timeout=deadline, deadline=deadline
    ) as fr:  # fmt: skip
        for event, what in (("all well", None), ("one stopped", signal.SIGSTOP), ("another killed", signal.SIGKILL)):
            if what is not None:
                processes[0 if what == signal.SIGSTOP else 1].send_signal(what)
            took, partial = [], []
            for q in world.Q[rows]:
                start = time.perf_counter()
                partial.append(fr.search(q).is_partial)
                took.append(time.perf_counter() - start)
            out[event] = {
                "median s": float(np.median(took)), "worst s": max(took), "partial": float(np.mean(partial)),
                "breakers open": sum(b.state == "open" for b in fr.breakers.values()),
            }  # fmt: skip
    return out
