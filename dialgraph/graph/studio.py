"""Runs the steps of a graph in Studio and in notebooks: in LangGraph's stream, and from LangGraph's state.

A run may begin at any step: an author stops before it and continues, in this process or in another one. So the turn is
built from the state when a run begins, and what a step has done is in the state when the step ends.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolCall, convert_to_openai_messages
from langgraph.graph.message import push_message
from langgraph.runtime import Runtime

from dialgraph.graph.errors import GraphError
from dialgraph.graph.paths import LABEL_OK
from dialgraph.graph.preparation import Preparation
from dialgraph.graph.sequence import runs_in_sequence, ways_of
from dialgraph.graph.spec import END
from dialgraph.graph.state import PART, as_json, from_json
from dialgraph.graph.step import WrappedStep
from dialgraph.graph.tracing import ModelTracer, tool_call
from dialgraph.models.port import Message
from dialgraph.profiles.choose import known_profiles
from dialgraph.profiles.openai import PROFILE as OPENAI
from dialgraph.profiles.profile import Profile
from dialgraph.turn.events import Action, Event, Filler, Say, Timing, ToolCallPart, Transcript, as_data
from dialgraph.turn.host_tools import host_call
from dialgraph.turn.node import Context, Turn
from dialgraph.turn.text_outlet import TextOutlet


class StreamSink:
    """The end of the line in Studio and notebooks: LangGraph's stream. It collects what a step adds to the state."""

    def __init__(self, runtime: Runtime[Context], identity: str, answer: AIMessage | None, profile: Profile) -> None:
        """Begin with the part of the `answer` that an earlier run has given; None: nothing."""
        self.begun = False
        self.tap: Callable[[Event], None] | None = None
        """Called with each event. None: the turn is not recorded."""
        self.outlet: TextOutlet | None = None
        """The outlet that the text passes on its way here."""
        self.beginning = asyncio.Lock()
        self._write = runtime.stream_writer
        self.identity = identity
        self._profile = profile
        self._words: list[str] = [str(answer.content)] if answer is not None else []
        self._calls: list[ToolCall] = [*answer.tool_calls] if answer is not None else []
        self._parts = int(answer.response_metadata.get(PART, 0)) if answer is not None else 0
        self._open: dict[int, dict[str, str]] = {}
        self._grown = False
        self._ended: dict[str, Timing] = {}

    async def __call__(self, event: Event) -> None:
        match event:
            case Say() | Filler() | Transcript():
                if event.text:
                    self._grow(AIMessageChunk(content=event.text, id=self.identity))
                    self._words.append(event.text)
            case Action():
                name, arguments = host_call(event, self._profile)
                self._called(event.id, name, arguments)
            case ToolCallPart():
                self._relayed(event)
            case Timing():
                self._ended[event.step] = event
            case _:
                pass
        if self.tap is not None:
            self.tap(event)
        self._write(as_data(event))

    @property
    def said(self) -> str:
        """Return the words of the turn so far."""
        return "".join(self._words)

    def update(self, step: str) -> dict[str, Any]:
        """Return what the step adds to the state: its record, and the answer if it has grown."""
        for index in list(self._open):
            call = self._open.pop(index)
            self._called(call["id"], call["name"], call["arguments"])
        update: dict[str, Any] = {}
        if (timing := self._ended.pop(step, None)) is not None:
            started, ended = round(timing.started_ms, 1), round(timing.ended_ms, 1)
            record = {"step": step, "outcome": timing.outcome, "started_ms": started, "ended_ms": ended}
            update["steps"] = [record]
        if self._grown:
            self._grown = False
            self._parts += 1
            part = {PART: self._parts}
            answer = AIMessage(self.said, id=self.identity, tool_calls=list(self._calls), response_metadata=part)
            update["messages"] = [answer]
        return update

    def leave_out(self, what: str) -> None:
        """Tell the author that something of the turn is missing in this run."""
        self._write({"type": "LeftOut", "text": what})

    def _relayed(self, part: ToolCallPart) -> None:
        if part.name is not None:
            self._open[part.index] = {"id": part.id or "", "name": part.name, "arguments": ""}
        if part.index in self._open:
            self._open[part.index]["arguments"] += part.arguments

    def _called(self, identity: str, name: str, arguments: str) -> None:
        chunk = {"name": name, "args": arguments, "id": identity, "index": len(self._calls), "type": "tool_call_chunk"}
        self._grow(AIMessageChunk(content="", id=self.identity, tool_call_chunks=[cast(Any, chunk)]))
        self._calls.append(tool_call(identity, name, arguments))

    def _grow(self, chunk: AIMessageChunk) -> None:
        self._grown = True
        push_message(chunk, state_key=None)


