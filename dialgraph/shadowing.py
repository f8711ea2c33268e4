"""Checks that Python imports our five packages, and not another file or folder with the same name."""

import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

PACKAGES = ("dialgraph", "graphs", "knowledge", "nodes", "server")
_HOME = Path(__file__).resolve().parents[1]


class ShadowedPackageError(Exception):
    """Another file or folder has the name of one of our packages. The message names it."""


def prefer_packages_to_folders() -> None:
    """Import ours where Python would take a folder without `__init__.py`, such as a project's own `knowledge/`.

    Python prefers a package to such a folder only if both are found by `sys.path`. An editable install is not.
    """
    for name in PACKAGES:
        if name in sys.modules:
            continue
        found = find_spec(name)
        file = _HOME / name / "__init__.py"
        if found is not None and found.origin is None and file.is_file():
            spec = spec_from_file_location(name, file, submodule_search_locations=[str(file.parent)])
            if spec is not None and spec.loader is not None:
                module = sys.modules[name] = module_from_spec(spec)
                spec.loader.exec_module(module)


def refuse_shadowed_packages() -> None:
    """Raise ShadowedPackageError if Python would import something else for one of the five names."""
    for name in PACKAGES:
        found = find_spec(name)
        place = Path(found.origin).resolve() if found is not None and found.origin else None
        if place != _HOME / name / "__init__.py":
            raise ShadowedPackageError(
                f"{str(place or name)!r} hides Dialgraph's own package {name!r}. Rename it, or start in another folder."
            )
