"""Records of turns: what they hold, which turns have one, and that nothing private is in them."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from dialgraph import END, Graph, GraphSettings, Memory, Policy, Step, compile_graph
from dialgraph.records.files import RecordFiles, Summary
from dialgraph.records.records import Records
from dialgraph.records.writer import MOST_WAITING, RecordWriter
from tests.support.serving import Served, add_graphs, serving
from tests.support.upstream import calls, says, upstream

ASKED = {"stream": True, "messages": [{"role": "user", "content": "Can I bring my dog?"}]}
RAG = "/rag/chat/completions"


async def recorded(served: Served, count: int = 1) -> list[tuple[Summary, list[dict[str, Any]]]]:
    """Return the turns once this many are written, each with the lines of its record."""
    files = served.state.records.files
    while len(found := list(files.summaries())) < count:  # noqa: ASYNC110 (a thread writes them)
        await asyncio.sleep(0.01)
    return [(one, [json.loads(line) for line in files.record(one).splitlines()]) for one in found]


def stream_of(lines: list[dict[str, Any]]) -> list[Any]:
    return [entry for line in lines if line["kind"] == "stream" for entry in line["entries"]]


def everything_in(folder: Path) -> str:
    return "".join(file.read_text(encoding="utf-8") for file in sorted(folder.rglob("*")) if file.is_file())


def order_status(number: str) -> str:
    """Return where an order is."""
    return f"Order {number} is on its way."


async def test_a_record_holds_what_reached_the_turn_and_what_left_it(tmp_path: Path) -> None:
    answer = [
        *says("Dogs ", "are ", "welcome.")[:-1],
        ("usage", {"prompt_tokens": 30, "completion_tokens": 4}),
        ("done",),
    ]
    async with upstream(answer) as up, serving(tmp_path, models={"main": up.url}, record="all") as served:
        await served.post(RAG, {**ASKED, "call_id": "call-1", "temperature": 0.5})
        [(summary, lines)] = await recorded(served)
    first, *_, last = lines
    assert (first["kind"], first["call"]["id"], first["host"]) == ("turn", "call-1", "openai")
    assert first["request"]["messages"] == ASKED["messages"] and first["request"]["parameters"] == {"temperature": 0.5}
    assert first["versions"]["graph"] and first["versions"]["dialgraph"]
    kinds = [line["kind"] for line in lines if line["kind"] not in ("stream", "step", "stepped")]
    assert kinds == ["turn", "client", "searched", "found", "asked", "answered", "end"]
    steps = [line["step"] for line in lines if line["kind"] == "stepped"]
    assert steps == ["acknowledge", "rewrite_question", "retrieve", "rewrite_messages", "call_model"]
    found = next(line for line in lines if line["kind"] == "found")
    assert found["passages"][0]["document"] == "hotel.en.md" and found["passages"][0]["score"] > 0.5
    asked = next(line for line in lines if line["kind"] == "asked")
    assert [message["role"] for message in asked["messages"]] == ["system", "system", "user"]
    words = [
        entry
        for entry in stream_of(lines)
        if isinstance(entry, str) or (isinstance(entry, list) and entry[1] == "part")
    ]
    assert "".join(
        one if isinstance(one, str) else one[3] for one in words if isinstance(one, str) or isinstance(one[3], str)
    ) == ("Dogs are welcome.")
    assert False in stream_of(lines) and True in stream_of(lines), "words left the line, and were written"
    assert last["outcome"] == "complete" and last["usage"]["prompt_tokens"] == 30
    assert sum(last["times"]["parts"].values()) == pytest.approx(last["times"]["first_word_ms"], abs=0.1)
    assert (summary.said, summary.heard, summary.tokens) == ("Can I bring my dog?", "Dogs are welcome.", 34)
    times = [line["t"] for line in lines if "t" in line]
    assert times == sorted(times) and times[0] >= first["started"]


async def test_tools_memory_and_timers_are_recorded_in_their_order(tmp_path: Path) -> None:
    spec = Graph(
        name="agent",
        policy=Policy(memory=Memory(slots={"name": "text"}, private=("name",))),
        steps=(
            Step("acknowledge", options={"after_ms": 1}),
            Step("call_model", then={"answered": END, "tools": "run_tools", "told": "remember"}),
            Step("run_tools", then="call_model"),
            Step("remember", then="call_model"),
        ),
    )
    scripts = (
        [("sleep", 0.2), *calls("order_status", '{"number": "7"}')],
        calls("remember", '{"name": "Zaphod"}'),
        says("Thank you, Zaphod, it is on its way."),
    )
    async with upstream(*scripts) as up, serving(tmp_path, models={"main": up.url}, record="all") as served:
        add_graphs(served.app, compiled=[(spec, compile_graph(spec, tools=[order_status]))])
        await served.post("/agent/chat/completions", {**ASKED, "call_id": "call-1"})
        [(summary, lines)] = await recorded(served)
    kinds = [line["kind"] for line in lines if line["kind"] in ("fired", "called", "returned", "saved", "asked")]
    assert kinds == ["asked", "fired", "called", "returned", "asked", "saved", "asked"]
    called = next(line for line in lines if line["kind"] == "called")
    assert (called["tool"], called["arguments"]) == ("order_status", {"number": "7"})
    assert next(line for line in lines if line["kind"] == "returned")["result"] == "Order 7 is on its way."
    assert summary.tools == ("order_status",)
    assert "Zaphod" not in everything_in(tmp_path / "records"), "the slot is private"


@pytest.mark.parametrize("size", [1, 3, 7])
async def test_nothing_private_is_in_a_record(tmp_path: Path, size: int) -> None:
    said = "Your card 4111 1111 1111 1111 and ann@example.com, Ms Trillian."
    pieces = [said[at : at + size] for at in range(0, len(said), size)]
    spec = Graph(name="shy", steps=(Step("call_model"),), policy=Policy(private=("Trillian",)))
    body = {
        "stream": True,
        "user": "+49 170 1234567",
        "call_id": "c-+49 170 1234567",
        "metadata": {"key": "sk-live-abcdef1234567890"},
        "messages": [{"role": "user", "content": "I am Trillian, 13812345678."}],
    }
    async with (
        upstream(says(*pieces)) as up,
        serving(tmp_path, (spec, []), models={"main": up.url}, record="all") as served,
    ):
        answer = (await served.post("/shy/chat/completions", body)).body
        [(summary, _)] = await recorded(served)
    assert b"4111" in answer or size < 4, "the caller hears everything"
    written = everything_in(tmp_path / "records")
    for private in ("4111 1111", "ann@example", "Trillian", "170 1234567", "13812345678", "abcdef1234567890"):
        assert private not in written, private
    assert served.state.records.redactor.text("Ms Trillian") == "Ms Trillian", "only this graph names her"
    assert len(summary.heard) == len(said) and "4111" not in summary.heard


async def test_private_slots_and_cut_texts_are_in_no_record(tmp_path: Path) -> None:
    spec = Graph(
        name="desk",
        policy=Policy(memory=Memory(slots={"pin": "number", "born": "date"}, private=("pin", "born"))),
        steps=(Step("call_model", then={"answered": END, "told": "remember"}), Step("remember", then="call_model")),
    )
    scripts = (calls("remember", '{"pin": 4711, "born": "12 May 1990x"}'), says("Card 4", "111 1111 1111 1111 **ok**."))
    long = "card 4111 1111 1111 1111 " + "x " * 242
    body = {"stream": True, "call_id": "c", "messages": [{"role": "user", "content": long}]}
    host = {"x-dialgraph-profile": "elevenlabs"}
    async with upstream(*scripts) as up, serving(tmp_path, (spec, []), models={"main": up.url}, record="all") as served:
        await served.post("/desk/chat/completions", body, host)
        await recorded(served)
    written = everything_in(tmp_path / "records")
    for private in ("4711", "12 May 1990", "1111 1111"):
        assert private not in written, private


async def test_damaged_lines_do_not_hide_the_others(tmp_path: Path) -> None:
    async with serving(tmp_path, record="all") as served:
        await served.post(RAG, {**ASKED, "call_id": "call-1"})
        await recorded(served)
        [day] = (tmp_path / "records").glob("2*")
        with (day / "index.jsonl").open("ab") as index:
            index.write(b'null\n{}\n{"id": "x"}\n{broken\n')
        (tmp_path / "records" / "feedback.jsonl").write_bytes(b"{}\nnull\n")
        assert [one.call for one in served.state.records.files.summaries()] == ["call-1"]
        assert served.state.records.files.feedback() == []


async def test_a_reply_that_is_not_streamed_is_slow_if_its_client_waits(tmp_path: Path) -> None:
    slow = [("chunk", "One "), ("sleep", 0.4), *says("two.")]
    async with (
        upstream(slow) as up,
        serving(tmp_path, models={"main": up.url}, record="slow", record_slow_ms=300) as served,
    ):
        reply = await served.post("/chat/chat/completions", {**ASKED, "stream": False}, {"x-dialgraph-timings": "true"})
        [(summary, _)] = await recorded(served)
    told = reply.json()["timings"]
    assert told["first_word_ms"] >= 390 and sum(told["parts"].values()) == pytest.approx(told["first_word_ms"], abs=0.1)
    assert summary.first_word_ms is not None and summary.first_word_ms >= 390


async def test_turns_are_recorded_as_the_setting_and_the_header_say(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        await served.post(RAG, {**ASKED, "call_id": "plain"})
        await served.post(RAG, {**ASKED, "call_id": "asked"}, {"x-dialgraph-record": "true"})
        await served.post(RAG, {**ASKED, "call_id": "asked", "seed": 2})
        await served.post(RAG, {**ASKED, "call_id": "asked", "seed": 3}, {"x-dialgraph-record": "false"})
        await served.post(RAG, {**ASKED, "call_id": "other"})
        found = await recorded(served, 2)
    served.state.records.close()
    assert [summary.call for summary, _ in found] == ["asked", "asked"], (
        "the header holds for the call until it is taken back"
    )
    assert len(list(served.state.records.files.summaries())) == 2


async def test_never_means_never(tmp_path: Path) -> None:
    async with serving(tmp_path, record="never") as served:
        await served.post(RAG, ASKED, {"x-dialgraph-record": "true"})
    assert not (tmp_path / "records").exists()


async def test_only_failures_or_slow_turns_are_kept_if_asked_for(tmp_path: Path) -> None:
    scripts: tuple[list[tuple[Any, ...]], ...] = (says("Yes."), [("status", 400, {}, b"{}")])
    async with upstream(*scripts) as up, serving(tmp_path / "a", models={"main": up.url}, record="failures") as served:
        await served.post("/chat/chat/completions", ASKED)
        await served.post("/chat/chat/completions", ASKED)
        [(failed, _)] = await recorded(served)
    assert failed.outcome == "error:upstream_rejected" and failed.failed
    slow = ([("sleep", 0.3), *says("Slow.")], says("Quick."))
    async with (
        upstream(*slow) as up,
        serving(tmp_path / "b", models={"main": up.url}, record="slow", record_slow_ms=250) as served,
    ):
        await served.post("/chat/chat/completions", ASKED)
        await served.post("/chat/chat/completions", ASKED)
        [(one, _)] = await recorded(served)
    assert one.heard == "Slow."


def test_a_share_is_one_of_calls() -> None:
    from dialgraph.records.choice import RecordChoice

    choice = RecordChoice("0.3")
    chosen = [choice.of(f"call-{at}", "") for at in range(2000)]
    assert 500 < chosen.count("yes") < 700 and chosen == [choice.of(f"call-{at}", "") for at in range(2000)]
    with pytest.raises(ValueError, match="a share from 0 to 1"):
        GraphSettings(record="often")


async def test_sound_is_kept_as_hash_and_length(tmp_path: Path) -> None:
    async with serving(tmp_path, record="all") as served:
        await served.post("/audio/chat/completions", ASKED)
        [(_, lines)] = await recorded(served)
    sounds = [entry for entry in stream_of(lines) if isinstance(entry, list) and entry[1] == "sound"]
    assert sounds and all(set(entry[3]["pcm"]) == {"bytes", "blake2b"} for entry in sounds)


async def test_records_of_a_caller_are_erased(tmp_path: Path) -> None:
    async with serving(tmp_path, record="all") as served:
        for call, number in (("a", "+49 170 1234567"), ("b", "+49 170 7654321"), ("c", "+49 170 1234567")):
            await served.post(RAG, {**ASKED, "call_id": call, "caller_number": number})
        await recorded(served, 3)
        records = served.state.records
        caller = next(iter(records.files.summaries())).caller
        assert caller.startswith("+49") or caller == ""
        erased = records.files.erase(call=records.redactor.text("a"))
    assert erased == 1 and [one.call for one in records.files.summaries()] == ["b", "c"]
    assert '"call":"a"' not in everything_in(tmp_path / "records")


async def test_a_call_is_rated_by_its_own_client(tmp_path: Path) -> None:
    keys = {"one": "a-key-of-sixteen-characters", "two": "other-key-of-sixteen-chars"}
    one, two = ({"authorization": f"Bearer {key}"} for key in keys.values())
    async with serving(tmp_path, record="all", api_keys=keys) as served:
        await served.post(RAG, {**ASKED, "call_id": "call-1"}, one)
        await recorded(served)
        given = {"call_id": "call-1", "rating": "bad", "note": "Too slow. Call +49 170 1234567."}
        stored = await served.post("/v1/feedback", given, one)
        others = await served.post("/v1/feedback", given, two)
        nothing = await served.post("/v1/feedback", {**given, "call_id": "call-2"}, one)
        wrong = await served.post("/v1/feedback", {**given, "rating": "so-so"}, one)
        stranger = await served.post("/v1/feedback", given)
    assert [reply.status for reply in (stored, others, nothing, wrong, stranger)] == [204, 404, 404, 400, 401]
    [feedback] = served.state.records.files.feedback()
    assert (feedback.rating, feedback.principal) == ("bad", "one") and "1234567" not in feedback.note


async def test_a_disk_that_refuses_records_fails_no_call(tmp_path: Path) -> None:
    async with serving(tmp_path, record="all") as served:
        (tmp_path / "records").write_text("a file where the folder should be")
        reply = await served.post(RAG, ASKED)
        while not served.state.records.dropped:  # noqa: ASYNC110 (a thread counts them)
            await asyncio.sleep(0.01)
        scrape = (await served.get("/metrics")).body.decode()
    assert reply.status == 200 and b"[DONE]" in reply.body
    assert "dialgraph_records_dropped_total 1.0" in scrape


def test_a_full_queue_drops_records_and_counts_them(tmp_path: Path) -> None:
    from threading import Event

    writer, gate = RecordWriter(RecordFiles(tmp_path), 7, 2**30), Event()

    def wait() -> None:
        gate.wait(60)

    for _ in range(MOST_WAITING + 10):
        writer.put(wait)
    assert 1 <= writer.dropped <= 10
    gate.set()
    writer.close()


def test_old_days_and_the_oldest_beyond_the_limit_are_deleted(tmp_path: Path) -> None:
    files = RecordFiles(tmp_path)
    for day in ("2020-01-01", "2026-11-01", "2026-11-02"):
        (tmp_path / day).mkdir()
        (tmp_path / day / "x.jsonl").write_bytes(b"x" * 1000)
    files.expire(36_500, 2_500)
    assert sorted(day.name for day in tmp_path.iterdir()) == ["2026-11-01", "2026-11-02"], "the oldest goes first"
    files.expire(1, 2_500)
    assert not list(tmp_path.iterdir()), "all are older than a day"


async def test_a_stopping_server_writes_what_waits(tmp_path: Path) -> None:
    async with serving(tmp_path, record="all") as served:
        await served.post(RAG, ASKED)
    assert len(list(Records(GraphSettings(data_dir=tmp_path)).files.summaries())) == 1
    shutil.rmtree(tmp_path / "records")
