"""The memory of a call: typed slots and a stage. It is loaded on first use and stored when it changes."""

from collections.abc import Collection, Mapping
from datetime import date
from typing import Any, Literal, Protocol

from dialgraph.storage.remembered import CallKey, Remembered

SlotType = Literal["text", "number", "date", "yes_no"]
MOST_CHARACTERS = 2000
"""The most characters of a text slot."""


class MemoryTable(Protocol):
    """The port of the table that stores memories between turns."""

    async def load(self, key: CallKey) -> Remembered:
        """Return what is stored of this call. It is empty if nothing is stored."""

    async def save(self, key: CallKey, remembered: Remembered, lifetime_seconds: int) -> None:
        """Store this for the call, for `lifetime_seconds`."""


class CallMemory:
    """The memory of a call as one turn sees it. Without a call id it lasts only as long as the turn."""

    def __init__(self, table: MemoryTable | None, key: CallKey, types: Mapping[str, SlotType], seconds: int) -> None:
        self._table = table if key.call_id else None
        self._key = key
        self._types = types
        self._seconds = seconds
        self._loaded = False
        self._saves = True
        self.stage = ""
        """The stage of the call. Empty: the first missing slot decides what comes next."""
        self.slots: dict[str, Any] = {}
        """The known values, by slot."""
        self.problems: dict[str, str] = {}
        """What is wrong with values that were not accepted in this turn, by slot."""

    @property
    def loaded(self) -> bool:
        """Return whether a step has used the memory."""
        return self._loaded

    def restore(self, slots: Mapping[str, object], stage: str | None, problems: Mapping[str, str]) -> None:
        """Begin with these values, and keep changes only here. In Studio the thread stores the memory.

        `stage`: None if the thread has no memory yet. Then the stored memory of the call is loaded at first use.
        """
        self._saves = False
        if stage is not None:
            self._loaded, self.stage, self.problems = True, stage, dict(problems)
            self.slots = {name: value for name, value in slots.items() if name in self._types}

    def values_of(self, names: Collection[str]) -> list[str]:
        """Return the known values of these slots, as texts."""
        return [str(self.slots[name]) for name in names if name in self.slots]

    @property
    def missing(self) -> list[str]:
        """Return the slots that have no value yet, in their order."""
        return [name for name in self._types if name not in self.slots]

    async def load(self) -> None:
        """Load the memory. Only the first call in a turn reads the table."""
        if not self._loaded:
            self._loaded = True
            if self._table is not None:
                kept = await self._table.load(self._key)
                self.stage = kept.stage
                self.slots = {name: value for name, value in kept.slots.items() if name in self._types}

    async def keep(self, slots: Mapping[str, object], stage: str | None = None) -> None:
        """Fill these slots with values of the right type. None or an empty text clears one. Return after the commit."""
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
        if self._table is not None and self._saves:
            await self._table.save(self._key, Remembered(self.stage, self.slots), self._seconds)


def _typed(value: object, kind: SlotType) -> object:
    """Return the value in the form that is stored. Raise ValueError with what is accepted."""
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
