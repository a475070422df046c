"""Passages and queries, pairs and intents, questions with answers, and the vectors of all of these."""

from __future__ import annotations

import csv
import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from .._check import choice
from .arrays import Arrays
from .jsonl import read
from .places import locate
from .store import Named, cached

SOURCES = (
    "climate", "electronics", "finance", "medquad", "news", "privacypolicy", "pubmed", "regulatory", "scifact",
    "wikipedia",
)  # fmt: skip
_PAIRS = ("quora_dev", "paws_wiki_dev")
_INTENTS = ("banking77", "clinc150")


@dataclass(frozen=True)
class Corpus:
    """One source. passages: {"id", "title", "text", "source", ...}; queries: {"id", "text", "relevant": ids, ...}."""

    name: str
    passages: list[dict[str, Any]]
    queries: list[dict[str, Any]]

    def passage_texts(self) -> list[str]:
        """ "title. text" of each passage, the form that was embedded (there cut to 1,000 characters)."""
        return [f"{p['title']}. {p['text']}" if p["title"] else str(p["text"]) for p in self.passages]

    def query_texts(self) -> list[str]:
        """The text of each query."""
        return [str(q["text"]) for q in self.queries]

    def relevant(self) -> list[NDArray[np.int64]]:
        """Ascending rows of the passages relevant to each query: rows of `embeddings(name).passages` too."""
        row = {p["id"]: i for i, p in enumerate(self.passages)}
        return [np.array(sorted(row[i] for i in q["relevant"]), np.int64) for q in self.queries]


@dataclass(frozen=True)
class Pairs:
    """Pairs of sentences: a[i] and b[i] mean the same if same[i] (int64) is 1."""

    name: str
    a: list[str]
    b: list[str]
    same: NDArray[np.int64]


@dataclass(frozen=True)
class Intents:
    """Short queries: texts[i] has intent names[y[i]] (y int64) and belongs to split[i] of the original."""

    name: str
    texts: list[str]
    y: NDArray[np.int64]
    names: tuple[str, ...]
    split: list[str]


def text(source: str) -> Corpus:
    """Passages and queries with known relevant passages of one of `collegium.data.SOURCES`.

    Reads ``text/<source>.passages.jsonl.gz`` and ``.queries.jsonl.gz``. Raises MissingData, ValueError.
    """
    choice(source, "source", SOURCES)
    passages, queries = (locate(f"text/{source}", f"text/{source}.{part}.jsonl.gz") for part in ("passages", "queries"))
    return Corpus(source, read(passages), read(queries))


def embeddings(source: str) -> Arrays:
    """Unit vectors, float32 (rows, 384), read-only and memory-mapped, of all-MiniLM-L6-v2.

    source: one of SOURCES (arrays ``passages``, ``queries``, rows as in `text`), "quora_dev" or "paws_wiki_dev"
      (``a``, ``b``, as in `pairs`), "mirage" (one array a benchmark, as in `mirage`).
    The file keeps them in int8: cosine to the original vectors at least 0.9999. Reads ``embeddings/<source>.npz``.
    Raises MissingData, ValueError.
    """
    choice(source, "source", (*SOURCES, *_PAIRS, "mirage"))
    path = locate(f"embeddings/{source}", f"embeddings/{source}.npz")
    return Arrays(cached(f"embeddings/{source}", [path], lambda: _vectors(path)))


@overload
def pairs(name: Literal["quora_dev", "paws_wiki_dev"]) -> Pairs: ...
@overload
def pairs(name: Literal["banking77", "clinc150"]) -> Intents: ...
@overload
def pairs(name: str) -> Pairs | Intents: ...
def pairs(name: str) -> Pairs | Intents:
    """Sentence pairs, same or not ("quora_dev", "paws_wiki_dev"), or queries by intent ("banking77", "clinc150").

    PAWS pairs share their words whether they mean the same or not. Same intent is weaker than same question.
    "clinc150" has 150 intents and "oos", out of scope. Reads ``pairs/<name>.jsonl.gz``. Raises MissingData, ValueError.
    """
    choice(name, "name", (*_PAIRS, *_INTENTS))
    rows = read(locate(f"pairs/{name}", f"pairs/{name}.jsonl.gz"))
    if name in _PAIRS:
        same = np.array([r["same"] for r in rows], np.int64)
        return Pairs(name, [r["a"] for r in rows], [r["b"] for r in rows], same)
    names, y = np.unique([r["intent"] for r in rows], return_inverse=True)
    split = [r["split"] for r in rows]
    return Intents(name, [r["text"] for r in rows], y.astype(np.int64), tuple(map(str, names)), split)


def mirage() -> dict[str, list[dict[str, Any]]]:
    """MIRAGE's 7,663 medical questions by benchmark (medqa, medmcqa, pubmedqa, bioasq, mmlu), in the file's order.

    Each has "id", "question", "options", "answer"; pubmedqa and bioasq also "PMID": ``pubmed:<PMID>`` is a passage of
    text("pubmed"). Reads ``qa/mirage_benchmark.json.gz``, or ``qa/mirage_benchmark.json``. Raises MissingData.
    Source: G. Xiong et al., "Benchmarking retrieval-augmented generation for medicine", ACL Findings 2024.
    """
    path = locate("mirage", "qa/mirage_benchmark.json.gz", "qa/mirage_benchmark.json")
    return {
        benchmark: [{"id": i, **question} for i, question in questions.items()]
        for benchmark, questions in _json(path).items()
    }


def mmlu() -> list[dict[str, Any]]:
    """MMLU: {"id", "subject", "split", "question", "choices": 4 texts, "answer": "A" ... "D"}, 15,858 questions.

    Reads ``qa/mmlu.jsonl.gz``. Raises MissingData. Source: D. Hendrycks et al., ICLR 2021.
    """
    return read(locate("mmlu", "qa/mmlu.jsonl.gz"))


def feb4rag() -> tuple[dict[str, str], dict[tuple[str, str], int]]:
    """FeB4RAG: (text of each of 790 query ids, grade 0 ... 90 of each (query id, engine)).

    Reads ``qa/feb4rag_*``. Raises MissingData. Source: S. Wang et al., "FeB4RAG", SIGIR 2024.
    """
    queries, grades = (locate("feb4rag", p) for p in ("qa/feb4rag_queries.jsonl.gz", "qa/feb4rag_grades.tsv.gz"))
    with gzip.open(grades, "rt", newline="") as f:
        rows = [r for r in csv.reader(f, delimiter="\t") if r[-1].lstrip("-").isdigit()]  # not the header
    return {str(q["_id"]): q["text"] for q in read(queries)}, {(q, engine): int(g) for q, engine, g in rows}


def ragroute() -> dict[str, dict[str, list[str]]]:
    """For each MIRAGE benchmark and question id, the corpora that hold one of its top-32 passages: a router's labels.

    Reads ``qa/ragroute_medrag_relevance_top32.json.gz``. Raises MissingData. Source: RAGRoute's artifact.
    """
    labels: dict[str, dict[str, list[str]]] = _json(locate("ragroute", "qa/ragroute_medrag_relevance_top32.json.gz"))
    return labels


def _json(path: Path) -> Any:
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as f:
        return json.load(f)


def _vectors(path: Path) -> Named:
    out: Named = {}
    with np.load(path) as z:
        for name in z.files:
            if not name.endswith("_scale"):
                v = z[name] * z[f"{name}_scale"][:, None]
                out[name] = v / np.linalg.norm(v, axis=1, keepdims=True)
    return out
