"""The records of one process: decides which turns are recorded, and stores them."""

import secrets
from collections import OrderedDict
from collections.abc import Collection, Mapping
from functools import cache, cached_property
from importlib.metadata import version
from typing import Any, Final
from weakref import WeakKeyDictionary

from dialgraph.environment import Environment
from dialgraph.privacy.finders import Words, no_words
from dialgraph.privacy.redaction import Redactor
from dialgraph.records.choice import RecordChoice
from dialgraph.records.files import RecordFiles
from dialgraph.records.recorder import TurnEnd, TurnRecorder
from dialgraph.records.writer import RecordWriter
from dialgraph.services.services import OpenServices
from dialgraph.services.settings import GraphSettings
from dialgraph.turn.request import TurnRequest
from dialgraph.users.accounts.secrets import kept_secret

KEY_FILE: Final = "stand-ins.key"
_CALLS: Final = 10_000
"""The most calls whose header is remembered for their later turns."""


class Records:
    """Records turns as the settings and the headers of requests say."""

    def __init__(self, settings: GraphSettings) -> None:
        self._settings = settings
        self._choice = RecordChoice(settings.record)
        self._asked: OrderedDict[tuple[str, str], str] = OrderedDict()
        self.files = RecordFiles(settings.data_dir / "records")

    @cached_property
    def redactor(self) -> Redactor:
        """Return the redactor. Its key is created in the data folder at the first use."""
        return open_redactor(self._settings)

    @cached_property
    def _writer(self) -> RecordWriter:
        return RecordWriter(self.files, self._settings.record_days, self._settings.record_mb * 1024 * 1024)

    @property
    def dropped(self) -> int:
        """Return how many records were lost."""
        return self._writer.dropped if "_writer" in vars(self) else 0

    def recorder(
        self, asked: TurnRequest, environment: Environment, private_slots: Collection[str] = ()
    ) -> TurnRecorder | None:
        """Return the recorder of a turn, or None if it is not recorded."""
        if not self._settings.record and not asked.record and not self._asked:
            return None
        wanted = self._choice.of(asked.call.id, self._header(asked))
        if wanted == "no":
            return None
        sound = self._settings.record_sound
        return TurnRecorder(asked, environment, wanted, private_slots, keeps_sound=sound)

    def over(self, recorder: TurnRecorder, end: TurnEnd, started: float, graph: str, words: Words = no_words) -> None:
        """Store the record of a turn that is over, if it is kept. Return at once.

        `started`: when its run began. `graph`: the version of the graph. `words`: finds the author's private words.
        """
        if not recorder.keeps(end, self._settings.record_slow_ms):
            return
        versions: Mapping[str, Any] = {"dialgraph": _own_version(), "graph": graph}
        redactor = self.redactor.and_words(words)
        self._writer.put(lambda: recorder.made(end, started, versions, redactor))

    def close(self) -> None:
        """Write what waits. Blocks for up to ten seconds."""
        if "_writer" in vars(self):
            self._writer.close()

    def _header(self, asked: TurnRequest) -> str:
        """Return what the header of the request says, or that of an earlier turn of the call."""
        if not asked.call.id:
            return asked.record
        key = (asked.call.principal, asked.call.id)
        if asked.record:
            self._asked[key] = asked.record
            self._asked.move_to_end(key)
            if len(self._asked) > _CALLS:
                self._asked.popitem(last=False)
        return asked.record or self._asked.get(key, "")


_OF_SERVICES: "WeakKeyDictionary[OpenServices, Records]" = WeakKeyDictionary()


def records_of(services: OpenServices) -> Records:
    """Return the records of services that no server opened, such as those of Studio."""
    if services not in _OF_SERVICES:
        _OF_SERVICES[services] = Records(services.settings)
    return _OF_SERVICES[services]


@cache
def _own_version() -> str:
    return version("dialgraph")  # reads a file


def open_redactor(settings: GraphSettings) -> Redactor:
    """Return the redactor of a data folder. All processes with this folder use the same stand-ins."""
    settings.data_dir.mkdir(0o700, parents=True, exist_ok=True)
    return Redactor(bytes.fromhex(kept_secret(settings.data_dir / KEY_FILE, lambda: secrets.token_hex(32))))
