"""Makes JSON Lines of the log of a turn: one object per line, with stand-ins for private values.

The first line has the kind `turn`, the last one `end`. Every other line has `t`, the seconds on the server's clock; the
first line has `started`, when the run of the turn began. A line of the kind `stream` has `entries` in their order:

- a number: the time of what follows it.
- a text: words of the model that spoke last. `true` after it: they left the line as they came.
- `null`: the text that follows are words that left the line, and not a part of an answer as it came.
- `false`: everything that had left the line was written to the client's socket.
- `[t, "part", call, part]`: another part of a model's answer. `[t, "out", event]`: an event has left the line. `[t,
  "sound", call, sound]`: a voice has made sound. `[t, "written", client]`: what `false` says, for a further client.
"""

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any, Final

import orjson

from dialgraph.models.parts import Relay, Say, ToolCallPart
from dialgraph.privacy.redaction import Redactor
from dialgraph.records.redacted_log import redacted_entries
from dialgraph.records.turn_log import Entry, Kind, TurnLog
from dialgraph.shallow import shallow
from dialgraph.turn.events import Transcript

VERSION: Final = 1
"""The version of the form of records."""
_STREAMED: Final = frozenset({Kind.PART, Kind.OUT, Kind.WRITTEN, Kind.SOUND})
_FIELDS: Final[Mapping[Kind, tuple[str, ...]]] = {
    Kind.STEP: ("step", "reads"),
    Kind.STEPPED: ("step", "update"),
    Kind.ASKED: ("n", "model", "messages", "parameters", "upstream_model"),
    Kind.ANSWERED: ("n", "error"),
    Kind.CALLED: ("n", "tool", "arguments", "key"),
    Kind.RETURNED: ("n", "result", "error"),
    Kind.SEARCHED: ("n", "store", "question", "top_k", "min_score"),
    Kind.FOUND: ("n", "passages", "error"),
    Kind.SPEAK: ("n", "voice", "text", "speaker"),
    Kind.SPOKE: ("n", "error"),
    Kind.HEAR: ("n", "transcriber", "sound", "format"),
    Kind.HEARD: ("n", "words", "error"),
    Kind.LOADED: ("stage", "slots"),
    Kind.SAVED: ("stage", "slots"),
    Kind.FIRED: ("timer",),
    Kind.CLIENT: ("client", "what"),
    Kind.DREW: ("what", "value"),
}
"""The names of the values of each kind of entry that has a line of its own."""
_SHORT: Final = {Kind.PART: "part", Kind.OUT: "out", Kind.WRITTEN: "written", Kind.SOUND: "sound"}
"""The names of frequent kinds, as plain texts: they are written fastest."""
_BASE64: Final = re.compile(r"[A-Za-z0-9+/=_-]+")
_LONGEST_DATA_URL: Final = 1_000


def record_lines(
    own: Mapping[str, Any],
    head: Mapping[str, Any],
    log: TurnLog,
    end: Mapping[str, Any],
    started: float,
    redactor: Redactor,
    private_slots: Collection[str] = (),
    *,
    keeps_sound: bool = False,
) -> bytes:
    """Return the record of a turn. `own` and `head`: the fields of the first line; those of ours hold no private value.
    `end`: the fields of the last line.
    """
    coder = _Coder(redactor, private_slots, keeps_sound=keeps_sound)
    made = [{"kind": "turn", "version": VERSION, "started": started, **own, **coder.data(head)}]
    made += coder.timeline(redacted_entries(log, redactor), log.tuples)
    made.append({"kind": "end", **coder.data(end)})
    return b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE, default=str) for line in made)


class _Coder:
    """Makes JSON data of values."""

    def __init__(self, redactor: Redactor, private_slots: Collection[str], *, keeps_sound: bool) -> None:
        self._redactor = redactor
        self._private_slots = private_slots
        self._keeps_sound = keeps_sound

    def timeline(self, entries: list[Entry], tuples: list[int]) -> Iterator[dict[str, Any]]:
        """Yield the lines between the first and the last one."""
        stream: list[Any] = []
        begin = 0
        for at in [*tuples, len(entries)]:
            stream += entries[begin:at]  # short forms, as they are
            begin = at + 1
            if at == len(entries):
                break
            t, kind, *values = entries[at]
            if kind in _STREAMED:
                stream.append([t, _SHORT[kind], *map(self._streamed, values)])
                continue
            if stream:
                yield {"kind": "stream", "entries": stream}
                stream = []
            fields_of = dict(zip(_FIELDS[kind], values, strict=True))
            if kind in (Kind.LOADED, Kind.SAVED):
                fields_of["slots"] = {name: self._slot(name, one) for name, one in fields_of["slots"].items()}
            yield {"t": t, "kind": kind, **self.data(fields_of)}
        if stream:
            yield {"kind": "stream", "entries": stream}

    def _slot(self, name: str, value: Any) -> Any:
        """Return the value of a slot: if it is private, a stand-in of its text."""
        return self._redactor.secret(str(value)) if name in self._private_slots else value

    def _streamed(self, value: Any) -> Any:
        """Return a value of a frequent entry. The texts of words are redacted already; redacting twice changes them."""
        if isinstance(value, int | float):
            return value
        if type(value) is Say:
            return value.text  # its logprobs hold the same words once more, in pieces
        if isinstance(value, ToolCallPart):
            whole = {"type": "ToolCallPart", **shallow(value), "arguments": "", "extra": self.data(value.extra)}
            return {**whole, "arguments": value.arguments}
        if isinstance(value, Relay):
            pieces = {name: one if isinstance(one, str) else self.data(one) for name, one in value.delta.items()}
            return {"type": "Relay", "delta": pieces}
        if isinstance(value, Transcript):
            return {"type": "Transcript", **shallow(value)}
        return self.data(value)

    def data(self, value: Any, name: str = "") -> Any:
        """Return JSON data with stand-ins for private values. `name`: of the field.

        Sound and pictures become their hash and length, unless sound is asked for.
        """
        kind, redactor = type(value), self._redactor
        if kind is str:
            if _is_data(value):
                return _digest(value.encode("utf-8", "surrogatepass"))
            return redactor.value(name, value)
        if kind is dict:
            return {redactor.name(str(one)): self.data(inner, str(one)) for one, inner in value.items()}
        if kind is list or kind is tuple:
            return [self.data(one, name) for one in value]
        if value is None or isinstance(value, bool | float):
            return value
        if isinstance(value, int):
            return redactor.number(name, value)
        if isinstance(value, bytes | bytearray):
            return {**_digest(bytes(value)), **({"data": bytes(value).hex()} if self._keeps_sound else {})}
        if isinstance(value, BaseException):
            return {"error": type(value).__name__, "message": redactor.text(str(value))}
        if isinstance(value, tuple) and hasattr(value, "_asdict"):
            return self.data({"type": type(value).__name__, **value._asdict()})
        if is_dataclass(value) and not isinstance(value, type):
            return self.data({"type": type(value).__name__, **shallow(value)})
        if isinstance(value, Mapping):
            return self.data(dict(value))
        if isinstance(value, tuple | set | frozenset):
            return self.data(list(value), name)
        return redactor.text(str(value))


def _is_data(text: str) -> bool:
    return len(text) > _LONGEST_DATA_URL and (
        text.startswith("data:") or _BASE64.fullmatch(text, 0, _LONGEST_DATA_URL) is not None
    )


def _digest(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "blake2b": hashlib.blake2b(data, digest_size=16).hexdigest()}
