"""The tools that a request to a model declares, in every form that providers accept."""

from collections.abc import Iterator, Mapping, Sequence


def declared_tools(parameters: Mapping[str, object]) -> frozenset[str]:
    """Return the names of the declared tools."""
    listed = [tool for key in ("tools", "functions") for tool in _sequence(parameters.get(key))]
    return frozenset(name for tool in listed for name in _names(tool))


def _sequence(value: object) -> Sequence[object]:
    return value if isinstance(value, Sequence) else ()


def _names(tool: object) -> Iterator[str]:
    """Yield every name in a declaration."""
    if isinstance(tool, Mapping):
        for part in (tool, *(tool.get(kind) for kind in ("function", "custom"))):
            if isinstance(part, Mapping) and isinstance(part.get("name"), str):
                yield str(part["name"])
