"""An author's typed Python functions as tools: the signature is the schema, the docstring is the description."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from pydantic.fields import FieldInfo

from dialgraph.environment import in_thread
from dialgraph.project import shown_path
from dialgraph.tools.port import ToolContext, ToolError, ToolSchema
from dialgraph.validation import complaints

Function = Callable[..., Any]
"""A plain or an `async def` function. We fill in parameters of the type ToolContext; the model does not see them."""


_ACCEPTED = (
    "Accepted: `str`, `int`, `float`, `bool`, `list`, `dict`, `Literal`, an enum, a dataclass, a pydantic model."
)
"""The types of parameters that have a JSON Schema."""


class ToolFunctionError(ValueError):
    """A function cannot be a tool."""

    def __init__(self, what: str, place: str = "") -> None:
        """`place`: the file and the line of the function; empty if it is not known."""
        super().__init__(what)
        self.place = place


class FunctionTools:
    """The functions of one graph as tools."""

    def __init__(self, functions: Sequence[Function] = ()) -> None:
        """Raise ToolFunctionError for a function that cannot be a tool."""
        given: object = functions  # an author may give anything
        if not isinstance(given, Sequence) or isinstance(given, str):
            raise ToolFunctionError(f"tools: it must be a list of functions, not {_name(given)}.")
        self._functions: dict[str, _Tool] = {}
        for function in given:
            if not inspect.isroutine(function):
                called = " Write the name of the function without `()`." if inspect.iscoroutine(function) else ""
                raise ToolFunctionError(f"tools: it must be a list of functions, not of {_name(function)}.{called}")
            tool = _Tool(function)
            if function.__name__ in self._functions:
                raise ToolFunctionError(f"tool {function.__name__!r}: two tools have this name.", _place(function))
            self._functions[function.__name__] = tool

    @property
    def names(self) -> list[str]:
        """Return the names in the given order."""
        return list(self._functions)

    async def tools(self) -> Sequence[ToolSchema]:
        """Return the schemas of all functions."""
        return [tool.schema for tool in self._functions.values()]

    async def call(self, name: str, arguments: Mapping[str, Any], context: ToolContext) -> str:
        """Call the function, and return its result as text."""
        return await self._functions[name].call(arguments, context)

    async def aclose(self) -> None:
        """Do nothing: there is nothing to close."""


class _Tool:
    def __init__(self, function: Function) -> None:
        self._function = function
        name, place = function.__name__, _place(function)
        hints = inspect.get_annotations(function, eval_str=True)
        fields: dict[str, Any] = {}
        self._context = ""
        for one, parameter in inspect.signature(function).parameters.items():
            if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
                raise ToolFunctionError(f"tool {name!r}: the parameter {one!r} needs a name. Remove the `/`.", place)
            if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
                raise ToolFunctionError(f"tool {name!r}: `{parameter}` has no schema. Name every parameter.", place)
            if one not in hints:
                raise ToolFunctionError(f"tool {name!r}: the parameter {one!r} has no type. {_ACCEPTED}", place)
            if hints[one] is ToolContext:
                self._context = one
                continue
            _check_type(name, one, hints[one], place)
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            fields[one] = (hints[one], default if default is not ... else Field())
        if not (documentation := inspect.getdoc(function)):
            raise ToolFunctionError(
                f"tool {name!r}: it has no docstring. The model reads it to know when to call the tool.", place
            )
        self._arguments: type[BaseModel] = create_model(
            f"{name}_arguments", __config__=ConfigDict(extra="forbid"), **fields
        )
        for one, (kind, default) in fields.items():
            if not isinstance(default, FieldInfo):
                try:
                    TypeAdapter(kind).validate_python(default, strict=True)
                except ValidationError as error:
                    wrong = f"the default of the parameter {one!r} {complaints(error)[0].what}"
                    raise ToolFunctionError(f"tool {name!r}: {wrong}.", place) from None
        parameters = self._arguments.model_json_schema()
        parameters.pop("title", None)
        for one in parameters.get("properties", {}).values():
            one.pop("title", None)
        self.schema: ToolSchema = {
            "type": "function",
            "function": {"name": name, "description": documentation, "parameters": parameters},
        }

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> str:
        try:
            given: dict[str, Any] = dict(self._arguments.model_validate(arguments))
        except ValidationError as error:
            said = "; ".join(map(str, complaints(error, self._arguments)))
            raise ToolError(f"The arguments are wrong. {said}.") from None
        if self._context:
            given[self._context] = context
        if inspect.iscoroutinefunction(self._function):
            result = await self._function(**given)
        else:
            result = await in_thread(partial(self._function, **given))
        return result if isinstance(result, str) else orjson.dumps(result, default=_as_json).decode()


def _as_json(value: object) -> object:
    """Return a value in a form that JSON has. Raise TypeError for a value that says nothing to a model."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, Decimal | PurePath | Mapping):
        return dict(value) if isinstance(value, Mapping) else str(value)
    cure = " Write `await`." if inspect.isawaitable(value) else ""
    raise TypeError(f"it returned {type(value).__name__}, which is neither text nor JSON data.{cure}")


def _check_type(tool: str, parameter: str, kind: Any, place: str) -> None:
    try:
        TypeAdapter(kind).json_schema()
    except (PydanticUserError, PydanticSchemaGenerationError):
        shown = getattr(kind, "__name__", repr(kind))
        raise ToolFunctionError(
            f"tool {tool!r}: the type `{shown}` of the parameter {parameter!r} has no JSON Schema. {_ACCEPTED}", place
        ) from None


def _name(value: object) -> str:
    """Return what a value is, for messages."""
    return f"the function {value.__name__!r}" if inspect.isroutine(value) else f"`{type(value).__name__}`"


def _place(function: Function) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{shown_path(Path(code.co_filename))}, line {code.co_firstlineno}" if code is not None else ""
