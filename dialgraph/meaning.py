"""The addresses of embedders and rerankers, which settings declare and knowledge/ opens."""

from pydantic import Field, SecretStr
from pydantic.dataclasses import dataclass

from dialgraph.engines import ADDRESS, LONGEST_SECONDS


@dataclass(frozen=True, slots=True, config=ADDRESS)
class EmbedderAddress:
    """Where an embedder is: the settings of one name. A string alone is its URL."""

    url: str
    """`hashing:`, `https://…/v1` of any OpenAI-compatible server, `langchain:openai` or `onnx:FOLDER`."""
    model: str = ""
    """The server's name of the model."""
    api_key: SecretStr = SecretStr("")
    counts: float = Field(default=0.0, ge=0)
    """What full similarity adds to a passage's score, where 1 is all that was asked; 0: the engine's own."""
    unrelated: float | None = Field(default=None, ge=-1, lt=1)
    """The similarity that texts about different things usually have."""

    def weights(self) -> tuple[float, float]:
        """Return `counts` and `unrelated`, with the usual values of models of meaning where they are not set."""
        return self.counts or 1.0, 0.15 if self.unrelated is None else self.unrelated


@dataclass(frozen=True, slots=True, config=ADDRESS)
class RerankerAddress:
    """Where a reranker is: the settings of one name. A string alone is its URL."""

    url: str
    """What stands before `/rerank`."""
    model: str = ""
    api_key: SecretStr = SecretStr("")
    seconds: float = Field(default=1.0, gt=0, le=LONGEST_SECONDS)
    """After this time a search goes on without it."""
