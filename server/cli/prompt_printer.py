"""Prints what the models of a turn are sent, for `dialgraph chat --show-prompt`."""

from collections.abc import Sequence

from rich.console import Console

from dialgraph.models.history.text import text_of
from dialgraph.turn.step_place import tool_name
from dialgraph.turn.watching import ModelCall, Watcher


class PromptPrinter(Watcher):
    """Prints each prompt before the model answers."""

    def __init__(self, console: Console) -> None:
        self._console = console

    async def asked(self, call: ModelCall) -> None:
        """Print the messages and the names of the tools."""
        self._print(f"prompt of {call.step} for the model {call.model!r}")
        for message in call.messages:
            told = text_of(message.get("content")) or str(message.get("tool_calls", ""))
            role, *rest = str(message.get("role")), *told.splitlines()
            self._print(f"  {role:<9} {rest[0] if rest else ''}")
            for line in rest[1:]:
                self._print(f"  {'':<9} {line}")
        tools = call.parameters.get("tools")
        if names := [tool_name(tool) for tool in tools] if isinstance(tools, Sequence) else []:
            self._print(f"  {'tools':<9} {', '.join(names)}")

    def _print(self, line: str) -> None:
        self._console.print(line, style="dim cyan", markup=False, soft_wrap=True)
