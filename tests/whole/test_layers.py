"""A room imports only from rooms below it. Each heavy library is imported only in its own places."""

import ast
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from dialgraph.project import ROOT

LAYERS = (
    ("server/cli",),
    ("server/process",),
    ("server/asgi.py",),
    ("server/app.py",),
    ("server/protocols/backend_api", "server/protocols/responses"),
    ("server/protocols/chat_completions",),
    ("server/api",),
    ("server/state.py",),
    ("server/traces",),
    ("server/users", "server/http", "server/metrics", "server/readiness.py"),
    ("server/turns", "server/access"),
    ("server/connection", "server/protocols"),
    ("server",),
    ("graphs",),
    ("nodes",),
    ("knowledge/open_stores.py", "knowledge/knowledge_bases.py"),
    ("knowledge/knowledge_base.py",),
    ("knowledge/ingest",),
    ("knowledge/stores",),
    ("knowledge/search", "knowledge/parse"),
    ("knowledge/store.py",),
    ("knowledge/passages",),
    ("knowledge/files.py", "knowledge/embedders"),
    ("knowledge/document.py",),
    ("knowledge",),
    ("dialgraph/__init__.py",),
    ("dialgraph/calls",),
    ("dialgraph/run",),
    ("dialgraph/graph",),
    ("dialgraph/records",),
    ("dialgraph/services",),
    ("dialgraph/turn",),
    ("dialgraph/users/conversations",),
    ("dialgraph/users/accounts",),
    ("dialgraph/models/relay",),
    ("dialgraph/models", "dialgraph/privacy", "dialgraph/speech", "dialgraph/storage", "dialgraph/tools"),
    ("dialgraph/models/history", "dialgraph/storage/migrations"),
    ("dialgraph/language", "dialgraph/profiles", "dialgraph/storage/tables"),
    ("dialgraph",),
)
"""The rooms, from top to bottom. A file belongs to the longest of these names that its path begins with."""
RANK = {room: rank for rank, layer in enumerate(LAYERS) for room in layer}
PACKAGES = ("dialgraph", "graphs", "knowledge", "nodes", "server")
ONLY_IN = {
    "langgraph": {
        "dialgraph/graph/compile.py",
        "dialgraph/graph/state.py",
        "dialgraph/graph/step.py",
        "dialgraph/graph/studio.py",
        "dialgraph/graph/tracing.py",
    },
    "fastapi": {"server/"},
    "starlette": {"server/"},
    "uvicorn": {"server/"},
    "aiohttp": {
        "dialgraph/http_client.py",
        "knowledge/embedders/json_client.py",
        "dialgraph/models/relay/event_stream.py",
        "dialgraph/models/relay/proxy.py",
        "dialgraph/models/relay/relay.py",
        "dialgraph/models/relay/session.py",
        "dialgraph/models/relay/user_upstreams.py",
        "server/conformance/probes.py",
        "server/cli/check.py",
        "dialgraph/speech/http.py",
    },
    "httpx": set(),  # its connection pool breaks when requests are cancelled
    "langchain_community": set(),
}
ON_THE_PATH = (
    "dialgraph/graph/", "dialgraph/language/", "dialgraph/models/", "dialgraph/profiles/", "dialgraph/run/",
    "dialgraph/speech/", "dialgraph/tools/", "dialgraph/turn/", "graphs/", "nodes/",
    "server/http/", "server/protocols/",
    "server/api/conversation_turn.py",
    "server/turns/admission.py", "server/turns/runs.py", "server/turns/turn_recorder.py", "server/turns/usage_meter.py",
)  # fmt: skip
"""The files that a turn runs through."""
TAKES_FROM_ELSEWHERE = {"to_thread", "run_in_executor", "today", "utcnow"}
OF_THE_ENVIRONMENT = {"time", "uuid", "random", "secrets", "concurrent.futures"}
LONGEST_FILE = 400
"""In lines. This is a limit for readers, not a target: a file with one idea may be this long."""
READS_ENVIRONMENT = {
    "server/cli/doctor.py",  # says where each setting comes from
    "dialgraph/project.py",
    "dialgraph/services/settings.py",
    "server/setting_sources.py",
    "server/settings.py",
    "dialgraph/__init__.py",
    "server/process/reload.py",
}


