"""Plugins: nodes, engines and host profiles that other installed packages bring, as entry points of their metadata.

A package declares them in its `pyproject.toml`, for example `[project.entry-points."dialgraph.voices"]` with
`parrot = "my_package.voices:Parrot"`. Then `parrot:` is the scheme of a voice.
"""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

GROUPS = ("nodes", "models", "stores", "voices", "transcribers", "embedders", "tool servers", "profiles")
"""The kinds of plugins. In an entry point the group is `dialgraph.` with the kind; blanks are underscores."""


class PluginError(ValueError):
    """A plugin cannot be used. The message names its package."""


@cache
def plugins(kind: str) -> Mapping[str, EntryPoint]:
    """Return the plugins of this kind by name. Nothing of them is imported yet."""
    group = f"dialgraph.{kind.replace(' ', '_')}"
    return {one.name: one for one in sorted(entry_points(group=group), key=lambda one: one.name)}


def loaded(kind: str, name: str) -> Any:
    """Import a plugin and return it. Raise PluginError if that fails."""
    plugin = plugins(kind)[name]
    try:
        return plugin.load()
    except Exception as error:  # another author's package can raise anything; the message names it
        what = " ".join(str(error).split())
        raise PluginError(f"plugin {name!r} of {package_of(plugin)}: {type(error).__name__}: {what}") from error


def package_of(plugin: EntryPoint) -> str:
    """Return the package of a plugin with its version."""
    return f"{plugin.dist.name} {plugin.dist.version}" if plugin.dist is not None else plugin.module
