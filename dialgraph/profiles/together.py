"""Combines all profiles, for data that must be read before the host is known, or in the same way for every host."""

from collections.abc import Mapping
from functools import cache

from dialgraph.profiles.choose import known_profiles
from dialgraph.profiles.openai import PROFILE as OPENAI
from dialgraph.profiles.profile import ActionKind, CallField, Profile, TurnSource


def _profiles() -> list[Profile]:
    """Return the hosts' own profiles, then OpenAI's: a host's own spelling counts first."""
    return [*(profile for profile in known_profiles().values() if profile is not OPENAI), OPENAI]


@cache
def call_places() -> Mapping[CallField, tuple[str, ...]]:
    """Return, for each field of a call, the places where hosts report it, in the order in which they are checked."""
    fields: dict[CallField, list[str]] = {}
    for profile in _profiles():
        for name, places in profile.call_places.items():
            fields.setdefault(name, []).extend(places)
    return {name: tuple(dict.fromkeys(places)) for name, places in fields.items()}


@cache
def private_fields() -> frozenset[str]:
    """Return the fields of a body that are never sent upstream."""
    return frozenset(name for profile in _profiles() for name in profile.private_fields)


@cache
def _sources() -> Mapping[str, TurnSource]:
    return {word: source for profile in reversed(_profiles()) for word, source in profile.turn_sources.items()}


def turn_source(word: str) -> TurnSource | None:
    """Return the cause of a turn, from a host's word for it; None for a word that no profile knows."""
    return _sources().get(word.lower())


@cache
def interruption_tags() -> tuple[str, ...]:
    """Return the texts that hosts put into a message at the point of a barge-in."""
    return tuple(profile.interruption_tag for profile in _profiles() if profile.interruption_tag)


@cache
def interruption_fields() -> tuple[str, ...]:
    """Return the fields of a message that are true after a barge-in."""
    return tuple(profile.interruption_field for profile in _profiles() if profile.interruption_field)


@cache
def tools_for(kind: ActionKind) -> tuple[str, ...]:
    """Return the names of the hosts' own tools for one action."""
    return tuple(dict.fromkeys(profile.form(kind).tool for profile in _profiles()))
