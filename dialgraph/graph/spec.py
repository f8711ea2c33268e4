"""The words a graph is written in: data only, the same from Python, YAML or JSON and back."""

from collections.abc import Mapping
from typing import Any, Literal, Self

import orjson
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from dialgraph.graph.errors import GraphError
from dialgraph.graph.policy import Policy

END: Literal["END"] = "END"
"""Where a path ends: `then=END`."""

Then = str | tuple[str, ...] | dict[str, str]
"""One step; several at once; or a table from what the node wrote to `route` to a step."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Step(_Value):
    """One node at its place in a graph."""

    node: str
    """A node's name: a file of `nodes/`."""
    name: str = ""
    """What other steps call it; empty: the node's name."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The node's keyword-only parameters."""
    then: Then | None = None
    """What comes next; None: the step written below it, and after the last the end."""
    waits: bool = False
    """Run once, after every branch that leads here has come."""
    timeout_ms: int | None = Field(default=None, gt=0)
    on_timeout: str | None = None
    """Where to go on when the time is over and the step has not spoken."""
    on_error: str | None = None
    """Where to go on when the step fails and has not spoken."""
    retry: int = Field(default=0, ge=0, le=5)
    """How often a failed step that does not speak is tried again."""

    def __init__(self, node: str | None = None, /, **fields: Any) -> None:
        super().__init__(**fields if node is None else {"node": node, **fields})

    @field_validator("options")
    @classmethod
    def _as_json(cls, options: dict[str, Any]) -> dict[str, Any]:
        """A tuple becomes a list at once, so that the graph equals what its YAML is read as."""
        try:
            return dict(orjson.loads(orjson.dumps(options)))
        except orjson.JSONEncodeError as error:
            raise ValueError(f"options must be JSON data: {error}") from error

    @property
    def id(self) -> str:
        """The step's name in its graph."""
        return self.name or self.node


class Graph(_Value):
    """One endpoint."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")
    """What requests call it as `model`, and its place in paths."""
    steps: tuple[Step, ...] = Field(min_length=1)
    path: str = Field(default="", pattern=r"^(/[\w.-]+)*$")
    """Where it is served; empty: `/{name}/chat/completions`."""
    summary: str = ""
    policy: Policy = Policy()
    """How it behaves in a call, beside what its steps do."""
    public: bool = False
    """Whether whoever reaches the server may use what the graph uses: its store, its tools and the server's own key."""

    @classmethod
    def read(cls, text: str) -> Self:
        """A graph from YAML, and so from JSON."""
        try:
            data = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise GraphError(f"The graph is not YAML: {error}") from error
        return cls.from_data(data)

    @classmethod
    def from_data(cls, data: object) -> Self:
        """A graph from JSON data."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            lines = (f"{'.'.join(map(str, one['loc'])) or 'the graph'}: {one['msg']}" for one in error.errors())
            raise GraphError("The graph cannot be read. " + "; ".join(lines)) from None

    def to_data(self) -> Mapping[str, Any]:
        """JSON data that holds only what differs from the defaults."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def to_yaml(self) -> str:
        """YAML that `read` turns into this graph again; byte-stable."""
        return yaml.safe_dump(self.to_data(), sort_keys=False, allow_unicode=True, width=120)

    def to_json(self) -> str:
        """JSON that `read` turns into this graph again; byte-stable."""
        return self.model_dump_json(exclude_defaults=True, indent=2) + "\n"

    @property
    def route_path(self) -> str:
        """Where it is served."""
        return self.path or f"/{self.name}/chat/completions"
