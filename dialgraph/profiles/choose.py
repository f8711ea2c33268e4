"""Finds out which host sent a request, by comparing the request with the evidence of each profile."""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import dialgraph.profiles
from dialgraph.plugins import loaded, plugins
from dialgraph.profiles.openai import PROFILE as OPENAI
from dialgraph.profiles.profile import Evidence, Profile

HEADER = "x-dialgraph-profile"
"""The header in which a request can name its profile."""


@cache
def known_profiles() -> dict[str, Profile]:
    """Return all profiles by name: one for each file of this folder that has a `PROFILE`."""
    found = {}
    for module in iter_modules(dialgraph.profiles.__path__):
        candidate = getattr(import_module(f"dialgraph.profiles.{module.name}"), "PROFILE", None)
        if isinstance(candidate, Profile):
            found[candidate.name] = candidate
    for name in plugins("profiles"):
        brought = loaded("profiles", name)
        if isinstance(brought, Profile):
            found.setdefault(brought.name, brought)
    return dict(sorted(found.items()))


def recognise(body: Mapping[str, Any], headers: Mapping[str, str], query: Mapping[str, str]) -> Profile:
    """Return the one profile whose evidence is in the request; OpenAI's if no profile matches, or more than one.

    Any client can forge evidence. So the profile chooses words and forms, but never authorises anything.
    """
    matching = [
        profile
        for profile in known_profiles().values()
        if any(_shows(evidence, body, headers, query) for evidence in profile.evidence)
    ]
    return matching[0] if len(matching) == 1 else OPENAI


def _shows(evidence: Evidence, body: Mapping[str, Any], headers: Mapping[str, str], query: Mapping[str, str]) -> bool:
    messages = body.get("messages")
    last = messages[-1] if isinstance(messages, Sequence) and messages else None
    return (
        all(value_at(body, place) is not None for place in evidence.body)
        and all(isinstance(last, Mapping) and last.get(name) is not None for name in evidence.messages)
        and all(query.get(name) for name in evidence.query)
        and all(headers.get(name, "").startswith(begins) for name, begins in evidence.headers.items())
    )


def value_at(data: object, place: str) -> object:
    """Return the value at a dotted place of JSON data, or None."""
    for key in _keys(place):
        if not isinstance(data, dict):
            return None
        data = data.get(key)
    return data


@cache
def _keys(place: str) -> tuple[str, ...]:
    return tuple(place.split("."))
