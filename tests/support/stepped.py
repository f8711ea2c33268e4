"""Graphs for the tests of stepping, each with a question and with the answers of its model, one per call.

`python -m tests.support.stepped FOLDER` continues the stopped runs in the files NAME.sqlite, as another process does.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

import graphs.audio
import graphs.chat
import graphs.hangup
import graphs.rag
from dialgraph import (
    END,
    CompiledGraph,
    Graph,
    GuardRule,
    Memory,
    Policy,
    State,
    Step,
    Turn,
    Update,
    compile_graph,
    node,
)
from dialgraph.services.services import default_services
from tests.support.upstream import Action, calls, says

THREAD: Any = {"configurable": {"thread_id": "t"}}
WITHHELD = "I may not say."


@dataclass(frozen=True)
class Case:
    """A graph, what the caller says, and what its model answers."""

    graph: CompiledGraph
    question: str
    answers: Sequence[Sequence[Action]]
    asking: tuple[str, ...] = ("call_model",)
    """The steps that ask the model."""


def opening_hours(day: str) -> str:
    """Tell when the hotel's kitchen is open.

    day: the day of the week
    """
    return f"{day}: 7 to 22"


@node(writes="weather")
async def look_outside(state: State, turn: Turn) -> Update:
    """Look at the weather."""
    return {"weather": "sunny"}


@node(may_read=("weather", "passages"), writes="prompt")
async def join(state: State, turn: Turn) -> Update:
    """Put both findings into the prompt."""
    found = len(state.get("passages", []))
    words = f"{dict(state).get('weather')}, {found} passages"
    return {"prompt": [{"role": "system", "content": words}, *turn.messages]}


@node()
async def late(state: State, turn: Turn) -> Update:
    """Take too long."""
    await asyncio.sleep(60)
    return None


@node()
async def shout(state: State, turn: Turn) -> Update:
    """Replace the caller's words, as `transcribe` does with speech."""
    turn.understand([{**one, "content": str(one["content"]).upper()} for one in turn.messages])
    return None


@node(speaks=True)
async def promise(state: State, turn: Turn) -> Update:
    """Say something before the model does."""
    await turn.say("I will look. ")
    return None


@node(speaks=True)
async def forbidden(state: State, turn: Turn) -> Update:
    """Say what the guard drops."""
    await turn.say("This is secret.")
    return None


def _silent(name: str) -> Any:
    async def function(state: State, turn: Turn) -> Update:
        """Do nothing."""
        return None

    function.__name__ = name
    return node(function)


fork, left, right = _silent("fork"), _silent("left"), _silent("right")


def graph(*steps: Step, nodes: Sequence[Any] = (), policy: Policy | None = None, **more: Any) -> CompiledGraph:
    """Compile a graph of these steps."""
    return compile_graph(Graph(name="stepped", steps=steps, policy=policy or Policy()), nodes, **more)


CASES = {
    "chat": Case(graphs.chat.graph, "hello", [says("<think>Hm.</think>", "Hello", " there.")]),
    "rag": Case(graphs.rag.graph, "Can I bring my dog?", [says("Yes", ", for 15 euros.")]),
    "hangup": Case(graphs.hangup.graph, "bye", [calls("hangup")]),
    "audio": Case(graphs.audio.graph, "Is there a gym?", [says("Yes, there is one.")]),
    "tools": Case(
        graph(
            Step("call_model", then={"answered": END, "tools": "run_tools"}), Step("run_tools", then="call_model"),
            tools=[opening_hours],
        ),
        "When is dinner?",
        [
            [("chunk", "Let me see."), *calls("opening_hours", '{"day": "Monday"}')],
            [*calls("opening_hours", '{"day": "Sunday"}', identity="up_2")],
            says("From 7 to 22."),
        ],
    ),
    "branches": Case(
        graph(
            Step("rewrite_question", then=("retrieve", "look_outside")),
            Step("retrieve", then="join"), Step("look_outside", then="join"),
            Step("join", waits=True), Step("call_model"),
            nodes=[look_outside, join],
        ),
        "Can I bring my dog?",
        [says("Yes.")],
    ),
    "timeout": Case(
        graph(
            Step("promise"), Step("late", timeout_ms=20, on_timeout="call_model"), Step("rewrite_messages"),
            Step("call_model", then={"answered": END, "bye": "hangup"}), Step("hangup"),
            nodes=[late, promise],
        ),
        "bye",
        [calls("hangup")],
    ),
    "memory": Case(
        graph(
            Step("recall", then={"missing": "rewrite_messages", "complete": "hangup"}),
            Step("rewrite_messages", options={"template": "collect"}),
            Step("call_model", then={"answered": END, "told": "remember"}),
            Step("remember", then="recall"), Step("hangup"),
            policy=Policy(memory=Memory(slots={"name": "text", "day": "date"})),
        ),
        "I am Ann",
        [calls("remember", '{"name": "Ann", "day": "tomorrow"}'), says("Which date, Ann?")],
    ),
    "thoughts": Case(
        graph(
            Step("call_model", then={"answered": END, "tools": "run_tools"}), Step("run_tools", then="call_model"),
            tools=[opening_hours],
        ),
        "When is dinner?",
        [
            [("chunk", "Hi. <think>plan"), *calls("opening_hours", '{"day": "Monday"}')],
            says(" secret</think> Done."),
        ],
    ),
    "guarded": Case(
        graph(
            Step("forbidden"), Step("call_model", then={"answered": END, "tools": "run_tools"}),
            Step("run_tools", then="call_model"),
            nodes=[forbidden], tools=[opening_hours],
            policy=Policy(guard=(GuardRule(find="words", words=("secret",), action="block", instead=WITHHELD),)),
        ),
        "Tell me.",
        [[("chunk", "A secret."), *calls("opening_hours", '{"day": "Monday"}')], says("It is secret.")],
    ),
    "branches with memory": Case(
        graph(
            Step("recall", then={"missing": "fork", "complete": END}), Step("fork", then=("left", "right")),
            Step("left", then="call_model"), Step("right", then="call_model"), Step("call_model", waits=True),
            nodes=[fork, left, right], policy=Policy(memory=Memory(slots={"name": "text"})),
        ),
        "hello",
        [says("Hello.")],
    ),
    "understood": Case(
        graph(Step("shout"), Step("acknowledge", options={"after_ms": 60_000}), Step("call_model"), nodes=[shout]),
        "quietly",
        [says("I hear you.")],
    ),
}  # fmt: skip


async def proceed(files: Sequence[Path]) -> None:
    """Continue the stopped run of each case, step by step until its end. NAME.json holds its models."""
    for file in files:
        os.environ["DIALGRAPH_MODELS"] = await asyncio.to_thread(file.read_text, encoding="utf-8")
        async with AsyncSqliteSaver.from_conn_string(str(file.with_suffix(".sqlite"))) as saver:
            case = CASES[file.stem].graph.copy({"checkpointer": saver})
            while (await case.aget_state(THREAD)).next:
                await case.ainvoke(None, THREAD, interrupt_before="*")
        await default_services().aclose()


if __name__ == "__main__":
    asyncio.run(proceed(sorted(Path(sys.argv[1]).glob("*.json"))))
