"""An author's typed Python functions as tools: the signature is the schema, the docstring is the description."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from dialgraph.environment import in_thread
from dialgraph.tools.port import ToolContext, ToolError, ToolSchema

Function = Callable[..., Any]
"""A plain or an `async def` function. We fill in parameters of the type ToolContext; the model does not see them."""


class FunctionTools:
    """The functions of one graph as tools. The constructor raises ValueError for a function that cannot be a tool."""

    def __init__(self, functions: Sequence[Function] = ()) -> None:
        self._functions = {function.__name__: _Tool(function) for function in functions}
        if len(self._functions) < len(functions):
            raise ValueError("two tools have the same name")

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
        hints = inspect.get_annotations(function, eval_str=True)
        fields: dict[str, Any] = {}
        self._context = ""
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
                raise ValueError(f"tool {function.__name__!r}: `*{name}` has no schema; name every parameter")
            if name not in hints:
                raise ValueError(f"tool {function.__name__!r}: the parameter {name!r} has no type")
            if hints[name] is ToolContext:
                self._context = name
                continue
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            fields[name] = (hints[name], default if default is not ... else Field())
        if not (documentation := inspect.getdoc(function)):
            raise ValueError(f"tool {function.__name__!r} has no docstring; the model reads it to know when to call it")
        self._arguments: type[BaseModel] = create_model(
            f"{function.__name__}_arguments", __config__=ConfigDict(extra="forbid"), **fields
        )
        parameters = self._arguments.model_json_schema()
        parameters.pop("title", None)
        for one in parameters.get("properties", {}).values():
            one.pop("title", None)
        self.schema: ToolSchema = {
            "type": "function",
            "function": {"name": function.__name__, "description": documentation, "parameters": parameters},
        }

    async def call(self, arguments: Mapping[str, Any], context: ToolContext) -> str:
        try:
            given: dict[str, Any] = dict(self._arguments.model_validate(arguments))
        except ValidationError as error:
            said = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
            raise ToolError(f"The arguments are wrong. {said}") from None
        if self._context:
            given[self._context] = context
        if inspect.iscoroutinefunction(self._function):
            result = await self._function(**given)
        else:
            result = await in_thread(partial(self._function, **given))
        return result if isinstance(result, str) else orjson.dumps(result, default=str).decode()
