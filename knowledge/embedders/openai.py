"""Embeddings from any OpenAI-compatible `/embeddings`: batches for documents, one request for a question."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from dialgraph.meaning import EmbedderAddress
from knowledge.embedders.embed import EmbedError, Vectors, of_unit_length
from knowledge.embedders.json_client import HttpError, JsonClient

_BATCH = 64
_AT_ONCE = 4
_QUESTION_SECONDS = 2.0
_PASSAGES_SECONDS = 60.0
_TRIES = 4
_REMEMBERED = 1_000


class OpenAIEmbedder:
    """Embeds texts on a server, given its address, the model's name and a key. Caches the vectors of questions."""

    proposes_up_to = 10**9
    from_units = ""

    def __init__(self, name: str, address: EmbedderAddress) -> None:
        if not address.model:
            raise ValueError(f"embedder {name!r}: `model` is missing. Set it to the server's name for the model.")
        self.name = f"openai:{address.model}"
        self.dimension = 0
        self.counts, self.unrelated = address.weights()
        self._label = name
        self._model = address.model
        self._client = JsonClient(address.url.rstrip("/"), address.api_key.get_secret_value())
        self._questions: OrderedDict[str, Vectors] = OrderedDict()

    async def passages(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors from the server, in batches. Try again if the server is busy or away for a moment."""
        gate = asyncio.Semaphore(_AT_ONCE)

        async def some(batch: Sequence[str]) -> Vectors:
            async with gate:
                return await self._with_patience(batch)

        batches = [texts[at : at + _BATCH] for at in range(0, len(texts), _BATCH)]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(some(batch)) for batch in batches]
        except ExceptionGroup as faults:
            raise faults.exceptions[0] from None
        return np.concatenate([task.result() for task in tasks])

    async def question(self, text: str) -> Vectors:
        """Return the question's vector. Ask once, for at most two seconds, because a caller is waiting."""
        if text in self._questions:
            self._questions.move_to_end(text)
            return self._questions[text]
        vector: Vectors = (await self._embed([text], _QUESTION_SECONDS))[0]
        self._questions[text] = vector
        if len(self._questions) > _REMEMBERED:
            self._questions.popitem(last=False)
        return vector

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _with_patience(self, texts: Sequence[str]) -> Vectors:
        for attempt in range(_TRIES - 1):
            try:
                return await self._embed(texts, _PASSAGES_SECONDS)
            except EmbedError as error:
                if not isinstance(error.__cause__, HttpError) or not error.__cause__.passing:
                    raise
                await asyncio.sleep(error.__cause__.retry_after or 0.25 * 2**attempt)
        return await self._embed(texts, _PASSAGES_SECONDS)

    async def _embed(self, texts: Sequence[str], seconds: float) -> Vectors:
        body = {"model": self._model, "input": list(texts), "encoding_format": "float"}
        try:
            said = await self._client.post("/embeddings", body, seconds)
            found = sorted(said["data"], key=lambda one: one["index"])
            vectors = np.array([one["embedding"] for one in found], dtype=np.float32)
        except HttpError as error:
            raise EmbedError(f"embedder {self._label!r}: {error}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise EmbedError(f"embedder {self._label!r}: the server's answer holds no embeddings.") from error
        if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():
            raise EmbedError(
                f"embedder {self._label!r}: the server returned {len(found)} vectors for {len(texts)} texts."
            )
        if self.dimension not in (0, vectors.shape[1]):
            raise EmbedError(
                f"embedder {self._label!r}: the server changed from {self.dimension} to {vectors.shape[1]} dimensions."
            )
        self.dimension = vectors.shape[1]
        return of_unit_length(vectors)
