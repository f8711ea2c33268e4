"""A file in nodes/ is a node: a mistake in one is reported by the name of the file."""

import subprocess
import sys
from pathlib import Path

import pytest

from dialgraph import END, Graph, State, Step, Turn, Update, compile_graph, node
from dialgraph.graph.spec import Graph as Declared
from dialgraph.project import ROOT

SCRIPT = """
import sys
import nodes

nodes.__path__.append(sys.argv[1])

from dialgraph import GraphError
from server.endpoints import load_endpoints
from dialgraph.project import langgraph_file

try:
    load_endpoints(langgraph_file())
except GraphError as error:
    print(error)
"""


@node
async def shout(state: State, turn: Turn, *, text: str) -> Update:
    """Say a text in capital letters."""
    await turn.say(text.upper())
    return None


def test_a_node_needs_no_parentheses() -> None:
    assert (shout.name, shout.summary) == ("shout", "Say a text in capital letters.")
    spec: Declared = Graph(name="x", steps=(Step("shout", options={"text": "hi"}, then=END),))
    compile_graph(spec, nodes=[shout])


def test_an_option_without_a_name_is_refused() -> None:
    async def loud(state: State, turn: Turn, text: str) -> Update:
        """Speak."""

    with pytest.raises(TypeError, match=r"node 'loud': put `\*` before the option 'text'"):
        node(loud)


@pytest.mark.parametrize(
    ("name", "code", "sentence"),
    [
        ("broken", "raise RuntimeError('no such library')", "nodes/broken.py: RuntimeError: no such library"),
        (
            "lonely",
            "x = 1",
            "nodes/lonely.py: it must have a node named 'lonely': `@node` above `async def lonely`. The name of a file"
            " with other code begins with `_`.",
        ),
        ("a-b", "x = 1", "nodes/a-b.py: the name of this file cannot be the name of a node. Call it `a_b.py`."),
    ],
)
def test_a_mistake_in_a_node_file_is_one_line_with_its_name(
    tmp_path: Path, name: str, code: str, sentence: str
) -> None:
    (tmp_path / f"{name}.py").write_text(code)
    (tmp_path / "_shared.py").write_text("x = 1")
    shown = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert shown.stdout.splitlines() == [sentence]
