"""Histories, as hosts and interruptions leave them, are sent upstream in a form that every provider accepts."""

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dialgraph.models.history.accept import accepted
from dialgraph.models.history.dialect import dialect_of
from dialgraph.project import ROOT
from tests.support.providers import REFUSES, complaints
from tests.support.serving import CHAT, serving
from tests.support.upstream import upstream

Message = dict[str, Any]
SYSTEM: Message = {"role": "system", "content": "Be brief."}
BEGINS: Message = {"role": "user", "content": "(The call begins.)"}
WAITS: Message = {"role": "user", "content": "(The caller is waiting.)"}
CUT: Message = {"role": "assistant", "content": "(interrupted)"}


def user(content: Any = "hi", **more: Any) -> Message:
    return {"role": "user", "content": content, **more}


def assistant(content: Any = "Hello.", **more: Any) -> Message:
    return {"role": "assistant", "content": content, **more}


def made(identity: Any = "abcdefg01", name: Any = "f", arguments: Any = "{}", **more: Any) -> Message:
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}, **more}


def result(identity: str = "abcdefg01", content: Any = "done", **more: Any) -> Message:
    return {"role": "tool", "tool_call_id": identity, "content": content, **more}


CALLED = assistant("", tool_calls=[made()])
NAMED = result(name="f")
LOST = result(content="The call was interrupted before there was a result.", name="f")
SIGNED = made(extra_content={"google": {"thought_signature": "s"}})
LEGACY = {"name": "f", "arguments": "{}"}
HISTORIES: dict[str, tuple[list[Message], list[Message]]] = {
    "only a system message": ([SYSTEM], [SYSTEM, BEGINS]),
    "only a developer message": ([{**SYSTEM, "role": "developer"}], [SYSTEM, BEGINS]),
    "a greeting first": ([SYSTEM, assistant(), user()], [SYSTEM, BEGINS, assistant(), user()]),
    "the assistant last": ([user(), assistant()], [user(), assistant(), WAITS]),
    "the assistant last, in Chinese": (
        [user("你好"), assistant("您好。")],
        [user("你好"), assistant("您好。"), user("（来电者在等待）")],
    ),
    "an answer to be continued": ([user(), assistant(prefix=True)], [user(), assistant(prefix=True)]),
    "two system messages": (
        [SYSTEM, {"role": "developer", "content": "Be kind."}, user()],
        [{"role": "system", "content": "Be brief.\n\nBe kind."}, user()],
    ),
    "a system message in the middle": (
        [SYSTEM, user("a"), assistant(), {"role": "system", "content": "He waits."}, user("b")],
        [SYSTEM, user("a"), assistant(), user("(Instruction: He waits.)\nb")],
    ),
    "a system message at the end": (
        [user("a"), assistant(), {"role": "system", "content": "Ask again."}],
        [user("a"), assistant(), user("(Instruction: Ask again.)")],
    ),
    "two users": ([user("a"), user("b")], [user("a\nb")]),
    "two users, one with a picture": (
        [user("a"), user([{"type": "image_url", "image_url": {"url": "data:x"}}])],
        [user([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "data:x"}}])],
    ),
    "two assistants": ([user(), assistant("a"), assistant("b"), user()], [user(), assistant("a b"), user()]),
    "empty messages": (
        [{"role": "system", "content": " "}, user("a"), assistant(""), assistant(None), user("\n"), user("b")],
        [user("a\nb")],
    ),
    "nulls and empty leftovers": (
        [user(name=None), assistant(tool_calls=[], refusal=None, audio=None, function_call=None, name=""), user()],
        [user(), assistant(), user()],
    ),
    "a call and its result": ([user(), CALLED, result(), user()], [user(), CALLED, NAMED, CUT, user()]),
    "a result and the answer to it": (
        [user(), CALLED, result(), assistant(), user()],
        [user(), CALLED, NAMED, assistant(), user()],
    ),
    "a call without a result": (
        [user(), CALLED, user()],
        [user(), CALLED, LOST, CUT, user()],
    ),
    "a call last": (
        [user(), CALLED],
        [user(), CALLED, LOST],
    ),
    "a result without a call": ([user(), result("zzzzzzzzz"), user("b")], [user("hi\nb")]),
    "a result that comes later": (
        [user("a"), CALLED, user("b"), result()],
        [user("a"), CALLED, NAMED, CUT, user("b")],
    ),
    "an empty result": (
        [user(), CALLED, result(content="")],
        [user(), CALLED, result(content="(no output)", name="f")],
    ),
    "a result in parts": (
        [user(), CALLED, result(content=[{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])],
        [user(), CALLED, result(content="a\nb", name="f")],
    ),
    "a call with an empty name": (
        [user(), assistant("", tool_calls=[made(name="")]), result(), user("b")],
        [user("hi\nb")],
    ),
    "a call without arguments": (
        [user(), assistant(None, tool_calls=[made(arguments=None)]), result()],
        [user(), CALLED, NAMED],
    ),
    "arguments as an object": (
        [user(), assistant("", tool_calls=[made(arguments={"a": 1})]), result()],
        [user(), assistant("", tool_calls=[made(arguments='{"a":1}')]), NAMED],
    ),
    "arguments that were cut": (
        [user(), assistant("", tool_calls=[made(arguments='{"a":')]), result()],
        [user(), CALLED, NAMED],
    ),
    "a call in the legacy form": (
        [user(), assistant(None, function_call=LEGACY), {"role": "function", "name": "f", "content": "x"}],
        [user(), assistant("", tool_calls=[made("legacy001")]), result("legacy001", "x", name="f")],
    ),
    "calls on a user's message": ([user("a", tool_calls=[made()], function_call=LEGACY)], [user("a")]),
    "both forms of calls": (
        [user(), assistant("", tool_calls=[made()], function_call=LEGACY), result()],
        [user(), CALLED, NAMED],
    ),
    "a call that is not a list": ([user(), assistant("", tool_calls=made()), result()], [user(), CALLED, NAMED]),
    "calls that are not calls": ([user(), assistant("a", tool_calls="none"), user()], [user(), assistant("a"), user()]),
    "a call without a function": (
        [user(), assistant("a", tool_calls=[{"id": "abcdefg01", "type": "function"}]), user()],
        [user(), assistant("a"), user()],
    ),
    "a flat call without a type": (
        [user(), assistant("", tool_calls=[{"id": "abcdefg01", "name": "f", "arguments": "{}"}]), result()],
        [user(), CALLED, NAMED],
    ),
    "arguments that are not an object": (
        [user(), assistant("", tool_calls=[made(arguments="[1]")]), result()],
        [user(), CALLED, NAMED],
    ),
    "one id for the calls of two answers": (
        [user(), CALLED, user("a"), CALLED, result(content="B")],
        [user(), CALLED, LOST, CUT, user("a"), CALLED, result(content="B", name="f")],
    ),
    "a result before its call": (
        [user(), result(content="B"), CALLED],
        [user(), CALLED, result(content="B", name="f")],
    ),
    "a result that is pending first": (
        [user(), CALLED, result(content="pending"), result(content="21 degrees")],
        [user(), CALLED, result(content="21 degrees", name="f")],
    ),
    "results matched by name": (
        [
            user(), assistant(None, function_call=LEGACY),
            assistant(None, function_call={"name": "g", "arguments": "{}"}),
            {"role": "function", "name": "g", "content": "G"},
        ],
        [
            user(), assistant("", tool_calls=[made("legacy001")]), {**LOST, "tool_call_id": "legacy001"},
            assistant("", tool_calls=[made("legacy002", "g")]), result("legacy002", "G", name="g"),
        ],
    ),
    "a result as JSON parts": (
        [user(), CALLED, result(content=[{"type": "json", "json": {"t": 21}}])],
        [user(), CALLED, result(content='[{"type":"json","json":{"t":21}}]', name="f")],
    ),
    "words in other fields of a part": (
        [user([{"type": "text", "content": "a"}, {"type": "text", "text": {"value": "b"}}])],
        [user("a\nb")],
    ),
    "a refusal as a part": (
        [user(), assistant([{"type": "refusal", "refusal": "No."}]), user("b")],
        [user(), assistant("No."), user("b")],
    ),
    "text in parts": ([user([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])], [user("a\nb")]),
    "a refusal": ([user(), assistant(None, refusal="No."), user("b")], [user(), assistant("No."), user("b")]),
    "fields that a provider attached": (
        [user(), assistant("", tool_calls=[SIGNED]), result()],
        [user(), assistant("", tool_calls=[SIGNED]), NAMED],
    ),
}  # fmt: skip


