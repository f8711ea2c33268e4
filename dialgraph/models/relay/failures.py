"""Classifies an upstream's failures by status and by the codes of providers, which are numbers or words.

Sources: the error pages of OpenAI, Anthropic (529 and `overloaded_error`), Google (`RESOURCE_EXHAUSTED` …), Groq (498:
no capacity) and Cloudflare (52x: the origin server).
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from dialgraph.http_client import Kind, kind_of_status

_KINDS_BY_WORD: Final[dict[str, Kind]] = {
    "rate_limit": "rate_limited", "too_many_requests": "rate_limited", "resource_exhausted": "rate_limited",
    "throttl": "rate_limited", "quota": "rate_limited",
    "overloaded": "unavailable", "unavailable": "unavailable", "capacity": "unavailable", "busy": "unavailable",
    "invalid_api_key": "unauthorized", "authentication": "unauthorized", "unauthenticated": "unauthorized",
    "permission": "unauthorized", "unauthorized": "unauthorized", "forbidden": "unauthorized",
    "not_found": "not_found",
    "timeout": "timeout", "timed_out": "timeout", "deadline_exceeded": "timeout",
    "invalid": "rejected", "context_length": "rejected", "bad_request": "rejected", "unsupported": "rejected",
    "inspection": "rejected",
}  # fmt: skip
"""Part of a code → kind. The first match counts."""
_PERMANENT: Final = frozenset({501, 505, 511, 525, 526})
"""Statuses from 500 for which another attempt changes nothing."""
_PLACES: Final = ("code", "status", "status_code", "http_code", "type")
_INNER: Final = ("error", "errors", "detail")
_NEWS: Final = frozenset({"status", "ping", "info", "progress", "heartbeat", "keepalive"})
"""Types of events that have a message but are not errors."""
_LONGEST_CODE: Final = 64
_LONGEST_MESSAGE: Final = 4096


def may_pass(status: int) -> bool:
    """Return whether another attempt may succeed, because the server's fault may pass."""
    return status in (408, 498) or (status >= 500 and status not in _PERMANENT and status != 504)


def error_of(data: object) -> Any:
    """Return the error that a body or an event reports, in any form; None if it reports none."""
    if isinstance(data, list) and data:
        data = data[0]  # Google sends a list
    if not isinstance(data, Mapping):
        return None
    if data.get("error"):
        return data["error"]
    if data.get("object") == "error" or data.get("type") == "error":
        return data
    if data.get("choices"):
        return None
    status = data.get("base_resp")
    if isinstance(status, Mapping) and status.get("status_code"):
        return status  # MiniMax
    if any(data.get(name) and isinstance(data[name], str | list | dict) for name in ("detail", "errors", "error_msg")):
        return data
    told = isinstance(data.get("message"), str) and data["message"] and "choices" not in data
    return data if told and data.get("type") not in _NEWS else None


def kind_of_error(error: object) -> Kind:
    """Return the kind of failure for a reported error; `failed` if the error has no known code."""
    for code in _codes(error):
        if isinstance(code, str) and code.isdecimal():
            code = int(code[:_LONGEST_CODE])
        if isinstance(code, int):
            if 400 <= code < 600:
                return kind_of_status(code)
        else:
            word = code.lower().replace("-", "_").replace(" ", "_")
            for part, kind in _KINDS_BY_WORD.items():
                if part in word or part.replace("_", "") in word:
                    return kind
    return "failed"


def refused_fields(error: object, sent: Mapping[str, object]) -> list[str]:
    """Return the top-level fields of our request that a refusal names."""
    if isinstance(error, Mapping):
        param = error.get("param")
        if isinstance(param, str) and param.partition(".")[0].partition("[")[0] in sent:
            return [param.partition(".")[0].partition("[")[0]]
        told = str(error.get("message") or error.get("detail") or "")
    else:
        told = str(error or "")
    told = told[:_LONGEST_MESSAGE]
    return [name for name in sent if len(name) > 4 and _quoted(name, told)]


def _quoted(name: str, text: str) -> bool:
    """Return whether the text names the field, and does not merely contain the word."""
    return ("_" in name and name in text) or any(f"{mark}{name}{mark}" in text for mark in ("'", '"', "`"))


def _codes(error: object) -> Iterator[str | int]:
    if isinstance(error, list):
        error = error[0] if error else None
    if isinstance(error, Mapping):
        for place in _PLACES:
            value = error.get(place)
            if isinstance(value, list) and value:
                value = value[0]
            if isinstance(value, float) and value.is_integer():
                value = int(value)
            if isinstance(value, str):
                yield value[:_LONGEST_CODE]
            elif isinstance(value, int) and not isinstance(value, bool):
                yield value
        for place in _INNER:
            yield from _codes(error.get(place))
