"""The second encoder: a turn in the form of OpenAI's Responses API, for ElevenLabs and the AI SDK's default provider.

It reads the chunks of the first encoder, so that the host's profile, the order of words and actions, and the finish are
decided in one place. It sends only the events that clients need. Which ones they need was measured with
openai-python 2.54 and 3.52, openai-node 6.49 and the AI SDK.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from dialgraph.environment import Environment
from dialgraph.profiles.profile import Profile
from dialgraph.turn.events import Event, Say, Transcript
from server.errors import ApiError
from server.protocols.chat_completions.chunks import Chunk, ChunkEncoder
from server.protocols.port import Timings
from server.protocols.sse import DONE, EVENT_STREAM, KEEP_ALIVE

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


class ResponsesWire:
    """Encodes one turn for one client."""

    media_type = EVENT_STREAM
    keep_alive = KEEP_ALIVE

    def __init__(self, *, model: str, profile: Profile, session: str, environment: Environment) -> None:
        self._environment = environment
        created = int(environment.date())
        self._chunks = ChunkEncoder(
            id="", created=created, model=model, include_usage=True, profile=profile, session=session
        )
        self._head: dict[str, Any] = {
            "id": environment.id("resp_"),
            "object": "response",
            "created_at": created,
            "model": model,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "error": None,
            "incomplete_details": None,
            "metadata": {},
            "store": False,
        }
        self._number = 0
        self._message: dict[str, Any] | None = None
        self._text: list[str] = []
        self._output: list[dict[str, Any]] = []
        self._reason = "stop"
        self._usage: dict[str, Any] | None = None

    def stream(self, events: Iterable[Event]) -> bytes:
        """Return the bytes that these events add to the stream; often none."""
        return b"".join(frame for event in events for chunk in self._encode(event) for frame in self._take(chunk))

    def stream_end(self, timings: Timings | None = None) -> bytes:
        """Return the last bytes of a stream that ends well."""
        frames = [frame for chunk in self._chunks.end() for frame in self._take(chunk)]
        frames += self._end_message()
        response = self._response(timings)
        # The last event is named after the status; the response says why it is incomplete.
        frames.append(self._frame(f"response.{response['status']}", response=response))
        return b"".join(frames) + DONE

    def stream_error(self, error: ApiError) -> bytes:
        """Return the last bytes of a stream that fails. The error is flat and nested: each client reads one form."""
        told = {"type": error.type, "code": error.code, "message": error.message, "param": error.param}
        flat = {"code": error.code, "message": error.message, "param": error.param, "error": told}
        return self._frame("error", **flat) + DONE

    def fold(self, events: Iterable[Event]) -> None:
        """Add these events to the body."""
        self.stream(events)

    def body(self, timings: Timings | None = None) -> bytes:
        """Return the whole reply as JSON."""
        self.stream_end()
        return orjson.dumps(self._response(timings))

    def refusal(self, error: ApiError) -> bytes:
        """Return the body of an error reply."""
        return error.body()

    def name_after(self, turn_id: str) -> None:
        """Use the id of a stored turn as the id of the response."""
        self._head["id"] = f"resp_{turn_id.replace('-', '')}"

    def _encode(self, event: Event) -> Iterator[Chunk]:
        # A response cannot contain sound, so its transcript is sent as text.
        return self._chunks.encode(Say(event.text) if isinstance(event, Transcript) else event)

    def _take(self, chunk: Chunk) -> Iterator[bytes]:
        """Yield the frames for one chunk of chat completions."""
        if usage := chunk.get("usage"):
            self._usage = usage
        if self._number == 0:
            yield self._frame("response.created", response={**self._head, "status": "in_progress", "output": []})
        for choice in chunk["choices"]:
            delta = choice["delta"]
            text = delta.get("content") or delta.get("refusal")
            if isinstance(text, str) and text:
                yield from self._say(text)
            for call in delta.get("tool_calls") or ():
                yield from self._call(call)
            self._reason = choice["finish_reason"] or self._reason

    def _say(self, text: str) -> Iterator[bytes]:
        if self._message is None:
            self._message = {"id": self._environment.id("msg_"), "type": "message", "role": "assistant"}
            begun = {**self._message, "status": "in_progress", "content": []}
            yield self._frame("response.output_item.added", output_index=0, item=begun)
            part = {"type": "output_text", "text": "", "annotations": []}
            yield self._frame("response.content_part.added", **self._place, part=part)
        self._text.append(text)
        yield self._frame("response.output_text.delta", **self._place, delta=text)

    @property
    def _place(self) -> dict[str, Any]:
        message = self._message or {}
        return {"item_id": message.get("id"), "output_index": 0, "content_index": 0}

    def _end_message(self) -> Iterator[bytes]:
        if self._message is not None and not self._output:
            part = {"type": "output_text", "text": "".join(self._text), "annotations": []}
            status = "incomplete" if self._reason in _INCOMPLETE else "completed"
            whole = {**self._message, "status": status, "content": [part]}
            self._output.append(whole)
            yield self._frame("response.output_text.done", **self._place, text=part["text"])
            yield self._frame("response.content_part.done", **self._place, part=part)
            yield self._frame("response.output_item.done", output_index=0, item=whole)

    def _call(self, call: Chunk) -> Iterator[bytes]:
        """Yield the frames of a whole function call. It comes after the message, because the words are over."""
        yield from self._end_message()
        place = len(self._output)
        arguments = call["function"]["arguments"]
        item = {
            "id": self._environment.id("fc_"),
            "type": "function_call",
            "status": "completed",
            "call_id": call["id"],
            "name": call["function"]["name"],
            "arguments": arguments,
        }
        self._output.append(item)
        begun = {**item, "status": "in_progress", "arguments": ""}
        yield self._frame("response.output_item.added", output_index=place, item=begun)
        where = {"item_id": item["id"], "output_index": place}
        yield self._frame("response.function_call_arguments.delta", **where, delta=arguments)
        yield self._frame("response.function_call_arguments.done", **where, name=item["name"], arguments=arguments)
        yield self._frame("response.output_item.done", output_index=place, item=item)

    def _response(self, timings: Timings | None = None) -> dict[str, Any]:
        response = {**self._head, "status": "completed", "output": self._output}
        if reason := _INCOMPLETE.get(self._reason):
            response |= {"status": "incomplete", "incomplete_details": {"reason": reason}}
        if self._usage is not None:
            response["usage"] = _usage(self._usage)
        if timings is not None:
            response["timings"] = timings
        return response

    def _frame(self, kind: str, **fields: Any) -> bytes:
        data = orjson.dumps({"type": kind, "sequence_number": self._number, **fields})
        self._number += 1
        return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"


def _usage(usage: dict[str, Any]) -> dict[str, Any]:
    prompt, completion = (usage.get(f"{side}_tokens_details") or {} for side in ("prompt", "completion"))
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": prompt.get("cached_tokens") or 0},
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": completion.get("reasoning_tokens") or 0},
        "total_tokens": usage["total_tokens"],
    }
