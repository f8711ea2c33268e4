"""Says in plain words what pydantic found wrong in an author's data: where it is, what is wrong, what is accepted."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ValidationError

Loc = tuple[int | str, ...]
"""A place in the data: keys and indexes, from the outside in."""

_TEXT, _NUMBER, _WHOLE, _CHOICE = "text", "a number", "a whole number", "true or false"
_LIST, _TABLE = "a list", "a table of `name: value`"
_KINDS: Final = {
    "string_type": _TEXT,
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": "a finite number",
    "bool_type": _CHOICE,
    "bool_parsing": _CHOICE,
    "list_type": _LIST,
    "tuple_type": _LIST,
    "dict_type": _TABLE,
    "mapping_type": _TABLE,
    "model_type": _TABLE,
    "model_attributes_type": _TABLE,
    "dataclass_type": _TABLE,
}
"""Errors of type → what the value must be."""
_LIMITS: Final = {
    "greater_than": "greater than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
}
_FORMS: Final = {
    r"^[a-z][a-z0-9_-]{0,63}$": "small letters, digits, `_` and `-`, beginning with a letter",
    r"^[a-z][a-z0-9_]{0,63}$": "small letters, digits and `_`, beginning with a letter",
    r"^(/[\w.-]+)*$": "a path such as `/v1/desk`",
}
"""Patterns of ours, in words."""
_OF_TYPES: Final = {str: _TEXT, int: _WHOLE, float: _NUMBER, bool: _CHOICE, tuple: _LIST, list: _LIST, dict: _TABLE}
_LONGEST_SHOWN: Final = 60
UNKNOWN: Final = "unknown name"
"""How the complaint about a name that does not exist begins."""
_MISSING: Final = "is missing"
_VERBS: Final = ("must ", "is ")
"""Sentences that begin in this way follow their subject without a colon."""
_TOO_FEW: Final = "must have at least"


@dataclass(frozen=True, slots=True)
class Complaint:
    """One mistake in the data."""

    loc: Loc
    what: str
    """What is wrong and what is accepted, without a full stop: `must be a whole number, not 'soon'`."""
    value: object = None

    def __str__(self) -> str:
        if not self.loc:
            return f"it {self.what}"
        return f"{'.'.join(map(str, self.loc))}{' ' if self.what.startswith(_VERBS) else ': '}{self.what}"


def complaints(error: ValidationError, model: Any = None, *, show: bool = True) -> list[Complaint]:
    """Return each mistake once.

    `model`: the type that was validated, for the names of its fields. `show`: whether to show the wrong value, which
    must not be done if it can be a secret.
    """
    groups: dict[Loc, list[Complaint]] = {}
    for one in error.errors(include_url=False):
        walked = _walk(one["loc"], model)
        complaint = Complaint(walked.loc, _sentence(one, walked, show=show), one["input"])
        # Each member of a union reports an error of its own. The one that got furthest is the one that was meant.
        groups.setdefault(walked.union or walked.loc, []).append(complaint)
    found = {str(one): one for group in groups.values() for one in group if len(one.loc) == max(map(_depth, group))}
    return [one for one in found.values() if not _follows_from(one, found.values())]


def _follows_from(one: Complaint, others: Iterable[Complaint]) -> bool:
    """Return whether the mistake is only the result of another: a misspelt name is missing, a wrong item too few."""
    if one.what == _MISSING:
        return any(f"mean {one.loc[-1]!r}?" in other.what and other.loc[:-1] == one.loc[:-1] for other in others)
    return one.what.startswith(_TOO_FEW) and _has_inner(one, others)


def _depth(complaint: Complaint) -> int:
    return len(complaint.loc)


def _has_inner(outer: Complaint, found: Iterable[Complaint]) -> bool:
    return any(one.loc[: len(outer.loc)] == outer.loc and one.loc != outer.loc for one in found)


@dataclass(frozen=True, slots=True)
class _Walked:
    loc: Loc
    """The place without the names of the members of unions."""
    union: Loc
    """The place of the outermost union on the way, or empty."""
    of: Any
    """The type at the place, or None."""
    around: Any
    """The type that contains the place, or None."""


def _walk(loc: Sequence[int | str], model: Any) -> _Walked:
    clean: list[int | str] = []
    union: Loc = ()
    around, of = None, _bare(model)
    rest = list(loc)
    while rest:
        if len(members := _members(of)) > 1:
            union = union or tuple(clean)
            tag = str(rest[0])
            rest.pop(0)  # pydantic names the member of a union that it tried
            found = [member for member in members if tag.startswith(_type_name(member))]
            around, of = of, found[0] if found else None
            continue
        key = rest.pop(0)
        if key != "[key]":
            clean.append(key)
        around, of = of, _inner(of, key)
    return _Walked(tuple(clean), union, of, around)


def _bare(kind: Any) -> Any:
    """Return the type without Annotated, and without None as a choice."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    members = _members(kind)
    return _bare(members[0]) if len(members) == 1 and members[0] is not kind else kind


