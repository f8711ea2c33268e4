"""What the outlets of a voice cost for words that need no change, and what the guard holds back."""

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence

from dialgraph.language.guard import (
    Guard,
    Rule,
    find_cards,
    find_identity_numbers,
    find_phone_numbers,
    find_words,
)
from dialgraph.language.numbers import NumberReader, Numbers
from dialgraph.language.speakable import Speakable
from dialgraph.turn.events import Event, Say
from dialgraph.turn.text_outlet import Stage, TextOutlet

CHUNKS = [f" {word}" for word in "We are open from nine in the morning until six in the evening.".split()] * 2000
ROUNDS = 7
_HIDE = "(withheld)"
_FINDERS = (find_cards, find_identity_numbers, find_phone_numbers, find_words(["secret", "机密"]))


def _guard() -> Guard:
    return Guard([Rule(find, "mask", _HIDE) for find in _FINDERS])


async def _nowhere(event: Event) -> None:
    """Drop the event."""


async def _spent(make: Callable[[], Sequence[Stage]] | None) -> float:
    """Return the microseconds for a chunk, from the node to the sink."""
    push = _nowhere
    if make is not None:
        outlet = TextOutlet(make, keeps_reasoning=False)
        outlet.sink = _nowhere
        push = outlet.push
    events = [Say(text) for text in CHUNKS]
    began = time.perf_counter()
    for event in events:
        await push(event)
    return (time.perf_counter() - began) / len(events) * 1e6


def measure() -> list[str]:
    """Return the table, as Markdown lines. Each combination is measured in turn, several times; the medians count."""
    reader = NumberReader()
    ways: dict[str, Callable[[], Sequence[Stage]] | None] = {
        "none": None,
        "words for a voice": lambda: [Speakable()],
        "words for a voice, numbers": lambda: [Speakable(), Numbers(reader)],
        "guard: four rules": lambda: [_guard()],
        "all three": lambda: [Speakable(), _guard(), Numbers(reader)],
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, make in ways.items():
            times[name].append(asyncio.run(_spent(make)))
    none = statistics.median(times["none"])
    lines = ["| outlets | a plain chunk | added | holds back |", "|---|---|---|---|"]
    for name, taken in times.items():
        held = "a sentence" if "guard" in name or "all" in name else "nothing"
        median = statistics.median(taken)
        lines.append(f"| {name} | {median:.2f} µs | {median - none:+.2f} µs | {held} |")
    return lines
