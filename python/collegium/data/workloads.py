"""Streams of queries for retrieval caches: variants of questions, skewed popularity, real pairs replayed.

Source of `variants`: the harness of Proximity (EuroMLSys 2025), a fork of instruct-qa.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _core
from .._check import integer, real
from .retrieval import Intents, Pairs

# One of them empty, as in the paper; the wording is ours.
PREFIXES = (
    "",
    "Please answer this question: ",
    "I am stuck on this one, could you help me with it? ",
    "Answer now: ",
)


@dataclass(frozen=True)
class Variants:
    """texts[i] words question[i] with prefix[i]; question and prefix int64 (N,).

    ceiling: the most that a cache can hit without serving one question's documents to another.
    """

    texts: list[str]
    question: NDArray[np.int64]
    prefix: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def ceiling(self) -> float:
        return 1 - len(np.unique(self.question)) / len(self) if len(self) else 0.0


def variants(questions: Sequence[str], prefixes: Sequence[str] = PREFIXES, seed: int = 42) -> Variants:
    """Every question with every prefix, shuffled: len(questions) * len(prefixes) queries.

    The order is that of Python's random.seed(seed); random.shuffle over the list with the variants of a question next
    to each other, which is how the published numbers were made. Raises TypeError, ValueError.
    """
    for name, value in (("questions", questions), ("prefixes", prefixes)):
        if isinstance(value, str) or not all(isinstance(v, str) for v in value):
            raise TypeError(f"{name}: expected a sequence of strings, got {type(value).__name__}")
    order = [(q, p) for q in range(len(questions)) for p in range(len(prefixes))]
    random.Random(integer(seed, "seed")).shuffle(order)
    question, prefix = np.array(order, np.int64).reshape(-1, 2).T.copy()
    return Variants([prefixes[p] + questions[q] for q, p in order], question, prefix)


@dataclass(frozen=True)
class Cloze:
    """queries[i] was cut out of passages[row[i]]; row int64 (N,), each once. passages: all of them, so shortened."""

    queries: list[str]
    row: NDArray[np.int64]
    passages: list[str]

    def __len__(self) -> int:
        return len(self.queries)


def inverse_cloze(passages: Sequence[str], size: int = 3000, seed: int = 0, *, window: int = 12) -> Cloze:
    """Queries without people: of `size` passages drawn at random, `window` words in a row each, deleted from it.

    Passages of fewer than 2 * window words are never drawn. The same seed gives the same queries on every machine.
    Raises TypeError, ValueError where there are fewer passages than queries.
    Source: K. Lee et al., "Latent retrieval for weakly supervised open domain question answering", ACL 2019.
    """
    if isinstance(passages, str) or not all(isinstance(p, str) for p in passages):
        raise TypeError(f"passages: expected a sequence of strings, got {type(passages).__name__}")
    size, window = integer(size, "size", 1), integer(window, "window", 1)
    rng = np.random.default_rng(integer(seed, "seed", 0))
    out = list(passages)
    long = np.array([i for i, p in enumerate(passages) if len(p.split()) >= 2 * window], np.int64)
    if len(long) < size:
        raise ValueError(f"size: expected at most {len(long)}, the passages of {2 * window} words or more, got {size}")
    rows = rng.permutation(long)[:size]
    queries = []
    for i in rows.tolist():
        words = out[i].split()
        at = int(rng.integers(len(words) - window + 1))
        queries.append(" ".join(words[at : at + window]))
        out[i] = " ".join(words[:at] + words[at + window :])
    return Cloze(queries, rows, out)


def zipf(n_items: int, s: float = 1.0, size: int = 10_000, seed: int = 0) -> NDArray[np.int64]:
    """int64 (size,): independent draws of 0 ... n_items - 1, item i with probability proportional to (i + 1)^-s.

    s = 0 is uniform. The same seed gives the same draws on every machine. Raises ValueError.
    """
    n = integer(n_items, "n_items", 1)
    size, seed = integer(size, "size", 0), integer(seed, "seed", 0)
    cumulative = np.cumsum(np.arange(1, n + 1, dtype=np.float64) ** -real(s, "s", 0.0))
    words = _core.random_u32(seed, _core.FOR_SAMPLE, 0, 0, 0, size)
    u = (words + 0.5) / 2.0**32
    out: NDArray[np.int64] = np.searchsorted(cumulative, u * cumulative[-1], side="right").clip(0, n - 1)
    return out.astype(np.int64)


@dataclass(frozen=True)
class Replay:
    """What each tolerance lets through when real sentences are replayed; all arrays (T,).

    right: hits that mean the same. wrong: hits that do not. missed: another wording was cached, and missed.
    hit_rate: of all queries. wrong_share: of hits (NaN: none). possible: queries for which a right answer is cached.
    """

    name: str
    tolerances: NDArray[np.float64]
    right: NDArray[np.int64]
    wrong: NDArray[np.int64]
    missed: NDArray[np.int64]
    queries: int
    possible: int

    @property
    def hit_rate(self) -> NDArray[np.float64]:
        return np.asarray((self.right + self.wrong) / max(self.queries, 1))

    @property
    def wrong_share(self) -> NDArray[np.float64]:
        hits = self.right + self.wrong
        return np.asarray(np.divide(self.wrong, hits, out=np.full(len(hits), np.nan), where=hits > 0))

    def rows(self) -> list[dict[str, Any]]:
        """A dictionary per tolerance."""
        return [
            {
                "tolerance": float(t),
                "hit_rate": float(h),
                "right": int(r),
                "wrong": int(w),
                "missed": int(m),
                "wrong_share": float(s),
            }
            for t, h, r, w, m, s in zip(
                self.tolerances, self.hit_rate, self.right, self.wrong, self.missed, self.wrong_share
            )
        ]

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.queries} queries, {self.possible} with a right answer in the cache"]
        lines.append("| tolerance | hit rate | right | wrong | wrong of hits | missed |")
        lines.append("| ---: | ---: | ---: | ---: | ---: | ---: |")
        for r in self.rows():
            lines.append(
                f"| {r['tolerance']:g} | {r['hit_rate']:.1%} | {r['right']} | {r['wrong']} | "
                f"{r['wrong_share']:.1%} | {r['missed']} |"
            )
        return "\n".join(lines)


def replay(pairs: Pairs | Intents, vectors: Any, tolerances: ArrayLike, *, stream: bool = False) -> Replay:
    """Replays sentence pairs or intents against a cache of the first wordings, L2 on the vectors given.

    pairs: Quora or PAWS, vectors (a, b), each float32 (N, dim), as data.embeddings() has them. Sentence a is cached and
      b asked: a hit if they are within the tolerance, wrong if they do not mean the same. stream=True: all of a is
      cached at once, and b gets the nearest of all, which is only known to mean the same if it is its own a or the same
      text.
    pairs: Banking77 or CLINC150, vectors float32 (N, dim): a stream in which every miss is cached; a hit is wrong if
      the key has another intent (and always for "oos", out of scope: those share nothing).
    tolerances: L2 distances (T,). Raises TypeError, ValueError.
    """
    t = np.sort(np.atleast_1d(np.asarray(tolerances, np.float64)))
    if t.ndim != 1 or not np.isfinite(t).all() or (t < 0).any():
        raise ValueError(f"tolerances: expected numbers of at least 0, got {tolerances!r}")
    if isinstance(pairs, Pairs):
        a, b = _two(vectors, len(pairs.same))
        if stream:
            nearest, d = _nearest(b, a)
            text = {s: i for i, s in enumerate(dict.fromkeys(pairs.a))}
            a_text = np.array([text[s] for s in pairs.a])
            own = nearest == np.arange(len(b))
            twin = np.array([pairs.a[n] == s for n, s in zip(nearest, pairs.b)])
            good = (pairs.same == 1) & (own | (a_text[nearest] == a_text)) | twin
        else:
            d, good = np.linalg.norm(a - b, axis=1), pairs.same == 1
        possible = pairs.same == 1
        return _count(pairs.name, t, d, good, possible)
    if not isinstance(pairs, Intents):
        raise TypeError(f"pairs: expected Pairs or Intents, got {type(pairs).__name__}")
    x = _floats(vectors, len(pairs.y), "vectors")
    oos = pairs.names.index("oos") if "oos" in pairs.names else -1
    counted = np.array([_intents(x, pairs.y, float(tau), oos) for tau in t], np.int64).reshape(-1, 3)
    first = np.zeros(len(x), bool)
    first[np.unique(pairs.y, return_index=True)[1]] = True
    right, wrong, missed = counted.T
    return Replay(pairs.name, t, right, wrong, missed, len(x), int((~first & (pairs.y != oos)).sum()))


def _floats(value: Any, rows: int, name: str) -> NDArray[np.float32]:
    out = np.ascontiguousarray(value, np.float32)
    if out.ndim != 2 or len(out) != rows:
        raise ValueError(f"{name}: expected shape ({rows}, dim), got {out.shape}")
    return out


def _two(vectors: Any, rows: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    try:
        a, b = (vectors["a"], vectors["b"]) if hasattr(vectors, "keys") else vectors
    except (TypeError, ValueError, KeyError):
        raise TypeError("vectors: expected the pair (a, b), or a mapping with both") from None
    return _floats(a, rows, "vectors: a"), _floats(b, rows, "vectors: b")


def _nearest(queries: NDArray[np.float32], keys: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(row, distance) of the nearest key of each query; blocks keep the table of distances small."""
    rows, squares = [], np.einsum("ij,ij->i", keys, keys)
    for start in range(0, len(queries), 1024):
        rows.append(np.argmin(squares - 2 * (queries[start : start + 1024] @ keys.T), axis=1))
    row = np.concatenate(rows) if rows else np.empty(0, np.int64)
    return row, np.linalg.norm(queries - keys[row], axis=1)


