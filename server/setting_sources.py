"""Where the settings of a process come from: the environment, `.env` and `dialgraph.yaml`, each with its lines."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any, Final

from dotenv.parser import parse_stream
from pydantic.fields import FieldInfo

from dialgraph.project import in_project
from dialgraph.services.settings import GraphSettings
from dialgraph.yaml_text import YamlError, line_in, read_yaml

PREFIX: Final = "DIALGRAPH_"


class SettingsError(Exception):
    """The settings cannot be used. The message never contains a secret value."""


@dataclass(frozen=True, slots=True)
class SettingSources:
    """The names that each source sets."""

    dotenv: Mapping[str, int] = field(default_factory=dict)
    """The names in `.env`, in capitals, with their lines."""
    table: Mapping[str, Any] = field(default_factory=dict)
    """The settings in `dialgraph.yaml`."""
    nodes: Any = None
    """The nodes of that file, which know their lines."""

    def place_of(self, loc: Sequence[int | str], fields: Mapping[str, FieldInfo]) -> str:
        """Return where a setting was set, as `.env, line N`; empty if nobody has set it."""
        name = str(loc[0])
        known = next((key for key, one in fields.items() if name in (key, one.validation_alias)), name)
        variable = variable_of(known, fields[known]) if known in fields else PREFIX + known.upper()
        if own := next((key for key in os.environ if _sets(key.upper(), variable)), ""):
            return f"{own} in the environment"
        if (line := next((line for key, line in self.dotenv.items() if _sets(key, variable)), 0)) != 0:
            return f".env, line {line}"
        if known in self.table:
            return f"{GraphSettings.YAML}, line {line_in(self.nodes, [known, *loc[1:]])}"
        return ""


def variable_of(name: str, info: FieldInfo) -> str:
    """Return the name of the environment variable of a setting."""
    return str(info.validation_alias or PREFIX + name.upper())


def read_sources() -> SettingSources:
    """Read the files. Raise SettingsError for a file that cannot be read."""
    dotenv, path = in_project(Path(".env")), in_project(Path(GraphSettings.YAML))
    named: dict[str, int] = {}
    for binding in parse_stream(StringIO(_text(dotenv))):
        if binding.error:
            raise SettingsError(
                f".env, line {binding.original.line}: it must be `NAME=value`, with closed quotation marks."
            )
        if binding.key is not None:
            named[binding.key.upper()] = binding.original.line + _blank_lines_before(binding.original.string)
    if (other := path.with_suffix(".yml")).is_file() and not path.is_file():
        raise SettingsError(f"{other.name}: the settings are read from {path.name}. Rename the file.")
    try:
        table, nodes = read_yaml(_text(path))
    except YamlError as error:
        place = f"{path.name}, line {error.line}" if error.line else path.name
        raise SettingsError(f"{place}: the file is not valid YAML: {error}.") from None
    if not isinstance(table, dict | None):
        raise SettingsError(f"{path.name!r} must be a table of settings: `name: value` lines.")
    return SettingSources(named, {str(name): value for name, value in (table or {}).items()}, nodes)


def _blank_lines_before(text: str) -> int:
    """Return how many lines of a binding come before its name: python-dotenv counts them to it."""
    return text[: len(text) - len(text.lstrip())].count("\n")


def _text(path: Path) -> str:
    if path.is_dir():
        raise SettingsError(f"{path.name}: it must be a file, and is a folder.")
    if not path.is_file():
        return ""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SettingsError(f"{path.name}: the file must be UTF-8 text.") from None
    except OSError as error:
        raise SettingsError(f"{path.name}: the file cannot be read: {error.strerror}.") from None


def _sets(key: str, variable: str) -> bool:
    return key == variable or key.startswith(f"{variable}__")