class StudioSteps:
    """Runs the steps of one graph, one LangGraph node for each."""

    def __init__(self, prepare: Preparation, steps: Sequence[WrappedStep]) -> None:
        self._prepare = prepare
        self._steps = {step.step.id: step for step in steps}
        spec = prepare.spec
        ways = {step.step.id: ways_of(spec, at, step) for at, step in enumerate(steps)}
        self._ways = ways if runs_in_sequence(spec) else {}
        self._keeps_question = not any("question" in step.node.writes for step in steps)

    async def run(self, name: str, state: Mapping[str, Any], runtime: Runtime[Context]) -> dict[str, Any]:
        """Run this step and return its update of the state. Raise GraphError if the run has no Turn."""
        turn, step = runtime.context, self._steps[name]
        if not isinstance(turn, Turn):
            raise GraphError("Run the graph with one of its own methods, such as `ainvoke` or `astream`.")
        if turn.line.connected and not isinstance(turn.line.sink, StreamSink):
            self._prepare.attach(turn)
            return await step.run({"question": turn.question, **state}, turn)
        values = from_json(state)
        began = await self._begin(turn, values, runtime)
        update = await step.run({"question": turn.question, **values}, turn)
        if self._ends(step, update):
            await turn.line.flush_text(last=True)
        await turn.line.catch_up()
        sink = cast(StreamSink, turn.line.sink)
        update = {**began, **self._seen(step, values, turn), **as_json(update), **sink.update(name)}
        return {key: value for key, value in update.items() if value is not None or key in values}

    def _ends(self, step: WrappedStep, update: Mapping[str, Any]) -> bool:
        """Return whether the turn ends with this step. With parallel branches nobody knows that."""
        ways = self._ways.get(step.step.id, {})
        return ways.get(update.get("route") or LABEL_OK) == END

    async def _begin(self, turn: Turn, values: dict[str, Any], runtime: Runtime[Context]) -> dict[str, Any]:
        """Build the turn from the state, at the first step of a run. Return what the state must learn of it."""
        if not turn.line.connected:
            sink = self._sink(turn, values, runtime)
            sink.tap = turn.line.tap
            turn.line.connect(sink)
            turn.watch(ModelTracer())
        sink = cast(StreamSink, turn.line.sink)
        async with sink.beginning:
            if sink.begun:
                return {}
            sink.begun = True
            sink.outlet = self._prepare.attach(turn)
            if sink.outlet is not None:
                sink.outlet.record(values.get("recorded", ()))
            turn.memory.restore(values.get("slots", {}), values.get("stage"), values.get("problems", {}))
            update: dict[str, Any] = {}
            if "turn" not in values:
                update["turn"] = {"message_id": sink.identity, "key": turn.key}
            for one in values.get("steps", ()):
                await self._attach_voice(turn, values, one["step"])
            if armed := values.get("waiting"):
                words = f"The step {armed!r} had prepared words for a silence. The run stopped, so they were left out."
                sink.leave_out(words)
                update |= {"left_out": [*values.get("left_out", ()), words], "waiting": None}
            return update

    def _sink(self, turn: Turn, values: Mapping[str, Any], runtime: Runtime[Context]) -> StreamSink:
        spec, context = self._prepare.spec, turn.asked
        profile = spec.policy.applied_to(context.profile)
        known = values.get("turn") or {}
        identity = str(known.get("message_id") or turn.environment.id("msg_", 24))
        messages = [one for one in values.get("messages", ()) if getattr(one, "id", None) != identity]
        answer = next((one for one in values.get("messages", ()) if getattr(one, "id", None) == identity), None)
        # The state holds the whole conversation; the input of the run lacks the thread's earlier messages.
        raw = cast("list[Message]", convert_to_openai_messages(cast("list[BaseMessage]", messages)))
        turn.ask(replace(context, profile=profile, endpoint=spec.name, messages=raw))
        if known.get("key"):
            turn.resume(str(known["key"]))
        if "conversation" in values:
            turn.understand(values["conversation"])
        if (heard := values.get("line")) is not None:
            turn.line.resume(answered=bool(heard["answered"]))
        return StreamSink(runtime, identity, answer if isinstance(answer, AIMessage) else None, profile)

    async def _attach_voice(self, turn: Turn, values: Mapping[str, Any], name: str) -> None:
        """Run a step again that only attaches a voice to the line, because the line of this run is new."""
        step = self._steps.get(name)
        if step is not None and step.node.sounds and not step.node.speaks:
            await step.node.run({"question": turn.question, **values}, turn.at_step(step.place), **step.options)

    def _seen(self, step: WrappedStep, values: Mapping[str, Any], turn: Turn) -> dict[str, Any]:
        """Return what the step has used or changed without writing it to the state itself."""
        update: dict[str, Any] = {"waiting": step.step.id if turn.line.late.armed else None}
        if "waiting" in values and turn.line.late.armed:
            update["waiting"] = values["waiting"]
        if self._keeps_question and "question" in (*step.node.reads, *step.node.may_read) and turn.question:
            update["question"] = values.get("question", turn.question)
        outlet = cast(StreamSink, turn.line.sink).outlet
        if outlet is not None and outlet.recorded:
            update["recorded"] = list(outlet.recorded)
        if turn.line.spoken:
            update["line"] = {"spoken": True, "answered": turn.line.answered}
        if turn.understood:
            update["conversation"] = list(turn.messages)
        if turn.memory.loaded:
            memory = turn.memory
            update |= {"slots": dict(memory.slots), "stage": memory.stage, "problems": dict(memory.problems)}
        return update


def studio_profile(host: str) -> Profile:
    """Return the profile of a host by its name. Empty: any host that speaks the words. Raise GraphError."""
    if not host:
        return replace(OPENAI, speakable=True)
    if host not in known_profiles():
        raise GraphError(f"context, 'host': unknown host {host!r}. Accepted: {', '.join(map(repr, known_profiles()))}.")
    return known_profiles()[host]
