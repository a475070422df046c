"""Federations to route over: what the sources hold, real queries, and which sources hold their best passages.

C1 docstrings    one source a Python package, queries cut out of the passages (inverse cloze), TF-IDF + SVD
C2 text          the ten text sources of the data folder with people's questions, MiniLM or TF-IDF + SVD
C3 clusters      the passages of C2 dealt anew to ten k-means clusters: the paper's Wikipedia set-up in small
C4 mirage        MIRAGE's questions with the authors' labels over four medical corpora, MiniLM or TF-IDF + SVD
C5 feb4rag       FeB4RAG's requests with graded engines, TF-IDF + SVD
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from collegium import data, rag
from collegium.data import workloads

PACKAGES = ("stdlib", "numpy", "scipy", "sklearn", "pandas", "matplotlib", "torch", "sympy", "networkx")
K = 10
WITHOUT = ("robust04", "trec-news", "signal1m")  # the engines of FeB4RAG that the paper leaves out


@dataclass(frozen=True, eq=False)
class World:
    """Q float32 (n, d); Y uint8 (n, N): the source holds a passage of the query's best k; counts int32 (n, N): how
    many, or None where only labels are known; part (n,): a name for each query, by which it is split."""

    name: str
    sources: list
    Q: np.ndarray
    Y: np.ndarray
    counts: np.ndarray | None
    k: int
    part: np.ndarray

    def split(self, seed: int = 0, train: float = 0.4) -> Split:
        """40 % to train (a tenth of it to validate), 60 % to test, of every part; by query, never by row."""
        rng = np.random.default_rng(seed)
        learn, test = [], []
        for name in np.unique(self.part):
            rows = rng.permutation(np.flatnonzero(self.part == name))
            cut = round(train * len(rows))
            learn.append(rows[:cut])
            test.append(rows[cut:])
        rows = rng.permutation(np.concatenate(learn))
        cut = round(0.1 * len(rows))
        return Split(np.sort(rows[cut:]), np.sort(rows[:cut]), np.sort(np.concatenate(test)))


@dataclass(frozen=True)
class Split:
    """Rows of a world, int64, no row in two of them."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def lsa(texts: Sequence[str], queries: Sequence[str], dim: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """TF-IDF and truncated SVD of the texts, unit float32 (n, dim); the queries by the same map."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    embed = TfidfVectorizer(sublinear_tf=True, stop_words="english", min_df=2)
    counts = embed.fit_transform(texts)
    reduce = TruncatedSVD(dim, random_state=0).fit(counts)
    return tuple(normalize(reduce.transform(c)).astype(np.float32) for c in (counts, embed.transform(queries)))


def distinct(Q: np.ndarray) -> np.ndarray:
    """Rows of the queries that differ: the same question asked twice must not be in two parts of a split."""
    return np.sort(np.unique(Q, axis=0, return_index=True)[1])


def searchable(name: str, vectors: dict[str, np.ndarray], Q: np.ndarray, part: np.ndarray) -> World:
    """A world whose labels are computed: exact, from every source's own best K by inner product."""
    kept = distinct(Q)
    Q, part = np.ascontiguousarray(Q[kept]), part[kept]
    sources = [rag.VectorSource(x, name=s, encoder=name) for s, x in vectors.items()]
    Y, counts = rag.build_labels(sources, Q, K, return_counts=True)
    return World(name, sources, Q, Y, counts, K, part)


@functools.cache
def c1(packages: Sequence[str] = PACKAGES, size: int = 3000, limit: int = 3000) -> World:
    """Docstrings of what is installed: the figures depend on the versions."""
    found = {}
    for package in packages:
        try:
            found[package] = data.docstrings([package], limit).passage_texts()
        except ValueError:
            continue  # not installed
    package = np.repeat(list(found), [len(texts) for texts in found.values()])
    cloze = workloads.inverse_cloze([t for texts in found.values() for t in texts], size, seed=0)
    docs, Q = lsa(cloze.passages, cloze.queries)
    return searchable("C1 docstrings", {p: docs[package == p] for p in found}, Q, np.zeros(size, np.int64))