def _members(kind: Any) -> list[Any]:
    """Return the members of a union, without None; the type itself if it is no union."""
    if get_origin(kind) in (Union, UnionType):
        return [_bare(one) for one in get_args(kind) if one is not type(None)]
    return [kind]


def _type_name(kind: Any) -> str:
    return str(getattr(get_origin(kind) or kind, "__name__", "?"))


def _inner(of: Any, key: int | str) -> Any:
    """Return the type of the value at a key."""
    if (known := _fields(of)) is not None:
        return _bare(known.get(str(key)))
    arguments = get_args(of)
    if isinstance(key, int):
        return _bare(arguments[0]) if arguments else None
    return _bare(arguments[1]) if len(arguments) == 2 else None


def _fields(of: Any) -> Mapping[str, Any] | None:
    """Return the fields of a model or dataclass with their types; None for any other type."""
    if isinstance(of, type) and issubclass(of, BaseModel):
        return {name: one.annotation for name, one in of.model_fields.items()}
    if isinstance(of, type) and is_dataclass(of):
        hints = get_type_hints(of)
        return {one.name: hints[one.name] for one in fields(of)}
    return None


def _sentence(one: Any, walked: _Walked, *, show: bool) -> str:
    kind, context = one["type"], one.get("ctx", {})
    if kind == "missing":
        return _MISSING
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{UNKNOWN}{_accepted(str(one['loc'][-1]), _fields(walked.around) or {})}"
    if kind == "value_error":
        return str(context.get("error", one["msg"]))
    if kind == "too_short":
        return f"{_TOO_FEW} {context['min_length']} {'entry' if context['min_length'] == 1 else 'entries'}"
    members = _members(walked.around) if walked.union else []
    if len(members) > 1 and walked.loc == walked.union:
        kinds = list(dict.fromkeys(_OF_TYPES.get(get_origin(member) or member, _TABLE) for member in members))
        must = " or ".join(filter(None, (", ".join(kinds[:-1]), kinds[-1])))
    elif kind in _KINDS:
        must = _KINDS[kind]
    elif kind == "string_pattern_mismatch":
        must = _FORMS.get(context["pattern"], f"text of the form `{context['pattern']}`")
    elif kind in _LIMITS:
        must = _LIMITS[kind].format(**context)
    else:
        return str(one["msg"]).replace("Input should be", "must be")
    quoted = isinstance(one["input"], bool) and must.startswith(_TEXT)
    hint = ". Put it in quotation marks" if quoted else ""  # YAML reads yes, no, on and off as true and false
    return f"must be {must}{_shown(one['input']) if show else ''}{hint}"


def _shown(value: object) -> str:
    """Return the wrong value, if it is short enough to be shown."""
    text = repr(value)
    return f", not {text}" if len(text) <= _LONGEST_SHOWN and not isinstance(value, BaseModel) else ""


def _accepted(name: str, known: Mapping[str, Any]) -> str:
    return f". {nearest(name, known)}Accepted: {', '.join(map(repr, known))}" if known else ""


def nearest(name: str, accepted: Sequence[str] | Mapping[str, Any]) -> str:
    """Return `Did you mean 'x'? `, or an empty text if no accepted name is similar."""
    near = get_close_matches(name, list(accepted), 1)
    return f"Did you mean {near[0]!r}? " if near else ""
