"""The audio outlet: the words of a turn become sentences that a voice speaks, while the model goes on talking."""

import asyncio

from language.spoken import SentenceCutter
from nodes.events import Action, Event, Filler, Say
from nodes.line import Place, Sink, nowhere
from nodes.manner import Manner
from nodes.speaker import Speaker
from nodes.turn import Turn
from speech.port import Voice, refuse_unknown

_PAUSE_SECONDS = 0.06
"""A model that pauses behind what looks like the end of a sentence has ended it: nothing else tells."""


def attach_voice(turn: Turn, voice: str, manner: Manner) -> None:
    """From here on what is said in this turn is heard. Raises VoiceError for a voice that the engine does not have."""
    engine = turn.services.voice(voice)
    refuse_unknown(voice, engine, manner.voice)
    turn.line.voiced = True
    turn.line.attach(SpeakingOutlet(engine, manner), Place.SOUND)


class SpeakingOutlet:
    """See the module."""

    def __init__(self, voice: Voice, manner: Manner) -> None:
        self.sink: Sink = nowhere
        self._voice = voice
        self._manner = manner
        self._cutter = SentenceCutter()
        self._pause: asyncio.TimerHandle | None = None
        self._speaker: Speaker | None = None

    async def push(self, event: Event) -> None:
        """Hold words until their sentence ends; anything else that is heard comes behind what is held."""
        if self._speaker is not None:
            self._speaker.raise_failure()
        if isinstance(event, Say):
            self._stop_waiting()
            for sentence in self._cutter.push(event.text):
                await self._say(sentence)
            if self._cutter.complete:
                self._pause = asyncio.get_running_loop().call_later(_PAUSE_SECONDS, self._end_sentence)
        elif isinstance(event, Filler):
            # It fills a silence: none, if a sentence is on its way. Words that are held come behind it.
            if self._speaker is None or self._speaker.silent:
                await self._say(event.text.rstrip() + " ")
        else:
            if event.audible:
                await self.flush()
            if isinstance(event, Action) and self._speaker is not None:
                await self._speaker.heard()  # a host that hangs up must not cut off the goodbye
            await self.sink(event)

    async def flush(self) -> None:
        """Speak what is held, and wait for its last frame."""
        self._stop_waiting()
        await self._say(self._cutter.rest())
        if self._speaker is not None:
            await self._speaker.played()

    async def aclose(self) -> None:
        """Fall silent in the middle of a word."""
        self._stop_waiting()
        if self._speaker is not None:
            await self._speaker.aclose()

    async def _say(self, sentence: str) -> None:
        if sentence.strip():  # a model's empty lines are no sound
            await self._the_speaker().say(sentence)

    def _end_sentence(self) -> None:
        self._pause = None
        if (held := self._cutter.rest()) and not self._the_speaker().say_now(held):
            self._cutter.push(held)

    def _the_speaker(self) -> Speaker:
        if self._speaker is None:
            self._speaker = Speaker(self._voice, self._manner, self.sink)
        return self._speaker

    def _stop_waiting(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
