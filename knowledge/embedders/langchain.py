"""LangChain's OpenAI embeddings as an embedder: `langchain:openai`. For servers that only its client knows."""

from collections.abc import Sequence

import numpy as np
from langchain_openai import OpenAIEmbeddings
from openai import OpenAIError
from pydantic import SecretStr

from dialgraph.meaning import EmbedderAddress
from knowledge.embedders.embed import EmbedError, Vectors, of_unit_length


class LangChainEmbedder:
    """See the module."""

    proposes_up_to = 10**9
    hashing = False

    def __init__(self, name: str, address: EmbedderAddress) -> None:
        if address.url != "langchain:openai":
            raise ValueError(f"embedder {name!r}: no engine for {address.url!r}. Accepted: 'langchain:openai'.")
        model = address.model or "text-embedding-3-small"
        self.name = f"openai:{model}"
        self.dimension = 0
        self.counts, self.unrelated = address.weights()
        self._label = name
        # Its check of lengths downloads a tokeniser; our pieces are shorter than any model's limit.
        self._embeddings = OpenAIEmbeddings(
            model=model,
            openai_api_key=SecretStr(address.api_key.get_secret_value() or "none"),
            check_embedding_ctx_length=False,
        )

    async def passages(self, texts: Sequence[str]) -> Vectors:
        """See the port."""
        try:
            return self._unit(await self._embeddings.aembed_documents(list(texts)))
        except OpenAIError as error:
            raise EmbedError(f"embedder {self._label!r}: the server failed ({type(error).__name__}).") from error

    async def question(self, text: str) -> Vectors:
        """See the port."""
        try:
            vector: Vectors = self._unit([await self._embeddings.aembed_query(text)])[0]
        except OpenAIError as error:
            raise EmbedError(f"embedder {self._label!r}: the server failed ({type(error).__name__}).") from error
        return vector

    async def aclose(self) -> None:
        """See the port. LangChain has no way to close its client."""
        await self._embeddings.async_client._client.close()

    def _unit(self, found: Sequence[Sequence[float]]) -> Vectors:
        vectors = np.array(found, dtype=np.float32)
        self.dimension = vectors.shape[1]
        return of_unit_length(vectors)
