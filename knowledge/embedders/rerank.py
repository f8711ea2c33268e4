"""The Reranker port, and the engine for servers with `/rerank`, such as Cohere, Jina and vLLM."""

import logging
from collections.abc import Sequence
from typing import Protocol

from dialgraph.meaning import RerankerAddress
from knowledge.embedders.json_client import HttpError, JsonClient

log = logging.getLogger(__name__)


class Reranker(Protocol):
    """Reads the question and a passage together, to give the best few passages a better order."""

    async def scores(self, question: str, passages: Sequence[str]) -> list[float] | None:
        """Return one score for each passage, 0 to 1; None if the reranker failed, so that the order stays as it is."""

    async def aclose(self) -> None:
        """Close everything that the reranker has opened."""


def open_reranker(name: str, address: RerankerAddress) -> Reranker:
    """Return the engine that the URL names. There is only one. Raises ValueError."""
    try:
        return HttpReranker(name, address)
    except ValueError as error:
        raise ValueError(f"reranker {name!r}: {error}") from error


class HttpReranker:
    """Reranks passages on a server with `/rerank`."""

    def __init__(self, name: str, address: RerankerAddress) -> None:
        self._name = name
        self._address = address
        self._client = JsonClient(address.url.rstrip("/"), address.api_key.get_secret_value())

    async def scores(self, question: str, passages: Sequence[str]) -> list[float] | None:
        """Return the server's scores, limited to 0 to 1; None if the server failed or left out a passage."""
        body = {"query": question, "documents": list(passages), "top_n": len(passages)}
        if self._address.model:
            body["model"] = self._address.model
        try:
            said = await self._client.post("/rerank", body, self._address.seconds)
            found = {int(one["index"]): float(one["relevance_score"]) for one in said["results"]}
        except HttpError as error:
            log.warning(
                "a reranker failed; the search continued without it",
                extra={"reranker": self._name, "reason": str(error)},
            )
            return None
        except (KeyError, TypeError, ValueError):
            log.warning(
                "a reranker failed; the search continued without it",
                extra={"reranker": self._name, "reason": "no scores"},
            )
            return None
        if set(found) != set(range(len(passages))):
            return None
        return [min(max(found[at], 0.0), 1.0) for at in range(len(passages))]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()
