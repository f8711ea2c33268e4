"""A call with a graph: say something, be silent, interrupt, and look at each turn.

`async with Call(graph) as call: turn = await call.say("Can I bring my dog?")`. In a script without an event loop, use
`SyncCall` in the same way, without `async` and `await`.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from dialgraph.calls.turn import CallTurn, Recorder
from dialgraph.environment import REAL, in_thread
from dialgraph.graph.compile import CompiledGraph
from dialgraph.graph.studio import studio_profile
from dialgraph.graph.synchronous import run_in_background
from dialgraph.models.port import Message
from dialgraph.passages import StoreError
from dialgraph.records.recorder import local_end, outcome_of
from dialgraph.records.records import Records
from dialgraph.run.run import running
from dialgraph.services.services import OpenServices
from dialgraph.services.settings import GraphSettings
from dialgraph.turn.call import CallInfo
from dialgraph.turn.events import Failed
from dialgraph.turn.request import TurnRequest
from dialgraph.turn.turn import Turn


class Call:
    """One call. It keeps the conversation, and its engines until it is closed."""

    def __init__(
        self,
        graph: CompiledGraph,
        *,
        settings: GraphSettings | None = None,
        model: str = "",
        host: str = "",
        caller_number: str = "",
        call_id: str = "",
        sound: bool = False,
    ) -> None:
        """Begin a call.

        `settings`: the models, stores and voices; None: those of the project.
        `model`: the upstream's name of the model.
        `host`: the host whose dialect is used; empty: any host that speaks the words.
        `call_id`: the host's id of the call, under which its memory is stored; empty: a new one.
        `sound`: whether to ask for sound, which `CallTurn.audio` then holds.
        """
        if not isinstance(graph, CompiledGraph):
            raise TypeError(f"Call: `graph` must be what `compile_graph(spec)` returns, not {type(graph).__name__}.")
        if settings is not None and not isinstance(settings, GraphSettings):
            raise TypeError(f"Call: `settings` must be GraphSettings or None, not {type(settings).__name__}.")
        self.graph = graph
        self.messages: list[Message] = []
        """The conversation as a host would send it with the next turn."""
        self.turns: list[CallTurn] = []
        settings = settings or GraphSettings()
        self._services = OpenServices(settings)
        self._records = Records(settings)
        self._model = model
        self._profile = studio_profile(host)
        self._number = caller_number
        self._id = call_id or REAL.id("call_")
        self._sound = sound
        self._heard = ""
        self._one_turn = asyncio.Lock()

    async def say(self, text: str) -> CallTurn:
        """Say this to the agent and return its turn. Raise what the turn fails with."""
        return await self._turn(text)

    async def open(self) -> CallTurn:
        """Let the agent begin, as a host does when somebody has picked up.

        What it says is the work of the step `greet`. A graph without that step treats this as a turn without words.
        """
        return await self._turn("", source="greeting")

    async def silence(self) -> CallTurn:
        """Let the agent speak because the caller says nothing."""
        return await self._turn("", source="silence")

    async def barge_in(self, text: str, *, after_words: int) -> CallTurn:
        """Say this, and interrupt the answer after this many words. The next turn knows what was heard of it."""
        if after_words < 0:
            raise ValueError(f"`after_words` must be 0 or more, not {after_words}.")
        return await self._turn(text, after_words=after_words)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._services.aclose()
        await in_thread(self._records.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _repr_html_(self) -> str:
        return "".join(turn._repr_html_() for turn in self.turns)

    async def _turn(self, said: str, *, source: str = "", after_words: int | None = None) -> CallTurn:
        if not isinstance(said, str):
            raise TypeError(f"What the caller says must be text, not {type(said).__name__}.")
        if self._services.closed:
            raise RuntimeError("This call is closed. Begin a new one.")
        async with self._one_turn:
            if said:
                self.messages.append({"role": "user", "content": said})
            return await self._run(said, source, after_words)

    async def _run(self, said: str, source: str, after_words: int | None) -> CallTurn:
        info = CallInfo(
            id=self._id, caller_number=self._number, source=source, interrupted=self._heard, principal="python"
        )
        parameters: Mapping[str, object] = (
            {"modalities": ["text", "audio"], "audio": {"format": "wav"}} if self._sound else {}
        )
        policy = self.graph.spec.policy
        asked = TurnRequest(
            list(self.messages), parameters, info, policy.applied_to(self._profile), self._model,
            streaming=False, endpoint=self.graph.spec.name,
        )  # fmt: skip
        with suppress(StoreError):  # the step that searches reports the error itself
            await self._services.warm_stores(self.graph.stores)  # before the clock of the turn starts
        memory = policy.memory
        log = self._records.recorder(asked, REAL, memory.private if memory else ())
        turn = log.turn(self._services) if log else Turn(self._services, asked)
        recorder = Recorder(said, turn)
        turn.watch(recorder)
        failure: BaseException | None = None
        async with running(self.graph, turn) as run:
            subscription = run.subscribe()
            async for events in subscription:
                for event in events:
                    if isinstance(event, Failed):
                        failure = event.error
                        break
                    recorder.heard(event)
                if after_words is not None and recorder.words_heard >= after_words:
                    recorder.interrupted(after_words)
                    break
            subscription.close()
        made = recorder.ended()
        if log is not None:
            outcome = "cancelled" if made.interrupted else outcome_of(failure or made.error)
            end = local_end(turn.times, outcome, REAL.now(), made.usage)
            words = self.graph.outlets.private_words
            self._records.over(log, end, turn.times.started, self.graph.version, words)
        if failure is not None:
            raise failure
        self._heard = made.words if made.interrupted else ""
        if made.words or made.actions:
            self.messages.append({"role": "assistant", "content": made.words})
        self.turns.append(made)
        return made


class SyncCall:
    """A `Call` for scripts without an event loop: the same methods, without `await`."""

    def __init__(self, graph: CompiledGraph, **options: Any) -> None:
        """Begin a call, with the options of `Call`."""
        self._call = Call(graph, **options)

    @property
    def messages(self) -> list[Message]:
        """Return the conversation as a host would send it with the next turn."""
        return self._call.messages

    @property
    def turns(self) -> list[CallTurn]:
        """Return the turns so far."""
        return self._call.turns

    def say(self, text: str) -> CallTurn:
        """See `Call.say`."""
        return run_in_background(lambda: self._call.say(text))

    def open(self) -> CallTurn:
        """See `Call.open`."""
        return run_in_background(self._call.open)

    def silence(self) -> CallTurn:
        """See `Call.silence`."""
        return run_in_background(self._call.silence)

    def barge_in(self, text: str, *, after_words: int) -> CallTurn:
        """See `Call.barge_in`."""
        return run_in_background(lambda: self._call.barge_in(text, after_words=after_words))

    def close(self) -> None:
        """Close every connection."""
        run_in_background(self._call.aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
