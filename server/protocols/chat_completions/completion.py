"""The chunks of a turn → one `chat.completion`, for requests that do not stream."""

import base64
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import orjson

from dialgraph.speech.wav import with_its_length
from server.protocols.chat_completions.chunks import Chunk

AUDIO_LIFETIME_SECONDS = 3600


class CompletionFolder:
    """Collects the chunks of a turn and returns the completion at the end."""

    def __init__(self) -> None:
        self._head: Chunk = {}
        self._content: list[str] = []
        self._calls: list[dict[str, Any]] = []
        self._audio: dict[str, Any] = {}
        self._sound_data = bytearray()
        self._rest: dict[str, Any] = {}
        self._logprobs: list[Any] = []
        self._finish: str | None = None
        self._usage: Any = None
        self._citations: Any = None

    def add(self, chunks: Iterable[Chunk]) -> None:
        """Add these chunks to the completion."""
        for chunk in chunks:
            self._head = {key: chunk[key] for key in ("id", "created", "model")}
            self._usage = chunk.get("usage", self._usage)
            self._citations = chunk.get("citations", self._citations)
            for choice in chunk["choices"]:
                self._finish = choice["finish_reason"] or self._finish
                self._logprobs += (choice.get("logprobs") or {}).get("content") or []
                self._delta(choice["delta"])

    def body(self, timings: Mapping[str, Any] | None = None) -> bytes:
        """Return the completion as JSON."""
        content = "".join(self._content)
        message: dict[str, Any] = {"role": "assistant", "content": content or None, **self._rest}
        message.setdefault("refusal", None)
        if self._calls:
            message["tool_calls"] = self._calls
        if self._audio:
            expires_at = self._head["created"] + AUDIO_LIFETIME_SECONDS
            message["audio"] = {
                **self._audio,
                "data": base64.b64encode(with_its_length(bytes(self._sound_data))).decode(),
                "expires_at": expires_at,
            }
        logprobs = {"content": self._logprobs} if self._logprobs else None
        choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": self._finish}
        completion = {**self._head, "object": "chat.completion", "choices": [choice]}
        if self._usage is not None:
            completion["usage"] = self._usage
        if self._citations is not None:
            completion["citations"] = self._citations
        if timings is not None:
            completion["timings"] = timings
        return orjson.dumps(completion)

    def _delta(self, delta: dict[str, Any]) -> None:
        for key, value in delta.items():
            if key == "content":
                self._content.append(value or "")
            elif key == "tool_calls":
                self._calls += [{name: one for name, one in call.items() if name != "index"} for call in value]
            elif key == "audio":
                self._sound(value)
            elif key != "role":
                old = self._rest.get(key)
                self._rest[key] = old + value if isinstance(old, str) and isinstance(value, str) else value

    def _sound(self, audio: dict[str, Any]) -> None:
        self._audio["id"] = audio.get("id", self._audio.get("id"))
        self._audio["transcript"] = self._audio.get("transcript", "") + (audio.get("transcript") or "")
        with suppress(ValueError):  # data that is not base64 is not sound
            self._sound_data += base64.b64decode(audio.get("data") or "")
        if "words" in audio:
            self._audio["words"] = [*self._audio.get("words", []), *audio["words"]]
