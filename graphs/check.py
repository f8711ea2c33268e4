"""Every mistake a graph can have, found before anything runs. Each is one sentence: where, what, what is accepted."""

import inspect
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

import orjson
from pydantic import ValidationError

from graphs.spec import END, Graph, Step
from nodes.contract import GIVEN, Node

LABEL_OK, LABEL_TIMEOUT, LABEL_ERROR = "done", "timeout", "error"


def following(graph: Graph, at: int) -> dict[str, str]:
    """What a step's own `then` leads to: route → step. Without a table each target is its own route."""
    step = graph.steps[at]
    if step.then is None:
        below = graph.steps[at + 1].id if at + 1 < len(graph.steps) else END
        return {below: below}
    if isinstance(step.then, dict):
        return dict(step.then)
    targets = (step.then,) if isinstance(step.then, str) else step.then
    return {target: target for target in targets}


def leads_to(graph: Graph, at: int) -> set[str]:
    """Every step that can come next, by whatever way."""
    step = graph.steps[at]
    return {
        *following(graph, at).values(),
        *(target for target in (step.on_timeout, step.on_error) if target),
    }


def mistakes(graph: Graph, nodes: Mapping[str, Node]) -> list[str]:
    """All of them, in the order of the steps; empty if there is none."""
    found = [*_unknown_nodes(graph, nodes), *_names_and_targets(graph)]
    if found:
        return found  # without them the paths are not known
    for step in graph.steps:
        found += _step(step, nodes[step.node])
    return [*found, *_paths(graph), *_keys(graph, nodes), *_branches(graph, nodes)]


def read_options(step: Step, node: Node) -> dict[str, Any]:
    """The step's options, typed, with the defaults of those it leaves out."""
    return dict(node.options.model_validate_json(orjson.dumps(step.options)))


def _unknown_nodes(graph: Graph, nodes: Mapping[str, Node]) -> Iterator[str]:
    for step in graph.steps:
        if step.node not in nodes:
            yield f"step {step.id!r}: no node {step.node!r}.{_nearest(step.node, nodes)} Accepted: {_list(nodes)}."


def _names_and_targets(graph: Graph) -> Iterator[str]:
    names = [step.id for step in graph.steps]
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            yield f"step {name!r}: {names.count(name)} steps have this name. Give each a `name` of its own."
        if name == END:
            yield f"step {name!r}: this word stands for the end of the graph. Give the step another `name`."
    for at, step in enumerate(graph.steps):
        for target in sorted(leads_to(graph, at)):
            if target != END and target not in names:
                near = _nearest(target, names)
                yield f"step {step.id!r}: {target!r} is no step.{near} Accepted: {_list([*names, END])}."


def _step(step: Step, node: Node) -> Iterator[str]:
    where = f"step {step.id!r}"
    if not inspect.iscoroutinefunction(node.run):
        yield f"{where}: node {step.node!r} is not `async def`. A node that blocks would stop every other call."
    try:
        read_options(step, node)
    except ValidationError as error:
        accepted = list(node.options.model_fields)
        for one in error.errors():
            option = str(one["loc"][0]) if one["loc"] else ""
            if one["type"] == "extra_forbidden":
                yield (
                    f"{where}: node {step.node!r} has no option {option!r}.{_nearest(option, accepted)}"
                    f" Accepted: {_list(accepted) or 'no option'}."
                )
            else:
                yield f"{where}: option {option!r} of node {step.node!r}: {one['msg']}."
    if step.on_timeout and step.timeout_ms is None:
        yield f"{where}: on_timeout needs timeout_ms, the time after which it is taken."
    if step.retry and node.speaks:
        yield f"{where}: retry on node {step.node!r}, which speaks: the caller would hear words twice. Accepted: 0."
    if isinstance(step.then, dict):
        if "route" not in node.writes:
            yield f"{where}: `then` is a table, but node {step.node!r} writes no route. Accepted: one step, or several."
        for label in sorted({LABEL_TIMEOUT, LABEL_ERROR} & step.then.keys()):
            yield f"{where}: `then` has an entry {label!r}. Accepted: another name; on_{label} says where that leads."
        missing = [route for route in node.routes if route not in step.then]
        if missing:
            yield f"{where}: `then` has no entry for {_list(missing)}, which node {step.node!r} can choose."


