"""Providers that accept or need other histories than the form that all providers accept.

Sources: the providers' pages, the types of their client libraries and issue threads, read on 2026-11-28. The table of
providers and rules, with its sources, is in docs/models.md.
"""

from typing import Final, Literal

Rule = Literal["developer", "late_system", "names", "ids", "one_call", "no_system"]
"""`developer`: accepts that role. `late_system`: accepts system messages anywhere. `names`: accepts `name` on messages.
`ids`: accepts any id of a call. `one_call`: needs one tool call per message. `no_system`: refuses system messages."""

_OPENAI: Final[tuple[Rule, ...]] = ("developer", "late_system", "names", "ids")
_BY_HOST: Final[dict[str, tuple[Rule, ...]]] = {
    "api.openai.com": _OPENAI,
    ".openai.azure.com": _OPENAI,
}
"""Servers whose rules follow from their host name."""


def dialect_of(host: str) -> frozenset[Rule]:
    """Return the rules of a known host; empty for any other."""
    for known, rules in _BY_HOST.items():
        if host == known or (known.startswith(".") and host.endswith(known)):
            return frozenset(rules)
    return frozenset()
