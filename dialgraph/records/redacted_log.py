"""Puts stand-ins into the texts of a log that stream in pieces: a value may begin in one piece and end in another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from dialgraph.models.parts import Relay, Say, ToolCallPart
from dialgraph.privacy.redaction import Redactor
from dialgraph.records.turn_log import OWN, PASSED_ON, Entry, Kind, TurnLog
from dialgraph.turn.events import Transcript

_OUT: Final = -1
"""The source of texts that have left the line. Models have numbers from 1."""
_Key = tuple[object, ...]
"""The source of a text, the type of its parts, and its field or index in them."""


@dataclass(slots=True)
class _Text:
    """One text that streamed in pieces."""

    places: list[int] = field(default_factory=list)
    """The place of each piece among the entries."""
    pieces: list[str] = field(default_factory=list)


def redacted_entries(log: TurnLog, redactor: Redactor) -> list[Entry]:
    """Return the entries of the log with stand-ins in its streamed texts. The log stays as it is."""
    made = log.entries
    for (*_, name), text in [*_answers(log).items(), *_left(log).items()]:
        redacted = redactor.pieces(text.pieces)
        if redacted == text.pieces:
            continue
        made = list(made)
        for at, piece in zip(text.places, redacted, strict=True):
            if at != PASSED_ON:
                made[at] = piece if type(made[at]) is str else _with_text(made[at], name, piece)
    return made


def _answers(log: TurnLog) -> Mapping[_Key, _Text]:
    """Return the texts that came from models."""
    entries, texts = log.entries, dict[_Key, _Text]()
    has_own = OWN in entries
    speaker, begin = 0, 0
    for at in [*log.tuples, len(entries)]:
        places = [one for one, entry in enumerate(entries[begin:at], begin) if type(entry) is str]
        if has_own:
            places = [one for one in places if entries[one - 1] is not OWN]
        if places:  # the words between two tuples come from one model
            text = texts.setdefault((speaker, Say, None), _Text())
            text.places += places
            text.pieces += [entries[one] for one in places]
        begin = at + 1
        if at < len(entries) and entries[at][1] is Kind.PART:
            speaker, part = entries[at][2:]
            _gather(texts, speaker, part, at)
    return texts


def _left(log: TurnLog) -> Mapping[_Key, _Text]:
    """Return the texts that left the line, if some of them are not parts of answers as they came."""
    entries, texts = log.entries, dict[_Key, _Text]()
    if OWN not in entries and not any(entry[1] is Kind.OUT and any(_texts_of(entry[2])) for entry in log.rare()):
        return {}
    for at, event in log.left():
        _gather(texts, _OUT, Say(event) if type(event) is str else event, at)
    return texts


def _gather(texts: dict[_Key, _Text], source: object, part: object, at: int) -> None:
    for name, piece in _texts_of(part):
        text = texts.setdefault((source, type(part), name), _Text())
        text.places.append(at)
        text.pieces.append(piece)


def _texts_of(part: object) -> Sequence[tuple[object, str]]:
    """Return the texts of a part that go on in the next one, each with its field or index."""
    if type(part) is Say or type(part) is Transcript:
        return ((None, part.text),)
    if type(part) is ToolCallPart:
        return ((part.index, part.arguments),)
    if type(part) is Relay:
        return [(name, value) for name, value in part.delta.items() if isinstance(value, str)]
    return ()


def _with_text(entry: Any, name: object, text: str) -> Entry:
    *before, part = entry
    if isinstance(part, Say):
        part = Say(text, part.logprobs)
    elif isinstance(part, Transcript):
        part = Transcript(part.id, text, part.filler)
    elif isinstance(part, ToolCallPart):
        part = ToolCallPart(part.index, part.id, part.name, text, part.extra)
    elif isinstance(part, Relay):
        part = Relay({**part.delta, str(name): text})
    return (*before, part)
