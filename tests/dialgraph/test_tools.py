"""Tools that run on the server: what the model is offered, what it gets back, and what the caller never sees."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import orjson
import pytest

from dialgraph.graph.compile import CompiledGraph, compile_graph
from dialgraph.graph.errors import GraphError
from dialgraph.graph.spec import END, Graph, Step
from dialgraph.tools.port import ToolContext
from tests.support.serving import Served, add_graphs, serving
from tests.support.upstream import Action, Upstream, calls, says, upstream
from tests.support.wire import read_stream

PATH = "/agent/chat/completions"
EFFECTS: list[str] = []


async def get_weather(city: str, days: int = 1) -> dict[str, object]:
    """The weather of a city."""
    return {"city": city, "degrees": 20 + days}


def book_room(name: str, context: ToolContext) -> str:
    """Book a room."""
    EFFECTS.append(f"{name} for {context.caller_number} in {context.call_id}")
    return f"Room booked, key {context.idempotency_key}."


async def never(city: str) -> str:
    """Wait for a minute."""
    await asyncio.sleep(60)
    return city


def breaks() -> str:
    """Fail."""
    raise RuntimeError("secret path /srv/x")


def agent(**options: Any) -> tuple[Graph, CompiledGraph]:
    """Return a graph whose model can call all of these tools, and hang up."""
    spec = Graph(
        name="agent",
        steps=(
            Step("call_model", then={"answered": END, "tools": "run_tools", "hangup": "hangup"}),
            Step("run_tools", options=options, then="call_model"),
            Step("hangup"),
        ),
    )
    return spec, compile_graph(spec, tools=[get_weather, book_room, never, breaks])


@asynccontextmanager
async def talking(tmp_path: Path, *scripts: list[Action], **options: Any) -> AsyncIterator[tuple[Served, Upstream]]:
    """Serve the agent over an upstream that plays these scripts."""
    async with upstream(*scripts) as up, serving(tmp_path, models={"main": up.url}) as served:
        add_graphs(served.app, compiled=[agent(**options)])
        yield served, up


def two_calls(*named: tuple[str, str]) -> list[Action]:
    """Return an answer that calls several tools together, in fragments."""
    starts = [
        {"index": at, "id": f"up_{at}", "type": "function", "function": {"name": name, "arguments": ""}}
        for at, (name, _) in enumerate(named)
    ]
    parts = [{"index": at, "function": {"arguments": arguments}} for at, (_, arguments) in enumerate(named)]
    return [("delta", {"tool_calls": starts}), ("delta", {"tool_calls": parts}), ("finish", "tool_calls"), ("done",)]


async def test_a_tool_runs_on_the_server_and_only_the_answer_is_sent(tmp_path: Path) -> None:
    usage: Action = ("usage", {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5})
    first = [("chunk", "Let me look. "), *calls("get_weather", '{"city":"Bonn"}')[:-1], usage, ("done",)]
    second = [*says("It is 21 degrees.")[:-1], usage, ("done",)]
    async with talking(tmp_path, first, second) as (served, up):
        reply = await served.ask("Weather in Bonn?", PATH, stream_options={"include_usage": True})
    answer = read_stream(reply.body)
    assert (answer.text, answer.finish, answer.tool_calls) == ("Let me look. It is 21 degrees.", "stop", [])
    assert answer.usage is not None and answer.usage["total_tokens"] == 10
    assert b"get_weather" not in reply.body
    names = [tool["function"]["name"] for tool in up.bodies[0]["tools"]]
    assert names == ["get_weather", "book_room", "never", "breaks", "hangup"]
    schema = up.bodies[0]["tools"][0]["function"]
    assert schema["description"] == "The weather of a city."
    assert schema["parameters"]["properties"] == {"city": {"type": "string"}, "days": {"default": 1, "type": "integer"}}
    assert "context" not in up.bodies[0]["tools"][1]["function"]["parameters"]["properties"]
    *_, asked, told = up.bodies[1]["messages"]
    assert asked["content"] == "Let me look. " and asked["tool_calls"][0]["id"] == told["tool_call_id"]
    assert orjson.loads(told["content"]) == {"city": "Bonn", "degrees": 21}


async def test_tools_run_together_and_their_failures_are_sent_to_the_model(tmp_path: Path) -> None:
    first = two_calls(
        ("never", '{"city":"x"}'), ("breaks", ""), ("get_weather", '{"town":"x"}'), ("get_weather", '{"city":"Ulm"}')
    )
    async with talking(tmp_path, first, says("Done."), timeout_ms=100) as (served, up):
        answer = read_stream((await served.ask("all", PATH)).body)
    assert answer.text == "Done."
    told = [orjson.loads(message["content"]) for message in up.bodies[1]["messages"] if message["role"] == "tool"]
    assert told[:2] == [{"error": "The tool took too long."}, {"error": "The tool failed."}]
    assert told[2]["error"].startswith("The arguments are wrong. city is missing") and told[3]["city"] == "Ulm"
    assert b"secret" not in orjson.dumps(up.bodies)


async def test_after_the_last_pass_the_model_answers_without_tools(tmp_path: Path) -> None:
    again = calls("get_weather", '{"city":"Bonn"}')
    async with talking(tmp_path, again, again, says("Twenty-one."), passes=2) as (served, up):
        answer = read_stream((await served.ask("?", PATH)).body)
    assert answer.text == "Twenty-one." and len(up.bodies) == 3
    assert [body.get("tool_choice") for body in up.bodies] == [None, None, None], (
        "the model must still be able to call hangup"
    )


async def test_a_model_that_calls_tools_after_the_last_pass_is_an_error(tmp_path: Path) -> None:
    again = calls("get_weather", '{"city":"Bonn"}')
    async with talking(tmp_path, again, again, passes=1) as (served, _):
        reply = await served.ask("?", PATH)
    assert reply.status == 502 and reply.error["code"] == "upstream_empty"


async def test_the_clients_own_tools_are_passed_on_and_end_the_stream(tmp_path: Path) -> None:
    own = {"type": "function", "function": {"name": "open_door", "parameters": {"type": "object", "properties": {}}}}
    async with talking(tmp_path, two_calls(("get_weather", '{"city":"x"}'), ("open_door", '{"a":1}'))) as (served, up):
        answer = read_stream((await served.ask("open", PATH, tools=[own])).body)
    assert [(call["name"], call["arguments"]) for call in answer.tool_calls] == [("open_door", '{"a":1}')]
    assert answer.finish == "tool_calls" and len(up.bodies) == 1
    assert [tool["function"]["name"] for tool in up.bodies[0]["tools"]][:2] == ["open_door", "get_weather"]


async def test_a_hangup_after_a_tool_is_sent_once(tmp_path: Path) -> None:
    async with talking(tmp_path, calls("book_room", '{"name":"Ann"}'), calls("hangup")) as (served, _):
        EFFECTS.clear()
        headers = {"x-call-id": "c-9", "x-caller-number": "+49"}
        body = {"messages": [{"role": "user", "content": "book, then bye"}], "stream": True}
        answer = read_stream((await served.post(PATH, body, headers)).body)
    assert [call["name"] for call in answer.tool_calls] == ["hangup"] and EFFECTS == ["Ann for +49 in c-9"]


async def test_a_client_that_leaves_stops_a_running_tool(tmp_path: Path, nothing_left: None) -> None:
    async with talking(tmp_path, calls("never", '{"city":"x"}')) as (served, up):
        connection = await served.connect()
        body = {"messages": [{"role": "user", "content": "go"}], "stream": True}
        await connection.send(served.request(PATH, body))
        await up.until(lambda: len(up.exchanges) == 1 and up.exchanges[0].sent == 0)
        connection.reset()
        await up.until(lambda: not served.state.runs.open)


async def test_a_repeated_turn_gives_its_tools_the_same_idempotency_key(tmp_path: Path) -> None:
    book = calls("book_room", '{"name":"Ann"}')
    keys = []
    for question, call in (
        ("book", "c"),
        ("book", "c"),
        ("book again", "c"),
        ("book", "d"),
        ("book", ""),
        ("book", ""),
    ):
        async with talking(tmp_path, book, says("Booked.")) as (served, up):
            body = {"messages": [{"role": "user", "content": question}], "stream": True}
            await served.post(PATH, body, {"x-call-id": call} if call else None)
            keys.append(up.bodies[1]["messages"][-1]["content"])
    assert keys[0] == keys[1] and len(set(keys)) == 5, "without a call id every turn must have its own key"


def test_a_tool_without_types_or_docstring_is_refused_at_the_start() -> None:
    spec, _ = agent()

    def untyped(city):  # type: ignore[no-untyped-def]
        """Take an argument without a type."""

    def silent(city: str) -> str:
        return city

    for function, mistake in ((untyped, "parameter 'city' has no type"), (silent, "has no docstring")):
        with pytest.raises(GraphError, match=mistake):
            compile_graph(spec, tools=[function])
    with pytest.raises(GraphError, match=r"test_tools.py, line \d+: .*tool 'get_weather': two tools have this name."):
        compile_graph(spec, tools=[get_weather, get_weather])


def test_what_is_no_function_is_no_tool() -> None:
    spec, _ = agent()
    for tools, mistake in (
        (get_weather, "it must be a list of functions, not the function 'get_weather'."),
        (["get_weather"], "it must be a list of functions, not of `str`."),
        ("get_weather", "it must be a list of functions, not `str`."),
    ):
        with pytest.raises(GraphError) as refused:
            compile_graph(spec, tools=cast(Any, tools))
        assert mistake in str(refused.value)


def test_a_parameter_that_no_model_can_fill_is_refused() -> None:
    def book(when: Weekday) -> str:
        """Book a table."""
        return str(when)

    with pytest.raises(GraphError, match="the type `Weekday` of the parameter 'when' has no JSON Schema. Accepted: "):
        compile_graph(agent()[0], tools=[book])


class Weekday:
    """A day, in a type that has no JSON Schema."""


MCP_SERVER = """
import sys
from mcp.server.fastmcp import FastMCP
server = FastMCP("shop", host="127.0.0.1", port=int(sys.argv[1]), log_level="ERROR")
@server.tool()
def price(item: str) -> str:
    "The price of an item."
    if item == "moon":
        raise ValueError("secret")
    return f"{item} costs 3 euros"
