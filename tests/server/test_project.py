"""A project of one's own: `dialgraph new` makes it, and every command works anywhere in it."""

import subprocess
import sys
from pathlib import Path

import pytest

from dialgraph import GraphError, State, Step, Turn, Update, compile_graph, node
from dialgraph.graph.spec import Graph
from tests.support.commands import run


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a project and return its folder."""
    folder = tmp_path_factory.mktemp("projects") / "corner-shop"
    made = run("new", str(folder), at=folder.parent)
    assert made.returncode == 0, made.stderr
    assert "Created the project 'corner_shop'" in made.stdout and "dialgraph serve --reload" in made.stdout
    return folder


def test_a_new_project_answers_from_its_own_documents(project: Path) -> None:
    checked = run("graphs", "check", at=project)
    assert checked.stdout == "1 graph is valid: corner_shop\n"
    assert checked.stderr == f"Project: {project.resolve()}\n"
    assert "Documents: 1." in run("knowledge", "index", "knowledge", at=project).stdout
    below = project / "corner_shop" / "graphs"
    answered = run("chat", "--say", "Can I return an article?", "--show-prompt", at=below)
    assert "You can return an article within thirty days." in answered.stdout
    assert "You are Vera, who answers the phone of our shop." in answered.stdout
    assert "The office is " in answered.stdout and "tools     order_status, hangup" in answered.stdout
    tested = subprocess.run([sys.executable, "-m", "pytest", "-q"], cwd=project, capture_output=True, text=True)
    assert tested.returncode == 0 and "1 passed" in tested.stdout, tested.stdout
    assert (project / "data").is_dir() and not (below / "data").exists(), "one project has one data folder"


def test_settings_come_from_the_folder_of_the_project(project: Path) -> None:
    (project / ".env").write_text("DIALGRAPH_NOPE=1\n", encoding="utf-8")
    try:
        refused = run("chat", "--say", "hi", at=project / "corner_shop")
        assert ".env, line 1: unknown setting 'DIALGRAPH_NOPE'." in refused.stderr
    finally:
        (project / ".env").unlink()


def test_outside_a_project_a_command_says_that_it_uses_the_samples(tmp_path: Path) -> None:
    listed = run("graphs", "list", at=tmp_path)
    assert "/rag/chat/completions" in listed.stdout and listed.stderr == "", "in a checkout they are its own endpoints"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("1st", "dialgraph: '1st' cannot be the name of a project. Accepted: up to 40 letters"),
        ("class", "dialgraph: 'class' is a Python keyword."),
        ("graphs", "dialgraph: 'graphs' is already the name of an installed Python package, or of a folder"),
        ("json", "dialgraph: 'json' is already the name of an installed Python package,"),
        ("langgraph", "dialgraph: 'langgraph' is already the name of an installed Python package, or"),
        ("data", "dialgraph: 'data' is already the name of an installed Python package, or"),
        ("full", "dialgraph: 'full' exists and is not empty."),
        ("full/kept.txt", "dialgraph: 'full/kept.txt' is a file."),
        ("/proc/shop", "dialgraph: '/proc/shop' cannot be written: "),
    ],
)
def test_a_project_is_made_only_where_it_can_work(tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept.txt").write_text("kept")
    refused = run("new", name, at=tmp_path)
    assert refused.returncode == 1 and refused.stderr.startswith(sentence), refused.stderr
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["full", "kept.txt"], "nothing was made or changed"


def test_a_new_project_is_served(project: Path) -> None:
    command = [str(Path(sys.executable).parent / "dialgraph"), "serve", "--port", "0"]
    with subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        lines = [server.stdout.readline(), server.stdout.readline()]
        server.terminate()
        errors = server.communicate()[1]
    assert "Dialgraph on http://127.0.0.1:" in lines[0] and "/corner_shop/chat/completions" in lines[1], errors


def test_the_name_of_a_folder_may_have_a_space(tmp_path: Path) -> None:
    made = run("new", "My Shop", at=tmp_path)
    assert "Created the project 'my_shop'" in made.stdout and "\n  cd 'My Shop'\n" in made.stdout


def test_documents_are_indexed_from_any_folder_of_a_project_and_old_ones_are_named(project: Path) -> None:
    first = run("knowledge", "index", "knowledge", at=project / "knowledge")
    assert first.returncode == 0, first.stderr
    (project / "old.md").write_text("We closed in May.\n", encoding="utf-8")
    assert run("knowledge", "index", "old.md", at=project).returncode == 0
    again = run("knowledge", "index", "knowledge", at=project)
    assert "Also in the store, but not in this folder: old.md. `dialgraph knowledge remove NAME`" in again.stdout


def test_a_script_uses_the_project_that_it_is_in(project: Path, tmp_path: Path) -> None:
    script = project / "tests" / "ask.py"
    script.write_text("from dialgraph import GraphSettings\nprint(GraphSettings().data_dir)\n", encoding="utf-8")
    told = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == str(project / "data")


@node(writes="weather")
async def look_outside(state: State, turn: Turn) -> Update:
    """Look at the weather."""
    return {"weather": "sunny"}


def test_a_step_takes_a_node_itself() -> None:
    spec = Graph(
        name="weather",
        instructions="It is {{ weather }}.",
        steps=(Step(look_outside), Step(look_outside, name="again"), Step("call_model")),
    )
    graph = compile_graph(spec)
    assert list(graph.get_graph().nodes) == ["__start__", "look_outside", "again", "call_model", "__end__"]
    assert spec.to_data()["steps"][0] == {"node": "look_outside"}
    with pytest.raises(GraphError, match="unknown node 'look_outside'"):
        compile_graph(Graph.from_data(spec.to_data()))


@pytest.mark.parametrize(
    ("file", "text", "sentence"),
    [
        ("nodes/retrieve.py", "", "shop/nodes/retrieve.py: the name 'retrieve' is taken by a node of Dialgraph."),
        ("nodes/late.py", "async def late(state, turn): ...", "shop/nodes/late.py: it must have a node named 'late'"),
        (
            "nodes/late.py",
            "x = 1\nimport nope",
            "shop/nodes/late.py, line 2: ModuleNotFoundError: No module named 'nope'",
        ),
        ("nodes/late.py", "x = 1\n\nasync def late(:", "shop/nodes/late.py, line 3: SyntaxError: invalid syntax"),
    ],
)
def test_a_mistake_in_a_file_of_a_node_names_the_file_and_the_line(
    tmp_path: Path, file: str, text: str, sentence: str
) -> None:
    assert run("new", "shop", at=tmp_path).returncode == 0
    place = tmp_path / "shop" / "shop" / file
    place.write_text((text + "\n") or "\n", encoding="utf-8")
    if file == "nodes/retrieve.py":
        node_text = (place.parent / "opening_hours.py").read_text(encoding="utf-8")
        place.write_text(node_text.replace("opening_hours", "retrieve"), encoding="utf-8")
    told = run("graphs", "check", at=tmp_path / "shop").stderr
    assert sentence in told and told.count("shop/nodes/") == 1, "each mistake is reported once"