@pytest.mark.parametrize("history", HISTORIES)
async def test_a_history_is_sent_in_a_form_that_every_provider_accepts(history: str, tmp_path: Path) -> None:
    given, sent = HISTORIES[history]
    async with upstream() as up, serving(tmp_path, models={"main": up.url}) as served:
        reply = await served.post(CHAT, {"messages": given, "stream": True})
    assert reply.status == 200 and up.bodies[0]["messages"] == sent


async def test_an_id_that_some_providers_refuse_is_replaced_consistently(tmp_path: Path) -> None:
    odd = ["call_" + "x" * 60, "a.b c", "", "call_1", None]
    history = [user()]
    for identity in odd:
        history += [assistant("", tool_calls=[made(identity)]), result(identity or "lost"), assistant(), user()]
    async with upstream() as up, serving(tmp_path, models={"main": up.url}) as served:
        for _ in range(2):
            assert (await served.post(CHAT, {"messages": history, "stream": True})).status == 200
    assert up.bodies[0]["messages"] == up.bodies[1]["messages"]
    ids = [call["id"] for message in up.bodies[0]["messages"] for call in message.get("tool_calls", ())]
    assert len(set(ids)) == len(odd)


async def test_calls_without_ids_or_with_a_shared_id_get_their_own_results(tmp_path: Path) -> None:
    for identity in ("", None, "same"):
        called = assistant("", tool_calls=[made(identity, "weather"), made(identity, "get_time")])
        history = [user(), called, result(identity or "", "21 degrees"), result(identity or "", "noon")]
        async with upstream() as up, serving(tmp_path / str(identity), models={"main": up.url}) as served:
            assert (await served.post(CHAT, {"messages": history, "stream": True})).status == 200
        _, calls, *results = up.bodies[0]["messages"]
        ids = [call["id"] for call in calls["tool_calls"]]
        assert len(set(ids)) == 2 and [one["tool_call_id"] for one in results] == ids
        assert [(one["name"], one["content"]) for one in results] == [("weather", "21 degrees"), ("get_time", "noon")]


