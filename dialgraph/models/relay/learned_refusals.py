"""Request fields that a server refuses, learned from its refusals: one call finds out, later calls benefit.

A refusal is only learned if the same request was accepted without the field, and it expires. So no caller's request can
change what is sent for another caller.
"""

import asyncio
from collections.abc import Collection, Mapping
from typing import Any, Final

BELIEVED_SECONDS: Final = 600.0
_RENAMED: Final = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
"""OpenAI's newer models refuse the old name; other servers do not know the new one."""
KNOWN: Final = frozenset({"stream_options", *_RENAMED})
"""Fields that can be left out or renamed without a change of the request's meaning."""


class LearnedRefusals:
    """The refusals of one server, by the upstream's model name."""

    def __init__(self) -> None:
        self._refused: dict[tuple[str, str], float] = {}

    def of(self, model: str) -> frozenset[str]:
        """Return the fields that this model refuses."""
        now = asyncio.get_running_loop().time()
        self._refused = {key: until for key, until in self._refused.items() if until > now}
        return frozenset(field for name, field in self._refused if name == model)

    def confirm(self, model: str, fields: Collection[str]) -> None:
        """Record that a request without these fields was accepted."""
        for field in fields:
            self._refused.setdefault((model, field), asyncio.get_running_loop().time() + BELIEVED_SECONDS)


def adapted(body: Mapping[str, Any], refused: Collection[str]) -> dict[str, Any]:
    """Return the body without these fields, or with them under their other name."""
    found = dict(body)
    for field in refused & body.keys():
        value = found.pop(field)
        if field in _RENAMED:
            found.setdefault(_RENAMED[field], value)
    return found
