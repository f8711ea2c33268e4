"""The TurnRequest: what a client asks for, in the same form for every protocol. It never changes."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import orjson

from dialgraph.models.errors import ModelError
from dialgraph.models.port import ChatModel, Message
from dialgraph.passages import Searchable
from dialgraph.profiles.openai import PROFILE as OPENAI
from dialgraph.profiles.profile import Profile
from dialgraph.turn.call import CallInfo


@dataclass(frozen=True)
class TurnRequest:
    """One turn, as the client asked for it."""

    messages: Sequence[Message] = ()
    """The messages exactly as the client sent them. In a stored conversation, the earlier ones are added."""
    parameters: Mapping[str, object] = field(default_factory=dict)
    """The other fields of the request that are meant for a model."""
    call: CallInfo = field(default_factory=CallInfo)
    profile: Profile = OPENAI
    """The profile of the host, with the values that the endpoint sets itself."""
    model: str = ""
    """The upstream's name of the model. Empty: the one in the settings."""
    api_key: str = field(default="", repr=False)
    """The client's own upstream key, if the server passes it on."""
    streaming: bool = True
    endpoint: str = ""
    """The name of the graph. Empty: the one that the conversation began with."""
    carries_sound: bool = True
    """Whether the client's protocol can carry sound."""
    conversation: str | int | None = None
    """The stored conversation that this turn continues. None: `messages` is the whole conversation."""
    request_key: str | None = None
    """Two requests of a conversation with the same key are the same turn, which runs only once."""
    upstream: ChatModel | None = None
    """The user's own model. It replaces every model that the graph names."""
    store: Searchable | None = None
    """The user's own store. It replaces every store that the graph names."""
    came: float = 0.0
    """When the request came, in seconds on the environment's clock. 0: it is not known."""
    read: float = 0.0
    """When it was read and its client was known."""
    record: str = ""
    """Whether the client asks to record the call: `true`, `false`, or empty if it does not say."""
    traceparent: str = ""
    """The host's trace that the turn belongs to (W3C Trace Context)."""
    wants_timings: bool = False
    """Whether the reply should contain the times of the turn."""

    @cached_property
    def key(self) -> str:
        """Return a key that is the same each time the same turn is sent: 32 hexadecimal digits.

        The same turn means: the same principal, endpoint, profile, call and turn id, with the same messages, tools and
        parameters. The key is empty without a call id, because two callers may say the same. Raise ModelError if the
        request is nested too deeply.
        """
        if not self.call.id:
            return ""
        identity = [
            self.call.principal, self.endpoint, self.profile.name, self.call.id, self.call.turn_id, self.messages,
            self.parameters, self.model, self.api_key, self.streaming,
        ]  # fmt: skip
        try:
            data = orjson.dumps(identity, option=orjson.OPT_SORT_KEYS)
        except orjson.JSONEncodeError as error:  # orjson reads deeper nesting than it writes
            raise ModelError("rejected", "The request is nested too deeply.") from error
        return hashlib.blake2b(data, digest_size=16).hexdigest()
