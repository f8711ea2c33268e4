"""Builds the wheel from a copy of the sources, as a release does."""

import shutil
import subprocess
import sys
from pathlib import Path

from dialgraph.project import ROOT
from dialgraph.shadowing import PACKAGES

SOURCES = (*PACKAGES, "langgraph.json", "pyproject.toml", "setup.py", "README.md", "MANIFEST.in", "LICENSE")


def built_wheel(folder: Path) -> Path:
    """Build a wheel in this folder and return its file."""
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    build = (*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", "dist", ".")
    done = subprocess.run(build, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return next((folder / "dist").glob("dialgraph-*.whl"))
