"""Chooses the tool that makes a host act: one that the request declares, or else the tool of the profile.

A host that declares `hangup` cannot handle a call of `end_call`, because it has no such tool.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import orjson

from dialgraph.profiles.profile import ActionForm, ActionKind, Profile
from dialgraph.profiles.together import tools_for
from dialgraph.turn.events import Action
from dialgraph.turn.turn import Turn

_NAMES: Final[dict[ActionKind, tuple[str, ...]]] = {
    "hangup": ("end_call", "end_the_call", "terminate_call", "end_conversation"),
    "transfer": ("forward_call", "transfer_to_agent", "call_transfer"),
    "digits": ("press_digits",),
}
"""Names that people give such a tool, in addition to the hosts' own names. Case, `_` and `-` are ignored."""
_ARGUMENTS: Final[dict[str, tuple[str, ...]]] = {
    "reason": ("reason",),
    "message": ("message", "client_message", "farewell", "farewell_message", "goodbye"),
    "number": ("number", "destination", "transfer_number", "phone_number", "phoneNumber", "to", "target"),
    "digits": ("digits", "dtmf", "dtmf_tones", "events", "tones", "keys"),
}
"""Our name of an argument → the names that a tool may use for it."""


def action_form(turn: Turn, kind: ActionKind) -> ActionForm:
    """Return the form of this action for the turn's host."""
    usual = turn.profile.form(kind)
    requested = turn.requested_tools
    if usual.tool in requested:
        arguments, one_by_one = _arguments(requested[usual.tool])
        return ActionForm(usual.tool, {**arguments, **usual.arguments}, usual.one_by_one or one_by_one)
    wanted = {_plain(name) for name in (*_NAMES[kind], *tools_for(kind))}
    declared = next((name for name in requested if _plain(name) in wanted), None)
    if declared is None:
        return usual
    return ActionForm(declared, *_arguments(requested[declared]))


def host_call(action: Action, profile: Profile) -> tuple[str, str]:
    """Return the tool that the host is asked to call for this action, and its arguments as JSON text."""
    form = action.form or profile.form(action.kind)
    arguments: dict[str, object] = {
        form.arguments[name]: list(value) if form.one_by_one else value
        for name, value in action.arguments.items()
        if value and name in form.arguments
    }
    return action.tool or form.tool, action.given or orjson.dumps(arguments).decode()


def _plain(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()


def _arguments(tool: object) -> tuple[Mapping[str, str], bool]:
    """Return our arguments with the names that the tool declares, and whether it takes digits as a list."""
    function = tool.get("function") if isinstance(tool, Mapping) else None
    parameters = function.get("parameters") if isinstance(function, Mapping) else None
    properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
    declared: Mapping[str, object] = properties if isinstance(properties, Mapping) else {}
    found = {ours: name for ours, names in _ARGUMENTS.items() if (name := _first(names, declared))}
    digits = declared.get(found.get("digits", ""))
    return found, isinstance(digits, Mapping) and digits.get("type") == "array"


def _first(names: Iterable[str], declared: Mapping[str, object]) -> str:
    return next((name for name in names if name in declared), "")
