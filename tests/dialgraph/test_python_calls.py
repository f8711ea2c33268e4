"""Calls in Python: the same turns as on the server, with all that an author wants to see of them."""

import io
import json
import wave
from pathlib import Path
from typing import Any, cast

import pytest

import graphs.audio
import graphs.chat
import graphs.hangup
import graphs.rag
from dialgraph import Call, Graph, GraphSettings, ModelError, Policy, Step, SyncCall, compare, compile_graph
from tests.support.upstream import says, upstream


@pytest.fixture
def settings(tmp_path: Path) -> GraphSettings:
    """Return settings with a data folder of their own and the embedded model."""
    return GraphSettings(data_dir=tmp_path)


async def test_a_turn_shows_words_prompt_passages_and_times(settings: GraphSettings) -> None:
    async with Call(graphs.rag.graph, settings=settings, caller_number="+49") as call:
        turn = await call.say("Can I bring my dog?")
    assert turn.words == "Dogs and cats are welcome for 15 euros a night."
    assert [message["role"] for message in turn.prompt] == ["system", "system", "user"]
    assert turn.passages[0].document == "hotel.en.md" and turn.passages[0].score > 0.5
    assert [one.step for one in turn.timeline] == [step.id for step in graphs.rag.graph.spec.steps]
    assert turn.first_word_ms is not None and 0 < turn.first_word_ms <= turn.total_ms
    assert turn.state["question"] == "Can I bring my dog?" and turn.error is None and not turn.audio
    assert [message["role"] for message in call.messages] == ["user", "assistant"] and call.turns == [turn]


async def test_a_turn_is_printed_on_a_few_lines(settings: GraphSettings) -> None:
    async with Call(graphs.hangup.graph, settings=settings) as call:
        lines = str(await call.say("Goodbye!")).splitlines()
    assert lines[0] == "caller: Goodbye!" and lines[1].startswith("agent: ") and "→ hangup" in lines
    assert " ms" in lines[-1] and len(lines) == 4


async def test_what_is_no_call_is_refused_in_one_sentence(settings: GraphSettings) -> None:
    wrong: Any = graphs.rag.spec
    with pytest.raises(TypeError, match="`graph` must be what `compile_graph\\(spec\\)` returns, not Graph"):
        Call(wrong)
    with pytest.raises(TypeError, match="`settings` must be GraphSettings or None, not dict"):
        Call(graphs.rag.graph, settings=cast(Any, {}))
    with pytest.raises(TypeError, match="`questions` must be a list, not str"):
        await compare([graphs.rag.graph], "Can I bring my dog?", settings=settings)
    async with Call(graphs.rag.graph, settings=settings) as call:
        with pytest.raises(TypeError, match="What the caller says must be text, not int"):
            await call.say(cast(Any, 5))
        with pytest.raises(ValueError, match="`after_words` must be 0 or more, not -1"):
            await call.barge_in("Stop.", after_words=-1)


async def test_a_turn_is_shown_as_html_without_a_network(settings: GraphSettings) -> None:
    async with Call(graphs.rag.graph, settings=settings) as call:
        await call.say("Can I <b>bring</b> my dog?")
        html = call._repr_html_()
    assert "Can I &lt;b&gt;bring&lt;/b&gt; my dog?" in html and "<b>" not in html
    assert "<svg" in html and "call_model" in html and "first word" in html
    assert (
        "hotel.en.md" in html
        and "<summary>prompt</summary>" in html
        and "http" not in html.replace("http://www.w3", "")
    )
    drawing = graphs.rag.graph._repr_mimebundle_()["image/svg+xml"]
    assert drawing.startswith("<svg") and "rewrite_question" in drawing and "also after timeout" in drawing


