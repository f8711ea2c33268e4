"""Sentences in; transcripts, times of words and frames of sound out, as fast as they are heard.

Two tasks: one has sentences spoken, the other plays them. So the next sentence is ready when this one ends, also where
a voice is a server far away. A failure is raised behind what was made before it.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from uuid import uuid4

from nodes.events import Audio, Event, Transcript, Words
from nodes.frames import Frames
from nodes.manner import Manner
from nodes.pacing import Pace
from speech.port import Voice, Word

_WAITING_SENTENCES = 256
"""A model that writes faster than a caller listens is slowed down, not stored."""
_AHEAD_SECONDS = 10.0
"""Of sound that is ready to be played."""
_SAID = re.compile(r"\w")
_Played = asyncio.Future[None]
"""Done when a sentence has been played to its end; among the sounds it stands behind the sentence's last one."""


class Speaker:
    """One turn's voice."""

    def __init__(self, voice: Voice, manner: Manner, sink: Callable[[Event], Awaitable[None]]) -> None:
        """Inside the event loop: its tasks begin at once."""
        self._voice = voice
        self._manner = manner
        self._sink = sink
        self._id = f"audio_{uuid4().hex[:24]}"
        self._frames = Frames(manner)
        self._pace = Pace(manner.frame_ms / 1000) if manner.paced else None
        self._sentences: asyncio.Queue[tuple[str, _Played]] = asyncio.Queue(_WAITING_SENTENCES)
        ahead = max(1, int(_AHEAD_SECONDS * 1000 / manner.frame_ms))
        self._sound: asyncio.Queue[Event | _Played | Exception] = asyncio.Queue(ahead)
        self._last: _Played | None = None
        self._synthesis = asyncio.create_task(self._have_spoken())
        self._playback = asyncio.create_task(self._play())

    @property
    def silent(self) -> bool:
        """Whether nothing is on its way to be heard."""
        return self._last is None or self._last.done()

    async def say(self, sentence: str) -> None:
        """Have it spoken. Waits only while very many wait already. Raises what the voice has failed with."""
        if self.say_now(sentence):
            return
        played = asyncio.get_running_loop().create_future()
        putting = asyncio.ensure_future(self._sentences.put((sentence, played)))
        try:  # who waits for room does not wait for a voice that has failed
            await asyncio.wait({putting, self._playback}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not putting.cancel():
                self._last = played
        self.raise_failure()

    def say_now(self, sentence: str) -> bool:
        """The same without waiting; False if there is no room."""
        if self._sentences.full():
            return False
        self._last = asyncio.get_running_loop().create_future()
        self._sentences.put_nowait((sentence, self._last))
        return True

    async def played(self) -> None:
        """Return when every frame has left. Raises what the voice has failed with."""
        if self._last is not None:
            await asyncio.wait({self._last, self._playback}, return_when=asyncio.FIRST_COMPLETED)
        self.raise_failure()

    async def heard(self) -> None:
        """Return when the caller has heard what has left."""
        if self._pace is not None:
            await self._pace.heard()

    def raise_failure(self) -> None:
        """What the voice has failed with, once all that was made before it has been played."""
        if self._playback.done() and not self._playback.cancelled() and (error := self._playback.exception()):
            raise error

    async def aclose(self) -> None:
        """Fall silent in the middle of a word."""
        self._synthesis.cancel()
        self._playback.cancel()
        await asyncio.wait({self._synthesis, self._playback})

    async def _have_spoken(self) -> None:
        try:
            while True:
                sentence, played = await self._sentences.get()
                await self._have_sentence_spoken(sentence)
                await self._sound.put(played)
        except Exception as error:  # noqa: BLE001 (whatever it is, what was made before it is heard first)
            await self._sound.put(error)

    async def _have_sentence_spoken(self, sentence: str) -> None:
        transcript: Event | None = Transcript(self._id, sentence)
        if _SAID.search(sentence):  # else nothing of it can be said
            begun_ms = self._frames.elapsed_ms
            self._frames.begin(self._voice.sample_rate)
            async with aclosing(self._voice.speak(sentence.strip(), self._manner.voice)) as sounds:
                async for sound in sounds:
                    # Not before there is a sound: hosts remember the transcript as what was heard.
                    if transcript is not None:
                        await self._sound.put(transcript)
                        transcript = None
                    if sound.words:
                        words = (Word(text, begun_ms + start, begun_ms + end) for text, start, end in sound.words)
                        await self._sound.put(Words(self._id, tuple(words)))
                    for frame in self._frames.cut(sound.pcm):
                        await self._sound.put(Audio(self._id, frame))
            for frame in self._frames.end():
                await self._sound.put(Audio(self._id, frame))
        if transcript is not None:
            await self._sound.put(transcript)

    async def _play(self) -> None:
        while True:
            item = await self._sound.get()
            if isinstance(item, Exception):
                raise item
            if isinstance(item, asyncio.Future):
                if not item.done():
                    item.set_result(None)
                continue
            if self._pace is not None and isinstance(item, Audio):
                await self._pace.wait()
            await self._sink(item)
