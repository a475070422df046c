"""The corpus that is on every machine."""

from __future__ import annotations

import pytest

from collegium import data


def test_docstrings_of_numpy_are_passages_and_their_first_sentences_queries():
    corpus = data.docstrings(["numpy"], limit=300)
    assert 100 < len(corpus.passages) <= 300 and len(corpus.queries) == len(corpus.passages)
    assert [r.tolist() for r in corpus.relevant()] == [[k] for k in range(len(corpus.passages))]
    assert len({p["text"] for p in corpus.passages}) == len(corpus.passages)
    assert all(p["title"].startswith("numpy.") and 0 < len(p["text"]) <= 2000 for p in corpus.passages)
    assert not any(p["text"].startswith(q["text"]) for p, q in zip(corpus.passages, corpus.queries))
    again = data.docstrings(["numpy"], limit=300)
    assert again == corpus


def test_bad_packages():
    with pytest.raises(ValueError, match=r"packages: no docstrings in not_a_package; is one of them installed\?"):
        data.docstrings(["not_a_package"])
    with pytest.raises(TypeError, match="packages: expected a sequence of names, got 'numpy'"):
        data.docstrings("numpy")
    with pytest.raises(ValueError, match="limit: expected at least 1"):
        data.docstrings(limit=0)


def test_the_standard_library_is_a_package_too():
    corpus = data.docstrings(["stdlib"], limit=500)
    assert 300 < len(corpus.passages) <= 500
    assert all(p["title"].startswith("stdlib.") and "site-packages" not in p["title"] for p in corpus.passages)
