"""LangChain retrievers: behind the cache (`CachedRetriever`), over several sources (`FederatedRetriever`).

Needs langchain-core.
"""

# Checked where the library is there and where it is not.
# mypy: disable-error-code="import-not-found, call-arg", allow-subclassing-any, no-warn-return-any

from __future__ import annotations

from typing import Any

from .flight import aanswer, answer
from .payloads import MOST, Payloads, check_cache, needs, number
from .request import request

try:
    from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.retrievers import BaseRetriever
    from pydantic import PrivateAttr
except ImportError as e:
    raise needs("langchain-core", "langchain", e) from e


class CachedRetriever(BaseRetriever):
    """The documents of `base` for a question, or those it gave for a question near enough.

    base: any retriever; it decides how many documents there are. embeddings: of questions, by the model whose distances
    the cache's tolerance is in. cache: a `ProximityCache` of its dimension. namespace: hits stay inside it (tenant,
    filter, model); any hashable value.
    Concurrent questions near each other share one call of `base`, threads and asyncio alike. Documents of a hit are the
    very objects that `base` returned, with whatever scores it wrote into their metadata for the question before.
    """

    base: BaseRetriever
    embeddings: Embeddings
    cache: Any
    namespace: Any = None
    _documents: Payloads[Document] = PrivateAttr(default_factory=Payloads)

    def __init__(
        self, base: BaseRetriever, embeddings: Embeddings, cache: Any, namespace: Any = None, **named: Any
    ) -> None:
        super().__init__(base=base, embeddings=embeddings, cache=check_cache(cache), namespace=namespace, **named)

    def _keep(self, documents: list[Document]) -> Any:
        return self._documents.put(self.cache, [number(d.model_dump_json()) for d in documents], documents)

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        def retrieve(_: Any, __: int) -> Any:
            return self._keep(self.base.invoke(query, config={"callbacks": run_manager.get_child()}))

        r = request(self.cache, self.embeddings.embed_query(query), MOST, retrieve, namespace=self.namespace)
        return self._documents.ask(self.cache, lambda: answer(r))[0]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun
    ) -> list[Document]:
        async def retrieve(_: Any, __: int) -> Any:
            return self._keep(await self.base.ainvoke(query, config={"callbacks": run_manager.get_child()}))

        q = await self.embeddings.aembed_query(query)
        r = request(self.cache, q, MOST, retrieve, namespace=self.namespace)
        return (await self._documents.aask(self.cache, lambda: aanswer(r)))[0]


class FederatedRetriever(BaseRetriever):
    """Documents of several sources. federated: a `collegium.rag.FederatedRetriever`. embeddings: of questions; without
    them its own encoder. k: documents, None for its own. Metadata: source, id, score, and the passage's other fields.
    """

    federated: Any
    embeddings: Embeddings | None = None
    k: int | None = None

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        q = query if self.embeddings is None else self.embeddings.embed_query(query)
        return [Document(page_content=h.text, metadata=h.metadata) for h in self.federated.search(q, self.k).hits()]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun
    ) -> list[Document]:
        q = query if self.embeddings is None else await self.embeddings.aembed_query(query)
        found = await self.federated.asearch(q, self.k)
        return [Document(page_content=h.text, metadata=h.metadata) for h in found.hits()]
