"""A graph is the same value in Python, YAML and JSON, and its text is stable to the byte."""

import json

import pytest

import graphs.audio
import graphs.chat
import graphs.hangup
import graphs.rag
from dialgraph.graph.catalogue import catalogue
from dialgraph.graph.errors import GraphError
from dialgraph.graph.schema import graph_schema
from dialgraph.graph.spec import END, Graph, Step

SHIPPED = [graphs.chat.spec, graphs.rag.spec, graphs.audio.spec, graphs.hangup.spec]
RICH = Graph(
    name="rich",
    path="/rich/chat/completions",
    summary="全部 of it",
    public=True,
    steps=(
        Step("retrieve", name="find", options={"top_k": 2}, timeout_ms=400, on_timeout="say", on_error="say", retry=1),
        Step("rewrite_messages", name="say", then=("a", "b")),
        Step("call_model", name="a", then={"answered": "join"}),
        Step("retrieve", name="b"),
        Step("call_model", name="join", waits=True, then=END),
    ),
)


@pytest.mark.parametrize("spec", [*SHIPPED, RICH], ids=lambda spec: spec.name)
def test_a_graph_survives_a_round_trip_byte_for_byte(spec: Graph) -> None:
    assert Graph.read(spec.to_yaml()) == spec
    assert Graph.read(spec.to_json()) == spec
    assert Graph.read(spec.to_yaml()).to_yaml() == spec.to_yaml()
    assert Graph.read(spec.to_json()).to_json() == spec.to_json()
    assert Graph.from_data(json.loads(spec.to_json())) == spec


def test_tuples_in_options_equal_lists() -> None:
    assert Step("acknowledge", options={"say": ("a ", "b ")}) == Step("acknowledge", options={"say": ["a ", "b "]})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: [", "The graph is not valid YAML"),
        ("- a list", "The graph is not valid"),
        ("name: x\nsteps: []", "steps"),
        ("name: Not A Name\nsteps: [{node: call_model}]", "name"),
        ("name: x\nsteps: [{node: call_model, module: os}]", "steps.0.module: unknown name."),
        ("name: x\nsteps: [{node: call_model, timeout_ms: 0}]", "steps.0.timeout_ms"),
        ("name: x\nsteps: [{node: call_model, retry: 99}]", "steps.0.retry"),
        ("name: x\nsteps: [{}]", "steps.0.node is missing."),
        ("", "There is no graph here: the text is empty."),
        ("name: x\nsteps: [mood]", "steps.0 must be a table of `name: value`, not 'mood'. Write `- node: mood`."),
        ("name: x\nsteps: [{nod: mood}]", "steps.0.nod: unknown name. Did you mean 'node'?"),
        ("name: x\nname: y\nsteps: [{node: call_model}]", "the name 'name' appears twice in one table."),
        ("name: x\nsteps: [{node: call_model}]\ninstructions: {{ call.id }}", "in quotation marks."),
        ("name: x\nsteps: [{node: call_model, then: 5}]", "steps.0.then must be text, a list or a table"),
        ("name: x\nsteps: [{node: call_model, then: {a: 5}}]", "steps.0.then.a must be text, not 5."),
        ("name: x\nsteps: [{node: call_model}]\npolicy: {on_failure: hush}", "must be 'raise' or 'speak', not 'hush'."),
    ],
)
def test_an_invalid_graph_is_refused_with_the_place_of_the_mistake(text: str, message: str) -> None:
    with pytest.raises(GraphError) as refused:
        Graph.read(text)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_options_that_are_not_json_are_refused() -> None:
    with pytest.raises(ValueError, match="options must be JSON data"):
        Step("call_model", options={"model": object()})


def test_the_schema_covers_every_node_and_every_option() -> None:
    schema = graph_schema(catalogue())
    for name, node in catalogue().items():
        assert name in schema["$defs"]["Step"]["properties"]["node"]["enum"]
        described = schema["$defs"][f"{name}_options"]
        assert described["description"] == node.summary != ""
        assert described["additionalProperties"] is False
        assert set(described.get("properties", {})) == set(node.options.model_fields)
