"""The command `dialgraph`."""

from server.cli.main import main

__all__ = ["main"]
