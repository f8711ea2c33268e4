"""Writes records in a thread of its own. It never blocks a call: what does not fit into its queue is dropped."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from dialgraph.records.files import RecordFiles, Summary

log = logging.getLogger(__name__)

MOST_WAITING: Final = 256
"""The most turns that wait to be written."""
_GATHER_SECONDS: Final = 0.2
"""How long turns are gathered. Writing several together costs less."""
_EXPIRE_SECONDS: Final = 600.0

Made = tuple[Summary, bytes]
Make = Callable[[], Made | None]


class RecordWriter:
    """Takes turns that are over, makes their records and writes them."""

    def __init__(self, files: RecordFiles, days: int, most_bytes: int) -> None:
        self._files = files
        self._days = days
        self._most_bytes = most_bytes
        self._waiting: queue.Queue[Make | None] = queue.Queue(MOST_WAITING)
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._expired = 0.0
        self.dropped = 0
        """How many records were lost, because the queue was full or the disk refused them."""

    def put(self, make: Make) -> None:
        """Queue a turn. `make` is called in the thread and returns the record, or None for none."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="records", daemon=True)
            self._thread.start()
        try:
            self._waiting.put_nowait(make)
        except queue.Full:
            self._lose("the queue of records is full")

    def close(self, seconds: float = 10.0) -> None:
        """Write what waits, for at most this time, and end the thread."""
        if self._thread is not None:
            self._closing.set()
            try:
                self._waiting.put(None, timeout=seconds)
            except queue.Full:
                return
            self._thread.join(seconds)
            self._thread = None
            self._closing.clear()

    def _run(self) -> None:
        going_on = True
        while going_on:
            waiting = [self._waiting.get()]
            self._closing.wait(_GATHER_SECONDS)
            with suppress(queue.Empty):
                while True:
                    waiting.append(self._waiting.get_nowait())
            going_on = None not in waiting
            self._write([one for one in map(self._made, waiting) if one is not None])

    def _made(self, make: Make | None) -> Made | None:
        try:
            return make() if make is not None else None
        except Exception as error:  # noqa: BLE001 (a record must never stop the thread; the log says that one was lost)
            self._lose(type(error).__name__)
            return None

    def _write(self, made: list[Made]) -> None:
        try:
            if made:
                self._files.add(made)
        except Exception as error:  # noqa: BLE001 (see above)
            self._lose(type(error).__name__, len(made))
        try:
            if time.monotonic() - self._expired > _EXPIRE_SECONDS:
                self._expired = time.monotonic()
                self._files.expire(self._days, self._most_bytes)
        except OSError:
            log.warning("old records could not be deleted")

    def _lose(self, reason: str, count: int = 1) -> None:
        if not self.dropped:
            log.warning(
                "a record was lost; more are counted in dialgraph_records_dropped_total", extra={"reason": reason}
            )
        self.dropped += count
