"""Settings: their sources, which source wins, and what is refused at the start, in one line without a secret."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dialgraph.project import ROOT
from dialgraph.services.settings import DEFAULT_BASE_URL
from server.app import create_app
from server.settings import Settings, SettingsError, load_settings


def test_the_sources_of_settings_override_each_other_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("dialgraph.yaml").write_text("port: 1\nkeepalive_ms: 1\ngrace_seconds: 1\n", encoding="utf-8")
    Path(".env").write_text("DIALGRAPH_PORT=2\nDIALGRAPH_KEEPALIVE_MS=2\nOTHER=x\n", encoding="utf-8")
    monkeypatch.setenv("DIALGRAPH_PORT", "3")
    settings = load_settings()
    assert (settings.port, settings.keepalive_ms, settings.grace_seconds) == (3, 2, 1)
    assert load_settings(port=4).port == 4


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        (
            "DIALGRAPH_PRT",
            "DIALGRAPH_PRT in the environment: unknown setting 'DIALGRAPH_PRT'. Did you mean 'DIALGRAPH_PORT'?",
        ),
        ("DIALGRAPH_DATADIR", "Did you mean 'DIALGRAPH_DATA_DIR'?"),
        ("DIALGRAPH_ZZZZZZZZ", "All settings are in docs/settings.md."),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest_name(
    monkeypatch: pytest.MonkeyPatch, key: str, hint: str
) -> None:
    monkeypatch.setenv(key, "x")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert hint in str(refused.value)


@pytest.mark.parametrize(
    ("file", "text", "sentence"),
    [
        (".env", "DIALGRAPH_PRT=1", ".env, line 1: unknown setting 'DIALGRAPH_PRT'. Did you mean 'DIALGRAPH_PORT'?"),
        ("dialgraph.yaml", "# x\nprt: 1", "dialgraph.yaml, line 2: unknown setting 'prt'. Did you mean 'port'?"),
        ("dialgraph.yaml", "[1", "dialgraph.yaml, line 1: the file is not valid YAML: "),
        (
            "dialgraph.yaml",
            "port: 1\nport: 2",
            "dialgraph.yaml, line 2: the file is not valid YAML: the name 'port' appears twice",
        ),
        ("dialgraph.yaml", "- 1", "'dialgraph.yaml' must be a table of settings: `name: value` lines."),
        ("dialgraph.yaml", "port: high", "dialgraph.yaml, line 1: setting 'port': must be a whole number."),
        (
            "dialgraph.yaml",
            "models: {main: {url: 'https://x', ke: sk-secret}}",
            "dialgraph.yaml, line 1: setting 'models.main.ke': unknown name.",
        ),
        (
            "dialgraph.yaml",
            "models: {main: {ulr: 'https://x'}}",
            "dialgraph.yaml, line 1: setting 'models.main.ulr': unknown name. Did you mean 'url'?",
        ),
        (".env", "LLM_BASE_ULR=http://x", ".env, line 1: unknown setting 'LLM_BASE_ULR'. Did you mean 'LLM_BASE_URL'?"),
        (".env", "DIALGRAPH_MODELS=broken", ".env, line 1: setting 'models': the value must be valid JSON"),
        (
            "dialgraph.yaml",
            "auth: keyz",
            "dialgraph.yaml, line 1: setting 'auth': must be '', 'none', 'keys' or 'passthrough'.",
        ),
        ("dialgraph.yaml", "api_keys: {a: short-secret}", "the key 'a' is shorter than 16 characters"),
        (
            "dialgraph.yaml",
            "api_keys: {a: two words of a secret key}",
            "the key 'a' must contain only ASCII characters",
        ),
        ("dialgraph.yaml", "api_keys: {a: секретный-ключ-secret}", "the key 'a' must contain only ASCII characters"),
    ],
)
def test_a_bad_setting_gives_one_sentence_without_its_value(file: str, text: str, sentence: str) -> None:
    Path(file).write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert str(refused.value).startswith(sentence) or sentence in str(refused.value)
    assert "secret" not in str(refused.value) and "\n" not in str(refused.value)


MODEL_SECONDS = (
    "connect_seconds",
    "first_byte_seconds",
    "idle_seconds",
    "total_seconds",
    "away_seconds",
    "load_seconds",
)
NUMBERS = [
    *(name for name, field in Settings.model_fields.items() if field.annotation in (int, float)),
    *(f"models__main__{name}" for name in MODEL_SECONDS),
]


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e400", "-1e9"])
@pytest.mark.parametrize("name", NUMBERS)
def test_no_number_may_be_infinite_or_negative(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """Refuse infinite limits: with `body_limit_mb=inf` every turn failed."""
    monkeypatch.setenv("DIALGRAPH_MODELS__MAIN__URL", "http://m/v1")
    monkeypatch.setenv(f"DIALGRAPH_{name.upper()}", value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert name.split("__")[-1] in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "rate", ["often", "10", "0/minute", "10/0 minute", "1/minute;1/hour", "10/99999999999999999999 years", "-1/minute"]
)
def test_a_malformed_rate_is_refused(rate: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="must read like `10/minute`"):
        create_app(Settings(data_dir=tmp_path, rates={"turn": rate}))


@pytest.mark.parametrize(
    ("variables", "url", "model", "key"),
    [
        ({}, "extractive:", "", ""),
        ({"OPENAI_API_KEY": "sk-1"}, DEFAULT_BASE_URL, "gpt-4o-mini", "sk-1"),
        ({"OPENAI_API_KEY": "sk-1", "LLM_BASE_URL": "http://l/v1"}, "http://l/v1", "gpt-4o-mini", "sk-1"),
        ({"LLM_BASE_URL": "http://l/v1", "LLM_MODEL": "qwen"}, "http://l/v1", "qwen", ""),
        ({"DIALGRAPH_MODELS": '{"main": "http://m/v1"}', "OPENAI_API_KEY": "sk-1"}, "http://m/v1", "", ""),
        ({"DIALGRAPH_MODELS__MAIN__URL": "http://m/v1", "DIALGRAPH_MODELS__MAIN__MODEL": "x"}, "http://m/v1", "x", ""),
    ],
)
def test_the_model_main_is_read_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], url: str, model: str, key: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    main = load_settings().model_addresses()["main"]
    assert (main.url, main.model, main.api_key.get_secret_value()) == (url, model, key)
    assert "sk-1" not in repr(load_settings()) + repr(main)


@pytest.mark.parametrize("value", ["rag, chat", '["rag", "chat"]', "rag,chat"])
def test_a_list_may_be_json_or_separated_by_commas(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("DIALGRAPH_ENDPOINTS", value)
    assert load_settings().endpoints == ("rag", "chat")


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().__setattr__("port", 1)


def run(*arguments: str, given: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `dialgraph` in the current folder with only these settings."""
    command = [sys.executable, "-m", "server.cli", *arguments]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        command, capture_output=True, text=True, env=variables, timeout=20, check=False, input=given or None
    )


