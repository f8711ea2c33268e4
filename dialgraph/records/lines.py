"""Makes JSON Lines of the log of a turn: one object per line, with stand-ins for private values.

The first line has the kind `turn`, the last one `end`. Every other line has `t`, the seconds on the server's clock; the
first line has `started`, when the run of the turn began. A line of the kind `stream` has `entries` in their order:

- a number: the time of what follows it.
- a text: words of the model that spoke last. `true` after it: they left the line as they came.
- `false`: everything that had left the line was written to the client's socket.
- `[t, "part", call, part]`: another part of a model's answer. `[t, "out", event]`: an event has left the line. `[t,
  "sound", call, sound]`: a voice has made sound. `[t, "written", client]`: what `false` says, for a further client.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Final

import orjson

from dialgraph.models.parts import Relay, Say, ToolCallPart
from dialgraph.privacy.redaction import Redactor
from dialgraph.records.turn_log import Entry, Kind, TurnLog
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
_TEXTS: Final = frozenset({Kind.PART, Kind.OUT})
_OUT: Final = -1
"""The source of events that have left the line. Models have numbers from 1."""
_SHORT: Final = {Kind.PART: "part", Kind.OUT: "out", Kind.WRITTEN: "written", Kind.SOUND: "sound"}
"""The names of frequent kinds, as plain texts: they are written fastest."""
_LONGEST_DATA_URL: Final = 1_000


def record_lines(
    own: Mapping[str, Any],
    head: Mapping[str, Any],
    log: TurnLog,
    end: Mapping[str, Any],
    started: float,
    redactor: Redactor,
    *,
    keeps_sound: bool = False,
) -> bytes:
    """Return the record of a turn. `own` and `head`: the fields of the first line; those of ours hold no private value.
    `end`: the fields of the last line.
    """
    coder = _Coder(redactor, keeps_sound=keeps_sound)
    made = [{"kind": "turn", "version": VERSION, "started": started, **own, **coder.data(head)}]
    made += coder.timeline(*_redacted(log, redactor))
    made.append({"kind": "end", **coder.data(end)})
    return b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE, default=str) for line in made)


def _redacted(log: TurnLog, redactor: Redactor) -> tuple[list[Entry], list[int]]:
    """Return the entries with stand-ins in texts that stream in pieces, and the places of the tuples among them.

    A value may begin in one piece and end in another.
    """
    entries, speaker, spoken_from = log.entries, 0, 0
    texts: dict[tuple[object, ...], tuple[list[int], list[str]]] = {}

    def gather_words(until: int) -> None:
        """Gather the words that one model has spoken without a tuple in between."""
        found = [at for at in range(spoken_from, until) if type(entries[at]) is str]
        if found:
            places, pieces = texts.setdefault((speaker, Say, None), ([], []))
            places += found
            pieces += [entries[at] for at in found]

    for at in log.tuples:
        gather_words(at)
        spoken_from = at + 1
        entry = entries[at]
        if entry[1] not in _TEXTS:
            continue
        source, part = (entry[2], entry[3]) if entry[1] is Kind.PART else (_OUT, entry[2])
        speaker = speaker if source is _OUT else source
        for key, text in _texts_of(part):
            places, pieces = texts.setdefault((source, type(part), key), ([], []))
            places.append(at)
            pieces.append(text)
    gather_words(len(entries))
    made = entries
    for key, (places, pieces) in texts.items():
        redacted = redactor.pieces(pieces)
        if redacted != pieces:
            made = list(made)
            for at, text in zip(places, redacted, strict=True):
                made[at] = text if type(made[at]) is str else _with_text(made[at], key, text)
    return made, log.tuples


def _texts_of(part: object) -> Sequence[tuple[object, str]]:
    """Return the texts of a part that go on in the next one, each with a key."""
    if type(part) is Say or type(part) is Transcript:
        return ((None, part.text),)
    if type(part) is ToolCallPart:
        return ((part.index, part.arguments),)
    if type(part) is Relay:
        return [(name, value) for name, value in part.delta.items() if isinstance(value, str)]
    return ()


def _with_text(entry: Any, key: tuple[object, ...], text: str) -> Entry:
    *before, part = entry
    if isinstance(part, Say):
        part = Say(text, part.logprobs)
    elif isinstance(part, Transcript):
        part = Transcript(part.id, text, part.filler)
    elif isinstance(part, ToolCallPart):
        part = ToolCallPart(part.index, part.id, part.name, text, part.extra)
    elif isinstance(part, Relay):
        part = Relay({**part.delta, str(key[2]): text})
    return (*before, part)


class _Coder:
    """Makes JSON data of values."""

    def __init__(self, redactor: Redactor, *, keeps_sound: bool) -> None:
        self._redactor = redactor
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
            yield {"t": t, "kind": kind, **self.data(dict(zip(_FIELDS[kind], values, strict=True)))}
        if stream:
            yield {"kind": "stream", "entries": stream}

    def _streamed(self, value: Any) -> Any:
        """Return a value of a frequent entry. The texts of words are redacted already; redacting twice changes them."""
        if isinstance(value, int | float):
            return value
        if type(value) is Say:
            return value.text  # its logprobs hold the same words once more, in pieces
        if isinstance(value, ToolCallPart):
            whole = {"type": "ToolCallPart", **_shallow(value), "arguments": "", "extra": self.data(value.extra)}
            return {**whole, "arguments": value.arguments}
        if isinstance(value, Relay):
            pieces = {name: one if isinstance(one, str) else self.data(one) for name, one in value.delta.items()}
            return {"type": "Relay", "delta": pieces}
        if isinstance(value, Transcript):
            return {"type": "Transcript", **_shallow(value)}
        return self.data(value)

    def data(self, value: Any) -> Any:
        """Return JSON data with stand-ins for private values."""
        return self._plain(value, self._redactor.text)

    def _plain(self, value: Any, text: Callable[[str], str]) -> Any:
        """Return JSON data, with `text` applied to its texts. Sound and pictures become their hash and length, unless
        sound is asked for.
        """
        kind = type(value)
        if kind is str:
            return _digest(value.encode("utf-8", "surrogatepass")) if _is_data(value) else text(value)
        if kind is dict:
            return {text(str(name)): self._plain(one, text) for name, one in value.items()}
        if kind is list or kind is tuple:
            return [self._plain(one, text) for one in value]
        if value is None or isinstance(value, bool | float):
            return value
        if isinstance(value, int):
            return self._redactor.data(value)
        if isinstance(value, bytes | bytearray):
            return {**_digest(bytes(value)), **({"data": bytes(value).hex()} if self._keeps_sound else {})}
        if isinstance(value, BaseException):
            return {"error": type(value).__name__, "message": text(str(value))}
        if isinstance(value, tuple) and hasattr(value, "_asdict"):
            return self._plain({"type": type(value).__name__, **value._asdict()}, text)
        if is_dataclass(value) and not isinstance(value, type):
            named = {} if isinstance(value, Say) else {"type": type(value).__name__}
            return self._plain({**named, **_shallow(value)}, text)
        if isinstance(value, Mapping):
            return self._plain(dict(value), text)
        if isinstance(value, tuple | set | frozenset):
            return self._plain(list(value), text)
        return text(str(value))


def _shallow(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass. `asdict` would copy everything in them, and fail for errors."""
    return {one.name: getattr(value, one.name) for one in fields(value)}


def _is_data(text: str) -> bool:
    return len(text) > _LONGEST_DATA_URL and (text.startswith("data:") or " " not in text[:_LONGEST_DATA_URL])


def _digest(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "blake2b": hashlib.blake2b(data, digest_size=16).hexdigest()}
