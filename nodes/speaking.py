"""The audio outlet: words in; transcripts and frames of sound out, a sentence at a time.

Two tasks: one has sentences spoken while the model goes on talking, the other plays them as fast as they are heard. So
the second sentence is ready when the first one ends, also where a voice is a server far away.
"""

import asyncio
import re
from contextlib import aclosing
from uuid import uuid4

from language.spoken import SentenceCutter
from nodes.events import Action, Audio, Event, Filler, Say, Transcript, Words
from nodes.frames import Frames
from nodes.line import Place, Sink, nowhere
from nodes.manner import Manner
from nodes.pacing import Pace
from nodes.turn import Turn
from speech.port import Voice, Word, refuse_unknown

_WAITING_SENTENCES = 256
"""A model that writes faster than a caller listens is slowed down, not stored."""
_AHEAD_SECONDS = 10.0
"""Of sound that is ready to be played."""
_PAUSE_SECONDS = 0.06
"""A model that pauses behind what looks like the end of a sentence has ended it."""
_SAID = re.compile(r"\w")


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
        self._id = f"audio_{uuid4().hex[:24]}"
        self._frames = Frames(manner)
        self._pace = Pace(manner.frame_ms / 1000) if manner.paced else None
        self._cutter = SentenceCutter()
        self._pause: asyncio.TimerHandle | None = None
        # A future stands for "up to here": whoever waits for it is told when all before it has been played. Behind each
        # sentence's sound stands None.
        self._sentences: asyncio.Queue[str | asyncio.Future[None]] = asyncio.Queue(_WAITING_SENTENCES)
        self._sound: asyncio.Queue[Event | asyncio.Future[None] | Exception | None] = asyncio.Queue(
            max(1, int(_AHEAD_SECONDS * 1000 / manner.frame_ms))
        )
        self._unheard = 0
        """Sentences that have not been played to their end."""
        self._synthesis: asyncio.Task[None] | None = None
        self._playback: asyncio.Task[None] | None = None

    async def push(self, event: Event) -> None:
        """Hold words until their sentence ends; anything else that is heard comes behind what is held."""
        self._raise_failure()
        if isinstance(event, Filler):
            if (
                not self._unheard
            ):  # it fills a silence: none, if a sentence is on its way; words that are held come later
                await self._speak(event.text.rstrip() + " ")
        elif isinstance(event, Say):
            self._stop_waiting()
            for sentence in self._cutter.push(event.text):
                await self._speak(sentence)
            if self._cutter.complete:
                self._pause = asyncio.get_running_loop().call_later(_PAUSE_SECONDS, self._end_sentence)
        else:
            if event.audible:
                await self.flush()
            if isinstance(event, Action) and self._pace is not None:
                await self._pace.heard()  # a host that hangs up must not cut off the goodbye
            await self.sink(event)

    async def flush(self) -> None:
        """Speak what is held, and wait for its last frame."""
        self._stop_waiting()
        await self._speak(self._cutter.rest())
        if self._playback is not None:
            played = asyncio.get_running_loop().create_future()
            await self._hand_over(played)
            await asyncio.wait({played, self._playback}, return_when=asyncio.FIRST_COMPLETED)
            self._raise_failure()

    async def aclose(self) -> None:
        """Fall silent in the middle of a word."""
        self._stop_waiting()
        tasks = {task for task in (self._synthesis, self._playback) if task is not None}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _speak(self, sentence: str) -> None:
        if not sentence.strip():
            return  # a model's empty lines are no sound
        self._start()
        self._unheard += 1
        await self._hand_over(sentence)

    def _start(self) -> None:
        if self._playback is None:
            self._synthesis = asyncio.create_task(self._have_spoken())
            self._playback = asyncio.create_task(self._play())

    async def _hand_over(self, item: "str | asyncio.Future[None]") -> None:
        """Into the queue; who waits for room there does not wait for a voice that has failed."""
        if not self._sentences.full() or self._playback is None:
            self._sentences.put_nowait(item)
            return
        putting = asyncio.ensure_future(self._sentences.put(item))
        try:
            await asyncio.wait({putting, self._playback}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            putting.cancel()
        self._raise_failure()

    def _end_sentence(self) -> None:
        self._pause = None
        if not self._sentences.full():
            self._start()
            self._unheard += 1
            self._sentences.put_nowait(self._cutter.rest())

    def _stop_waiting(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None

    def _raise_failure(self) -> None:
        playback = self._playback
        if playback is not None and playback.done() and not playback.cancelled() and (error := playback.exception()):
            raise error

    async def _have_spoken(self) -> None:
        try:
            while True:
                item = await self._sentences.get()
                if isinstance(item, str):
                    await self._have_sentence_spoken(item)
                    await self._sound.put(None)
                else:
                    await self._sound.put(item)
        except Exception as error:  # noqa: BLE001 (whatever it is, what was made before it is heard first)
            await self._sound.put(error)

    async def _have_sentence_spoken(self, sentence: str) -> None:
        if not _SAID.search(sentence):  # nothing of it can be said
            await self._sound.put(Transcript(self._id, sentence))
            return
        told = False
        begun_ms = self._frames.elapsed_ms
        self._frames.begin(self._voice.sample_rate)
        async with aclosing(self._voice.speak(sentence.strip(), self._manner.voice)) as sounds:
            async for sound in sounds:
                if not told:  # what no voice says was not heard: a transcript is what the host remembers
                    told = True
                    await self._sound.put(Transcript(self._id, sentence))
                if sound.words:
                    words = tuple(Word(text, begun_ms + start, begun_ms + end) for text, start, end in sound.words)
                    await self._sound.put(Words(self._id, words))
                for frame in self._frames.cut(sound.pcm):
                    await self._sound.put(Audio(self._id, frame))
        for frame in self._frames.end():
            await self._sound.put(Audio(self._id, frame))

    async def _play(self) -> None:
        while True:
            item = await self._sound.get()
            if item is None:
                self._unheard -= 1
                continue
            if isinstance(item, Exception):
                raise item
            if isinstance(item, asyncio.Future):
                if not item.done():
                    item.set_result(None)
                continue
            if self._pace is not None and isinstance(item, Audio):
                await self._pace.wait()
            await self.sink(item)
