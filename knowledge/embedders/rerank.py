"""The Reranker port, and the engine for `/rerank` as Cohere, Jina, vLLM and others serve it."""

import logging
from collections.abc import Sequence
from typing import Protocol

from dialgraph.meaning import RerankerAddress
from knowledge.embedders.json_client import HttpError, JsonClient

log = logging.getLogger(__name__)


class Reranker(Protocol):
    """Reads question and passage together, and orders the best few anew."""

    async def scores(self, question: str, passages: Sequence[str]) -> list[float] | None:
        """One score a passage, 0 to 1; None if the reranker is away, and the order stays."""

    async def aclose(self) -> None:
        """Give back what is open."""


def open_reranker(name: str, address: RerankerAddress) -> Reranker:
    """The engine that the URL names; there is one."""
    try:
        return HttpReranker(name, address)
    except ValueError as error:
        raise ValueError(f"reranker {name!r}: {error}") from error


class HttpReranker:
    """See the module."""

    def __init__(self, name: str, address: RerankerAddress) -> None:
        self._name = name
        self._address = address
        self._client = JsonClient(address.url.rstrip("/"), address.api_key.get_secret_value())

    async def scores(self, question: str, passages: Sequence[str]) -> list[float] | None:
        """See the port."""
        body = {"query": question, "documents": list(passages), "top_n": len(passages)}
        if self._address.model:
            body["model"] = self._address.model
        try:
            said = await self._client.post("/rerank", body, self._address.seconds)
            found = {int(one["index"]): float(one["relevance_score"]) for one in said["results"]}
        except HttpError as error:
            log.warning("a search goes on without its reranker", extra={"reranker": self._name, "reason": str(error)})
            return None
        except (KeyError, TypeError, ValueError):
            log.warning("a search goes on without its reranker", extra={"reranker": self._name, "reason": "no scores"})
            return None
        if set(found) != set(range(len(passages))):
            return None
        return [min(max(found[at], 0.0), 1.0) for at in range(len(passages))]

    async def aclose(self) -> None:
        """See the port."""
        await self._client.aclose()
