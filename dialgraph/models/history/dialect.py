"""Where a provider accepts or needs other histories than the form that all of them accept.

Read on 2026-11-28 in the providers' pages, the types of their client libraries and issue threads; docs/models.md has
the table of providers and rules, and its sources.
"""

from typing import Final, Literal

Rule = Literal["developer", "late_system", "names", "ids", "one_call", "no_system"]
"""`developer`: takes that role. `late_system`: takes system messages anywhere. `names`: takes a `name` on messages.
`ids`: takes any id of a call. `one_call`: wants one tool call a message. `no_system`: refuses system messages."""

_OPENAI: Final[tuple[Rule, ...]] = ("developer", "late_system", "names", "ids")
_BY_HOST: Final[dict[str, tuple[Rule, ...]]] = {
    "api.openai.com": _OPENAI,
    ".openai.azure.com": _OPENAI,
}
"""Servers that are known by their address."""


def dialect_of(host: str) -> frozenset[Rule]:
    """Return the rules of a server that is known by its host; empty for any other."""
    for known, rules in _BY_HOST.items():
        if host == known or (known.startswith(".") and host.endswith(known)):
            return frozenset(rules)
    return frozenset()