def _paths(graph: Graph) -> Iterator[str]:
    index = {step.id: at for at, step in enumerate(graph.steps)}
    reached = _closure(graph.steps[0].id, lambda name: leads_to(graph, index[name]))
    for step in graph.steps:
        if step.id not in reached:
            yield f"step {step.id!r}: nothing leads to it. Name it in the `then` of a step that is reached."
    for step in graph.steps:
        if step.id in reached and END not in _closure(step.id, lambda name: leads_to(graph, index[name])):
            yield f"step {step.id!r}: no way leads from it to {END}. Give a step behind it `then={END}`."


def _keys(graph: Graph, nodes: Mapping[str, Node]) -> Iterator[str]:
    """A key counts as written if some path from the start to the step writes it: another path may have timed out."""
    before = _predecessors(graph)
    for step in graph.steps:
        written = set(GIVEN)
        for earlier in graph.steps:
            if earlier.id in before[step.id]:
                written |= set(nodes[earlier.node].writes)
        for key in nodes[step.node].reads:
            if key not in written:
                writers = [name for name, node in nodes.items() if key in node.writes]
                cure = f" Nodes that write it: {_list(writers)}." if writers else ""
                yield f"step {step.id!r}: node {step.node!r} reads {key!r}, which no step before it writes.{cure}"


def _branches(graph: Graph, nodes: Mapping[str, Node]) -> Iterator[str]:
    """Steps that run at the same time must not write one key; a step that waits needs two branches to wait for."""
    index = {step.id: at for at, step in enumerate(graph.steps)}
    before = _predecessors(graph)
    told: set[tuple[str, ...]] = set()
    for at, step in enumerate(graph.steps):
        targets = [] if isinstance(step.then, dict) else [name for name in following(graph, at) if name != END]
        for left in targets:
            for right in targets[targets.index(left) + 1 :]:
                lefts, rights = (_branch(graph, index, one) for one in (left, right))
                for one in sorted(lefts - rights):
                    for other in sorted(rights - lefts):
                        both = set(nodes[graph.steps[index[one]].node].writes) & set(
                            nodes[graph.steps[index[other]].node].writes
                        )
                        for key in sorted(both - {"route"}):
                            pair = (*sorted((one, other)), key)
                            if pair not in told:
                                told.add(pair)
                                yield (
                                    f"steps {pair[0]!r} and {pair[1]!r} run at the same time and both write {key!r}."
                                    " Run one behind the other."
                                )
    for step in graph.steps:
        coming = [one.id for one_at, one in enumerate(graph.steps) if step.id in leads_to(graph, one_at)]
        if step.waits and (len(coming) < 2 or step.id in before[step.id]):
            yield f"step {step.id!r}: waits, but no two branches meet there. Lead two steps to it, or drop `waits`."


def _branch(graph: Graph, index: Mapping[str, int], start: str) -> set[str]:
    """The steps of a branch, up to where it meets others by waiting."""
    return _closure(
        start,
        lambda name: {
            target for target in leads_to(graph, index[name]) if target == END or not graph.steps[index[target]].waits
        },
    ) - {END}


def _predecessors(graph: Graph) -> dict[str, set[str]]:
    index = {step.id: at for at, step in enumerate(graph.steps)}
    behind = {
        name: set().union(
            *(_closure(target, lambda one: leads_to(graph, index[one])) for target in leads_to(graph, at))
        )
        for name, at in index.items()
    }
    return {name: {other for other in index if name in behind[other]} for name in index}


def _closure(start: str, next_of: Any) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += [] if name == END else sorted(next_of(name))
    return seen


def _nearest(name: str, accepted: Any) -> str:
    near = get_close_matches(name, list(accepted), 1)
    return f" Did you mean {near[0]!r}?" if near else ""


def _list(names: Any) -> str:
    return ", ".join(repr(name) for name in names)
