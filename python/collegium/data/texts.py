"""Text to classify: AG News, and tweets by user. The texts themselves, and token numbers for those who want arrays."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._check import integer
from .datasets import Dataset, shuffled
from .jsonl import read
from .places import locate

Tokenizer = Callable[[list[str]], ArrayLike]
_WORD = re.compile(r"[\w<>@']+|[^\w\s]")


class TextDataset(Dataset):
    """A data set of texts: x int64 (N, length) token numbers, y int64.

    texts, texts_test: the texts themselves, in the order of x and x_test.
    vocabulary: token i is vocabulary[i], with 0 padding and 1 unknown; empty with a tokenizer of your own.
    """

    def __init__(
        self, *args: Any, texts: list[str], texts_test: list[str], vocabulary: tuple[str, ...], **named: Any
    ) -> None:
        super().__init__(*args, **named)
        self.texts, self.texts_test, self.vocabulary = texts, texts_test, vocabulary


def ag_news(
    test: int = 1600, seed: int = 0, *, length: int = 64, words: int = 20_000, tokenizer: Tokenizer | None = None
) -> TextDataset:
    """AG News: title and description of 7,600 news items in 4 classes (World, Sports, Business, Sci/Tech).

    These are the official TEST items; `test` of them, drawn with `seed`, are the test set here (0: none).
    x: int64 (N, length): lower-case words and signs cut or padded to `length`, the `words` most frequent of the
      training part numbered; or what `tokenizer` (list of N texts -> integers (N, ...)) makes of all texts.
    Reads ``classify/ag_news_test.jsonl.gz``. Raises MissingData. Source: X. Zhang et al., NeurIPS 2015.
    """
    rows = read(locate("ag_news", "classify/ag_news_test.jsonl.gz"))
    test = integer(test, "test", 0, len(rows) - 1)
    order = shuffled(len(rows), integer(seed, "seed", 0))
    kept, out = [rows[i] for i in order[test:]], [rows[i] for i in order[:test]]
    texts, texts_test = ([f"{r['title']}. {r['text']}" for r in part] for part in (kept, out))
    labels, labels_test = ([int(r["label"]) for r in part] for part in (kept, out))
    return _dataset("ag_news", texts, labels, texts_test, labels_test, None, None, length, words, tokenizer)


def sent140(*, length: int = 40, words: int = 20_000, tokenizer: Tokenizer | None = None) -> TextDataset:
    """Tweets with the user as group: 2,134 training tweets of 50 users, 8,484 test tweets of 772.

    y: 0 negative, 1 positive.

    The split is the file's, that of Shatter's artifact; all training users are test users too. x, length, words,
    tokenizer: as in `ag_news`.
    Reads ``classify/sent140.jsonl.gz``. Raises MissingData.
    Source: A. Go et al., "Twitter sentiment classification using distant supervision", 2009, in LEAF's form.
    """
    rows = read(locate("sent140", "classify/sent140.jsonl.gz"))
    splits = [[r for r in rows if r["split"] == s] for s in ("train", "test")]
    (texts, texts_test), (labels, labels_test), (users, users_test) = (
        [[r["text"] for r in part] for part in splits],
        [[int(r["label"] == 4) for r in part] for part in splits],
        [[int(r["user"]) for r in part] for part in splits],
    )
    return _dataset("sent140", texts, labels, texts_test, labels_test, users, users_test, length, words, tokenizer)


def _dataset(
    name: str,
    texts: list[str],
    labels: list[int],
    texts_test: list[str],
    labels_test: list[int],
    groups: list[int] | None,
    groups_test: list[int] | None,
    length: int,
    words: int,
    tokenizer: Tokenizer | None,
) -> TextDataset:
    vocabulary: tuple[str, ...] = ()
    if tokenizer is None:
        vocabulary = _vocabulary(texts, integer(words, "words", 1))
        x = _numbers(texts + texts_test, vocabulary, integer(length, "length", 1))
    else:
        x = np.asarray(tokenizer(texts + texts_test))
        if x.dtype.kind not in "iu" or x.ndim < 1 or len(x) != len(texts) + len(texts_test):
            raise TypeError(
                f"tokenizer: expected integers ({len(texts) + len(texts_test)}, ...), got {x.dtype} {x.shape}"
            )
        x = x.astype(np.int64)
    cut = len(texts)
    held = (x[cut:], np.array(labels_test)) if texts_test else (None, None)
    return TextDataset(
        x[:cut],
        np.array(labels),
        *held,
        groups=groups,
        groups_test=groups_test,
        name=name,
        texts=texts,
        texts_test=texts_test,
        vocabulary=vocabulary,
    )


def _vocabulary(texts: Sequence[str], words: int) -> tuple[str, ...]:
    """Padding, unknown, then words by falling frequency; ties in alphabetical order, so that numbers never move."""
    counts = Counter(w for t in texts for w in _WORD.findall(t.lower()))
    return ("<pad>", "<unk>", *sorted(counts, key=lambda w: (-counts[w], w))[:words])


def _numbers(texts: Sequence[str], vocabulary: Sequence[str], length: int) -> NDArray[np.int64]:
    number = {w: i for i, w in enumerate(vocabulary) if i >= 2}
    x = np.zeros((len(texts), length), np.int64)
    for row, t in zip(x, texts):
        tokens = [number.get(w, 1) for w in _WORD.findall(t.lower())[:length]]
        row[: len(tokens)] = tokens
    return x
