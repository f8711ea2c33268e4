"""The node `run_tools`: runs the tools that the model called, on this server."""

import asyncio
import hashlib
import logging
from collections.abc import Mapping
from typing import Annotated, Any

import orjson
from pydantic import Field

from dialgraph import State, Toolbox, ToolContext, ToolError, Turn, Update, node
from dialgraph.graph.places import failure_of
from dialgraph.turn.prompt import first_prompt
from dialgraph.turn.times import ToolTime

log = logging.getLogger(__name__)


@node(
    reads="tool_calls",
    may_read=("prompt", "passes", "said", "attached"),
    writes=("prompt", "passes", "tool_results"),
    uses={"servers": "toolbox"},
    offers_tools=True,
)
async def run_tools(
    state: State,
    turn: Turn,
    *,
    servers: tuple[str, ...] = (),
    only: tuple[str, ...] = (),
    passes: Annotated[int, Field(ge=1, le=20)] = 3,
    timeout_ms: Annotated[int, Field(ge=1)] = 5000,
) -> Update:
    """Run all tools that the model called, at the same time, and add their results to the prompt.

    Lead `call_model` to this step and back. Then `call_model` offers the tools to the model:
    `Step("call_model", then={"answered": END, "tools": "run_tools"}), Step("run_tools", then="call_model")`.

    The tools are the functions in `compile_graph(tools=…)` and the tools of MCP servers. If a tool fails or takes too
    long, the model gets a sentence that says so. The caller does not hear it.

    - `servers`: the names of MCP servers in the settings.
    - `only`: the names of the tools to offer. Empty: all of them.
    - `passes`: how often tools may run in one turn. After that the model must answer without them.
    - `timeout_ms`: the time limit of each tool.
    """
    calls: list[dict[str, Any]] = state["tool_calls"]
    boxes = {name: box for name, (_, box) in (await turn.tools(servers)).items()}
    seen: dict[str, int] = {}
    async with asyncio.TaskGroup() as group:
        results = [
            group.create_task(
                _result(
                    call,
                    boxes.get(call["name"]) if not only or call["name"] in only else None,
                    _context(turn, call, seen),
                    timeout_ms / 1000,
                    turn,
                )
            )
            for call in calls
        ]
    prompt = list(state.get("prompt") or await first_prompt(state, turn))
    said = {"role": "assistant", "content": state.get("said") or None, **state.get("attached", {})}
    prompt.append({**said, "tool_calls": [*map(_as_sent, calls)]})
    shown = []
    for call, result in zip(calls, results, strict=True):
        prompt.append({"role": "tool", "tool_call_id": call["id"], "content": result.result()})
        shown.append({"id": call["id"], "name": call["name"], "result": result.result()})
    return {"prompt": prompt, "passes": state.get("passes", 0) + 1, "tool_results": shown}


async def _result(
    call: Mapping[str, str], box: Toolbox | None, context: ToolContext, seconds: float, turn: Turn
) -> str:
    """Return what the model gets: the result of the tool, or the reason why there is none."""
    name = call["name"]
    time = ToolTime(turn.place.step, name if box is not None else "", turn.environment.now())
    turn.times.tools.append(time)
    try:
        arguments: Any = orjson.loads(call["arguments"] or "{}")
        if box is None or not isinstance(arguments, dict):
            raise ToolError("There is no such tool." if box is None else "The arguments must be a JSON object.")
        async with asyncio.timeout(seconds):
            result = await box.call(name, arguments, context)
        time.outcome = "ok"
        return result
    except ToolError as error:
        problem = str(error)
    except orjson.JSONDecodeError:
        problem = "The arguments are not valid JSON."
    except TimeoutError:
        problem = "The tool took too long."
        time.outcome = "timeout"
    except SystemExit:
        log.error("a tool called sys.exit, which would stop the server", extra={"tool": name})
        problem = "The tool failed."
    except Exception as error:  # an author's function may raise anything; only the log gets the details, not the model
        log.exception("a tool failed", extra={"tool": name, "failure": failure_of(error)})
        problem = "The tool failed."
    finally:
        time.ended = turn.environment.now()
    return orjson.dumps({"error": problem}).decode()


def _context(turn: Turn, call: Mapping[str, str], seen: dict[str, int]) -> ToolContext:
    """Return the context of the tool call. Its key depends on the turn, the tool, the arguments and a number.

    The number counts equal calls in the turn, so that each of them has its own key.
    """
    try:
        arguments = orjson.dumps(orjson.loads(call["arguments"]), option=orjson.OPT_SORT_KEYS).decode()
    except orjson.JSONDecodeError:
        arguments = call["arguments"]
    same = f"{call['name']} {arguments}"
    seen[same] = seen.get(same, 0) + 1
    key = hashlib.blake2b(f"{turn.key} {seen[same]} {same}".encode(), digest_size=16).hexdigest()
    return ToolContext(key, turn.call.id, turn.call.principal, turn.call.caller_number)


def _as_sent(call: Mapping[str, Any]) -> dict[str, object]:
    """Return the call as the model made it, with the extra fields of its provider."""
    function = {"name": call["name"], "arguments": call["arguments"] or "{}"}
    return {**call.get("extra", {}), "id": call["id"], "type": "function", "function": function}