def _taken_port() -> tuple[Any, int]:
    import socket

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener, listener.getsockname()[1]


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"DIALGRAPH_API_KEYS": '{"a": "short"}'}, "the key 'a' is shorter than 16 characters"),
        ({"DIALGRAPH_PRT": "1"}, "Did you mean 'DIALGRAPH_PORT'?"),
        ({"DIALGRAPH_HOST": "0.0.0.0", "DIALGRAPH_AUTH": "none"}, "Leave DIALGRAPH_AUTH empty"),
        ({"DIALGRAPH_ENDPOINTS": '["nope"]'}, "unknown graph 'nope'. Accepted: 'chat', 'rag', 'audio', 'hangup'."),
        ({"DIALGRAPH_MODELS": '{"main": "ftp://x"}'}, "no engine for 'ftp'"),
        ({"DIALGRAPH_MODELS": "{broken"}, "DIALGRAPH_MODELS in the environment: setting"),
        ({"DIALGRAPH_DATA_DIR": "/proc/nowhere"}, "DIALGRAPH_DATA_DIR"),
        ({"DIALGRAPH_PORT": "taken"}, "Cannot listen on 127.0.0.1"),
    ],
)
def test_a_failed_start_prints_one_clear_line(environment: dict[str, str], sentence: str) -> None:
    listener = None
    if environment.get("DIALGRAPH_PORT") == "taken":
        listener, port = _taken_port()
        environment = {"DIALGRAPH_PORT": str(port)}
    refused = run("serve", **{"DIALGRAPH_PORT": "0", "PYTHONPROFILEIMPORTTIME": "1", **environment})
    if listener is not None:
        listener.close()
    assert refused.returncode != 0
    imports: list[str] = []
    lines: list[str] = []
    for line in refused.stderr.strip().splitlines():
        (imports if line.startswith("import time:") else lines).append(line)
    assert len(lines) == 1 and lines[0].startswith("dialgraph: "), refused.stderr
    assert sentence in lines[0]
    assert "short" not in lines[0].replace("shorter", "")
    loads_graphs = {"DIALGRAPH_ENDPOINTS", "DIALGRAPH_MODELS"} & environment.keys()
    if not loads_graphs:
        assert imports
        assert not [line for line in imports if line.endswith(" langgraph.graph")], (
            "refused before LangGraph is imported"
        )
