"""The files of records: a folder for each day, a file for each call, and an index with a line for each turn.

A line is written with one call in append mode, so that several processes can share the folder.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import orjson
from filelock import FileLock

from dialgraph.shallow import shallow

INDEX: Final = "index.jsonl"
FEEDBACK: Final = "feedback.jsonl"
_LOCK_SECONDS: Final = 20
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

    def add(self, made: Sequence[tuple[Summary, bytes]]) -> None:
        """Add the records of turns. Raises OSError."""
        lines: dict[str, list[bytes]] = {}
        with self._locked():
            for summary, record in made:
                day = summary.at[:10]
                (self.folder / day).mkdir(0o700, parents=True, exist_ok=True)
                name = f"{day}/{file_name(summary.principal, summary.call)}"
                end = _append(f"{self.folder}/{name}", record)
                placed = {**shallow(summary), "file": name, "start": end - len(record), "end": end}
                lines.setdefault(day, []).append(orjson.dumps(placed, option=orjson.OPT_APPEND_NEWLINE))
            for day, own in lines.items():
                _append(f"{self.folder}/{day}/{INDEX}", b"".join(own))

    def _locked(self) -> FileLock:
        """Lock the folder: a file must not be replaced while another process adds to it."""
        self.folder.mkdir(0o700, parents=True, exist_ok=True)
        return FileLock(self.folder / ".lock", timeout=_LOCK_SECONDS)

    def summaries(self) -> Iterator[Summary]:
        """Yield every turn, the newest day first, within a day in the order of their ends."""
        for day in sorted(self.folder.glob("[0-9]*-[0-9]*-[0-9]*"), reverse=True):
            for data in _lines(day / INDEX):
                found = _summary(data)
                if found is not None and (self.folder / found.file).is_file():
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
        """Store what somebody thinks of a call. Raises TooMuchFeedbackError and OSError."""
        with self._locked():
            self._add_feedback(feedback)

    def _add_feedback(self, feedback: Feedback) -> None:
        own = [one for one in self.feedback() if (one.principal, one.call) == (feedback.principal, feedback.call)]
        if len(own) >= MOST_FEEDBACK:
            raise TooMuchFeedbackError(f"A call can be rated {MOST_FEEDBACK} times.")
        _append(f"{self.folder}/{FEEDBACK}", orjson.dumps(shallow(feedback), option=orjson.OPT_APPEND_NEWLINE))

    def feedback(self) -> list[Feedback]:
        """Return all feedback, oldest first."""
        names = set(Feedback.__slots__)
        return [Feedback(**data) for data in _lines(self.folder / FEEDBACK) if set(data) == names]

    def erase(self, *, call: str = "", caller: str = "", principal: str = "") -> int:
        """Erase the records and the feedback of one call, one caller or one principal. Return how many turns.

        `call` and `caller`: as the records name them.
        """
        if not self.folder.is_dir():
            return 0
        with self._locked():
            return self._erase(call, caller, principal)

    def _erase(self, call: str, caller: str, principal: str) -> int:
        digits = "".join(filter(str.isdigit, caller))
        chosen = [
            one
            for one in self.summaries()
            if (call and one.call == call)
            or (caller and one.caller == caller)
            or (digits and "".join(filter(str.isdigit, one.caller)) == digits)  # written in another way
            or (principal and one.principal == principal)
        ]
        calls = {(one.principal, one.call) for one in chosen}
        gone = {one.file for one in chosen}
        for name in gone:
            (self.folder / name).unlink(missing_ok=True)
        for day in {name.partition("/")[0] for name in gone}:
            _keep(self.folder / day / INDEX, lambda data: data.get("file") not in gone)
        _keep(self.folder / FEEDBACK, lambda data: (data.get("principal"), data.get("call")) not in calls)
        return len(chosen)

    def expire(self, days: int, most_bytes: int) -> None:
        """Delete the records of older days, and the oldest days while all together are larger than this.

        Today's records stay, whatever their size.
        """
        now = datetime.now(UTC)
        today, oldest = f"{now:%Y-%m-%d}", f"{now - timedelta(days=days):%Y-%m-%d}"
        found = [day for day in sorted(self.folder.glob("[0-9]*-[0-9]*-[0-9]*")) if day.name != today]
        sizes = {day: sum(file.stat().st_size for file in day.iterdir() if file.is_file()) for day in found}
        whole = sum(sizes.values()) + sum(file.stat().st_size for file in (self.folder / today).glob("*.jsonl"))
        for day in found:
            if day.name >= oldest and whole <= most_bytes:
                break
            shutil.rmtree(day, ignore_errors=True)
            whole -= sizes[day]


def _summary(data: dict[str, Any]) -> Summary | None:
    """Return a line of the index, or None if it is damaged. Fields of a newer version are left out."""
    try:
        known = {name: data[name] for name in Summary.__slots__ if name in data}
        return Summary(**{**known, "tools": tuple(known.get("tools", ()))})
    except TypeError:
        return None


def file_name(principal: str, call: str) -> str:
    """Return the name of the file of a call."""
    key = "\0".join((principal, call)).encode("utf-8", "replace")
    return f"{hashlib.blake2b(key, digest_size=12).hexdigest()}.jsonl"


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
            data = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(data, dict):
            yield data


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
