"""What a server does not take of a request, learnt from its refusals: one call finds out, the others profit.

Believed only when the same request was accepted without the field, and not for ever: no caller's request can change
what another one is sent.
"""

import asyncio
from collections.abc import Collection, Mapping
from typing import Any, Final

BELIEVED_SECONDS: Final = 600.0
_RENAMED: Final = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
"""Newer models of OpenAI's refuse the old name, other servers do not know the new one."""
KNOWN: Final = frozenset({"stream_options", *_RENAMED})
"""Fields without which, or under another name, a request means the same."""


class LearnedRefusals:
    """Of one server, by the upstream's name of a model."""

    def __init__(self) -> None:
        self._refused: dict[tuple[str, str], float] = {}

    def of(self, model: str) -> frozenset[str]:
        """The fields that this model does not take."""
        now = asyncio.get_running_loop().time()
        self._refused = {key: until for key, until in self._refused.items() if until > now}
        return frozenset(field for name, field in self._refused if name == model)

    def confirm(self, model: str, fields: Collection[str]) -> None:
        """A request without these fields was accepted."""
        for field in fields:
            self._refused.setdefault((model, field), asyncio.get_running_loop().time() + BELIEVED_SECONDS)


def adapted(body: Mapping[str, Any], refused: Collection[str]) -> dict[str, Any]:
    """The body without these fields, or with them under their other name."""
    found = dict(body)
    for field in refused & body.keys():
        value = found.pop(field)
        if field in _RENAMED:
            found.setdefault(_RENAMED[field], value)
    return found
