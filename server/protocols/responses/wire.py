"""The second encoder: the same turn as OpenAI's Responses API, for ElevenLabs and the AI SDK's default provider.

It reads the chunks of the first one, so that a host's dialect, the order of words and actions and the finish are
settled in one place. Of the events it sends those that clients need: what each one breaks on was measured with
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
from server.protocols.sse import DONE, EVENT_STREAM, KEEP_ALIVE

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


class ResponsesWire:
    """One reader's copy of one turn."""

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
        """What these events add to the stream; often nothing."""
        return b"".join(frame for event in events for chunk in self._encode(event) for frame in self._take(chunk))

    def stream_end(self) -> bytes:
        """The rest of a stream that ends well."""
        frames = [frame for chunk in self._chunks.end() for frame in self._take(chunk)]
        frames += self._end_message()
        response = self._response()
        # A client that waits for the end knows it as completed; why it is incomplete stands in the response.
        frames.append(self._frame(f"response.{response['status']}", response=response))
        return b"".join(frames) + DONE

    def stream_error(self, error: ApiError) -> bytes:
        """The rest of a stream that fails: flat and nested, because each client looks for one of them."""
        told = {"type": error.type, "code": error.code, "message": error.message, "param": error.param}
        flat = {"code": error.code, "message": error.message, "param": error.param, "error": told}
        return self._frame("error", **flat) + DONE

    def fold(self, events: Iterable[Event]) -> None:
        """Take these events into the body."""
        self.stream(events)

    def body(self) -> bytes:
        """The whole reply."""
        self.stream_end()
        return orjson.dumps(self._response())

    def refusal(self, error: ApiError) -> bytes:
        """The body of a reply that is an error."""
        return error.body()

    def name_after(self, turn_id: str) -> None:
        """See the listener."""
        self._head["id"] = f"resp_{turn_id.replace('-', '')}"

    def _encode(self, event: Event) -> Iterator[Chunk]:
        # There is no sound in a response: whoever asks for one reads what would be heard.
        return self._chunks.encode(Say(event.text) if isinstance(event, Transcript) else event)

    def _take(self, chunk: Chunk) -> Iterator[bytes]:
        """The frames that a chunk of chat completions makes."""
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
        """A function call, whole; behind the message, because its words are over."""
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

    def _response(self) -> dict[str, Any]:
        response = {**self._head, "status": "completed", "output": self._output}
        if reason := _INCOMPLETE.get(self._reason):
            response |= {"status": "incomplete", "incomplete_details": {"reason": reason}}
        if self._usage is not None:
            response["usage"] = _usage(self._usage)
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
