"""Every mistake that a graph can have, and the message that reports it."""

from typing import Any

import pytest

from dialgraph.graph.compile import compile_graph
from dialgraph.graph.errors import GraphError
from dialgraph.graph.spec import END, Graph, Step
from dialgraph.turn.node import State, Turn, Update, node


@node()  # type: ignore[arg-type]  # the mistake under test
def blocks(state: State, turn: Turn) -> Update:
    """Do nothing, and not as a coroutine."""
    return None


@node(writes=("note", "route"), routes=("yes", "no"))
async def decide(state: State, turn: Turn) -> Update:
    """Choose a route."""
    return {"note": "", "route": "yes"}


@node(writes="note")
async def take_note(state: State, turn: Turn) -> Update:
    """Write a note."""
    return {"note": "x"}


@node(reads="note")
async def read_note(state: State, turn: Turn) -> Update:
    """Read the note."""
    return None


@node(writes="turn")
async def writes_turn(state: State, turn: Turn) -> Update:
    """Write a key that Dialgraph writes itself."""
    return {"turn": 1}


OWN = [blocks, decide, take_note, read_note, writes_turn]


def compiled(*steps: Step) -> Any:
    """Compile a graph of these steps."""
    return compile_graph(Graph(name="g", steps=steps), OWN)


