"""Finds every mistake in a graph before it runs. Each message says where, what is wrong and what is accepted."""

import inspect
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import orjson
from pydantic import ValidationError

from dialgraph.graph.node_code import code_mistakes
from dialgraph.graph.paths import Paths, following
from dialgraph.graph.policy import Memory
from dialgraph.graph.spec import END, Graph, Step
from dialgraph.profiles.choose import known_profiles
from dialgraph.turn.node import GIVEN, Node, Tool
from dialgraph.turn.step_place import tool_name
from dialgraph.turn.templates import Folders
from dialgraph.turn.templates import mistakes as template_mistakes
from dialgraph.validation import UNKNOWN, complaints

_OUR_KEYS = frozenset(
    {
        "call", "conversation", "left_out", "line", "memory", "messages", "problems", "recorded", "slots", "stage",
        "steps", "turn", "waiting",
    }
)  # fmt: skip
"""Keys of the state that no node may write."""
_NOT_FOR_TEMPLATES = frozenset({"attached", "built", "passes", "prompt", "route", "tail"})
"""Keys of the state that only nodes use."""
_NAME = re.compile(r"[A-Za-z][\w-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake of a graph."""

    what: str
    """The step, what is wrong with it, and what is accepted."""
    place: str = ""
    """The file and the line, if the mistake is not where the graph is declared."""


def mistakes(
    graph: Graph, nodes: Mapping[str, Node], checks: Collection[str] = (), folders: Folders = ()
) -> list[Mistake]:
    """Return the mistakes. Wrong names, nodes or policy are returned alone. The list is empty if there are none.

    `folders`: where templates are looked for.
    """
    found = [*_policy(graph, checks), *_unknown_nodes(graph, nodes), *_names_and_targets(graph)]
    if found:
        return [*map(Mistake, found)]  # with unknown nodes or targets the paths cannot be followed
    for step in graph.steps:
        found += _step(step, nodes[step.node], graph.policy.memory)
    paths = Paths(graph)
    found += _tables(graph, nodes, told=bool(found))
    found += [*_memory(graph), *_dead_ends(paths), *_keys(paths, nodes), *_branches(paths, nodes), *_waits(paths)]
    found += _after_the_call(paths, nodes)
    return [
        *_code(nodes[name] for name in dict.fromkeys(step.node for step in graph.steps)),
        *map(Mistake, found),
        *_templates(graph, nodes, paths, folders),
    ]


def read_options(step: Step, node: Node) -> dict[str, Any]:
    """Return the options of a step, typed, with the defaults for those that it leaves out."""
    return dict(node.options.model_validate_json(orjson.dumps(step.options)))


def _policy(graph: Graph, checks: Collection[str]) -> Iterator[str]:
    policy = graph.policy
    if policy.profile and policy.profile not in known_profiles():
        near = _nearest(policy.profile, known_profiles())
        yield f"policy: unknown profile {policy.profile!r}.{near} Accepted: {_list(known_profiles())}."
    for rule in policy.guard:
        if rule.find == "check" and rule.check not in checks:
            accepted = _list(checks) or "none; compile_graph got no checks"
            yield f"policy: guard: unknown check {rule.check!r}. Accepted: {accepted}."
        if rule.find == "words" and not rule.words:
            yield "policy: guard: a rule with find='words' needs `words`."


def _templates(graph: Graph, nodes: Mapping[str, Node], paths: Paths, folders: Folders) -> Iterator[Mistake]:
    slots = [] if graph.policy.memory is None else list(graph.policy.memory.slots)
    used = [nodes[step.node] for step in graph.steps]
    keys = {key for node in used for key in (*node.reads, *node.may_read, *node.writes)} - _NOT_FOR_TEMPLATES
    if graph.instructions:
        prompting = [name for name, step in paths.steps.items() if "prompt" in nodes[step.node].writes]
        first = [name for name in prompting if not paths.before(name) & set(prompting)]
        later = _later(paths, nodes, first)
        for wrong in template_mistakes(graph.instructions, folders, slots, keys, later):
            yield Mistake(f"instructions: {wrong.what}", wrong.place)
    for step in graph.steps:
        node = nodes[step.node]
        for option in node.templates:
            template = step.options.get(option, node.options.model_fields[option].default)
            if isinstance(template, str) and template:
                later = _later(paths, nodes, [step.id])
                for wrong in template_mistakes(template, folders, slots, keys, later):
                    yield Mistake(f"step {step.id!r}: {wrong.what}", wrong.place)


def _later(paths: Paths, nodes: Mapping[str, Node], at: Collection[str]) -> dict[str, str]:
    """Return the keys that are written on no path to one of these steps, each with a step that writes it."""
    known, later = set(GIVEN), dict[str, str]()
    for name, step in paths.steps.items():
        node = nodes[step.node]
        again = any(one in paths.reached(target) for one in at for target in paths.next(name))
        if again or name not in paths.reached(paths.start):
            known.update(node.writes)
        else:
            later.update(dict.fromkeys(node.writes, name))
    return {key: step for key, step in later.items() if key not in known and key not in _OUR_KEYS}


def _unknown_nodes(graph: Graph, nodes: Mapping[str, Node]) -> Iterator[str]:
    for step in graph.steps:
        if step.node not in nodes:
            yield f"step {step.id!r}: unknown node {step.node!r}.{_nearest(step.node, nodes)} Accepted: {_list(nodes)}."


def _names_and_targets(graph: Graph) -> Iterator[str]:
    names = [step.id for step in graph.steps]
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            yield f"step {name!r}: {names.count(name)} steps have this name. Give each step a different `name`."
        if name == END:
            yield f"step {name!r}: this name is reserved for the end of the graph. Give the step another `name`."
        elif not _NAME.fullmatch(name):
            yield f"step {name!r}: a name may have only letters, digits, `_` and `-`, and must begin with a letter."
    for at, step in enumerate(graph.steps):
        targets = {*following(graph, at).values(), *filter(None, (step.on_timeout, step.on_error))}
        for target in sorted(targets):
            if target != END and target not in names:
                near = _nearest(target, names)
                yield f"step {step.id!r}: {target!r} is not a step.{near} Accepted: {_list([*names, END])}."


def _step(step: Step, node: Node, memory: Memory | None) -> Iterator[str]:
    where = f"step {step.id!r}"
    if taken := [key for key in node.writes if key in _OUR_KEYS]:
        yield f"{where}: node {step.node!r} writes {taken[0]!r}, which Dialgraph writes itself. Use another name."
    if inspect.isasyncgenfunction(node.run):
        yield f"{where}: node {step.node!r} has a `yield`. Accepted: `await turn.say(…)` for words, `return` for keys."
    elif not inspect.iscoroutinefunction(node.run):
        yield f"{where}: node {step.node!r} is not `async def`. A blocking node would stop every other call."
    try:
        read_options(step, node)
    except ValidationError as error:
        for wrong in complaints(error, node.options):
            if wrong.what.startswith(UNKNOWN):
                accepted = list(node.options.model_fields)
                near = _nearest(str(wrong.loc[0]), accepted)
                yield (
                    f"{where}: node {step.node!r} has no option {wrong.loc[0]!r}.{near}"
                    f" Accepted: {_list(accepted) or 'no option'}."
                )
            else:
                yield f"{where}: option {'.'.join(map(str, wrong.loc))!r} of node {step.node!r} {wrong.what}."
    if node.needs_memory and memory is None:
        cure = "Declare one: Policy(memory={'slots': {'name': 'text'}})."
        yield f"{where}: node {step.node!r} needs a memory. {cure}"
    if step.on_timeout and step.timeout_ms is None:
        yield f"{where}: on_timeout needs timeout_ms, the time limit of the step."
    if step.retry and node.speaks:
        yield f"{where}: node {step.node!r} speaks, so a retry could repeat words to the caller. Accepted: retry=0."


def _tables(graph: Graph, nodes: Mapping[str, Node], *, told: bool) -> Iterator[str]:
    by_name = {step.id: step for step in graph.steps}
    for step in graph.steps:
        node = nodes[step.node]
        if not isinstance(step.then, dict):
            continue
        where = f"step {step.id!r}"
        if "route" not in node.writes:
            yield (
                f"{where}: `then` is a table, but node {step.node!r} writes no route. Accepted: one or more steps, or"
                " add 'route' to the `writes` of the node."
            )
        if missing := [route for route in node.routes if route not in step.then]:
            yield f"{where}: `then` has no entry for {_list(missing)}, which node {step.node!r} can choose."
        offered: dict[str, str] = {}
        for route, target in step.then.items():
            asks = "model" in node.uses.values() and not told and target != END
            tool = offered_tool(graph, by_name[target], nodes) if asks else None
            if tool is not None and offered.setdefault(tool_name(tool), route) != route:
                both = f"{offered[tool_name(tool)]!r} and {route!r}"
                yield f"{where}: the entries {both} use the same tool {tool_name(tool)!r}. Give one a different `tool`."
            offers = target != END and (
                nodes[by_name[target].node].offers is not None or nodes[by_name[target].node].offers_tools
            )
            if node.routes and route not in node.routes and not offers:
                yield f"{where}: node {step.node!r} never chooses {route!r}. Accepted: {_list(node.routes)}."


def offered_tool(graph: Graph, step: Step, nodes: Mapping[str, Node]) -> Tool | None:
    """Return the tool with which a model can ask for the step, or None if the step's node offers none."""
    node = nodes[step.node]
    slots = graph.policy.memory.slots if graph.policy.memory else {}
    return None if node.offers is None else node.offers(**read_options(step, node), slots=slots)


def _memory(graph: Graph) -> Iterator[str]:
    """Check that `recall` has an entry for each route it can choose and that `remember` fills only declared slots."""
    slots = list(graph.policy.memory.slots) if graph.policy.memory else []
    stages = {str(step.options.get("stage")) for step in graph.steps if step.node == "remember"} - {"None", ""}
    for step in graph.steps:
        if step.node == "remember":
            for name in step.options.get("values") or {}:
                if name not in slots:
                    yield f"step {step.id!r}: {name!r} is not a slot.{_nearest(name, slots)} Accepted: {_list(slots)}."
        if step.node != "recall" or not isinstance(step.then, dict):
            continue
        known = [*slots, "missing", "complete", *sorted(stages)]
        for route in step.then:
            if route not in known:
                near = _nearest(route, known)
                yield f"step {step.id!r}: recall never chooses {route!r}.{near} Accepted: {_list(known)}."
        for route in ["complete", *sorted(stages)]:
            if route not in step.then:
                yield f"step {step.id!r}: `then` has no entry for {route!r}, which recall can choose."
        if "missing" not in step.then and not all(name in step.then for name in slots):
            yield f"step {step.id!r}: `then` has no entry for 'missing', which recall can choose."


def _code(used: Iterable[Node]) -> Iterator[Mistake]:
    for node in used:
        for one in code_mistakes(node):
            yield Mistake(f"node {node.name!r}: {one.what}", one.place)


def _dead_ends(paths: Paths) -> Iterator[str]:
    reached = paths.reached(paths.start)
    for name in paths.steps:
        if name not in reached:
            yield f"step {name!r}: no path leads to this step. Add it to the `then` of a step that can be reached."
        elif END not in paths.reached(name):
            yield f"step {name!r}: no path leads from this step to {END}. Give a later step `then={END}`."
        target = paths.steps[name].on_error
        if target and target != END and name in paths.failing(target):
            yield f"step {name!r}: its on_error leads back to itself in an endless loop. Lead it to another step."


def _asks(node: Node) -> bool:
    """Return whether the node asks a model."""
    return "model" in node.uses.values()


def _after_the_call(paths: Paths, nodes: Mapping[str, Node]) -> Iterator[str]:
    """Check that the end of a call ends the graph too, and that a model gets the results of its tools."""
    for name, step in paths.steps.items():
        node = nodes[step.node]
        later = set().union(*(paths.reached(target) for target in paths.next(name) if target != END)) - {END}
        if node.action in ("hangup", "transfer") and name in later:
            yield f"step {name!r}: the call ends here, but the step leads back to itself. Write `then={END}`."
        if node.offers_tools:
            asking = [one for one in paths.steps if _asks(nodes[paths.steps[one].node]) and name in paths.next(one)]
            if not later & set(asking):
                cure = f"Write `then={asking[0]!r}`." if asking else "Add the step `call_model`."
                yield f"step {name!r}: no model gets the results of the tools. {cure}"


def _keys(paths: Paths, nodes: Mapping[str, Node]) -> Iterator[str]:
    """Check that each key is written before it is read. One path is enough: on another path a step may time out."""
    for name, step in paths.steps.items():
        written = GIVEN.union(*(nodes[paths.steps[other].node].writes for other in paths.before(name)))
        for key in nodes[step.node].reads:
            if key not in written:
                writers = [writer for writer, node in nodes.items() if key in node.writes]
                cure = f" Nodes that write it: {_list(writers)}." if writers else ""
                yield f"step {name!r}: node {step.node!r} reads {key!r}, which no step before it writes.{cure}"


def _branches(paths: Paths, nodes: Mapping[str, Node]) -> Iterator[str]:
    """Check that branches that run at the same time do not write the same key and do not both speak."""
    for one, other in paths.parallel():
        left, right = (nodes[paths.steps[name].node] for name in (one, other))
        both = f"steps {one!r} and {other!r} run at the same time and both"
        for key in sorted(set(left.writes) & set(right.writes) - {"route"}):
            yield f"{both} write {key!r}. Run one after the other."
        if left.speaks and right.speaks:
            yield f"{both} speak: the caller would hear them mixed. Run one after the other."


def _waits(paths: Paths) -> Iterator[str]:
    met: set[str] = set()
    for fork, left, right in paths.forks():
        lefts, rights = (paths.reached(name, waiting=False) - {END} for name in (left, right))
        met |= {
            name
            for name in lefts & rights
            if name in (left, right) or any(name in paths.next(one) for one in (lefts ^ rights) | {fork})
        }
    for name in sorted(met):
        if not paths.steps[name].waits:
            yield f"step {name!r}: branches meet at this step, so it would run once for each. Set `waits=True`."
    for name, step in paths.steps.items():
        if not step.waits:
            continue
        if sum(name in paths.next(other) for other in paths.steps) < 2:
            yield f"step {name!r}: waits, but no two branches meet here. Lead two steps to it, or remove `waits`."
        for other, one in paths.steps.items():
            # LangGraph releases both at the same time, so the later one would run twice.
            if one.waits and other != name and name in paths.reached(other) and _passes_by(paths, name, other):
                yield f"step {name!r}: waits for {other!r}, which also waits. Let all branches meet in one step."


def _passes_by(paths: Paths, name: str, other: str) -> bool:
    """Return whether a branch next to the one that contains `other` reaches `name` without passing `other`."""
    return any(
        name in paths.reached(beside, without=[other]) and other in paths.reached(branch, without=[name])
        for _, left, right in paths.forks()
        for branch, beside in ((left, right), (right, left))
        if beside != other
    )


def _nearest(name: str, accepted: Any) -> str:
    near = get_close_matches(name, list(accepted), 1)
    return f" Did you mean {near[0]!r}?" if near else ""


def _list(names: Any) -> str:
    return ", ".join(repr(name) for name in names)
