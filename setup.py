"""Puts langgraph.json, which stands at the top of a checkout, into the wheel beside the endpoints that it names."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithEndpoints(build_py):
    """Copies it as graphs/langgraph.json."""

    def run(self) -> None:
        """See build_py."""
        super().run()
        if not self.editable_mode:
            self.copy_file("langgraph.json", str(Path(self.build_lib) / "graphs" / "langgraph.json"))


setup(cmdclass={"build_py": BuildWithEndpoints})
