"""The addresses of embedders and rerankers. The settings declare them, and knowledge/ opens them."""

from pydantic import Field, SecretStr
from pydantic.dataclasses import dataclass

from dialgraph.engines import ADDRESS, LONGEST_SECONDS


@dataclass(frozen=True, slots=True, config=ADDRESS)
class EmbedderAddress:
    """The address of an embedder in the settings. A plain string is its URL."""

    url: str
    """`hashing:`, `https://…/v1` of any OpenAI-compatible server, `langchain:openai` or `onnx:FOLDER`."""
    model: str = ""
    """The name of the model on the server."""
    api_key: SecretStr = SecretStr("")
    counts: float = Field(default=0.0, ge=0)
    """How much full similarity adds to a passage's score, where 1 means all that was asked. 0: the engine's default."""
    unrelated: float | None = Field(default=None, ge=-1, lt=1)
    """The usual similarity of texts about different things. None: the engine's default."""

    def weights(self) -> tuple[float, float]:
        """Return `counts` and `unrelated`. Values that are not set get the usual values of embedding models."""
        return self.counts or 1.0, 0.15 if self.unrelated is None else self.unrelated


@dataclass(frozen=True, slots=True, config=ADDRESS)
class RerankerAddress:
    """The address of a reranker in the settings. A plain string is its URL."""

    url: str
    """The part of the URL before `/rerank`."""
    model: str = ""
    api_key: SecretStr = SecretStr("")
    seconds: float = Field(default=1.0, gt=0, le=LONGEST_SECONDS)
    """The time limit in seconds. After it, a search continues without the reranker."""
