"""The wire of chat completions: a turn's events → the bytes of a stream, or of one JSON body."""

from collections.abc import Iterable
from typing import Final

import orjson

from dialgraph.environment import Environment
from dialgraph.profiles.profile import Profile
from dialgraph.turn.events import Event, Say
from server.errors import ApiError
from server.protocols.chat_completions.chunks import ChunkEncoder
from server.protocols.chat_completions.completion import CompletionFolder
from server.protocols.port import Timings
from server.protocols.sse import DONE, EVENT_STREAM, KEEP_ALIVE, frame

_MARK: Final = "\u241e"
"""The symbol for a record separator: a character that the rest of a chunk never contains."""


class ChatWire:
    """Encodes one turn for one client."""

    media_type = EVENT_STREAM
    keep_alive = KEEP_ALIVE

    def __init__(
        self, *, model: str, include_usage: bool, profile: Profile, session: str, environment: Environment
    ) -> None:
        self._folder = CompletionFolder()
        self._around: tuple[bytes, bytes] | None = None
        """The bytes before and after the words in the frame of a chunk."""
        self._encoder = ChunkEncoder(
            id=environment.id("chatcmpl-"),
            created=int(environment.date()),
            model=model,
            include_usage=include_usage,
            profile=profile,
            session=session,
        )

    def stream(self, events: Iterable[Event]) -> bytes:
        """Return the bytes that these events add to the stream; often none."""
        pieces: list[bytes] = []
        for event in events:
            if type(event) is Say and event.logprobs is None and event.text and self._encoder.begun:
                pieces.append(self._words(event.text))
            else:
                pieces += map(frame, self._encoder.encode(event))
        return b"".join(pieces)

    def _words(self, text: str) -> bytes:
        """Return the frame of these words. It equals the encoder's; only the words differ from frame to frame."""
        if self._around is None:
            [chunk] = self._encoder.encode(Say(_MARK))
            head, tail = frame(chunk).split(orjson.dumps(_MARK))
            self._around = (head, tail)
        head, tail = self._around
        return head + orjson.dumps(text) + tail

    def stream_end(self, timings: Timings | None = None) -> bytes:
        """Return the last bytes of a stream that ends well. The times have a chunk of their own, without choices."""
        return b"".join(map(frame, [*self._encoder.end(), *self._encoder.timed(timings)])) + DONE

    def stream_error(self, error: ApiError) -> bytes:
        """Return the last bytes of a stream that fails: a frame that every client raises as an error."""
        return frame(error.envelope()) + DONE

    def fold(self, events: Iterable[Event]) -> None:
        """Add these events to the body."""
        for event in events:
            self._folder.add(self._encoder.encode(event))

    def body(self, timings: Timings | None = None) -> bytes:
        """Return the whole reply as JSON."""
        self._folder.add(self._encoder.end())
        return self._folder.body(timings)

    def refusal(self, error: ApiError) -> bytes:
        """Return the body of an error reply."""
        return error.body()

    def name_after(self, turn_id: str) -> None:
        """Use the id of a stored turn as the id of the completion."""
        self._encoder.rename(f"chatcmpl-{turn_id.replace('-', '')}")
