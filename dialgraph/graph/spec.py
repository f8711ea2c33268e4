"""The declaration of a graph: data only, with the same meaning in Python, YAML and JSON."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Literal, Self

import orjson
import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator

from dialgraph.graph.errors import GraphError
from dialgraph.graph.places import author, placed
from dialgraph.graph.policy import GuardRule, Memory, Policy, Value
from dialgraph.turn.node import Node, NodeError
from dialgraph.validation import UNKNOWN, Complaint, Loc, complaints
from dialgraph.yaml_text import YamlError, line_in, read_yaml

END: Literal["END"] = "END"
"""Where a path ends: `then=END`."""

Then = str | tuple[str, ...] | dict[str, str]
"""One step; several steps that run at the same time; or a table that maps the value of `route` to a step."""


class Step(Value):
    """One step of a graph: it runs a node."""

    node: str
    """The name of the node, which is the name of a file in `nodes/`."""
    name: str = ""
    """The name of the step, which other steps refer to. Empty: the node's name."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The options of the node, which are its keyword-only parameters."""
    then: Then | None = None
    """What comes next. None: the step that follows in the list, or the end after the last step."""
    waits: bool = False
    """Whether the step runs only once, after every branch that leads to it has arrived."""
    timeout_ms: int | None = Field(default=None, gt=0)
    on_timeout: str | None = None
    """The step to continue with if the time limit is over and the step has not spoken."""
    on_error: str | None = None
    """The step to continue with if the step fails and has not spoken."""
    retry: int = Field(default=0, ge=0, le=5)
    """How often a failed step is tried again. Only for nodes that do not speak."""

    def __init__(self, node: "str | Node | None" = None, /, **fields: Any) -> None:
        """`node`: the name of a node, or the node itself, which then needs no file in a folder `nodes`."""
        if node is not None and not isinstance(node, Node | str):
            raise NodeError(_no_node(node))
        given = node.name if isinstance(node, Node) else node
        super().__init__(**fields if given is None else {"node": given, **fields})
        # These two are not data: two steps are equal without them.
        self.__dict__["_function"] = node if isinstance(node, Node) else None
        self.__dict__["_place"] = author()

    @property
    def function(self) -> "Node | None":
        """Return the node, if the step was declared with the node itself and not with its name."""
        found: Node | None = self.__dict__.get("_function")
        return found

    @property
    def place(self) -> str:
        """Return where an author declared the step, as `file, line N`; empty if it is not known."""
        return placed(*self.__dict__.get("_place", ("", 0)))

    @field_validator("options")
    @classmethod
    def _as_json(cls, options: dict[str, Any]) -> dict[str, Any]:
        """Convert the options to JSON data. Tuples become lists, so that the graph equals the graph from its YAML."""
        try:
            return dict(orjson.loads(orjson.dumps(options)))
        except orjson.JSONEncodeError as error:
            raise ValueError(f"options must be JSON data: {error}") from error

    @property
    def id(self) -> str:
        """Return the name of the step in its graph."""
        return self.name or self.node


