"""The LangChain and LlamaIndex retrievers against the real packages."""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from collegium import rag
from collegium.rag.payloads import Payloads

TEXTS = ["cats purr", "dogs bark", "cows moo"]


def embed(text):
    """Where a question points: its animal, and a little by its length."""
    v = np.array([text.count(w) for w in ("cat", "dog", "cow")], float)
    return (v + 0.001 * len(text)).tolist()


@pytest.fixture(params=["langchain", "llamaindex"])
def make(request, need):
    """make(cache, wait) -> (ask(question) -> texts, aask, calls, scores of the last answer)."""
    if request.param == "langchain":
        need("langchain_core")
        from langchain_core.documents import Document
        from langchain_core.embeddings import Embeddings
        from langchain_core.retrievers import BaseRetriever

        class Model(Embeddings):
            def embed_query(self, text):
                return embed(text)

            def embed_documents(self, texts):
                return [embed(t) for t in texts]

        class Base(BaseRetriever):
            calls: list
            wait: float = 0.0

            def _get_relevant_documents(self, query, *, run_manager):
                self.calls.append(query)
                time.sleep(self.wait)
                if "fail" in query:
                    raise ConnectionError("down")
                return [Document(page_content=t) for t in sorted(TEXTS, key=lambda t: t[:3] not in query)[:2]]

        def build(cache, wait=0.0, **named):
            base = Base(calls=[], wait=wait)
            r = rag.langchain.CachedRetriever(base, Model(), cache, **named)

            async def aask(q):
                return [d.page_content for d in await r.ainvoke(q)]

            return (lambda q: [d.page_content for d in r.invoke(q)]), aask, base.calls, None

        return build
    need("llama_index.core")
    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.schema import NodeWithScore, TextNode

    nodes = {t: TextNode(text=t, id_=t) for t in TEXTS}

    class Model(BaseEmbedding):
        def _get_text_embedding(self, text):
            return embed(text)

        _get_query_embedding = _get_text_embedding

        async def _aget_query_embedding(self, text):
            return embed(text)

    class Base(BaseRetriever):
        def __init__(self, wait):
            super().__init__()
            self.calls, self.wait = [], wait

        def _retrieve(self, bundle):
            assert bundle.embedding is not None
            self.calls.append(bundle.query_str)
            time.sleep(self.wait)
            if "fail" in bundle.query_str:
                raise ConnectionError("down")
            best = sorted(TEXTS, key=lambda t: t[:3] not in bundle.query_str)[:2]
            return [NodeWithScore(node=nodes[t], score=1.0 / (1 + i)) for i, t in enumerate(best)]

    def build(cache, wait=0.0, **named):
        base, scores = Base(wait), []
        r = rag.llamaindex.CachedRetriever(base, Model(), cache, **named)

        def texts(found):
            scores[:] = [n.score for n in found]
            return [n.node.get_content() for n in found]

        async def aask(q):
            return texts(await r.aretrieve(q))

        return (lambda q: texts(r.retrieve(q))), aask, base.calls, scores

    return build


def cache(**named):
    return rag.ProximityCache(3, 50, tolerance=0.1, **named)


def test_a_near_question_gets_the_documents_of_the_one_before(make):
    ask, aask, calls, scores = make(cache())
    assert ask("cat?") == ["cats purr", "dogs bark"] and len(calls) == 1
    assert scores is None or scores == [1.0, 0.5]
    assert ask("cat please?") == ["cats purr", "dogs bark"] and len(calls) == 1
    assert scores is None or scores == [None, None]
    assert ask("cow?")[0] == "cows moo" and len(calls) == 2
    assert asyncio.run(aask("cow now?"))[0] == "cows moo" and len(calls) == 2
    assert asyncio.run(aask("dog?"))[0] == "dogs bark" and len(calls) == 3


def test_namespaces_keep_tenants_apart(make):
    c = cache()
    first, _, calls_a, _ = make(c, namespace="a")
    second, _, calls_b, _ = make(c, namespace="b")
    assert first("cat?") == second("cat?") and len(calls_a) == len(calls_b) == 1


def test_failures_pass_and_are_not_cached(make):
    c = cache()
    ask, aask, calls, _ = make(c)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            ask("fail?")
    with pytest.raises(ConnectionError):
        asyncio.run(aask("fail?"))
    assert len(c) == 0 and len(calls) == 3


def test_concurrent_questions_share_a_call(make):
    ask, _, calls, _ = make(cache(), wait=0.1)
    workers = [threading.Thread(target=ask, args=("cat?",)) for _ in range(8)]
    for t in workers:
        t.start()
    for t in workers:
        t.join(20)
    assert len(calls) == 1


def test_entries_whose_documents_are_not_here_are_asked_again(make, tmp_path):
    c = cache()
    make(c)[0]("cat?")
    ask, _, calls, _ = make(c)  # another process with the same cache, say
    assert ask("cat?") == ["cats purr", "dogs bark"] and len(calls) == 1
    assert ask("cat?") == ["cats purr", "dogs bark"] and len(calls) == 1


def test_a_learned_tolerance_compares_documents(make):
    learned = rag.GuaranteedTolerance(0.2, audit_rate=0.2, pilot=16)
    ask, _, calls, _ = make(rag.ProximityCache(3, 50, tolerance=learned))
    for i in range(400):
        ask(("cat", "dog", "cow")[i % 3] + "?" * (i % 7))
    assert learned.threshold() > 0 and len(calls) < 350


def test_documents_that_no_entry_names_are_dropped():
    c = rag.ProximityCache(1, 10, tolerance=0.1)
    kept = Payloads()
    for i in range(5000):
        ids = kept.put(c, [i], [str(i)])
        c.insert(np.float32([i]), ids)
    assert len(kept._items) <= 1100
    for e in c.entries():
        assert kept.get(c, e.ids) == [str(e.ids[0])]


@pytest.mark.parametrize("module, package", [("langchain", "langchain_core"), ("llamaindex", "llama_index")])
def test_without_the_package_a_sentence_says_what_to_do(monkeypatch, module, package):
    for name in [n for n in sys.modules if n.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"collegium.rag.{module}", raising=False)
    with pytest.raises(ImportError, match=f"collegium.rag.{module} needs .*: pip install "):
        importlib.import_module(f"collegium.rag.{module}")


def test_not_a_cache(make):
    with pytest.raises(TypeError, match="cache: expected a ProximityCache, got dict"):
        make({})
