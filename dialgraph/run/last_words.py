"""How a turn that failed ends: the one place that decides what is said then."""

import asyncio
from contextlib import suppress
from typing import Final

from dialgraph.graph.policy import Policy
from dialgraph.language.words import in_language
from dialgraph.speech.port import VoiceError
from dialgraph.turn.events import Failed, Fallback
from dialgraph.turn.node import Turn

_LAST_WORDS_SECONDS: Final = 120.0
"""For what was said before a turn failed: it takes as long as it is heard."""


async def last_words(turn: Turn, policy: Policy, error: Exception) -> Fallback | Failed:
    """The last event of a turn that failed with this. Lets the caller hear to its end what a voice had begun."""
    said = False
    if turn.line.voiced:
        with suppress(Exception):  # the voice itself may have failed; the caller gets the turn's own error
            async with asyncio.timeout(_LAST_WORDS_SECONDS):
                await turn.line.drain()
                if _speaks(turn) and not isinstance(error, VoiceError):
                    await turn.say(_words(turn, policy))
                    await turn.line.drain()
                    said = True
    if not _speaks(turn):
        return Failed(error)
    return Fallback("" if said else _words(turn, policy), error)


def cut_words(turn: Turn, policy: Policy, reason: Exception, *, quiet: bool) -> Fallback | Failed:
    """The same of a turn that was stopped. `quiet`: nobody waits for its words any more."""
    if quiet or not _speaks(turn):
        return Failed(reason, quiet=quiet and _speaks(turn))
    return Fallback(_words(turn, policy), reason)


def _speaks(turn: Turn) -> bool:
    return turn.profile.on_failure == "speak"


def _words(turn: Turn, policy: Policy) -> str:
    """The fallback line, behind what was heard."""
    words = in_language(policy.fallback, turn.question)
    return f" {words}" if turn.line.spoken else words
