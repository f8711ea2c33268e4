"""Runs the installed command `dialgraph`, as a user types it."""

import os
import subprocess
import sys
from pathlib import Path


def run(*arguments: str, at: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run the command in this folder."""
    environment = {**os.environ, "COLUMNS": "200", **variables}
    command = [str(Path(sys.executable).parent / "dialgraph"), *arguments]
    return subprocess.run(command, cwd=at, env=environment, capture_output=True, text=True, check=False)
