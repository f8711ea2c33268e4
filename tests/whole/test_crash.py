"""The server is killed while a tool runs."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from dialgraph.project import ROOT
from tests.support.serving import Connection
from tests.support.upstream import calls, says, upstream
from tests.support.wire import read_stream

GRAPH = '''
"""An endpoint whose tool has an effect."""
import os, time
from pathlib import Path
from dialgraph.graph.compile import compile_graph
from dialgraph.graph.spec import END, Graph, Step
from dialgraph.tools.port import ToolContext

EFFECTS = Path(os.environ["EFFECTS"])

def pay(amount: int, context: ToolContext) -> str:
    """Pay an amount."""
    (EFFECTS / "tries").open("a").write(context.idempotency_key + "\\n")
    paid = EFFECTS / context.idempotency_key
    if not paid.exists():
        paid.write_text(str(amount))
    if (EFFECTS / "slow").exists():
        time.sleep(30)
    return "paid"

spec = Graph(name="payer", steps=(
    Step("call_model", then={"answered": END, "tools": "run_tools"}),
    Step("run_tools", options={"timeout_ms": 60000}, then="call_model"),
))
graph = compile_graph(spec, tools=[pay])
'''
ASK = b'{"messages":[{"role":"user","content":"pay"}],"stream":true}'
REQUEST = (
    b"POST /payer/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    b"x-call-id: c1\r\ncontent-length: %d\r\n\r\n%b" % (len(ASK), ASK)
)


async def test_a_turn_repeated_after_a_kill_pays_once(tmp_path: Path) -> None:
    (tmp_path / "payer_graph.py").write_text(GRAPH)
    (tmp_path / "langgraph.json").write_text('{"graphs": {"payer": "payer_graph:graph"}}')
    effects = tmp_path / "effects"
    effects.mkdir()
    (effects / "slow").touch()
    pay, done = calls("pay", '{"amount": 5}'), says("Paid.")
    async with upstream(pay, pay, done) as up:
        environment = {
            **os.environ, "EFFECTS": str(effects), "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "DIALGRAPH_PORT": "0",
            "DIALGRAPH_GRAPHS_FILE": str(tmp_path / "langgraph.json"), "DIALGRAPH_DATA_DIR": str(tmp_path / "data"),
            "LLM_BASE_URL": up.url, "DIALGRAPH_AUTH": "none",
        }  # fmt: skip

        async def start() -> tuple[asyncio.subprocess.Process, int]:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "server.cli", "serve", env=environment,
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
            assert process.stdout is not None
            line = (await process.stdout.readline()).decode()
            return process, int(line.split(" (")[0].rsplit(":", 1)[1])

        process, port = await start()
        connection = Connection(*await asyncio.open_connection("127.0.0.1", port))
        await connection.send(REQUEST)
        await up.until(lambda: (effects / "tries").exists() and bool((effects / "tries").read_text()), 20)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        await connection.aclose()
        (effects / "slow").unlink()
        process, port = await start()
        try:
            connection = Connection(*await asyncio.open_connection("127.0.0.1", port))
            await connection.send(REQUEST)
            answer = read_stream((await connection.reply()).body)
            await connection.aclose()
        finally:
            process.terminate()
            await process.wait()
    tries = (effects / "tries").read_text().splitlines()
    assert answer.text == "Paid." and len(tries) == 2 and len(set(tries)) == 1
    assert [path.name for path in effects.iterdir() if path.name != "tries"] == [tries[0]]