class Graph(Value):
    """A graph: its steps and its policy. It is served as one endpoint."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")
    """The name of the endpoint: the `model` in requests and a part of its path."""
    steps: tuple[Step, ...] = Field(min_length=1)
    path: str = Field(default="", pattern=r"^(/[\w.-]+)*$")
    """The path where it is served. Empty: `/{name}/chat/completions`."""
    summary: str = ""
    instructions: str = ""
    """The persona, which comes first in every prompt: a text, the name of a file beside the graph (`persona.md`), or
    the name of a template. It is a Jinja template and can use `call`, `memory`, `passages`, `question` and `messages`.
    """
    policy: Policy = Policy()
    """How the endpoint behaves in a call, in addition to its steps."""
    public: bool = False
    """Whether everybody who reaches the server may use the graph with its store, its tools and the server's key."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self.__dict__["_place"] = author()

    @field_validator("steps", mode="before")
    @classmethod
    def _is_list(cls, steps: object) -> object:
        """Explain the mistake of new authors: brackets around one step are no list without a comma."""
        if isinstance(steps, Step):
            raise ValueError("must be a list. Write a comma after the only step: `steps=(Step(…),)`")
        return steps

    @property
    def place(self) -> str:
        """Return where an author declared the graph, as `file, line N`; empty if it is not known."""
        return placed(*self.__dict__.get("_place", ("", 0)))

    @classmethod
    def read(cls, text: str, file: str = "") -> Self:
        """Return the graph from YAML or JSON text. Raise GraphError if the text is not a valid graph.

        `file`: the name of the file with the text, for messages.
        """
        try:
            data, lines = read_yaml(text)
        except YamlError as error:
            raise GraphError(f"The graph is not valid YAML: {error}.", [placed(file, error.line)]) from error
        if data is None:
            raise GraphError("There is no graph here: the text is empty.", [placed(file, 0)])
        graph = cls._validated(data, lambda loc: placed(file, line_in(lines, loc)))
        graph.__dict__["_place"] = (file, 1)
        for at, step in enumerate(graph.steps):
            step.__dict__["_place"] = (file, line_in(lines, ("steps", at)))
        return graph

    @classmethod
    def from_file(cls, path: Path | str) -> Self:
        """Return the graph in a YAML or JSON file. Raise GraphError with the file and the line of each mistake."""
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise GraphError(f"{placed(str(path), 0)}: the file must be UTF-8 text.", [""]) from error
        except OSError as error:
            reason = "there is no such file" if isinstance(error, FileNotFoundError) else "the file cannot be read"
            raise GraphError(f"{placed(str(path), 0)}: {reason}.", [""]) from error
        return cls.read(text, str(path))

    @classmethod
    def from_data(cls, data: object) -> Self:
        """Return the graph from JSON data. Raise GraphError if the data is not a valid graph."""
        return cls._validated(data, lambda loc: "")

    @classmethod
    def _validated(cls, data: object, place_of: Callable[[Loc], str]) -> Self:
        """Return the graph. Raise GraphError, with the place of each mistake."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            found = complaints(error, cls)
            sentences = [f"The graph is not valid: {one}.{_cure(one, '- node: {0}')}" for one in found]
            raise GraphError("\n".join(sentences), [place_of(one.loc) for one in found]) from None

    def to_data(self) -> Mapping[str, Any]:
        """Return the graph as JSON data with only the values that differ from the defaults."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def to_yaml(self) -> str:
        """Return YAML that `read` turns into the same graph. The same graph always gives the same bytes."""
        return yaml.safe_dump(self.to_data(), sort_keys=False, allow_unicode=True, width=120)

    def to_json(self) -> str:
        """Return JSON that `read` turns into the same graph. The same graph always gives the same bytes."""
        return self.model_dump_json(exclude_defaults=True, indent=2) + "\n"

    @property
    def route_path(self) -> str:
        """Return the path where the graph is served."""
        return self.path or f"/{self.name}/chat/completions"


def wrong_values(error: ValidationError) -> str:
    """Return what is wrong with the values that an author gave to a part of a graph."""
    parts: Sequence[type[BaseModel]] = (Graph, Step, Policy, Memory, GuardRule)
    model = next((part for part in parts if part.__name__ == error.title), None)
    return " ".join(f"{error.title}: {one}.{_cure(one, 'Step({0!r})')}" for one in complaints(error, model))


def _cure(one: Complaint, form: str) -> str:
    """Return what to write instead, for common mistakes. `form`: how a step with the node `{0}` is written."""
    if len(one.loc) == 2 and one.loc[0] == "steps" and isinstance(one.value, str):
        return f" Write `{form.format(one.value)}`."
    if len(one.loc) == 2 and one.loc[0] == "steps" and isinstance(one.value, Node):
        return f" Write `Step({one.value.name})`."
    if one.loc[:1] == ("memory",) and one.what.startswith(UNKNOWN):
        return " The memory belongs to the policy: `policy.memory`."
    if one.loc and one.loc[-1] == "then" and isinstance(one.value, Step):
        return f" Write the name of the step: {one.value.id!r}."
    return ""


def _no_node(given: object) -> str:
    """Return why this is no node of a step."""
    if isinstance(given, FunctionType):
        return f"Step: {given.__name__!r} is a function, but no node. Write `@node` above `async def {given.__name__}`."
    if isinstance(given, ModuleType):
        name = given.__name__.rpartition(".")[2]
        return f"Step: {name!r} is a module. Write `from {given.__name__} import {name}`."
    return f"Step: it needs the name of a node or a node, not {type(given).__name__}."
