"""The words in which a host's dialect is written down: data only."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

ActionKind = Literal["hangup", "transfer", "digits"]
"""What a host can be told to do with the call."""
CallField = Literal["id", "turn_id", "caller_number", "callee_number", "channel", "user_data", "source"]
"""What a host can say of a call: the fields of `dialgraph.turn.call.Call`."""
TurnSource = Literal["opening", "silence", "voicemail", "words"]
"""What began a turn: the call itself, a silent caller, an answering machine, or what a person said or typed."""
_END_MARKS = re.compile(r"[\s.…。,，!！]+$")


@dataclass(frozen=True, slots=True)
class ActionForm:
    """How a host is told to do one thing: by a call of a tool of its own."""

    tool: str
    arguments: Mapping[str, str] = field(default_factory=dict)
    """Our word for an argument → the host's. An argument that is not listed is not sent."""
    one_by_one: bool = False
    """Whether each value is sent as a list of its characters."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a request must show to count as this host's. All that is listed must be there; nothing listed: never."""

    body: tuple[str, ...] = ()
    """Fields of the body, dotted."""
    messages: tuple[str, ...] = ()
    """Fields that the last message carries."""
    query: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    """Header → how its value begins."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One host's dialect. The defaults are what every OpenAI client understands."""

    name: str
    evidence: tuple[Evidence, ...] = ()
    """Any one of them is enough."""
    call_places: Mapping[CallField, tuple[str, ...]] = field(default_factory=dict)
    """Where this host says what it knows of a call, dotted, below `body`, `query` or `header`. The first place that
    holds something counts.
    """
    private_fields: tuple[str, ...] = ()
    """Fields of the body that only this host's own endpoints understand. They never go upstream: a provider may refuse
    them.
    """
    turn_sources: Mapping[str, TurnSource] = field(default_factory=dict)
    """This host's words for what began a turn, in lower case."""
    interruption_tag: str = ""
    """What the host writes into an assistant message at the point where the caller broke in."""
    interruption_field: str = ""
    """The field of an assistant message, dotted, that is true where the caller broke in."""
    hangup: ActionForm = ActionForm("hangup")
    transfer: ActionForm = ActionForm("transfer", {"number": "number", "message": "message"})
    digits: ActionForm = ActionForm("send_digits", {"digits": "digits"})
    finish: Literal["tool_calls", "stop"] = "tool_calls"
    """The finish reason behind an action."""
    filler_suffix: str = " "
    """What stands behind an acknowledgement, so that the host speaks it at once and the answer does not stick to it."""
    fills_silence: bool = False
    """Whether the host fills silences itself; then acknowledgements of ours are not spoken."""
    speakable: bool = True
    """Whether words are made fit for a voice: no Markdown, emoji or addresses, numbers as words."""
    on_failure: Literal["raise", "speak"] = "raise"
    """What a failed turn tells: an error, or the endpoint's fallback line and a normal finish."""
    linger_ms: int = 0
    """How long a turn goes on when its client has left, because this host closes and sends the same again."""
    metadata_chunk: bool = False
    """Whether the first chunk may be a `chat.completion.custom_metadata` that says how to speak."""
    raw_sound: bool = False
    """Whether sound is PCM16 in every form that the host asks for, because its contract knows no other."""
    echoes_session: bool = False
    """Whether the call's id goes into the `system_fingerprint` of every chunk."""
    keeps_extras: bool = False
    """Whether tool calls carry what their provider attached, which it wants back in the next request."""
    turn_markers: str = ""
    """Characters with which an answer may begin that are marks for the host, and no speech."""
    streams: bool = False
    """What a request means that leaves `stream` out."""

    def filler(self, text: str) -> str:
        """Return a phrase that fills a silence, with this host's suffix. A suffix of dots replaces the phrase's own
        punctuation.
        """
        own = _END_MARKS.sub("", text) if self.filler_suffix.startswith(".") else text.rstrip()
        return own + self.filler_suffix

    def form(self, kind: ActionKind) -> ActionForm:
        """How this host is told to do it."""
        return {"hangup": self.hangup, "transfer": self.transfer, "digits": self.digits}[kind]
