"""The instructions of a graph come first in every prompt, and the prompt can be seen."""

import logging
import re
from pathlib import Path
from typing import Any

import pytest

from dialgraph.graph.compile import compile_graph
from dialgraph.graph.errors import GraphError
from dialgraph.graph.policy import GuardRule, Memory, Policy
from dialgraph.graph.spec import END, Graph, Step
from tests.support.serving import add_graphs, serving
from tests.support.stepped import opening_hours
from tests.support.upstream import calls, says, upstream

QUESTION = {"role": "user", "content": "When is breakfast?"}
HOSTS = {"role": "system", "content": "The platform's own words."}


def asked(*messages: object, **fields: object) -> dict[str, Any]:
    """Return the body of a request."""
    return {"messages": list(messages), "stream": True, **fields}


async def test_the_instructions_come_before_the_hosts_own_system_messages(tmp_path: Path) -> None:
    spec = Graph(
        name="vera",
        instructions="You are Vera. The caller's number is {{ call.caller_number }}.",
        steps=(Step("retrieve"), Step("rewrite_messages"), Step("call_model")),
    )
    async with upstream() as up, serving(tmp_path, (spec, []), models={"main": up.url}) as served:
        body = asked(HOSTS, QUESTION, metadata={"caller_number": "+49"})
        await served.post("/vera/chat/completions", body)
        await served.post("/vera/chat/completions", asked(HOSTS, {"role": "user", "content": "Who won in curling?"}))
    rules, question = up.bodies[0]["messages"]  # joined to one message, because not every provider accepts several
    first, host, found = rules["content"].split("\n\n", 2)
    assert first == "You are Vera. The caller's number is +49."
    assert (host, question) == (HOSTS["content"], QUESTION)
    assert found.startswith("Answer the caller from the passages below.") and "<passage source=" in found
    first, host, nothing = up.bodies[1]["messages"][0]["content"].split("\n\n")
    assert first == "You are Vera. The caller's number is ."
    assert nothing.startswith("Nothing was found about what the caller said.")


async def test_instructions_are_a_text_or_a_file_beside_the_graph(tmp_path: Path) -> None:
    (tmp_path / "persona.md").write_text("You are Otto.\n", encoding="utf-8")
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "anna.j2").write_text("You are Anna.\n", encoding="utf-8")
    given = {"otto": "persona.md", "anna": "anna", "receptionist": "receptionist", "none": ""}
    compiled = [
        (spec := Graph(name=name, instructions=text, steps=(Step("call_model"),)), compile_graph(spec, folder=tmp_path))
        for name, text in given.items()
    ]
    async with upstream() as up, serving(tmp_path / "data", models={"main": up.url}) as served:
        add_graphs(served.app, compiled=compiled)
        for name in given:
            await served.post(f"/{name}/chat/completions", asked(QUESTION))
    told = [body["messages"][0]["content"] for body in up.bodies]
    assert told[:2] == ["You are Otto.", "You are Anna."] and told[2].startswith("You are a friendly receptionist")
    assert up.bodies[3]["messages"] == [QUESTION]


async def test_instructions_use_the_passages_and_what_the_memory_knows_by_then(tmp_path: Path) -> None:
    spec = Graph(
        name="booking",
        instructions="Known: {{ memory.slots.name }}. Found: {% for one in passages %}{{ one.document }}{% endfor %}",
        policy=Policy(memory=Memory(slots={"name": "text"})),
        steps=(
            Step("retrieve", options={"top_k": 1}),
            Step("call_model", then={"answered": END, "told": "remember"}),
            Step("remember", then="call_model"),
        ),
    )
    scripts = (calls("remember", '{"name": "Ann"}'), says("Hello Ann."))
    async with upstream(*scripts) as up, serving(tmp_path, (spec, []), models={"main": up.url}) as served:
        await served.post("/booking/chat/completions", asked(QUESTION))
    assert [body["messages"][0]["content"] for body in up.bodies] == [
        "Known: . Found: hotel.en.md",
        "Known: Ann. Found: hotel.en.md",
    ]


async def test_instructions_stay_while_tools_run(tmp_path: Path) -> None:
    spec = Graph(
        name="hours",
        instructions="You are Vera.",
        steps=(Step("call_model", then={"answered": END, "tools": "run_tools"}), Step("run_tools", then="call_model")),
    )
    scripts = (calls("opening_hours", '{"day": "Monday"}'), says("From 7."))
    async with upstream(*scripts) as up, serving(tmp_path, models={"main": up.url}) as served:
        add_graphs(served.app, compiled=[(spec, compile_graph(spec, tools=[opening_hours]))])
        await served.post("/hours/chat/completions", asked(QUESTION))
    assert [one["role"] for one in up.bodies[1]["messages"]] == ["system", "user", "assistant", "tool"]
    assert up.bodies[1]["messages"][0]["content"] == "You are Vera."


@pytest.mark.parametrize(
    ("instructions", "sentence"),
    [
        ("persona.md", "graph 'g', instructions: unknown template 'persona.md'."),
        ("Hello {{ caller }}", "graph 'g', instructions: the template, line 1: unknown variable 'caller'."),
        ("a\nb {{ call.number }}", "graph 'g', instructions: the template, line 2: `call` has no field 'number'."),
        ("vera.j2", "{folder}/templates/vera.j2, line 2: graph 'g', instructions: unknown variable 'qestion'."),
    ],
)
def test_wrong_instructions_are_found_before_a_call(tmp_path: Path, instructions: str, sentence: str) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "vera.j2").write_text("You are Vera.\n{{ qestion }}\n", encoding="utf-8")
    spec = Graph(name="g", instructions=instructions, steps=(Step("call_model"),))
    with pytest.raises(GraphError) as told:
        compile_graph(spec, folder=tmp_path)
    assert str(told.value).startswith(sentence.replace("{folder}", str(tmp_path)))


async def test_the_log_shows_prompts_without_private_numbers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    rule = GuardRule(find="words", words=("Acme",), instead="(a name)")
    spec = Graph(name="vera", instructions="You are Vera.", steps=(Step("call_model"),), policy=Policy(guard=(rule,)))
    said = "My card is 4111 1111 1111 1111, call 13800138000. I am from Acme."
    for logs in (True, False):
        caplog.clear()
        async with upstream() as up:
            async with serving(tmp_path, (spec, []), models={"main": up.url}, log_prompts=logs) as served:
                words = [{"role": "user", "content": [{"type": "text", "text": said}]}]
                await served.post("/vera/chat/completions", asked(*words), {"x-call-id": "c1"})
        assert said in str(up.bodies[0]["messages"]), "the model gets every word"
        lines = [record for record in caplog.records if record.getMessage() == "prompt"]
        assert len(lines) == logs
        if logs:
            fields = vars(lines[0])
            assert (fields["graph"], fields["call"], fields["step"]) == ("vera", "c1", "call_model")
            assert re.search(r"My card is \d{4} \d{4} \d{4} \d{4}, call 13\d{9}. I am from \w{4}\.", fields["messages"])
        assert "4111" not in caplog.text and "Acme" not in caplog.text