async def test_an_interrupted_answer_is_cut_where_the_caller_heard_it(tmp_path: Path) -> None:
    words = says("One ", "two ", "three ", "four.")[:-2]
    spec = Graph(name="g", instructions="Heard: {{ call.interrupted }}", steps=(Step("call_model"),))
    async with upstream([*words, ("hang",)], default=says("Yes?")) as up:
        models = GraphSettings(data_dir=tmp_path, models={"main": up.url})
        async with Call(compile_graph(spec), settings=models, model="big") as call:
            cut = await call.barge_in("Count.", after_words=2)
            await up.until(lambda: up.exchanges[0].left is not None, 20)
            after = await call.say("Stop.")
    assert (cut.words, cut.interrupted) == ("One two", True) and (after.words, after.interrupted) == ("Yes?", False)
    told = up.bodies[1]["messages"]
    assert told[0]["content"] == "Heard: One two" and told[2] == {"role": "assistant", "content": "One two"}
    assert up.bodies[1]["model"] == "big"


async def test_a_call_opens_goes_silent_and_ends(settings: GraphSettings) -> None:
    spec = Graph(
        name="desk",
        steps=(
            Step("greet", then={"words": "call_model", "spoken": "END", "over": "hangup"}, options={"most_prompts": 1}),
            Step("call_model", then={"answered": "END", "bye": "hangup"}),
            Step("hangup", options={"say": "Bye."}),
        ),
    )
    async with Call(compile_graph(spec), settings=settings) as call:
        opened, silent = await call.open(), await call.silence()
        call.messages[-1:] = [{**call.messages[-1], "metadata": {"source": "silence"}}]
        over = await call.silence()
    assert opened.words == "Hello! How can I help you?" and "still there" in silent.words
    assert over.words == "Bye." and [action.kind for action in over.actions] == ["hangup"]


async def test_a_failure_is_raised_or_spoken_as_the_policy_says(tmp_path: Path) -> None:
    settings = GraphSettings(data_dir=tmp_path, models={"main": "http://127.0.0.1:1/v1"})
    async with Call(graphs.chat.graph, settings=settings) as call:
        with pytest.raises(ModelError, match="cannot be reached"):
            await call.say("hi")
    speaks = Graph(name="g", steps=(Step("call_model"),), policy=Policy(on_failure="speak", fallback="One moment."))
    async with Call(compile_graph(speaks), settings=settings) as call:
        turn = await call.say("hi")
    assert turn.words == "One moment." and isinstance(turn.error, ModelError)


def test_a_script_has_the_same_calls_without_await(settings: GraphSettings, tmp_path: Path) -> None:
    with SyncCall(graphs.audio.graph, settings=settings, sound=True) as call:
        turn = call.say("How much is the sauna?")
    assert "8 euros" in turn.words
    with wave.open(io.BytesIO(turn.audio)) as sound:
        assert sound.getframerate() == 16_000 and sound.getnframes() > 16_000
    assert "<audio controls" in turn._repr_html_()
    with SyncCall(graphs.hangup.graph, settings=settings) as call:
        assert [action.kind for action in call.say("bye").actions] == ["hangup"] and len(call.turns) == 1
    assert json.dumps(call.messages)


async def test_graphs_are_compared_by_their_answers_and_times(tmp_path: Path) -> None:
    settings = GraphSettings(data_dir=tmp_path, models={"away": "http://127.0.0.1:1/v1"})
    away = compile_graph(Graph(name="away", steps=(Step("call_model", options={"model": "away"}),)))
    questions = ["Can I bring my dog?", "bye"]
    compared = await compare([graphs.rag.graph, graphs.hangup.graph, away], questions, settings=settings)
    table = compared.frame
    assert list(table["graph"]) == ["rag", "rag", "hangup", "hangup", "away", "away"]
    assert table["words"][0] == "Dogs and cats are welcome for 15 euros a night."
    assert list(table["passages"])[:3] == [1, 0, 1] and (table["first_word_ms"].dropna() > 0).all()
    assert [bool(error) for error in table["error"]] == [False] * 4 + [True] * 2
    assert table["error"][4] == "The model 'away' cannot be reached."
    html = compared._repr_html_()
    assert html.startswith("<svg") and "median" in html and "<td" in html and "Can I bring my dog?" in html
