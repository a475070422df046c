"""The paper's own size: your index, your embeddings, its capacities, tolerances, seeds and batches of 32."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from collegium import rag
from collegium.data import workloads

CAPACITIES = (10, 50, 100, 200, 300)


@dataclass(frozen=True)
class Task:
    """name, questions, k, tolerances, and what has to be there."""

    name: str
    questions: int
    k: int
    tolerances: tuple[float, ...]
    needs: str


TASKS = {
    "mmlu": Task(
        "MMLU econometrics",
        131,
        5,
        (0.5, 1, 2, 5, 10),
        "wiki_dpr, 21 M x 768 float32 as FAISS HNSW on 769 dimensions (64.5 GB of vectors and the links, a machine of "
        "128 GB), DPR question encoder (multiset)",
    ),
    "medrag": Task(
        "MedRAG, 200 of PubMedQA",
        200,
        10,
        (2, 5, 10),
        "PubMed, 23.9 M x 768 float32 as FAISS Flat (73.4 GB), MedCPT query encoder",
    ),
}


def dry_run(task: Task) -> None:
    """What it takes, in one line."""
    runs = len(CAPACITIES) * len(task.tolerances) * 5
    print(
        f"{task.name}: {task.questions * 4} queries x {runs} runs (capacities {CAPACITIES}, tolerances "
        f"{task.tolerances}, 5 seeds), k = {task.k}; needs {task.needs}. Not run here: accuracy of a language model."
    )


def run(
    task: Task, index: object, wordings: np.ndarray, seeds: Iterable[int] = range(42, 47)
) -> list[dict[str, float]]:
    """A row per (capacity, tolerance): hit rate, same-question share, recall@k, ms a query with and without the cache.

    index: anything with search(x, k). wordings: float32 (questions, 4, dim), the queries as the index takes them. The
    published milliseconds do not say whether they are per batch or per query; these are per query, batches of 32.
    """
    if wordings.ndim != 3 or wordings.shape[:2] != (task.questions, 4):
        raise ValueError(f"wordings: expected shape ({task.questions}, 4, dim), got {wordings.shape}")
    flat = np.ascontiguousarray(wordings.reshape(-1, wordings.shape[2]), np.float32)
    start = time.perf_counter()
    truth = np.concatenate([np.asarray(index.search(flat[i : i + 32], task.k)[1]) for i in range(0, len(flat), 32)])  # type: ignore[attr-defined]
    plain = 1e3 * (time.perf_counter() - start) / len(flat)
    orders = [workloads.variants([""] * task.questions, seed=s) for s in seeds]
    rows = []
    for capacity in CAPACITIES:
        for tolerance in task.tolerances:
            hits, kept, took = [], [], 0.0
            for v in orders:
                at = v.question * 4 + v.prefix
                cached = rag.CachedIndex(
                    index, rag.ProximityCache(flat.shape[1], capacity, tolerance=tolerance), mode="snapshot"
                )
                for i in range(0, len(at), 32):
                    rows_ = at[i : i + 32]
                    start = time.perf_counter()
                    found = cached.search(flat[rows_], task.k)
                    took += time.perf_counter() - start
                    hits.extend(found.hit_mask)
                    kept.extend(np.isin(t, f).mean() for t, f in zip(truth[rows_], found[1]))
            same = rag.evaluate(  # one by one: whose answer a hit got
                rag.ProximityCache(flat.shape[1], capacity, tolerance=tolerance),
                flat[orders[0].question * 4 + orders[0].prefix],
                truth[orders[0].question * 4 + orders[0].prefix],
                orders[0].question,
                k=task.k,
            )
            rows.append(
                {
                    "capacity": capacity,
                    "tolerance": tolerance,
                    "hit_rate": float(np.mean(hits)),
                    "same_question": same.same_question,
                    "recall": float(np.mean(kept)),
                    "cached_ms": 1e3 * took / len(hits),
                    "plain_ms": plain,
                }
            )
    return rows


def from_files(task: Task, index: Path | None, wordings: Path | None) -> list[dict[str, float]]:
    """`run` on a FAISS index file (memory-mapped) and a .npy file. Raises ValueError saying what is missing."""
    if index is None or wordings is None:
        raise ValueError(
            f"{task.name} needs --index FILE (FAISS) and --wordings FILE.npy ({task.questions}, 4, dim): {task.needs}"
        )
    try:
        import faiss
    except ImportError:
        raise ImportError("the paper's scale needs FAISS: pip install faiss-cpu") from None
    return run(task, faiss.read_index(str(index), faiss.IO_FLAG_MMAP), np.load(wordings))