def _files() -> Iterator[tuple[str, ast.Module]]:
    for folder in PACKAGES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def _imports(tree: ast.Module) -> Iterator[str]:
    for element in ast.walk(tree):
        if isinstance(element, ast.Import):
            yield from (alias.name for alias in element.names)
        elif isinstance(element, ast.ImportFrom):
            assert element.level == 0, "imports are absolute"
            yield element.module or ""


def _room(file: str) -> str:
    return max((room for room in RANK if file == room or file.startswith(f"{room}/")), key=len)


def _file_of(module: str) -> str | None:
    path = module.replace(".", "/")
    return next((file for file in (f"{path}.py", f"{path}/__init__.py") if (ROOT / file).is_file()), None)


def test_rooms_import_only_from_rooms_below_them() -> None:
    wrong = []
    for file, tree in _files():
        here = _room(file)
        for module in _imports(tree):
            if module.split(".")[0] in PACKAGES and (found := _file_of(module)) is not None:
                there = _room(found)
                if there != here and RANK[there] <= RANK[here]:
                    wrong.append(f"{file} ({here}) imports {module} ({there})")
    assert not wrong


def test_heavy_libraries_are_imported_only_in_their_places() -> None:
    wrong = []
    for file, tree in _files():
        for module in _imports(tree):
            allowed = ONLY_IN.get(module.split(".")[0])
            if allowed is not None and not any(file.startswith(place) for place in allowed):
                wrong.append(f"{file} imports {module}")
    assert not wrong


def test_a_turn_takes_time_ids_and_chance_only_from_its_environment() -> None:
    wrong = []
    for file, tree in _files():
        if not file.startswith(ON_THE_PATH):
            continue
        for element in ast.walk(tree):
            if isinstance(element, ast.Attribute) and element.attr in TAKES_FROM_ELSEWHERE:
                wrong.append(f"{file} uses {element.attr}")
        wrong += [f"{file} imports {module}" for module in _imports(tree) if module in OF_THE_ENVIRONMENT]
    assert not wrong


def test_only_settings_read_the_environment() -> None:
    wrong = [
        file
        for file, tree in _files()
        if file not in READS_ENVIRONMENT
        and any(
            isinstance(element, ast.Attribute) and element.attr in ("environ", "getenv") for element in ast.walk(tree)
        )
    ]
    assert not wrong


def test_nothing_imports_the_command_line() -> None:
    wrong = [
        file
        for file, tree in _files()
        if not file.startswith("server/cli/") and any(module.startswith("server.cli") for module in _imports(tree))
    ]
    assert not wrong


def test_every_file_has_a_docstring_and_a_readable_length() -> None:
    for file, tree in _files():
        assert ast.get_docstring(tree), f"{file} has no docstring"
        length = len((ROOT / file).read_text(encoding="utf-8").splitlines())
        assert length <= LONGEST_FILE, f"{file} has {length} lines; at most {LONGEST_FILE} are allowed"


def _private_names(tree: ast.Module) -> set[str]:
    attributes = {element.attr for element in ast.walk(tree) if isinstance(element, ast.Attribute)}
    return {name for name in attributes if name.startswith("_") and not name.startswith("__")}


def _own_names(tree: ast.Module) -> set[str]:
    stored = {
        element.attr
        for element in ast.walk(tree)
        if isinstance(element, ast.Attribute) and isinstance(element.ctx, ast.Store)
    }
    return stored | {
        element.name for element in ast.walk(tree) if isinstance(element, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_only_one_file_uses_private_names_of_uvicorn() -> None:
    library = Path(uvicorn.__file__).parent
    private = set().union(*(_private_names(ast.parse(file.read_text())) for file in library.rglob("*.py")))
    using = {
        file
        for file, tree in _files()
        if file.startswith("server/") and (_private_names(tree) - _own_names(tree)) & private
    }
    modules = {
        file
        for file, tree in _files()
        if any(module.startswith("uvicorn.") and "._" in module for module in _imports(tree))
    }
    assert using == {"server/connection/limited_protocol.py"} and not modules