MISTAKES: list[tuple[str, tuple[Step, ...], str]] = [
    (
        "unknown node",
        (Step("retreive"),),
        "graph 'g', step 'retreive': unknown node 'retreive'. Did you mean 'retrieve'? Accepted: 'acknowledge', ",
    ),
    (
        "unknown option",
        (Step("retrieve", options={"topk": 3}),),
        "graph 'g', step 'retrieve': node 'retrieve' has no option 'topk'. Did you mean 'top_k'?"
        " Accepted: 'store', 'top_k', 'min_score', 'documents', 'tags', 'language', 'cite'.",
    ),
    (
        "ill-typed option",
        (Step("retrieve", options={"top_k": "four"}),),
        "graph 'g', step 'retrieve': option 'top_k' of node 'retrieve' must be a whole number, not 'four'.",
    ),
    (
        "option out of range",
        (Step("retrieve", options={"top_k": 0}),),
        "graph 'g', step 'retrieve': option 'top_k' of node 'retrieve' must be at least 1, not 0.",
    ),
    (
        "unknown template",
        (Step("rewrite_messages", options={"template": "nope"}),),
        "graph 'g', step 'rewrite_messages': unknown template 'nope'. Accepted: 'collect', 'receptionist',"
        " 'with_context', the name of a file beside the graph, or the text of a template.",
    ),
    (
        "broken template",
        (Step("rewrite_messages", options={"template": "{{ oh"}),),
        "graph 'g', step 'rewrite_messages': the template, line 1: `}}` is missing.",
    ),
    (
        "a misspelt variable of a template",
        (Step("rewrite_messages", options={"template": "Hello.\n{{ passges }}"}),),
        "graph 'g', step 'rewrite_messages': the template, line 2: unknown variable 'passges'. Did you mean 'passages'?"
        " Accepted: 'call', 'memory', 'messages', 'passages', 'question'.",
    ),
    (
        "a misspelt field of a passage",
        (Step("rewrite_messages", options={"template": "{% for one in passages %}{{ one.txt }}{% endfor %}"}),),
        "graph 'g', step 'rewrite_messages': the template, line 1: `one` has no field 'txt'. Did you mean 'text'?"
        " Accepted: 'text', 'document', 'heading', 'score', 'page', 'start', 'end'.",
    ),
    (
        "a slot that no policy declares",
        (Step("rewrite_messages", options={"template": "{{ memory.slots.name }}"}),),
        "graph 'g', step 'rewrite_messages': the template, line 1: `memory.slots` has no field 'name'. Accepted: none.",
    ),
    (
        "a private field in a template",
        (Step("rewrite_messages", options={"template": "{{ question.__class__ }}"}),),
        "graph 'g', step 'rewrite_messages': the template, line 1: the field '__class__' is not accepted: it belongs to"
        " Python.",
    ),
    (
        "a template that uses another one",
        (Step("rewrite_messages", options={"template": "{% include 'x' %}"}),),
        "graph 'g', step 'rewrite_messages': the template, line 1: a template cannot use other templates.",
    ),
    (
        "a node that is not async",
        (Step("blocks"),),
        "graph 'g', step 'blocks': node 'blocks' is not `async def`. A blocking node would stop every other call.",
    ),
    (
        "a target that is not a step",
        (Step("call_model", then="call_modell"),),
        "graph 'g', step 'call_model': 'call_modell' is not a step. Did you mean 'call_model'?"
        " Accepted: 'call_model', 'END'.",
    ),
    (
        "two steps with one name",
        (Step("call_model"), Step("call_model")),
        "graph 'g', step 'call_model': 2 steps have this name. Give each step a different `name`.",
    ),
    (
        "a step with the name of the end",
        (Step("call_model", name="END"),),
        "graph 'g', step 'END': this name is reserved for the end of the graph. Give the step another `name`.",
    ),
    (
        "a step that nothing leads to",
        (Step("call_model", then=END), Step("hangup")),
        "graph 'g', step 'hangup': no path leads to this step. Add it to the `then` of a step that can be reached.",
    ),
    (
        "no path to END",
        (Step("call_model", name="a", then="b"), Step("call_model", name="b", then="a")),
        "graph 'g', step 'a': no path leads from this step to END. Give a later step `then=END`.",
    ),
    (
        "a key that is read but never written",
        (Step("read_note"),),
        "graph 'g', step 'read_note': node 'read_note' reads 'note', which no step before it writes."
        " Nodes that write it: 'decide', 'take_note'.",
    ),
    (
        "a key that is written only after it is read",
        (Step("read_note"), Step("take_note")),
        "graph 'g', step 'read_note': node 'read_note' reads 'note', which no step before it writes.",
    ),
    (
        "parallel steps writing one key",
        (
            Step("acknowledge", then=("one", "two")),
            Step("take_note", name="one", then="join"),
            Step("take_note", name="two", then="join"),
            Step("call_model", name="join", waits=True),
        ),
        "graph 'g', steps 'one' and 'two' run at the same time and both write 'note'. Run one after the other.",
    ),
    (
        "a `waits` that cannot be met",
        (Step("acknowledge"), Step("call_model", waits=True)),
        "graph 'g', step 'call_model': waits, but no two branches meet here. Lead two steps to it, or remove `waits`.",
    ),
    (
        "retry on a step that speaks",
        (Step("call_model", retry=1),),
        "graph 'g', step 'call_model': node 'call_model' speaks, so a retry could repeat words to the caller."
        " Accepted: retry=0.",
    ),
    (
        "on_timeout without a time",
        (Step("retrieve", on_timeout="call_model"), Step("call_model")),
        "graph 'g', step 'retrieve': on_timeout needs timeout_ms, the time limit of the step.",
    ),
    (
        "a table after a node that writes no route",
        (Step("retrieve", then={"a": "call_model"}), Step("call_model")),
        "graph 'g', step 'retrieve': `then` is a table, but node 'retrieve' writes no route."
        " Accepted: one or more steps, or add 'route' to the `writes` of the node.",
    ),
    (
        "a table that lacks a route of its node",
        (Step("decide", then={"yes": "call_model"}), Step("call_model")),
        "graph 'g', step 'decide': `then` has no entry for 'no', which node 'decide' can choose.",
    ),
    (
        "a table entry that is never chosen",
        (Step("decide", then={"yes": END, "no": END, "maybe": END}),),
        "graph 'g', step 'decide': node 'decide' never chooses 'maybe'. Accepted: 'yes', 'no'.",
    ),
    (
        "two entries with one tool",
        (
            Step("call_model", then={"answered": END, "a": "bye", "b": "farewell"}),
            Step("hangup", name="bye", then=END),
            Step("hangup", name="farewell"),
        ),
        "graph 'g', step 'call_model': the entries 'a' and 'b' use the same tool 'hangup'."
        " Give one a different `tool`.",
    ),
    (
        "a key that Dialgraph writes itself",
        (Step("writes_turn"),),
        "graph 'g', step 'writes_turn': node 'writes_turn' writes 'turn', which Dialgraph writes itself."
        " Use another name.",
    ),
    (
        "a name that LangGraph reserves",
        (Step("call_model", name="a:b"),),
        "graph 'g', step 'a:b': a name may have only letters, digits, `_` and `-`, and must begin with a letter.",
    ),
    (
        "branches that meet without waiting",
        (
            Step("acknowledge", then=("one", "two")),
            Step("take_note", name="one", then="join"),
            Step("retrieve", name="two", then="three"),
            Step("rewrite_messages", name="three", then="join"),
            Step("call_model", name="join"),
        ),
        "graph 'g', step 'join': branches meet at this step, so it would run once for each. Set `waits=True`.",
    ),
    (
        "a step that waits for one that waits",
        (
            Step("acknowledge", name="f", then=("x", "y")),
            Step("acknowledge", name="x", then=("x1", "x2")),
            Step("acknowledge", name="x1", then="wx"),
            Step("acknowledge", name="x2", then="wx"),
            Step("acknowledge", name="wx", waits=True, then="w"),
            Step("acknowledge", name="y", then="w"),
            Step("call_model", name="w", waits=True),
        ),
        "graph 'g', step 'w': waits for 'wx', which also waits. Let all branches meet in one step.",
    ),
    (
        "parallel steps that both speak",
        (
            Step("acknowledge", then=("one", "two")),
            Step("call_model", name="one", then=END),
            Step("hangup", name="two"),
        ),
        "graph 'g', steps 'one' and 'two' run at the same time and both speak: the caller would hear them mixed.",
    ),
    (
        "parallel writers after a shared step",
        (
            Step("acknowledge", name="f", then=("a", "b")),
            Step("acknowledge", name="a", then=("a2", "m")),
            Step("take_note", name="a2", then=END),
            Step("take_note", name="b", then="m"),
            Step("call_model", name="m", waits=True),
        ),
        "graph 'g', steps 'a2' and 'b' run at the same time and both write 'note'. Run one after the other.",
    ),
    (
        "a key that only a later round of a loop writes",
        (Step("read_note"), Step("take_note"), Step("decide", then={"yes": "read_note", "no": END})),
        "graph 'g', step 'read_note': node 'read_note' reads 'note', which no step before it writes.",
    ),
    (
        "an on_error that leads back to its step",
        (Step("retrieve", on_error="retrieve"), Step("call_model")),
        "graph 'g', step 'retrieve': its on_error leads back to itself in an endless loop. Lead it to another step.",
    ),
]


