"""The tolerant reader: body, headers and query of a request → the call, the messages and the model's parameters.

Unknown fields are passed on and never refused. Fields that hosts name differently are mapped to one name here. Only
values that no model could use are refused, with a message that names the field.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from dialgraph.models.history.text import text_of
from dialgraph.profiles.choose import HEADER, known_profiles, recognise, value_at
from dialgraph.profiles.profile import Profile
from dialgraph.profiles.together import (
    call_places,
    interruption_fields,
    interruption_tags,
    private_fields,
    turn_source,
)
from dialgraph.turn.call import CallInfo
from server.errors import ApiError

ROLES: Final = ("system", "developer", "user", "assistant", "tool", "function")
MAX_MODEL_CHARACTERS: Final = 256
MAX_MESSAGES: Final = 4096
MAX_PARTS: Final = 10_000
"""Parts of all messages together."""
MAX_CALLS: Final = 1024
"""Tool calls of all messages together. Pairing this number with their results takes about 10 ms."""
MAX_TOOLS: Final = 1_000
"""OpenAI's own limit is 128."""

OURS: Final = frozenset({"messages", "model", "stream"})
"""Fields that are not passed on, because the request to the model sets its own values."""


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """One request, as the reader understands it."""

    messages: list[Mapping[str, object]]
    model: str
    stream: bool | None
    """None if the request leaves it out; then its host's profile decides."""
    include_usage: bool
    call: CallInfo
    profile: Profile
    """The profile of the host that sent the request. The endpoint's policy can replace it."""
    parameters: dict[str, object] = field(default_factory=dict)
    """The fields for the model: all others that are not the host's own. Null means absent and is left out."""


def read_request(
    data: Mapping[str, Any], headers: Mapping[str, str], query: Mapping[str, str], principal: str = ""
) -> CompletionRequest:
    """Return the request, read from the body's JSON. Raises ApiError 400 that names the invalid field."""
    stream_options = _typed(data, "stream_options", dict, "an object") or {}
    count = data.get("n")
    if count is not None and (isinstance(count, bool) or count != 1):
        raise _refuse("n", "`n` must be 1: only one answer can be spoken.")
    for name in ("tools", "modalities"):
        if len(_typed(data, name, list, "a list") or ()) > MAX_TOOLS:
            raise _refuse(name, f"`{name}` may hold at most {MAX_TOOLS} entries.")
    _typed(data, "audio", dict, "an object")
    private = private_fields()
    return CompletionRequest(
        messages=_messages(data),
        model=_model(data),
        stream=_typed(data, "stream", bool, "true or false"),
        include_usage=bool(stream_options.get("include_usage")),
        call=_call(data, headers, query, principal),
        profile=_profile(data, headers, query),
        parameters={
            key: value for key, value in data.items() if value is not None and key not in OURS and key not in private
        },
    )


def _messages(data: Mapping[str, Any]) -> list[Mapping[str, object]]:
    messages = data.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _refuse("messages", "`messages` must be a list with at least one message.")
    if len(messages) > MAX_MESSAGES:
        raise _refuse("messages", f"`messages` may hold at most {MAX_MESSAGES} messages.")
    parts = calls = 0
    for at, message in enumerate(messages):
        where = f"messages[{at}]"
        if not isinstance(message, dict):
            raise _refuse(where, f"`{where}` must be an object.")
        role = message.get("role")
        if role not in ROLES:
            raise _refuse(f"{where}.role", f"`{where}.role` must be one of {', '.join(ROLES)}.")
        content = message.get("content")
        if content is not None and not isinstance(content, str | list):
            raise _refuse(f"{where}.content", f"`{where}.content` must be text, a list of parts, or null.")
        parts += len(content) if isinstance(content, list) else 0
        if parts > MAX_PARTS:
            raise _refuse(f"{where}.content", f"`messages` may hold at most {MAX_PARTS} parts.")
        made = message.get("tool_calls")
        calls += len(made) if isinstance(made, list) else 0
        if calls > MAX_CALLS:
            raise _refuse(f"{where}.tool_calls", f"`messages` may hold at most {MAX_CALLS} tool calls.")
        if isinstance(content, list) and not all(isinstance(part, str | dict) for part in content):
            raise _refuse(f"{where}.content", f"`{where}.content` must hold parts, each text or an object.")
        if role == "tool" and not isinstance(message.get("tool_call_id"), str):
            raise _refuse(
                f"{where}.tool_call_id",
                f"`{where}.tool_call_id` must be the `id` of the tool call that the message answers.",
            )
    return messages


def _model(data: Mapping[str, Any]) -> str:
    model = _typed(data, "model", str, "text") or ""
    if len(model) > MAX_MODEL_CHARACTERS or not model.isprintable():
        raise _refuse("model", f"`model` must be printable text of at most {MAX_MODEL_CHARACTERS} characters.")
    return str(model)


def _call(data: Mapping[str, Any], headers: Mapping[str, str], query: Mapping[str, str], principal: str) -> CallInfo:
    sources: dict[str, Mapping[str, Any]] = {"body": data, "query": query, "header": headers}
    found: dict[str, Any] = {name: _first(sources, places) for name, places in call_places().items()}
    found["source"] = found["source"] or _source(data["messages"])
    extras = {**query, **{key: value for key, value in data.items() if key != "messages"}}
    return CallInfo(principal=principal, extras=extras, interrupted=_interrupted(data["messages"]), **found)


def _source(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return what began the turn, if the host says so on the last message; empty if a person's words began it."""
    source = value_at(messages[-1], "metadata.source")
    return source if isinstance(source, str) and turn_source(source) != "words" else ""


def _interrupted(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return what the caller heard of our last answer before the barge-in, if the host marks it; otherwise empty.

    Some hosts set a field of the message. Others write a tag at the point where the voice stopped.
    """
    for message in reversed(messages):
        if message["role"] == "assistant":
            text = text_of(message.get("content"))
            for tag in interruption_tags():
                heard, found, _ = text.partition(tag)
                if found:
                    return heard.rstrip()
            return text.rstrip() if any(value_at(message, name) is True for name in interruption_fields()) else ""
    return ""


def _profile(data: Mapping[str, Any], headers: Mapping[str, str], query: Mapping[str, str]) -> Profile:
    named = headers.get(HEADER)
    if named is None:
        return recognise(data, headers, query)
    profile = known_profiles().get(named.strip().lower())
    if profile is None:
        accepted = ", ".join(known_profiles())
        raise _refuse(HEADER, f"The header `{HEADER}` does not name a known profile. Accepted: {accepted}.")
    return profile


def _first(sources: Mapping[str, Mapping[str, Any]], places: Sequence[str]) -> str:
    for place in places:
        value = value_at(sources, place)
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value):
            return _one_line(str(value)[:1024])
    return ""


def _one_line(text: str) -> str:
    """Return the text on one line and without unprintable characters, because it goes into prompts and logs."""
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())


def _typed(data: Mapping[str, Any], name: str, kind: type, what: str) -> Any:
    value = data.get(name)
    if value is not None and not isinstance(value, kind):
        raise _refuse(name, f"`{name}` must be {what}.")
    return value


def _refuse(param: str, message: str) -> ApiError:
    return ApiError(400, message, param=param or None, code="invalid_value")
