"""LlamaIndex retrievers: behind the cache (`CachedRetriever`), over several sources (`FederatedRetriever`).

Needs llama-index-core.
"""

# Checked where the library is there and where it is not.
# mypy: disable-error-code="import-not-found", allow-subclassing-any, no-warn-return-any

from __future__ import annotations

from typing import Any

from .flight import aanswer, answer
from .payloads import MOST, Payloads, check_cache, needs, number
from .request import Answer, Request, request

try:
    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
except ImportError as e:
    raise needs("llama-index-core", "llamaindex", e) from e


class CachedRetriever(BaseRetriever):
    """The nodes of `base` for a question, or those it gave for a question near enough.

    base: any retriever; it decides how many nodes there are. embeddings: of questions, by the model whose distances the
    cache's tolerance is in; not needed where every query bundle brings its embedding. cache: a `ProximityCache` of its
    dimension. namespace: hits stay inside it (tenant, filter, model).
    Nodes of a hit have score None: the scores were those of the question before.
    Concurrent questions near each other share one call of `base`, threads and asyncio alike.
    """

    def __init__(
        self,
        base: BaseRetriever,
        embeddings: BaseEmbedding | None,
        cache: Any,
        namespace: Any = None,
        **named: Any,
    ) -> None:
        super().__init__(**named)
        self._base, self._embeddings, self.cache = base, embeddings, check_cache(cache)
        self._namespace = namespace
        self._nodes: Payloads[NodeWithScore] = Payloads()

    def _keep(self, nodes: list[NodeWithScore]) -> Any:
        return self._nodes.put(self.cache, [number(n.node.node_id) for n in nodes], nodes)

    def _request(self, embedding: list[float], retrieve: Any) -> Request:
        return request(self.cache, embedding, MOST, retrieve, namespace=self._namespace)

    def _needed(self) -> BaseEmbedding:
        if self._embeddings is None:
            raise ValueError("embeddings: expected a model, since the query bundle has no embedding, got None")
        return self._embeddings

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        if query_bundle.embedding is None:
            query_bundle.embedding = self._needed().get_agg_embedding_from_queries(query_bundle.embedding_strs)
        fresh: list[NodeWithScore] = []

        def retrieve(_: Any, __: int) -> Any:
            fresh[:] = self._base.retrieve(query_bundle)
            return self._keep(fresh)

        r = self._request(query_bundle.embedding, retrieve)
        return _scored(fresh, *self._nodes.ask(self.cache, lambda: answer(r)))

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        if query_bundle.embedding is None:
            model = self._needed()
            query_bundle.embedding = await model.aget_agg_embedding_from_queries(query_bundle.embedding_strs)
        fresh: list[NodeWithScore] = []

        async def retrieve(_: Any, __: int) -> Any:
            fresh[:] = await self._base.aretrieve(query_bundle)
            return self._keep(fresh)

        r = self._request(query_bundle.embedding, retrieve)
        return _scored(fresh, *await self._nodes.aask(self.cache, lambda: aanswer(r)))


def _scored(fresh: list[NodeWithScore], nodes: list[NodeWithScore], a: Answer) -> list[NodeWithScore]:
    return [NodeWithScore(node=n.node, score=None) for n in nodes] if a.hit else fresh


class FederatedRetriever(BaseRetriever):
    """Nodes of several sources. federated: a `collegium.rag.FederatedRetriever`; a bundle's embedding is used where it
    has one, else its encoder. k: nodes, None for its own. Metadata: source, id, score, the passage's other fields.
    """

    def __init__(self, federated: Any, k: int | None = None, **named: Any) -> None:
        super().__init__(**named)
        self._federated, self._k = federated, k

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        q = query_bundle.embedding or query_bundle.query_str
        return [_node(h) for h in self._federated.search(q, self._k).hits()]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        q = query_bundle.embedding or query_bundle.query_str
        return [_node(h) for h in (await self._federated.asearch(q, self._k)).hits()]


def _node(h: Any) -> NodeWithScore:
    node = TextNode(text=h.text, id_=f"{h.source}/{h.id}", metadata=h.metadata)
    return NodeWithScore(node=node, score=None if h.score != h.score else h.score)  # NaN: from the cache
