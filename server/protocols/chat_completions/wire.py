"""Chat completions as a whole: a turn's events → the bytes of a stream, or of one JSON body."""

from collections.abc import Iterable
from typing import Final

import orjson

from dialgraph.environment import Environment
from dialgraph.profiles.profile import Profile
from dialgraph.turn.events import Event, Say
from server.errors import ApiError
from server.protocols.chat_completions.chunks import ChunkEncoder
from server.protocols.chat_completions.completion import CompletionFolder
from server.protocols.sse import DONE, EVENT_STREAM, KEEP_ALIVE, frame

_MARK: Final = "\u241e"
"""A character that stands in no head of a chunk: the record separator's picture."""


class ChatWire:
    """One reader's copy of one turn."""

    media_type = EVENT_STREAM
    keep_alive = KEEP_ALIVE

    def __init__(
        self, *, model: str, include_usage: bool, profile: Profile, session: str, environment: Environment
    ) -> None:
        self._folder = CompletionFolder()
        self._around: tuple[bytes, bytes] | None = None
        """What stands before and behind the words in the frame of a chunk."""
        self._encoder = ChunkEncoder(
            id=environment.id("chatcmpl-"),
            created=int(environment.date()),
            model=model,
            include_usage=include_usage,
            profile=profile,
            session=session,
        )

    def stream(self, events: Iterable[Event]) -> bytes:
        """What these events add to the stream; often nothing."""
        pieces: list[bytes] = []
        for event in events:
            if type(event) is Say and event.logprobs is None and event.text and self._encoder.begun:
                pieces.append(self._words(event.text))
            else:
                pieces += map(frame, self._encoder.encode(event))
        return b"".join(pieces)

    def _words(self, text: str) -> bytes:
        """The frame of words: the same as of their chunk, of which only the words are new each time."""
        if self._around is None:
            [chunk] = self._encoder.encode(Say(_MARK))
            head, tail = frame(chunk).split(orjson.dumps(_MARK))
            self._around = (head, tail)
        head, tail = self._around
        return head + orjson.dumps(text) + tail

    def stream_end(self) -> bytes:
        """The rest of a stream that ends well."""
        return b"".join(map(frame, self._encoder.end())) + DONE

    def stream_error(self, error: ApiError) -> bytes:
        """The rest of a stream that fails: a frame that every client raises."""
        return frame(error.envelope()) + DONE

    def fold(self, events: Iterable[Event]) -> None:
        """Take these events into the body."""
        for event in events:
            self._folder.add(self._encoder.encode(event))

    def body(self) -> bytes:
        """The whole reply."""
        self._folder.add(self._encoder.end())
        return self._folder.body()

    def refusal(self, error: ApiError) -> bytes:
        """The body of a reply that is an error."""
        return error.body()

    def name_after(self, turn_id: str) -> None:
        """See the listener."""
        self._encoder.rename(f"chatcmpl-{turn_id.replace('-', '')}")
