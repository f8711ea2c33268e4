"""The mistakes that new authors make: each is answered by one sentence that names the file and the line."""

import shutil
from pathlib import Path

import pytest

from tests.support.commands import run

GRAPH = "shop/graphs/shop.py"
NODE = "shop/nodes/opening_hours.py"
HOURS = "node 'opening_hours'"
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
            "shop/templates/persona.md, line 3: graph 'shop', instructions: unknown variable 'offise'. Did you mean"
            " 'office'?",
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
            f"{GRAPH}, line 14: Step: timeout_ms must be greater than 0, not -1.",
        ),
        (
            "shop/tools/orders.py", "number: str", "number",
            "shop/tools/orders.py, line 4: graph 'shop', tool 'order_status': the parameter 'number' has no type.",
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
            "langgraph.json, line 7: graph 'shop': there is no file 'shop/graphs/shopp.py'.",
        ),
        ("langgraph.json", '"dependencies": ["."],', '"dependencies": ["."]', "langgraph.json, line 4: it is not"),
        (
            GRAPH, 'name="shop"', 'name="store"',
            f"{GRAPH}, line 6: the spec has the name 'store', but langgraph.json says 'shop'.",
        ),
        (
            NODE, '@node(writes="office")', '@node(write="office")',
            f"{NODE}, line 8: @node has no 'write'. Did you mean 'writes'?",
        ),
        (
            NODE, '@node(writes="office")', "@node(writes=5)",
            f"{NODE}, line 8: @node: 5 must be the name of a key, or a list of such names.",
        ),
        (
            NODE, "state: State, turn: Turn", "state: State",
            f"{NODE}, line 8: node 'opening_hours': it must take the state and the turn. Accepted: ",
        ),
        (
            NODE, "*, opens: int = 9", "*, opens=9",
            f"{NODE}, line 8: node 'opening_hours': the option 'opens' has no type.",
        ),
        (
            NODE, 'return {"office"', 'return {"offices"',
            f"{NODE}, line 16: graph 'shop', node 'opening_hours': it returns 'offices', which is not in its `writes`."
            " Did you mean 'office'?",
        ),
        (
            NODE, "from datetime", "from shop.graphs.shop import graph\nfrom datetime",
            f"{NODE}, line 3: this file and {GRAPH} import each other.",
        ),
        *(
            (NODE, "    now =", f"    {code}\n    now =", f"{NODE}, line 14: graph 'shop', {HOURS}: {told}")
            for code, told in (
                ('turn.say("One moment.")', "nothing happens without `await`: write `await turn.say(…)`."),
                ('return "open"', 'it returns text. Accepted: a table such as `{"office": …}`, or None.'),
                ("return state", "it returns the whole state. Return only what it adds"),
                ('state["office"] = "open"', "a change of `state` is lost. Return it instead"),
                ('print(state["passages"])', "it reads 'passages' without declaring it. Add it to `reads`"),
                ('print(state.get("passages"))', "it reads 'passages' without declaring it. Add it to `reads`"),
            )
        ),
        (
            NODE, "opens: int = 9", 'opens: int = "nine"',
            f"{GRAPH}, line 12: graph 'shop', step 'opening_hours': option 'opens' of {HOURS} must be",
        ),
        (
            NODE, "state: State, turn: Turn", "turn: Turn, state: State",
            f"{NODE}, line 8: node 'opening_hours': the state comes before the turn",
        ),
        (
            GRAPH, 'Step("run_tools", then="call_model"),', 'Step("run_tools"),',
            f"{GRAPH}, line 17: graph 'shop', step 'run_tools': no model gets the results of the tools. Write"
            " `then='call_model'`.",
        ),
        (
            GRAPH, 'Step("hangup"),', 'Step("hangup", then="call_model"),',
            f"{GRAPH}, line 18: graph 'shop', step 'hangup': the call ends here, but the step leads back to itself.",
        ),
        (
            GRAPH, "tools=[order_status]", "",
            f"{GRAPH}, line 6: graph 'shop', step 'run_tools': it has no tools. Write `compile_graph(…, tools=[…])`",
        ),
        (
            GRAPH, 'then="call_model"),', 'then="call_model", options={"only": ["order_stats"]}),',
            f"{GRAPH}, line 6: graph 'shop', step 'run_tools': there is no tool 'order_stats'. Did you mean",
        ),
        (
            GRAPH, 'Step("opening_hours"),', "Step(order_status),",
            f"{GRAPH}, line 12: Step: 'order_status' is a function, but no node. Write `@node` above",
        ),
        (
            GRAPH, 'instructions="persona.md"', 'instructions="templates/other/persona.md"',
            f"{GRAPH}, line 6: graph 'shop', instructions: unknown template 'templates/other/persona.md'. Did you mean"
            " 'persona.md'?",
        ),
        (
            "shop/templates/persona.md", "{{ office }}", "{% if office is opn %}x{% endif %}",
            "shop/templates/persona.md, line 3: graph 'shop', instructions: there is no test 'opn'.",
        ),
        (".env", "", 'OPENAI_API_KEY: abc', ".env, line 1: it must be `NAME=value`, with closed quotation marks."),
        (
            GRAPH, 'Step("hangup"),', 'Step("hangup", waitz=True),',
            f"{GRAPH}, line 18: Step: waitz: unknown name. Did you mean 'waits'? Accepted: 'node', ",
        ),
        (
            "shop/templates/persona.md", "{{ office }}", "{{ tool_results }}",
            "shop/templates/persona.md, line 3: graph 'shop', instructions: 'tool_results' is not known here: only the"
            " step 'run_tools' writes it",
        ),
        (
            "shop/templates/persona.md", "{{ office }}", "{{ office | uper }}",
            "shop/templates/persona.md, line 3: graph 'shop', instructions: there is no filter 'uper'. Did you mean"
            " 'upper'?",
        ),
        (
            "shop/templates/persona.md", "{{ office }}", "{{ office question }}",
            "shop/templates/persona.md, line 3: graph 'shop', instructions: `}}` was expected, but there is",
        ),
        (
            "shop/templates/persona.md", "{{ office }}", "{% if office %}",
            "shop/templates/persona.md, line 7: graph 'shop', instructions: `{% endif %}` is missing.",
        ),
        (
            GRAPH, 'instructions="persona.md"', 'instructions="personna.md"',
            f"{GRAPH}, line 6: graph 'shop', instructions: unknown template 'personna.md'. Did you mean 'persona.md'?",
        ),
        (
            GRAPH, "tools=[order_status]", "tools=order_status",
            f"{GRAPH}, line 21: graph 'shop', tools: it must be a list of functions, not the function 'order_status'.",
        ),
        (
            "langgraph.json", "shop.graphs.shop:graph", "./shop/graphs/shop.py:graph",
            "langgraph.json, line 7: graph 'shop': './shop/graphs/shop.py:graph' must have the form"
            " `shop.graphs.shop:graph`. Write `shop.graphs.shop:graph`: ",
        ),
        (
            "langgraph.json", "shop.graphs.shop:graph", "shop.graphs.shop:graf",
            "langgraph.json, line 7: graph 'shop': shop/graphs/shop.py has no 'graf'. It has 'graph'.",
        ),
        ("langgraph.json", '"shop":', '"shop": "a.b:c", "shop":', "langgraph.json, line 7: the name 'shop' appears"),
        ("langgraph.json", '"graphs"', '"graph"', "langgraph.json: it names no graph. Accepted: "),
        (".env", "", "LLM_MODLE=x", ".env, line 1: unknown setting 'LLM_MODLE'. Did you mean 'LLM_MODEL'?"),
        (
            "dialgraph.yaml", "false", "perhaps",
            "dialgraph.yaml, line 2: setting 'sample_handbook': must be true or false.",
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
            "shop/graphs/shop.yaml, line 6: The graph is not valid: steps.1.timeout_ms must be a whole number, not",
        ),
        (
            YAML % "400\n    on_timout: x",
            "shop/graphs/shop.yaml, line 7: The graph is not valid: steps.1.on_timout:",
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


@pytest.mark.parametrize(
    ("text", "sentence"),
    [(b"", "it is empty."), (b"\xff\xfeHello", "the file must be UTF-8 text.")],
)
def test_a_persona_that_says_nothing_is_refused(shop: Path, tmp_path: Path, text: bytes, sentence: str) -> None:
    shutil.copytree(shop, tmp_path / "shop")
    (tmp_path / "shop/shop/templates/persona.md").write_bytes(text)
    told = run("graphs", "check", at=tmp_path / "shop").stderr.splitlines()[1:]
    assert told == [f"dialgraph: shop/templates/persona.md: graph 'shop', instructions: {sentence}"]


def test_a_node_that_fails_in_a_call_is_named_with_its_file_and_line(shop: Path, tmp_path: Path) -> None:
    shutil.copytree(shop, tmp_path / "shop")
    edited(tmp_path / "shop", NODE, "    return {", '    {}["key"]\n    return {')
    told = run("chat", "--say", "Hello", at=tmp_path / "shop")
    assert told.returncode == 1 and told.stderr.count("\n") == 1, told.stderr
    assert told.stdout.strip() == f"step 'opening_hours': {NODE}, line 16: KeyError: 'key'"


def test_one_broken_endpoint_leaves_the_others_usable(shop: Path, tmp_path: Path) -> None:
    shutil.copytree(shop, tmp_path / "shop")
    folder = tmp_path / "shop"
    edited(folder, "langgraph.json", '"shop":', '"desk": "shop.graphs.desk:graph", "shop":')
    (folder / "shop/graphs/desk.py").write_text("import nothing_of_that_name\n", encoding="utf-8")
    mistake = "shop/graphs/desk.py, line 1: No module named 'nothing_of_that_name'."
    listed = run("graphs", "list", at=folder)
    assert listed.returncode == 1 and "/shop/chat/completions" in listed.stdout and mistake in listed.stderr
    assert run("graphs", "show", "shop", at=folder).returncode == 0
    assert run("chat", "shop", "--say", "Hello", at=folder).returncode == 0
    refused = run("chat", "desk", "--say", "Hello", at=folder)
    assert refused.returncode == 1 and mistake in refused.stderr


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        (
            "One\n{{ office.uper() }}",
            "shop/templates/persona.md, line 2: UndefinedError: 'str object' has no attribute",
        ),
        ("{{ 1 / 0 }}", "shop/templates/persona.md, line 1: ZeroDivisionError: division by zero"),
    ],
)
def test_a_template_that_fails_in_a_call_is_named_with_its_line(
    shop: Path, tmp_path: Path, template: str, sentence: str
) -> None:
    shutil.copytree(shop, tmp_path / "shop")
    (tmp_path / "shop/shop/templates/persona.md").write_text(template, encoding="utf-8")
    told = run("chat", "--say", "Hello", at=tmp_path / "shop")
    assert told.returncode == 1 and sentence in told.stdout, told.stdout


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("import sys; sys.exit(3)", "node 'opening_hours': it called `sys.exit`, which would stop the server"),
        ("return dict.fromkeys(['office']).keys()", "node 'opening_hours': it returned dict_keys. Accepted: a table"),
        ("await turn.say(len('x'))", f"{NODE}, line 14: TypeError: turn.say takes text, not int"),
        ("turn.sayy('x')", "AttributeError: 'Turn' object has no attribute 'sayy'. Did you mean 'say'?"),
    ],
)
def test_a_node_that_goes_wrong_in_a_call_does_not_stop_the_program(
    shop: Path, tmp_path: Path, code: str, sentence: str
) -> None:
    shutil.copytree(shop, tmp_path / "shop")
    edited(tmp_path / "shop", NODE, "    now =", f"    {code}\n    now =")
    told = run("chat", "--say", "Hello", at=tmp_path / "shop")
    assert told.returncode == 1 and told.stdout.startswith("\nstep 'opening_hours': ") and sentence in told.stdout


def test_without_a_project_the_samples_are_checked_and_this_is_said(tmp_path: Path) -> None:
    told = run("graphs", "check", at=tmp_path).stdout
    assert told.startswith("4 graphs are valid: ") and "Project: none" in told
