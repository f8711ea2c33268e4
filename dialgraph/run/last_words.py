"""Decides how a failed turn ends: with words for the caller or with an error. No other place decides this."""

import asyncio
from contextlib import suppress
from typing import Final

from dialgraph.graph.policy import Policy
from dialgraph.language.words import in_language
from dialgraph.speech.port import VoiceError
from dialgraph.turn.events import Failed, Fallback
from dialgraph.turn.node import Turn

_LAST_WORDS_SECONDS: Final = 120.0
"""The time limit for playing the words that were said before a turn failed. They play at normal speed."""


async def last_words(turn: Turn, policy: Policy, error: Exception) -> Fallback | Failed:
    """Return the last event of a turn that failed with `error`. First let the voice finish what it has begun."""
    said = False
    if turn.line.voiced:
        with suppress(Exception):  # the voice may fail too; the caller gets the error of the turn
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
    """Return the last event of a turn that was stopped. `quiet`: nobody waits for its words any more."""
    if quiet or not _speaks(turn):
        return Failed(reason, quiet=quiet and _speaks(turn))
    return Fallback(_words(turn, policy), reason)


def _speaks(turn: Turn) -> bool:
    return turn.profile.on_failure == "speak"


def _words(turn: Turn, policy: Policy) -> str:
    """Return the fallback text, with a space in front if words were spoken before it."""
    words = in_language(policy.fallback, turn.question)
    return f" {words}" if turn.line.spoken else words
