"""The audio outlet: words in; a transcript and paced frames of sound out, a sentence at a time."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from language.sentences import sentences
from nodes.events import Audio, Event, Filler, Say, Transcript
from nodes.line import Sink, nowhere
from nodes.pacing import Pace
from speech.port import Voice

LONGEST_CHARACTERS = 300
"""Of a sentence: text without an end is cut at a space, so that a caller does not wait for the whole of it."""


class SpeakingOutlet:
    """Speaks in a task of its own, so that the model goes on talking while the caller listens."""

    def __init__(self, voice: Voice, identity: str, frame_ms: int, *, paced: bool) -> None:
        self.sink: Sink = nowhere
        self._voice = voice
        self._identity = identity
        self._frame = voice.sample_rate * frame_ms // 1000 * 2
        self._pace = Pace(frame_ms / 1000) if paced else None
        self._held = ""
        # Bounded: a model that writes faster than a caller listens is slowed down, not stored.
        self._sentences: asyncio.Queue[str] = asyncio.Queue(32)
        self._speaker: asyncio.Task[None] | None = None

    async def push(self, event: Event) -> None:
        """Hold words until their sentence ends; anything else comes behind what is held."""
        if isinstance(event, Filler):
            event = Say(event.text.rstrip() + " ")
        if not isinstance(event, Say):
            if event.audible:
                await self.flush()
            await self.sink(event)
            return
        self._held += event.text
        *whole, self._held = sentences(self._held) or [""]
        # The last part is kept even if it looks finished: "3." may go on with "5".
        if len(self._held) > LONGEST_CHARACTERS:
            cut = self._held.rfind(" ", 0, LONGEST_CHARACTERS) + 1 or LONGEST_CHARACTERS
            whole, self._held = [*whole, self._held[:cut]], self._held[cut:]
        for sentence in whole:
            await self._speak(sentence)

    async def flush(self) -> None:
        """Speak what is held, and wait for its last frame."""
        held, self._held = self._held, ""
        await self._speak(held)
        await self._sentences.join()
        await self._raise_failure()

    async def aclose(self) -> None:
        """Fall silent in the middle of a word."""
        if self._speaker is not None:
            self._speaker.cancel()
            await asyncio.wait({self._speaker})

    async def _speak(self, sentence: str) -> None:
        if not sentence.strip():
            return  # a model's empty lines are no sound
        if self._speaker is None:
            self._speaker = asyncio.create_task(self._run())
        await self._raise_failure()
        await self._sentences.put(sentence)

    async def _raise_failure(self) -> None:
        if self._speaker is not None and self._speaker.done():
            await self._speaker

    async def _run(self) -> None:
        try:
            while True:
                sentence = await self._sentences.get()
                try:
                    await self._say(sentence)
                finally:
                    self._sentences.task_done()
        finally:
            # Whoever waits for room or for the end must not wait for a speaker that is gone.
            while not self._sentences.empty():
                self._sentences.get_nowait()
                self._sentences.task_done()

    async def _say(self, sentence: str) -> None:
        await self.sink(Transcript(self._identity, sentence))
        async with aclosing(self._frames(sentence)) as frames:
            async for frame in frames:
                if self._pace is not None:
                    await self._pace.wait()
                await self.sink(Audio(self._identity, frame))

    async def _frames(self, sentence: str) -> AsyncGenerator[bytes, None]:
        """Frames of one size; the sentence's last one is filled up with silence."""
        buffer = bytearray()
        async with aclosing(self._voice.speak(sentence)) as chunks:
            async for chunk in chunks:
                buffer += chunk
                while len(buffer) >= self._frame:
                    yield bytes(buffer[: self._frame])
                    del buffer[: self._frame]
        if buffer:
            yield bytes(buffer.ljust(self._frame, b"\0"))
