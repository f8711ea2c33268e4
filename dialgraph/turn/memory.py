"""What a turn knows of its call: typed slots and a stage, loaded when first asked for and kept when they change."""

from collections.abc import Mapping
from datetime import date
from typing import Any, Literal, Protocol

from dialgraph.storage.remembered import CallKey, Remembered

SlotType = Literal["text", "number", "date", "yes_no"]
MOST_CHARACTERS = 2000
"""Of a text slot."""


class MemoryTable(Protocol):
    """Where it is kept between turns."""

    async def load(self, key: CallKey) -> Remembered:
        """What is kept of this call; empty if nothing is."""

    async def save(self, key: CallKey, remembered: Remembered, lifetime_seconds: int) -> None:
        """Keep this of the call, for so long."""


class CallMemory:
    """Of one turn. Without a call id it lasts as long as the turn."""

    def __init__(self, table: MemoryTable | None, key: CallKey, types: Mapping[str, SlotType], seconds: int) -> None:
        self._table = table if key.call_id else None
        self._key = key
        self._types = types
        self._seconds = seconds
        self._loaded = False
        self.stage = ""
        """Where the flow stands; empty: where its first missing slot says."""
        self.slots: dict[str, Any] = {}
        """What is known, by slot."""
        self.problems: dict[str, str] = {}
        """What was given and could not be understood, by slot; of this turn only."""

    @property
    def missing(self) -> list[str]:
        """The slots that are not known yet, in their order."""
        return [name for name in self._types if name not in self.slots]

    async def load(self) -> None:
        """Once a turn."""
        if not self._loaded:
            self._loaded = True
            if self._table is not None:
                kept = await self._table.load(self._key)
                self.stage = kept.stage
                self.slots = {name: value for name, value in kept.slots.items() if name in self._types}

    async def keep(self, slots: Mapping[str, object], stage: str | None = None) -> None:
        """Fill these slots, each if its value is of its type; None empties one. Committed when this returns."""
        await self.load()
        for name, value in slots.items():
            if name in self._types:
                self.problems.pop(name, None)
                if value is None or value == "":
                    self.slots.pop(name, None)
                    continue
                try:
                    self.slots[name] = _typed(value, self._types[name])
                except ValueError as error:
                    self.problems[name] = str(error)
        self.stage = self.stage if stage is None else stage
        if self._table is not None:
            await self._table.save(self._key, Remembered(self.stage, self.slots), self._seconds)


def _typed(value: object, kind: SlotType) -> object:
    """The value as it is kept. Raises ValueError with what is accepted."""
    if kind == "text" and isinstance(value, str | int | float):
        return str(value).strip()[:MOST_CHARACTERS]
    if kind == "number" and not isinstance(value, bool):
        try:
            return int(str(value)) if str(value).lstrip("-").isdigit() else float(str(value))
        except ValueError:
            pass
    if kind == "date" and isinstance(value, str):
        try:
            return date.fromisoformat(value.strip()).isoformat()
        except ValueError:
            pass
    if kind == "yes_no":
        if isinstance(value, bool):
            return value
        word = str(value).strip().lower()
        if word in ("yes", "true", "是", "no", "false", "否"):
            return word in ("yes", "true", "是")
    accepted = {"text": "text", "number": "a number", "date": "a date like 2026-11-21", "yes_no": "true or false"}
    raise ValueError(f"it must be {accepted[kind]}")
