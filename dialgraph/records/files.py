"""The files of records: a folder for each day, a file for each call, and an index with a line for each turn.

A line is written with one call in append mode, so that several processes can share the folder.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson

INDEX: Final = "index.jsonl"
FEEDBACK: Final = "feedback.jsonl"
MOST_FEEDBACK: Final = 20
"""The most ratings of one call."""


class TooMuchFeedbackError(Exception):
    """A call has been rated too often."""


@dataclass(frozen=True, slots=True)
class Summary:
    """One turn, as lists show it. Private values are replaced."""

    id: str
    call: str
    """The host's id of the call, or the id of the turn if the host sends none."""
    caller: str
    """The stand-in of the caller's number, or an empty text."""
    principal: str
    endpoint: str
    host: str
    at: str
    """When the request came, in UTC (ISO 8601)."""
    outcome: str
    said: str
    heard: str
    first_word_ms: float | None
    total_ms: float
    interrupted: bool
    ended_call: bool
    """Whether the turn asked the host to hang up or transfer the call."""
    tools: tuple[str, ...] = ()
    tokens: int = 0
    cost_usd: float | None = None
    file: str = ""
    """The file of the record, from the folder of records."""
    start: int = 0
    end: int = 0
    """The place of the record in the file, in bytes."""

    @property
    def failed(self) -> bool:
        """Return whether the turn failed."""
        return self.outcome.startswith("error")


@dataclass(frozen=True, slots=True)
class Feedback:
    """What somebody thinks of a call."""

    call: str
    principal: str
    rating: str
    """`good` or `bad`."""
    note: str
    at: str


@dataclass
class RecordFiles:
    """The folder of records. All methods block."""

    folder: Path
    _known: set[str] = field(default_factory=set)

    def add(self, made: Sequence[tuple[Summary, bytes]]) -> None:
        """Add the records of turns. Raises OSError."""
        lines: dict[str, list[bytes]] = {}
        for summary, record in made:
            day = summary.at[:10]
            if day not in self._known:
                (self.folder / day).mkdir(0o700, parents=True, exist_ok=True)
                self._known.add(day)
            name = f"{day}/{file_name(summary.principal, summary.call)}"
            end = _append(f"{self.folder}/{name}", record)
            placed = {**_shallow(summary), "file": name, "start": end - len(record), "end": end}
            lines.setdefault(day, []).append(orjson.dumps(placed, option=orjson.OPT_APPEND_NEWLINE))
        for day, own in lines.items():
            _append(f"{self.folder}/{day}/{INDEX}", b"".join(own))

    def summaries(self) -> Iterator[Summary]:
        """Yield every turn, the newest day first, within a day in the order of their ends."""
        for day in sorted(self.folder.glob("[0-9]*-[0-9]*-[0-9]*"), reverse=True):
            for data in _lines(day / INDEX):
                found = Summary(**{**data, "tools": tuple(data.get("tools", ()))})
                if (self.folder / found.file).is_file():
                    yield found

    def record(self, summary: Summary) -> bytes:
        """Return the record of a turn: JSON Lines. Raises OSError."""
        with (self.folder / summary.file).open("rb") as file:
            file.seek(summary.start)
            return file.read(summary.end - summary.start)

    def has(self, principal: str, call: str) -> bool:
        """Return whether a call was recorded for this principal. `call`: as the records name it."""
        return any(self.folder.glob(f"[0-9]*-[0-9]*-[0-9]*/{file_name(principal, call)}"))

    def add_feedback(self, feedback: Feedback) -> None:
        """Store what somebody thinks of a call. Raises TooMuchFeedbackError."""
        own = [one for one in self.feedback() if (one.principal, one.call) == (feedback.principal, feedback.call)]
        if len(own) >= MOST_FEEDBACK:
            raise TooMuchFeedbackError(f"A call can be rated {MOST_FEEDBACK} times.")
        self.folder.mkdir(0o700, parents=True, exist_ok=True)
        _append(f"{self.folder}/{FEEDBACK}", orjson.dumps(asdict(feedback), option=orjson.OPT_APPEND_NEWLINE))

    def feedback(self) -> list[Feedback]:
        """Return all feedback, oldest first."""
        return [Feedback(**data) for data in _lines(self.folder / FEEDBACK)]

    def erase(self, *, call: str = "", caller: str = "", principal: str = "") -> int:
        """Erase the records and the feedback of one call, one caller or one principal. Return how many turns.

        `call` and `caller`: as the records name them.
        """
        asked = {"call": call, "caller": caller, "principal": principal}
        wanted = {name: value for name, value in asked.items() if value}
        chosen = [one for one in self.summaries() if any(getattr(one, name) == value for name, value in wanted.items())]
        calls = {(one.principal, one.call) for one in chosen}
        gone = {one.file for one in chosen}
        for name in gone:
            (self.folder / name).unlink(missing_ok=True)
        for day in {name.partition("/")[0] for name in gone}:
            _keep(self.folder / day / INDEX, lambda data: data["file"] not in gone)
        _keep(self.folder / FEEDBACK, lambda data: (data["principal"], data["call"]) not in calls)
        return len(chosen)

    def expire(self, days: int, most_bytes: int) -> None:
        """Delete the records of older days, and the oldest days while all together are larger than this."""
        found = sorted(self.folder.glob("[0-9]*-[0-9]*-[0-9]*"))
        sizes = {day: sum(file.stat().st_size for file in day.iterdir() if file.is_file()) for day in found}
        oldest = datetime.fromtimestamp(datetime.now(UTC).timestamp() - days * 86_400, UTC).strftime("%Y-%m-%d")
        whole = sum(sizes.values())
        for day in found:
            if day.name >= oldest and whole <= most_bytes:
                break
            for file in sorted(day.iterdir()):
                file.unlink(missing_ok=True)
            day.rmdir()
            whole -= sizes[day]
            self._known.discard(day.name)


def _shallow(summary: Summary) -> dict[str, Any]:
    return {name: getattr(summary, name) for name in Summary.__slots__}


def file_name(principal: str, call: str) -> str:
    """Return the name of the file of a call."""
    return f"{hashlib.blake2b(f'{principal} {call}'.encode('utf-8', 'replace'), digest_size=12).hexdigest()}.jsonl"


def _append(path: str, data: bytes) -> int:
    """Append the data in one write. Return the size of the file after it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        written = 0
        while written < len(data):
            written += os.write(descriptor, data[written:])
        return os.lseek(descriptor, 0, os.SEEK_CUR)
    finally:
        os.close(descriptor)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file. A line that is not whole is left out: its writer was killed."""
    if not path.is_file():
        return
    for line in path.read_bytes().splitlines():
        try:
            yield orjson.loads(line)
        except orjson.JSONDecodeError:
            continue


def _keep(path: Path, wanted: Any) -> None:
    """Keep only the lines of a file that are wanted."""
    if not path.is_file():
        return
    kept = b"".join(orjson.dumps(data, option=orjson.OPT_APPEND_NEWLINE) for data in _lines(path) if wanted(data))
    temporary = path.with_suffix(f".{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(kept)
    temporary.replace(path)
