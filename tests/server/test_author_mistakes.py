"""The mistakes that new authors make: each is answered by one sentence that names the file and the line."""

import shutil
from pathlib import Path

import pytest

from tests.support.commands import run

GRAPH = "shop/graphs/shop.py"
YAML = """\
name: shop
steps:
  - node: acknowledge
    options: {after_ms: 300}
  - node: call_model
    timeout_ms: %s
"""
READS_YAML = """\
from pathlib import Path

from dialgraph import Graph, compile_graph

spec = Graph.from_file(Path(__file__).with_suffix(".yaml"))
graph = compile_graph(spec)
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a project."""
    folder = tmp_path_factory.mktemp("made")
    assert run("new", "shop", at=folder).returncode == 0
    return folder / "shop"


def edited(folder: Path, file: str, old: str, new: str) -> None:
    """Replace this text in a file of the project. `old` is empty: add `new` at the end."""
    path = folder / file
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    assert old in text
    path.write_text(text.replace(old, new, 1) if old else text + new, encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "old", "new", "sentence"),
    [
        (
            "shop/nodes/opening_hours.py", '@node(writes="office")\n', "",
            "shop/nodes/opening_hours.py: it must have a node named 'opening_hours': `@node` above",
        ),
        (
            "shop/templates/persona.md", "{{ office }}", "{{ offise }}",
            f"{GRAPH}, line 6: graph 'shop', instructions: template templates/persona.md, line 3: unknown variable"
            " 'offise'. Did you mean 'office'?",
        ),
        (
            GRAPH, 'Step("rewrite_question"),', 'Step("rewrite_question")',
            f"{GRAPH}, line 13: SyntaxError: invalid syntax. Perhaps you forgot a comma?",
        ),
        (
            GRAPH, "from shop.tools.orders", "from shop.tools.order",
            f"{GRAPH}, line 4: No module named 'shop.tools.order'.",
        ),
        (
            GRAPH, "import END, Graph", "import End, Graph",
            f"{GRAPH}, line 3: ImportError: cannot import name 'End' from 'dialgraph'",
        ),
        (
            GRAPH, 'Step("retrieve"', 'Step("retreive"',
            f"{GRAPH}, line 14: graph 'shop', step 'retreive': unknown node 'retreive'. Did you mean 'retrieve'?",
        ),
        (
            GRAPH, '"top_k": 4', '"topk": 4',
            f"{GRAPH}, line 14: graph 'shop', step 'retrieve': node 'retrieve' has no option 'topk'.",
        ),
        (
            GRAPH, 'then="call_model"', 'then="ask_model"',
            f"{GRAPH}, line 17: graph 'shop', step 'run_tools': 'ask_model' is not a step.",
        ),
        (
            GRAPH, "timeout_ms=400", "timeout_ms=-1",
            f"{GRAPH}, line 14: timeout_ms: Input should be greater than 0.",
        ),
        (
            "shop/tools/orders.py", "number: str", "number",
            f"{GRAPH}, line 21: graph 'shop': tool 'order_status': the parameter 'number' has no type.",
        ),
        (
            "shop/tools/orders.py", "async def", "x = [\n\nasync def",
            "shop/tools/orders.py, line 4: SyntaxError: '[' was never closed",
        ),
        (
            "shop/tools/orders.py", "async def", "nothing.at_all()\n\nasync def",
            "shop/tools/orders.py, line 4: NameError: name 'nothing' is not defined",
        ),
        (
            "langgraph.json", "shop.graphs.shop:graph", "shop.graphs.shopp:graph",
            "langgraph.json, graph 'shop': there is no file 'shop/graphs/shopp.py'.",
        ),
        ("langgraph.json", '"dependencies": ["."],', '"dependencies": ["."]', "langgraph.json, line 4: it is not"),
        (
            GRAPH, 'name="shop"', 'name="store"',
            f"{GRAPH}, line 6: the spec has the name 'store', but langgraph.json says 'shop'.",
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_by_one_sentence(
    shop: Path, tmp_path: Path, file: str, old: str, new: str, sentence: str
) -> None:
    shutil.copytree(shop, tmp_path / "shop")
    edited(tmp_path / "shop", file, old, new)
    told = run("graphs", "check", at=tmp_path / "shop")
    project, *lines = told.stderr.splitlines()
    assert told.returncode == 1 and project.startswith("Project: ") and len(lines) == 1, told.stderr
    assert lines[0].startswith(f"dialgraph: {sentence}"), lines[0]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            YAML % "soon",
            "shop/graphs/shop.yaml, line 6: The graph is not valid. steps.1.timeout_ms: Input",
        ),
        (
            YAML % "400\n    on_timout: x",
            "shop/graphs/shop.yaml, line 7: The graph is not valid. steps.1.on_timout:",
        ),
        (YAML % "[1", "shop/graphs/shop.yaml, line 7: The graph is not valid YAML: expected ',' or ']'"),
        (
            (YAML % "400").replace("after_ms", "after"),
            "shop/graphs/shop.yaml, line 3: graph 'shop', step 'acknowledge': node 'acknowledge' has no option 'after'",
        ),
        (
            (YAML % "400").replace("call_model", "call_modell"),
            "shop/graphs/shop.yaml, line 5: graph 'shop', step 'call_modell': unknown node 'call_modell'.",
        ),
    ],
)
def test_a_mistake_in_yaml_names_its_line(shop: Path, tmp_path: Path, text: str, sentence: str) -> None:
    shutil.copytree(shop, tmp_path / "shop")
    folder = tmp_path / "shop"
    (folder / GRAPH).write_text(READS_YAML, encoding="utf-8")
    (folder / "shop/graphs/shop.yaml").write_text(text, encoding="utf-8")
    lines = run("graphs", "check", at=folder).stderr.splitlines()[1:]
    assert len(lines) == 1 and lines[0].startswith(f"dialgraph: {sentence}"), lines