server.run(transport="streamable-http")
"""


async def test_tools_of_an_mcp_server_can_be_called(tmp_path: Path, unused_tcp_port: int) -> None:
    arguments = ("-c", MCP_SERVER, str(unused_tcp_port))
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stderr=asyncio.subprocess.DEVNULL)
    try:
        for _ in range(400):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", unused_tcp_port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                break
        spec = Graph(
            name="shop",
            steps=(
                Step("call_model", then={"answered": END, "tools": "run_tools"}),
                Step("run_tools", options={"servers": ["shop"]}, then="call_model"),
            ),
        )
        servers = {"shop": f"http://127.0.0.1:{unused_tcp_port}/mcp"}
        script = two_calls(("price", '{"item":"tea"}'), ("price", '{"item":"moon"}'))
        async with upstream(script, says("Three.")) as up:
            async with serving(tmp_path, (spec, []), models={"main": up.url}, tool_servers=servers) as served:
                answer = read_stream((await served.ask("tea?", "/shop/chat/completions")).body)
    finally:
        process.kill()
        await process.wait()
    assert answer.text == "Three." and up.bodies[0]["tools"][0]["function"]["name"] == "price"
    results = [message["content"] for message in up.bodies[1]["messages"] if message["role"] == "tool"]
    assert results[0] == "tea costs 3 euros" and results[1].startswith("Error")


async def test_words_before_a_tool_are_sent_while_it_runs(tmp_path: Path) -> None:
    first = [("chunk", "Let me look."), *calls("never", '{"city":"x"}')]
    async with talking(tmp_path, first, says("It is 21."), timeout_ms=1500) as (served, _):
        connection = await served.connect()
        body = {"messages": [{"role": "user", "content": "go"}], "stream": True}
        await connection.send(served.request(PATH, body, {"x-dialgraph-profile": "agora"}))
        began = asyncio.get_running_loop().time()
        await connection.head()
        data = await connection.chunk()
        while b"look" not in data:
            data += await connection.chunk()
        assert asyncio.get_running_loop().time() - began < 1
        while piece := await connection.chunk():
            data += piece
    assert read_stream(data).text == "Let me look. It is 21."


async def test_a_call_of_an_unknown_tool_is_reported_only_to_the_model(tmp_path: Path) -> None:
    async with talking(tmp_path, calls("fly_to_moon"), says("I cannot fly.")) as (served, up):
        answer = read_stream((await served.ask("?", PATH)).body)
    assert (answer.text, answer.tool_calls) == ("I cannot fly.", [])
    assert orjson.loads(up.bodies[1]["messages"][-1]["content"]) == {"error": "There is no such tool."}


async def test_a_required_tool_choice_applies_only_to_the_first_pass(tmp_path: Path) -> None:
    weather = calls("get_weather", '{"city":"Bonn"}')
    async with talking(tmp_path, weather, says("21.")) as (served, up):
        answer = read_stream((await served.ask("?", PATH, tool_choice="required")).body)
    assert answer.text == "21." and [body["tool_choice"] for body in up.bodies] == ["required", "auto"]


async def test_a_call_goes_on_without_the_tools_of_an_absent_mcp_server(tmp_path: Path) -> None:
    steps = (
        Step("call_model", then={"answered": END, "tools": "run_tools"}),
        Step("run_tools", options={"servers": ["away"]}, then="call_model"),
    )
    spec = Graph(name="agent", steps=steps)
    servers = {"away": "http://127.0.0.1:9/mcp"}
    async with upstream(default=says("Hello.")) as up:
        async with serving(tmp_path, models={"main": up.url}, tool_servers=servers) as served:
            add_graphs(served.app, compiled=[(spec, compile_graph(spec, tools=[get_weather]))])
            answers = [read_stream((await served.ask("hi", PATH)).body).text for _ in range(2)]
    assert answers == ["Hello."] * 2
    assert [tool["function"]["name"] for tool in up.bodies[1]["tools"]] == ["get_weather"]
