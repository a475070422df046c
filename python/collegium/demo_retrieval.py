"""The second step of the demo: an approximate cache in front of a FAISS index, on text that is on every machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import data, rag
from .data import workloads

DIM, K, QUESTIONS, REPEATS = 128, 10, 300, 1000
TOLERANCES = (0.2, 0.5, 0.8, 1.0, 1.2)


def run(out: Path = Path("out")) -> Any:
    """Prints hit rate, recall and same-question share of a cache by tolerance; writes ``demo_cache.png`` into `out`.

    Returns the rows. Raises ImportError without scikit-learn or faiss.
    """
    import faiss
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    corpus = data.docstrings()
    embed = TfidfVectorizer(sublinear_tf=True, stop_words="english")
    counts = embed.fit_transform(corpus.passage_texts())
    reduce = TruncatedSVD(DIM, random_state=0).fit(counts)
    docs = normalize(reduce.transform(counts)).astype(np.float32)
    picked = np.random.default_rng(0).choice(len(corpus.queries), QUESTIONS, replace=False)
    wordings = [[p + corpus.queries[q]["text"] for p in workloads.PREFIXES] for q in picked]
    flat = embed.transform([text for texts in wordings for text in texts])
    vectors = normalize(reduce.transform(flat)).astype(np.float32).reshape(QUESTIONS, -1, DIM)
    # Some questions are asked often, most are not; each time in one of four wordings.
    question = workloads.zipf(QUESTIONS, 1.0, REPEATS, seed=0)
    queries = np.ascontiguousarray(vectors[question, workloads.zipf(len(workloads.PREFIXES), 0.0, REPEATS, seed=1)])
    index = faiss.IndexFlatL2(DIM)
    index.add(docs)
    truth = index.search(queries, K)[1]
    print(
        f"\na cache of 200 queries in front of FAISS: {len(docs):,} docstrings of installed packages (TF-IDF + SVD, "
        f"{DIM}-d),\n{REPEATS:,} queries: {QUESTIONS} questions in four wordings, popularity by Zipf's law\n"
    )
    rows: list[dict[str, Any]] = []
    for tolerance in TOLERANCES:
        measured = rag.evaluate(
            rag.ProximityCache(DIM, capacity=200, tolerance=tolerance), queries, truth, question, k=K
        )
        rows.append(
            {
                "tolerance": tolerance, "hit_rate": measured.hit_rate, "same_question": measured.same_question,
                "recall": measured.recall, "calls saved": REPEATS - measured.calls,
            }
        )  # fmt: skip
    cached = rag.CachedIndex(index, rag.ProximityCache(DIM, capacity=200, tolerance=0.8))
    spent = {
        name: _microseconds(search, queries) for name, search in (("FAISS", index.search), ("cached", cached.search))
    }
    print(rag.Report(rows, ceiling=rag.measure.ceiling(question)))
    print(
        "\nhit_rate: queries that the index was not asked; same_question: of these, the share answered from another\n"
        "wording of the same question; recall: of the index's own top 10, over all queries.\n"
        f"A search of this small index takes {spent['FAISS']:.0f} us, one through the cache {spent['cached']:.0f} us:\n"
        "it pays where a search costs more than that."
    )
    _picture(rows, out / "demo_cache.png")
    print(f"\npicture: {out / 'demo_cache.png'}")
    return rows


def _microseconds(search: Callable[[Any, int], Any], queries: NDArray[np.float32]) -> float:
    """Median time of one query."""
    spent = []
    for q in queries[:500]:
        start = time.perf_counter()
        search(q[None], K)
        spent.append(time.perf_counter() - start)
    return float(np.median(spent)) * 1e6


def _picture(rows: list[dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.8), layout="constrained")
    ax = figure.subplots()
    ax.plot([r["hit_rate"] for r in rows], [r["recall"] for r in rows], "C0.-", label=f"recall@{K}, all queries")
    ax.plot(
        [r["hit_rate"] for r in rows], [r["same_question"] for r in rows], "C1.--", label="hits on the same question"
    )
    for r in rows:
        ax.annotate(f"{r['tolerance']:g}", (r["hit_rate"], r["recall"]), textcoords="offset points", xytext=(0, 6))
    ax.set(xlabel="hit rate", title="what a tolerance buys, and costs")
    ax.grid(True, alpha=0.3)
    ax.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
