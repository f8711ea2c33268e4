"""Turns sentences into transcripts, times of words and frames of sound, and sends them as fast as they are played.

It has two tasks: one lets a voice speak the sentences, and the other plays them. So the next sentence is ready when the
current one ends, even if the voice is on a distant server. Other events that the caller hears keep their place after
the words before them, and no step waits for that. A failure is reported after everything before it has been played.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import aclosing

from dialgraph.speech.port import Voice, Word
from dialgraph.turn.events import Audio, Event, Filler, Transcript, Words
from dialgraph.turn.frames import Frames

_WAITING = 256
"""The most sentences that wait. It slows down a model that writes faster than the caller listens."""
_AHEAD_SECONDS = 10.0
"""The most seconds of sound that are ready to be played."""
_SAID = re.compile(r"\w")
_Played = asyncio.Future[None]
"""A mark in the queue of sounds. It is done when everything before it has been sent."""


class VoicePlayer:
    """The voice of one turn."""

    def __init__(
        self,
        voice: Voice,
        frames: Frames,
        sink: Callable[[Event], Awaitable[None]],
        failed: Callable[[BaseException], None],
    ) -> None:
        """Start both tasks; this needs a running event loop. `failed` is called once, with the error of the voice."""
        self._voice = voice
        self._frames = frames
        self._sink = sink
        self._failed = failed
        self._waiting: asyncio.Queue[tuple[str | Event, _Played]] = asyncio.Queue(_WAITING)
        self._sound: asyncio.Queue[Event | _Played | Exception] = asyncio.Queue(
            max(1, int(_AHEAD_SECONDS / frames.manner.frame_seconds))
        )
        self._last: _Played | None = None
        self._synthesis = asyncio.create_task(self._have_spoken())
        self._playback = asyncio.create_task(self._play())
        self._playback.add_done_callback(self._tell)

    @property
    def silent(self) -> bool:
        """Return whether nothing is waiting to be played."""
        return self._last is None or self._last.done()

    @property
    def full(self) -> bool:
        """Return whether `put` would wait."""
        return self._waiting.full()

    async def put(self, item: str | Event) -> None:
        """Add a sentence, a filler, or an event that keeps its place after them. Wait only while the queue is full.

        Raise the error that the voice has failed with.
        """
        self.raise_failure()
        if not self.full:
            self.put_now(item)
            return
        played = asyncio.get_running_loop().create_future()
        putting = asyncio.ensure_future(self._waiting.put((item, played)))
        try:  # a voice that has failed ends the waiting too
            await asyncio.wait({putting, self._playback}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not putting.cancel():
                self._last = played
        self.raise_failure()

    def put_now(self, item: str | Event) -> None:
        """Add an item without waiting. The queue must not be full."""
        self._last = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((item, self._last))

    async def played(self) -> None:
        """Return when everything has been sent. Raise the error that the voice has failed with."""
        if self._last is not None:
            await asyncio.wait({self._last, self._playback}, return_when=asyncio.FIRST_COMPLETED)
        self.raise_failure()

    def raise_failure(self) -> None:
        """Raise the error that the voice has failed with, once everything before it has been played."""
        if self._playback.done() and not self._playback.cancelled() and (error := self._playback.exception()):
            raise error

    async def aclose(self) -> None:
        """Stop immediately, even in the middle of a word."""
        self._synthesis.cancel()
        self._playback.cancel()
        await asyncio.wait({self._synthesis, self._playback})

    def _tell(self, playback: "asyncio.Task[None]") -> None:
        if not playback.cancelled() and (error := playback.exception()) is not None:
            self._failed(error)

    async def _have_spoken(self) -> None:
        try:
            while True:
                item, played = await self._waiting.get()
                if isinstance(item, str):
                    await self._have_sentence_spoken(item, filler=False)
                elif isinstance(item, Filler):
                    await self._have_sentence_spoken(item.text, filler=True)
                else:
                    await self._sound.put(item)
                await self._sound.put(played)
        except Exception as error:  # noqa: BLE001 (the sound before any error is played first)
            await self._sound.put(error)

    async def _have_sentence_spoken(self, sentence: str, *, filler: bool) -> None:
        frames = self._frames
        frames.ends = sentence[-1:]
        transcript: Event | None = Transcript(frames.id, sentence, filler)
        if _SAID.search(sentence):  # otherwise there is nothing to say
            begun_ms = frames.elapsed_ms
            frames.begin(self._voice.sample_rate)
            async with aclosing(self._voice.speak(sentence.strip(), frames.manner.voice)) as sounds:
                async for sound in sounds:
                    # Only when there is sound, because hosts remember the transcript as what the caller heard.
                    if transcript is not None:
                        await self._sound.put(transcript)
                        transcript = None
                    if sound.words:
                        words = (Word(text, begun_ms + start, begun_ms + end) for text, start, end in sound.words)
                        await self._sound.put(Words(frames.id, tuple(words)))
                    for frame in frames.cut(sound.pcm):
                        await self._sound.put(Audio(frames.id, frame))
            for frame in frames.end():
                await self._sound.put(Audio(frames.id, frame))
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
            if isinstance(item, Audio) and self._frames.pace is not None:
                await self._frames.pace.wait()
            await self._sink(item)
