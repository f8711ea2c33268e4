"""Builds the outlets of an endpoint from its policy and the host's profile. Words pass them before they are sent."""

from collections.abc import Callable, Mapping

from dialgraph.graph.errors import GraphError
from dialgraph.graph.policy import GuardRule, Policy
from dialgraph.language.guard import (
    Check,
    Find,
    Guard,
    Rule,
    find_cards,
    find_identity_numbers,
    find_phone_numbers,
    find_words,
)
from dialgraph.language.speakable import Speakable
from dialgraph.privacy.finders import words_finder
from dialgraph.turn.line import OutletStage
from dialgraph.turn.text_outlet import Stage, TextOutlet
from dialgraph.turn.turn import Turn
from dialgraph.turn.voice_outlet import attach_voice, sound_format_of

_FINDERS: Mapping[str, Find] = {
    "cards": find_cards,
    "identity_numbers": find_identity_numbers,
    "phone_numbers": find_phone_numbers,
}


class Outlets:
    """Attaches the outlets of an endpoint to the line of each turn. Shared parts are built only once."""

    def __init__(self, policy: Policy, checks: Mapping[str, Check], *, sounds: bool) -> None:
        """Prepare the guard rules and the number reader. `sounds` says whether a step of the graph makes sound."""
        self._voice = "" if sounds else policy.voice
        self._rules = [_rule(rule, checks, policy) for rule in policy.guard]
        self._names = [rule.check or rule.find for rule in policy.guard]
        self._fallback = policy.fallback
        guarded = [word for rule in policy.guard for word in rule.words]
        self.private_words = words_finder([*policy.private, *guarded])
        """Finds the words that no log, record or trace shows."""
        self._numbers = _number_reader(policy)

    @property
    def uses(self) -> list[tuple[str, str]]:
        """Return the settings that the outlets use, as (kind, name) pairs like in the metadata of a step."""
        return [("voice", self._voice)] if self._voice else []

    def attach(self, turn: Turn) -> TextOutlet | None:
        """Attach the outlets to the line of a turn. Called once per turn, before its first step runs.

        Return the outlet that the text passes, if there is one.
        """
        outlet = None
        speakable = turn.profile.speakable
        if speakable or self._rules:
            markers = turn.profile.turn_markers
            found = turn.times.guarded

            def count(at: int) -> None:
                found[self._names[at]] = found.get(self._names[at], 0) + 1

            outlet = TextOutlet(
                lambda: self._stages(markers, count, speakable=speakable), keeps_reasoning=not speakable
            )
            turn.line.attach(outlet, OutletStage.TEXT)
        if self._voice and turn.asks_for("audio", absent=False):
            attach_voice(turn, self._voice, sound_format_of(turn))
        return outlet

    def _stages(self, turn_markers: str, count: Callable[[int], None], *, speakable: bool) -> list[Stage]:
        stages: list[Stage] = []
        if speakable:
            stages.append(Speakable(turn_markers))
        if self._rules:
            stages.append(Guard(self._rules, self._fallback, count))
        if speakable and self._numbers is not None:
            stages.append(self._numbers())
        return stages


def _rule(rule: GuardRule, checks: Mapping[str, Check], policy: Policy) -> Rule | Check:
    if rule.find == "check":
        return checks[rule.check]
    find = find_words(rule.words) if rule.find == "words" else _FINDERS[rule.find]
    unset = rule.action == "block" and "instead" not in rule.model_fields_set
    return Rule(find, rule.action, policy.fallback if unset else rule.instead)


def _number_reader(policy: Policy) -> Callable[[], Stage] | None:
    if policy.numbers == "leave":
        return None
    try:
        from dialgraph.language.numbers import NumberReader, Numbers
    except ImportError as error:
        raise GraphError(
            f"policy: numbers='words' needs the package {error.name!r}. Install it: pip install -e '.[numbers]'."
        ) from error
    reader = NumberReader()
    return lambda: Numbers(reader)