def test_pairing_calls_with_results_takes_linear_time() -> None:
    called = assistant("", tool_calls=[made(f"x{number}") for number in range(20_000)])
    history = [called, *(result(f"x{number}") for number in range(20_000))]
    began = time.process_time()
    accepted(history)
    assert time.process_time() - began < 3, "linear time is 0.3 s; quadratic time is more than 7 s"


async def test_arguments_nested_too_deeply_are_refused_with_400(tmp_path: Path) -> None:
    deep: Any = {}
    for _ in range(300):
        deep = {"a": deep}
    async with upstream() as up, serving(tmp_path, models={"main": up.url}) as served:
        history = [user(), assistant("", tool_calls=[made(arguments=deep)]), result()]
        reply = await served.post(CHAT, {"messages": history, "stream": True})
    assert reply.status == 400 and not up.exchanges


async def test_a_provider_that_accepts_more_is_sent_more(tmp_path: Path) -> None:
    late = {"role": "developer", "content": "He waits."}
    history = [SYSTEM, user(name="Ann"), assistant("", tool_calls=[made("call_1")]), result("call_1"), late]
    dialect = ("developer", "late_system", "names", "ids")
    async with upstream(strict=False) as up:
        async with serving(tmp_path, models={"main": {"url": up.url, "dialect": dialect}}) as served:
            await served.post(CHAT, {"messages": history, "stream": True})
    assert up.bodies[0]["messages"] == [*history[:3], result("call_1", name="f"), late]
    assert dialect_of("api.openai.com") == dialect_of("x.openai.azure.com") == set(dialect)
    assert not dialect_of("openai.com.evil.example") and not dialect_of("notapi.openai.com")


