"""Watches the source files of a project for changes, by looking at their times.

Looking costs a few milliseconds and works everywhere: in containers, on network drives, and beside folders with more
files than the system can watch.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_SUFFIXES: Final = frozenset({".py", ".yaml", ".yml", ".j2", ".json"})
_TEXTS: Final = frozenset({".md", ".txt"})
"""Texts count only where templates are."""
_TEXT_FOLDERS: Final = frozenset({"templates", "graphs"})
_NAMES: Final = frozenset({".env"})
_IGNORED: Final = frozenset({"__pycache__", "build", "data", "dist", "node_modules", "tests"})
_LOOK_SECONDS: Final = 0.3
_SETTLE_SECONDS: Final = 0.1
"""The pause until the files are the same twice: an editor may save several."""


def changes(folder: Path) -> Iterator[list[str]]:
    """Note the files as they are now, and return an iterator that checks them repeatedly.

    Each check yields the names of the files that have changed since the one before, often none.
    """
    return _looks(folder, _times(folder))


def _looks(folder: Path, before: dict[str, int]) -> Iterator[list[str]]:
    while True:
        time.sleep(_LOOK_SECONDS)
        now = _times(folder)
        if now == before:
            yield []
            continue
        while (settled := _settled(folder)) != now:
            now = settled
        changed = {name for name in now.keys() | before.keys() if now.get(name) != before.get(name)}
        before = now
        yield sorted(changed)


def _settled(folder: Path) -> dict[str, int]:
    time.sleep(_SETTLE_SECONDS)
    return _times(folder)


def _times(folder: Path) -> dict[str, int]:
    """Return the time of the last change of each source file, in nanoseconds, by its name from the folder."""
    found: dict[str, int] = {}
    for place, folders, files in os.walk(folder):
        folders[:] = [one for one in folders if one not in _IGNORED and not one.startswith(".")]
        for name in files:
            path = Path(place, name)
            if _counts(path):
                try:
                    found[str(path.relative_to(folder))] = path.stat().st_mtime_ns
                except OSError:  # deleted since
                    continue
    return found


def _counts(path: Path) -> bool:
    if path.suffix in _TEXTS:
        return path.parent.name in _TEXT_FOLDERS
    return path.suffix in _SUFFIXES or path.name in _NAMES
