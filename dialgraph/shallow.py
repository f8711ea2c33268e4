"""The fields of a dataclass as a dictionary, without copying what is in them."""

from dataclasses import fields
from typing import Any


def shallow(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass. `asdict` would copy everything in them, and fail for errors."""
    return {one.name: getattr(value, one.name) for one in fields(value)}