def _count(
    name: str, t: NDArray[np.float64], d: NDArray[Any], good: NDArray[np.bool_], possible: NDArray[np.bool_]
) -> Replay:
    hit = d[None, :] <= t[:, None]
    return Replay(
        name, t, (hit & good).sum(1), (hit & ~good).sum(1), (~hit & possible).sum(1), len(d), int(possible.sum())
    )


def _intents(x: NDArray[np.float32], y: NDArray[np.int64], tolerance: float, oos: int) -> tuple[int, int, int]:
    """(right, wrong, missed) of a stream through an unlimited cache."""
    keys = np.empty_like(x)
    squares = np.empty(len(x), np.float32)
    label = np.empty(len(x), np.int64)
    n, right, wrong, missed = 0, 0, 0, 0
    seen: set[int] = set()
    for q, intent in zip(x, y):
        if n:
            i = int(np.argmin(squares[:n] - 2 * (keys[:n] @ q)))
            if np.linalg.norm(keys[i] - q) <= tolerance:
                if label[i] == intent != oos:
                    right += 1
                else:
                    wrong += 1
                continue
        missed += int(intent) in seen and intent != oos
        seen.add(int(intent))
        keys[n], squares[n], label[n] = q, q @ q, intent
        n += 1
    return right, wrong, missed
