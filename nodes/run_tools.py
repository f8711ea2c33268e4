"""Do what the model asked for, on our side, and let it go on."""

import asyncio
import hashlib
import logging
from collections.abc import Mapping
from typing import Annotated, Any

import orjson
from pydantic import Field

from dialgraph import State, Toolbox, ToolContext, ToolError, Turn, Update, node
from dialgraph.turn.upstream_messages import upstream_messages

log = logging.getLogger(__name__)


@node(
    reads="tool_calls",
    may_read=("prompt", "passes", "said", "attached"),
    writes=("prompt", "passes"),
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
    """Run the tools that the model called, all at once, and put their results into the prompt.

    It stands in the `then` table of `call_model`, which offers its tools to the model, and leads back to it:
    `Step("call_model", then={"answered": END, "tools": "run_tools"}), Step("run_tools", then="call_model")`. The tools
    are the functions given to `compile_graph(tools=…)` and those of the MCP `servers` that the settings name; `only`
    picks some. After `passes` rounds the model has to answer without them. A tool that fails or takes too long gives
    the model a sentence that says so; nothing of it reaches the caller.
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
                )
            )
            for call in calls
        ]
    prompt = list(state.get("prompt") or upstream_messages(turn.messages))
    said = {"role": "assistant", "content": state.get("said") or None, **state.get("attached", {})}
    prompt.append({**said, "tool_calls": [*map(_as_sent, calls)]})
    for call, result in zip(calls, results, strict=True):
        prompt.append({"role": "tool", "tool_call_id": call["id"], "content": result.result()})
    return {"prompt": prompt, "passes": state.get("passes", 0) + 1}


async def _result(call: Mapping[str, str], box: Toolbox | None, context: ToolContext, seconds: float) -> str:
    """What the model is told: the result, or why there is none."""
    name = call["name"]
    try:
        arguments: Any = orjson.loads(call["arguments"] or "{}")
        if box is None or not isinstance(arguments, dict):
            raise ToolError("There is no such tool." if box is None else "The arguments must be a JSON object.")
        async with asyncio.timeout(seconds):
            return await box.call(name, arguments, context)
    except ToolError as error:
        problem = str(error)
    except orjson.JSONDecodeError:
        problem = "The arguments are no JSON."
    except TimeoutError:
        problem = "The tool took too long."
    except Exception:  # an author's function may raise anything; the model hears that it failed, the log hears what
        log.exception("a tool failed", extra={"tool": name})
        problem = "The tool failed."
    return orjson.dumps({"error": problem}).decode()


def _context(turn: Turn, call: Mapping[str, str], seen: dict[str, int]) -> ToolContext:
    """The key names the turn, the tool and its arguments, and which of several equal calls it is."""
    try:
        arguments = orjson.dumps(orjson.loads(call["arguments"]), option=orjson.OPT_SORT_KEYS).decode()
    except orjson.JSONDecodeError:
        arguments = call["arguments"]
    same = f"{call['name']} {arguments}"
    seen[same] = seen.get(same, 0) + 1
    key = hashlib.blake2b(f"{turn.key} {seen[same]} {same}".encode(), digest_size=16).hexdigest()
    return ToolContext(key, turn.call.id, turn.call.principal, turn.call.caller_number)


def _as_sent(call: Mapping[str, Any]) -> dict[str, object]:
    """The call as the model made it, with what its provider attached."""
    function = {"name": call["name"], "arguments": call["arguments"] or "{}"}
    return {**call.get("extra", {}), "id": call["id"], "type": "function", "function": function}