@pytest.mark.parametrize(("steps", "sentence"), [case[1:] for case in MISTAKES], ids=[case[0] for case in MISTAKES])
def test_each_mistake_is_reported_in_one_sentence(steps: tuple[Step, ...], sentence: str) -> None:
    with pytest.raises(GraphError) as refused:
        compiled(*steps)
    assert any(line.startswith(sentence) for line in str(refused.value).splitlines()), str(refused.value)


def test_all_mistakes_are_reported_together() -> None:
    with pytest.raises(GraphError) as refused:
        compiled(Step("retrieve", options={"topk": 1}), Step("call_model", retry=2))
    assert len(str(refused.value).splitlines()) == 2


@pytest.mark.parametrize(
    "steps",
    [
        (Step("call_model"),),
        (Step("decide", then={"yes": "call_model", "no": END}), Step("call_model")),
        (Step("take_note", then=("read_note", "call_model")), Step("read_note", then=END), Step("call_model")),
        (
            Step("retrieve", timeout_ms=5, on_timeout="call_model", retry=2),
            Step("rewrite_messages"),
            Step("call_model"),
        ),
        (Step("decide", name="loop", then={"yes": "loop", "no": END}),),
        (  # a loop around a join
            Step("acknowledge", name="f", then=("a", "b")),
            Step("take_note", name="a", then="join"),
            Step("retrieve", name="b", then="join"),
            Step("decide", name="join", waits=True, then={"yes": "f", "no": END}),
        ),
        (  # two joins in a row, in a loop
            Step("acknowledge", name="a", then=("b", "c")),
            Step("retrieve", name="b", then="j"),
            Step("acknowledge", name="c", then="j"),
            Step("acknowledge", name="j", waits=True, then=("d", "e")),
            Step("take_note", name="d", then="k"),
            Step("acknowledge", name="e", then="k"),
            Step("decide", name="k", waits=True, then={"yes": "a", "no": END}),
        ),
        (  # a join that writes what a branch wrote
            Step("acknowledge", name="f", then=("join", "b")),
            Step("take_note", name="b", then="join"),
            Step("take_note", name="join", waits=True),
        ),
    ],
)
def test_a_valid_graph_compiles(steps: tuple[Step, ...]) -> None:
    assert compiled(*steps).name == "g"
