"""The Profile: one host's dialect, as data."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

ActionKind = Literal["hangup", "transfer", "digits"]
"""The actions that a host can take in a call."""
CallField = Literal["id", "turn_id", "caller_number", "callee_number", "channel", "user_data", "source"]
"""The facts that a host can report about a call: fields of `dialgraph.turn.call.CallInfo`."""
TurnSource = Literal["opening", "silence", "voicemail", "words"]
"""The cause of a turn: the start of the call, a silent caller, an answering machine, or a person's words."""
_END_MARKS = re.compile(r"[\s.…。,，!！]+$")


@dataclass(frozen=True, slots=True)
class ActionForm:
    """How a host is made to do one thing: by a call of one of its own tools."""

    tool: str
    arguments: Mapping[str, str] = field(default_factory=dict)
    """Our name of an argument → the host's name. An argument that is not listed is not sent."""
    one_by_one: bool = False
    """Whether each value is sent as a list of its characters."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The content that shows a request is from this host. All entries must match; without entries nothing does."""

    body: tuple[str, ...] = ()
    """Fields of the body, as dotted places."""
    messages: tuple[str, ...] = ()
    """Fields of the last message."""
    query: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    """Header → the beginning of its value."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One host's dialect. The defaults are what every OpenAI client understands."""

    name: str
    evidence: tuple[Evidence, ...] = ()
    """Any one of them is enough."""
    call_places: Mapping[CallField, tuple[str, ...]] = field(default_factory=dict)
    """The places where this host reports the facts about a call, dotted, below `body`, `query` or `header`. The first
    place with a value counts.
    """
    private_fields: tuple[str, ...] = ()
    """Fields of the body that only this host's own endpoints understand. They are never sent upstream, because a
    provider may refuse them.
    """
    turn_sources: Mapping[str, TurnSource] = field(default_factory=dict)
    """This host's words for the cause of a turn, in lower case."""
    interruption_tag: str = ""
    """The text that the host puts into an assistant message at the point of a barge-in."""
    interruption_field: str = ""
    """The field of an assistant message, as a dotted place, that is true after a barge-in."""
    hangup: ActionForm = ActionForm("hangup")
    transfer: ActionForm = ActionForm("transfer", {"number": "number", "message": "message"})
    digits: ActionForm = ActionForm("send_digits", {"digits": "digits"})
    finish: Literal["tool_calls", "stop"] = "tool_calls"
    """The finish reason after an action."""
    filler_suffix: str = " "
    """The end of a filler. It makes the host speak the filler immediately, and separates it from the answer."""
    fills_silence: bool = False
    """Whether the host fills silences itself. Then our fillers are not spoken."""
    speakable: bool = True
    """Whether words are prepared for a voice: no Markdown, emoji or addresses, and numbers as words."""
    on_failure: Literal["raise", "speak"] = "raise"
    """The end of a failed turn: an error, or the endpoint's fallback line and a normal finish."""
    linger_ms: int = 0
    """How long a turn goes on after its client has left, because this host closes and sends the same request again."""
    metadata_chunk: bool = False
    """Whether the first chunk may be a `chat.completion.custom_metadata` that says how to speak."""
    raw_sound: bool = False
    """Whether sound is always PCM16, whatever format the host asks for, because its contract allows no other."""
    echoes_session: bool = False
    """Whether the call's id is sent in the `system_fingerprint` of every chunk."""
    keeps_extras: bool = False
    """Whether tool calls carry what their provider attached. The provider needs it back in the next request."""
    turn_markers: str = ""
    """Characters at the beginning of an answer that are marks for the host, not speech."""
    streams: bool = False
    """The meaning of a request without `stream`."""

    def filler(self, text: str) -> str:
        """Return the phrase as a filler, with this host's suffix. A suffix of dots replaces the phrase's own
        punctuation.
        """
        own = _END_MARKS.sub("", text) if self.filler_suffix.startswith(".") else text.rstrip()
        return own + self.filler_suffix

    def form(self, kind: ActionKind) -> ActionForm:
        """Return the tool call by which this host does it."""
        return {"hangup": self.hangup, "transfer": self.transfer, "digits": self.digits}[kind]