@functools.cache
def _text(embedding: str, most: int, passages: int | None) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """(vectors of each source, queries, the source each query was asked of): at most `most` queries of a source."""
    rng = np.random.default_rng(0)
    docs, queries, home = {}, [], []
    for name in data.SOURCES:
        corpus = data.text(name)
        asked = np.sort(rng.permutation(len(corpus.queries))[:most])
        kept = slice(None, passages)
        if embedding == "minilm":
            vectors = data.embeddings(name)
            docs[name], q = np.asarray(vectors["passages"])[kept], np.asarray(vectors["queries"])[asked]
        else:
            docs[name], q = corpus.passage_texts()[kept], [corpus.query_texts()[i] for i in asked]
        queries.append(q)
        home += [name] * len(asked)
    if embedding == "tfidf":
        x, Q = lsa([t for texts in docs.values() for t in texts], [t for part in queries for t in part])
        ends = np.cumsum([len(texts) for texts in docs.values()])[:-1]
        return dict(zip(docs, np.split(x, ends))), Q, np.array(home)
    return docs, np.concatenate(queries), np.array(home)


@functools.cache
def c2(embedding: str = "minilm", most: int = 1000, passages: int | None = None) -> World:
    """The ten text sources; passages: the first of each source only (None: all)."""
    docs, Q, home = _text(embedding, most, passages)
    return searchable(f"C2 text, {embedding}", docs, Q, home)


@functools.cache
def c3(embedding: str = "minilm", most: int = 1000, passages: int | None = None) -> World:
    """C2's passages in ten k-means clusters."""
    from sklearn.cluster import MiniBatchKMeans

    docs, Q, home = _text(embedding, most, passages)
    x = np.concatenate(list(docs.values()))
    cluster = MiniBatchKMeans(10, random_state=0, n_init=3).fit_predict(x)
    return searchable(f"C3 clusters, {embedding}", {f"cluster {c}": x[cluster == c] for c in range(10)}, Q, home)


@functools.cache
def c4(embedding: str = "minilm") -> World:
    """MIRAGE: labels of the authors, k = 32; the corpora themselves (54 million snippets) are not at hand."""
    questions, labels = data.mirage(), data.ragroute()
    corpora = ["pubmed", "statpearls", "textbooks", "wikipedia"]
    part = np.repeat(list(questions), [len(q) for q in questions.values()])
    Y = np.array([[c in labels[b][q["id"]] for c in corpora] for b in questions for q in questions[b]], np.uint8)
    if embedding == "minilm":
        vectors = data.embeddings("mirage")
        Q = np.concatenate([np.asarray(vectors[b]) for b in questions])
    else:
        texts = [q["question"] for b in questions.values() for q in b]
        Q = lsa(texts, texts, 256)[1]
    sources = [rag.Source(c, encoder=embedding, dim=Q.shape[1]) for c in corpora]
    kept = distinct(Q)
    return World(f"C4 MIRAGE, {embedding}", sources, np.ascontiguousarray(Q[kept]), Y[kept], None, 32, part[kept])


@functools.cache
def c5() -> World:
    """FeB4RAG: an engine is relevant if its grade is above 0."""
    texts, grades = data.feb4rag()
    engines = sorted({engine for _, engine in grades} - set(WITHOUT))
    Q = lsa(list(texts.values()), list(texts.values()))[1]
    Y = np.array([[grades.get((q, e), 0) > 0 for e in engines] for q in texts], np.uint8)
    sources = [rag.Source(e, encoder="tfidf", dim=Q.shape[1]) for e in engines]
    kept = distinct(Q)
    return World("C5 FeB4RAG, tfidf", sources, Q[kept], Y[kept], None, K, np.zeros(len(kept), np.int64))
