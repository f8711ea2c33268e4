"""Checks that Python imports our five packages, and not another file or folder with the same name."""

from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("dialgraph", "graphs", "knowledge", "nodes", "server")
_HOME = Path(__file__).resolve().parents[1]


class ShadowedPackageError(Exception):
    """Another file or folder has the name of one of our packages. The message names it."""


def refuse_shadowed_packages() -> None:
    """Raise ShadowedPackageError if Python would import something else for one of the five names."""
    for name in PACKAGES:
        found = find_spec(name)
        place = Path(found.origin).resolve() if found is not None and found.origin else None
        if place != _HOME / name / "__init__.py":
            raise ShadowedPackageError(
                f"{str(place or name)!r} hides Dialgraph's own package {name!r}. Rename it, or start in another folder."
            )
