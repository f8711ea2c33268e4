"""LangChain's OpenAI embeddings as an embedder (`langchain:openai`), for servers that only its client supports."""

from collections.abc import Sequence

import numpy as np
from langchain_openai import OpenAIEmbeddings
from openai import OpenAIError
from pydantic import SecretStr

from dialgraph.meaning import EmbedderAddress
from knowledge.embedders.embed import EmbedError, Vectors, of_unit_length


class LangChainEmbedder:
    """Embeds texts with LangChain's OpenAI client."""

    proposes_up_to = 10**9
    from_units = ""

    def __init__(self, name: str, address: EmbedderAddress) -> None:
        if address.url != "langchain:openai":
            raise ValueError(f"embedder {name!r}: no engine for {address.url!r}. Accepted: 'langchain:openai'.")
        model = address.model or "text-embedding-3-small"
        self.name = f"openai:{model}"
        self.dimension = 0
        self.counts, self.unrelated = address.weights()
        self._label = name
        # The client's length check downloads a tokeniser. Our pieces are shorter than any model's limit.
        self._embeddings = OpenAIEmbeddings(
            model=model,
            openai_api_key=SecretStr(address.api_key.get_secret_value() or "none"),
            check_embedding_ctx_length=False,
        )

    async def passages(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors from the server. Raises EmbedError."""
        try:
            return self._unit(await self._embeddings.aembed_documents(list(texts)))
        except OpenAIError as error:
            raise EmbedError(f"embedder {self._label!r}: the server failed ({type(error).__name__}).") from error

    async def question(self, text: str) -> Vectors:
        """Return the question's vector from the server. Raises EmbedError."""
        try:
            vector: Vectors = self._unit([await self._embeddings.aembed_query(text)])[0]
        except OpenAIError as error:
            raise EmbedError(f"embedder {self._label!r}: the server failed ({type(error).__name__}).") from error
        return vector

    async def aclose(self) -> None:
        """Close the client inside LangChain, which has no method for this."""
        await self._embeddings.async_client._client.close()

    def _unit(self, found: Sequence[Sequence[float]]) -> Vectors:
        vectors = np.array(found, dtype=np.float32)
        self.dimension = vectors.shape[1]
        return of_unit_length(vectors)