async def test_a_dialect_can_demand_single_calls_and_no_system_message(tmp_path: Path) -> None:
    two = assistant("", tool_calls=[made("abcdefg01"), made("abcdefg02")])
    history = [SYSTEM, user(), two, result("abcdefg01"), result("abcdefg02")]
    async with upstream() as up:
        async with serving(tmp_path, models={"main": {"url": up.url, "dialect": ("one_call", "no_system")}}) as served:
            await served.post(CHAT, {"messages": history, "stream": True})
    assert up.bodies[0]["messages"] == [
        user("(Instruction: Be brief.)\nhi"),
        assistant("", tool_calls=[made("abcdefg01")]), result("abcdefg01", name="f"),
        assistant("", tool_calls=[made("abcdefg02")]), result("abcdefg02", name="f"),
    ]  # fmt: skip


TEXTS = st.sampled_from(["", " ", "hi", "你好", None, [], [{"type": "text", "text": "a"}], [{"type": "image_url"}]])
IDS = st.sampled_from(["abcdefg01", "call_1", "", None, "x y"])
CALLS = st.lists(
    st.builds(made, IDS, st.sampled_from(["f", "", "a b", None]), st.sampled_from(["{}", "", "{", None, {"a": 1}])),
    max_size=3,
)
MESSAGES = st.lists(
    st.one_of(
        st.builds(lambda role, content: {"role": role, "content": content},
                  st.sampled_from(["system", "developer", "user", "assistant", "function"]), TEXTS),
        st.builds(lambda content, calls: assistant(content, tool_calls=calls), TEXTS, CALLS),
        st.builds(result, st.sampled_from(["abcdefg01", "call_1", "x y", "lost"]), TEXTS),
        st.builds(lambda content: assistant(content, function_call={"name": "f", "arguments": "{}"}), TEXTS),
    ),
    max_size=12,
)  # fmt: skip


@given(MESSAGES)
@settings(max_examples=1000, deadline=None)
def test_any_history_becomes_one_that_every_provider_accepts(history: list[Message]) -> None:
    sent = accepted(history)
    assert complaints({"messages": sent, "model": "m"}) == []
    assert accepted(sent) == sent, "an accepted history must not change again"


def test_every_rule_of_the_strict_providers_refuses_something() -> None:
    """Check that the mocks are strict: each rule refuses something."""
    parts = [{"type": "text", "text": "x"}]
    messages = [
        assistant(None, name="x"), user(""), user("b"), {"role": "developer", "content": parts},
        assistant("", tool_calls=[made("call_1", "a b", "{")]), result("no"), user(), assistant(),
    ]  # fmt: skip
    bad: dict[str, Any] = {"messages": messages, "metadata": {}, "top_k": 1, "tools": []}
    said = "\n".join(complaints(bad))
    rules = {rule.__name__ for rules in REFUSES.values() for rule in rules} - {
        "one_system_message_first",
        "a_user_first",
    }
    assert all(rule in said for rule in rules), rules - {line.partition(":")[0] for line in said.splitlines()}
    assert complaints({"messages": [user(), SYSTEM]}) and complaints({"messages": [SYSTEM]})


def test_the_table_of_providers_in_the_docs_matches_the_tested_rules() -> None:
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    table = page[page.index("| rule | OpenAI") :].partition("\n\n")[0].splitlines()
    providers = [cell.strip() for cell in table[0].split("|")[2:-1]]
    written = {
        (row[1].strip().replace(" ", "_"), provider)
        for row in (line.split("|") for line in table[2:])
        for provider, mark in zip(providers, row[2:-1], strict=True)
        if mark.strip()
    }
    assert written == {(rule.__name__, provider) for provider, rules in REFUSES.items() for rule in rules}
