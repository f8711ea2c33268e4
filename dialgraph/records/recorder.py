"""Records one turn: fills its log while it runs, and makes its record when it is over."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from dialgraph.environment import REAL, Environment
from dialgraph.models.history.text import last_user_text
from dialgraph.privacy.finders import words_finder
from dialgraph.privacy.redaction import Redactor
from dialgraph.records.choice import Wanted
from dialgraph.records.files import Summary
from dialgraph.records.lines import record_lines
from dialgraph.records.recorded_services import RecordedEnvironment, RecordedServices
from dialgraph.records.turn_log import Kind, TurnLog
from dialgraph.shallow import shallow
from dialgraph.turn.events import Action, Fallback, Filler, Say, ToolCallPart, Transcript, Usage
from dialgraph.turn.request import TurnRequest
from dialgraph.turn.services import Services
from dialgraph.turn.times import ReplyMarks, TurnTimes, summed, times_data
from dialgraph.turn.turn import Turn
from dialgraph.turn.watching import Watcher

_LONGEST_VALUE: Final = 200
"""A private value that begins within the shown words must be read to its end."""
_SHOWN: Final = 500
"""The most characters of what was said and heard that lists show."""


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """How a turn ended, in addition to what its log says."""

    id: str
    outcome: str
    times: Mapping[str, Any]
    """`first_word_ms`, `total_ms`, `parts` …, as in the log line of a turn."""
    tokens: int = 0
    cost_usd: float | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)


class TurnRecorder(Watcher):
    """Records one turn."""

    def __init__(
        self,
        asked: TurnRequest,
        environment: Environment,
        wanted: Wanted,
        private_slots: Collection[str] = (),
        *,
        keeps_sound: bool = False,
    ) -> None:
        """`wanted`: whether the record is kept whatever happens. `private_slots`: the slots of the memory whose values
        no record shows. `keeps_sound`: whether the record has the sound itself.
        """
        self.log = TurnLog(environment.now)
        self.wanted = wanted
        self.request = asked
        """The request. In Studio it is known only at the first step."""
        self._at = environment.date()
        self._private_slots = private_slots
        self._keeps_sound = keeps_sound
        self._environment = environment

    def turn(self, services: Services) -> Turn:
        """Return the turn. Its engines, ids and chance go into the log."""
        turn = Turn(
            RecordedServices(services, self.log),
            self.request,
            environment=RecordedEnvironment(self._environment, self.log),
        )
        self.follow(turn)
        return turn

    def follow(self, turn: Turn) -> None:
        """Log the steps, the timers and the events of a turn that has not begun."""
        log = self.log
        turn.watch(self)
        turn.line.fired = lambda name: log.add(Kind.FIRED, name)
        turn.line.tap = log.out

    async def stepping(self, step: str, state: Mapping[str, object]) -> None:
        """Log that a step begins, and the keys that it can read."""
        self.log.add(Kind.STEP, step, list(state))

    async def stepped(self, step: str, update: Mapping[str, object]) -> None:
        """Log what a step wrote."""
        self.log.add(Kind.STEPPED, step, dict(update))

    def keeps(self, end: TurnEnd, slow_ms: float) -> bool:
        """Return whether the record is kept: some are wanted only if the turn failed, or was slow."""
        if self.wanted == "failed":
            return end.outcome.startswith("error")
        if self.wanted == "slow":
            waited = (
                end.times.get("first_audio_ms") or end.times.get("first_word_ms") or end.times.get("total_ms") or 0.0
            )
            return end.outcome.startswith("error") or waited >= slow_ms
        return self.wanted == "yes"

    def made(
        self, end: TurnEnd, started: float, versions: Mapping[str, Any], redactor: Redactor
    ) -> tuple[Summary, bytes]:
        """Return the summary and the record. It takes a while, so call it in a thread.

        `started`: when the run began, on the environment's clock. `versions`: of the graph and of Dialgraph.
        """
        asked, call = self.request, self.request.call
        redactor = redactor.and_words(words_finder(self._private_values()))
        own = {
            "id": end.id, "at": _utc(self._at), "endpoint": asked.endpoint, "host": asked.profile.name,
            "versions": versions,
        }  # fmt: skip
        head = {
            "principal": call.principal,
            "call": shallow(call),
            "request": {
                "messages": asked.messages, "parameters": asked.parameters, "model": asked.model,
                "stream": asked.streaming,
            },
        }  # fmt: skip
        tail = {"outcome": end.outcome, "times": end.times, "usage": end.usage, "cost_usd": end.cost_usd}
        lines = record_lines(
            own, head, self.log, tail, started, redactor, self._private_slots, keeps_sound=self._keeps_sound
        )
        words, actions, tools = _heard(self.log)
        summary = Summary(
            id=end.id,
            call=redactor.text(call.id) or end.id,
            caller=redactor.text(call.caller_number),
            principal=call.principal,
            endpoint=asked.endpoint,
            host=asked.profile.name,
            at=_utc(self._at),
            outcome=end.outcome,
            said=redactor.text(last_user_text(asked.messages))[-_SHOWN:],
            heard=redactor.text(words)[:_SHOWN],
            first_word_ms=end.times.get("first_word_ms"),
            total_ms=float(end.times.get("total_ms") or 0.0),
            interrupted=end.outcome == "cancelled",
            ended_call=bool({"hangup", "transfer"} & set(actions)),
            tools=tuple(dict.fromkeys([*tools, *actions])),
            tokens=end.tokens,
            cost_usd=end.cost_usd,
        )
        return summary, lines

    def _private_values(self) -> list[str]:
        """Return the values of the private slots that the memory of the call had."""
        if not self._private_slots:
            return []
        found: list[str] = []
        for entry in self.log.rare():
            if entry[1] in (Kind.LOADED, Kind.SAVED):
                found += [str(value) for name, value in entry[3].items() if name in self._private_slots]
        found += [
            str(value) for given in _arguments(self.log) for name, value in given.items() if name in self._private_slots
        ]
        return list(dict.fromkeys(found))


def local_end(times: TurnTimes, outcome: str, ended: float, usage: Usage | None = None) -> TurnEnd:
    """Return the end of a turn that no server ran: in a terminal, a notebook or Studio."""
    marks = ReplyMarks(times.started, times.started, word=times.heard)
    told = times_data(marks, ended, summed(times.parts(marks, ended)))
    counts = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens} if usage else {}
    return TurnEnd(REAL.id(), outcome, told, sum(counts.values()), usage=counts)


def outcome_of(error: BaseException | None) -> str:
    """Return the outcome of such a turn."""
    return "complete" if error is None else f"error:{getattr(error, 'kind', '') or type(error).__name__}"


def _heard(log: TurnLog) -> tuple[str, list[str], list[str]]:
    """Return the first words that left the line, the actions, and the tools that were called on this server."""
    words, length = [""], 0
    for _, event in log.left():
        if length > _SHOWN + _LONGEST_VALUE:
            break
        if type(event) is str:
            words.append(event)
        elif isinstance(event, Say | Transcript | Filler | Fallback):
            words.append(event.text)
        else:
            continue
        length += len(words[-1])
    actions = [str(entry[2].kind) for entry in log.rare() if entry[1] is Kind.OUT and isinstance(entry[2], Action)]
    tools = [str(entry[3]) for entry in log.rare() if entry[1] is Kind.CALLED]
    return "".join(words), actions, tools


def _arguments(log: TurnLog) -> list[dict[str, Any]]:
    """Return the arguments of every tool call that a model made. A value that no slot took is private too."""
    texts: dict[tuple[int, int], str] = {}
    for entry in log.rare():
        if entry[1] is Kind.PART and isinstance(part := entry[3], ToolCallPart):
            texts[entry[2], part.index] = texts.get((entry[2], part.index), "") + part.arguments
    found = []
    for text in texts.values():
        try:
            given = orjson.loads(text or "{}")
        except orjson.JSONDecodeError:
            continue
        if isinstance(given, dict):
            found.append(given)
    return found


def _utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
