"""Source selection by words instead of embeddings: CORI."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._baseline import Baseline
from .seam import Floats
from .source import Queries, Source

_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Runs of letters and digits, in lower case."""
    return _WORD.findall(text.lower())


@dataclass(frozen=True)
class Lexicon:
    """df: word -> number of the collection's texts that contain it. words: words in all texts together."""

    df: Counter[str]
    words: int

    @classmethod
    def of(cls, texts: Iterable[str]) -> Lexicon:
        """Counts the words of the texts, in one pass."""
        if isinstance(texts, str):
            raise TypeError("texts: expected an iterable of texts, got one text")
        df: Counter[str] = Counter()
        total = 0
        for text in texts:
            found = words(text)
            total += len(found)
            df.update(set(found))
        return cls(df, total)


class CORIRouter(Baseline):
    """Which sources' words fit the query's: its queries are texts. Scores: mean belief 0.4 to 1 over the query's words.

    belief = 0.4 + 0.6 T I, T = df / (df + 50 + 150 cw / mean cw), I = log((N + 0.5) / cf) / log(N + 1); df: texts of
    the source with the word; cw: words of the source; cf: sources with the word; N: sources. Source: Callan, Lu and
    Croft, "Searching distributed collections with inference networks", SIGIR 1995.
    """

    queries_are = "texts"

    def __init__(self, texts: Mapping[str, Iterable[str]], m: int | None = 2) -> None:
        """texts: the documents of each source, by its name."""
        super().__init__(m)
        self.lexicons = {name: Lexicon.of(t) for name, t in texts.items()}
        self.sources = [Source(name) for name in self.lexicons]

    def fit(self, Q: Any, Y: Any, sources: Any) -> CORIRouter:
        """Puts the sources in this order; Q and Y are not used. Raises ValueError for one without texts."""
        super().fit(Q, Y, sources)
        missing = [s.name for s in self.sources if s.name not in self.lexicons]
        if missing:
            raise ValueError(f"sources: expected texts of every source, got none of {missing}")
        return self

    def predict_proba(self, Q: Any) -> Floats:
        """Q: one text or a sequence of B texts -> float32 (B, N). Raises TypeError for anything else."""
        texts = [Q] if isinstance(Q, str) else list(Q)
        if not all(isinstance(t, str) for t in texts):
            raise TypeError(f"Q: expected texts, got {type(Q).__name__}: CORI matches words, not embeddings")
        lexicons = [self.lexicons[s.name] for s in self.sources]
        N, cw = len(lexicons), np.array([lexicon.words for lexicon in lexicons], np.float64)
        length = 50 + 150 * cw / max(cw.mean(), 1.0)
        out = np.full((len(texts), N), 0.4)
        for b, text in enumerate(texts):
            found = words(text)
            for word in found:
                df = np.array([lexicon.df[word] for lexicon in lexicons], np.float64)
                cf = np.count_nonzero(df)
                if cf:
                    out[b] += 0.6 * df / (df + length) * (np.log((N + 0.5) / cf) / np.log(N + 1)) / len(found)
        return out.astype(np.float32)

    def _scores(self, Q: Queries) -> Floats:
        raise TypeError("Q: expected texts, got embeddings: CORI matches words")
