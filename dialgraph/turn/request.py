"""What a caller asks for, whatever protocol he speaks: read once, and changed by nobody."""

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
from dialgraph.turn.call import Call


@dataclass(frozen=True)
class TurnRequest:
    """One turn, as it was asked for."""

    messages: Sequence[Message] = ()
    """As the caller sent them: no LangChain class has touched them. In a conversation that we keep, what is new."""
    parameters: Mapping[str, object] = field(default_factory=dict)
    """The request's other fields that are meant for a model."""
    call: Call = field(default_factory=Call)
    profile: Profile = OPENAI
    """The dialect of the host that called, with what the endpoint sets otherwise."""
    model: str = ""
    """The upstream's name of the model; empty: the settings' own."""
    api_key: str = field(default="", repr=False)
    """The caller's own upstream key, when the server hands it on."""
    streaming: bool = True
    endpoint: str = ""
    """The graph's name; empty: the one that the conversation was begun with."""
    carries_sound: bool = True
    """Whether the caller's wire has a place for sound."""
    conversation: str | int | None = None
    """The conversation of ours that it goes on with; None: the messages are all that there is."""
    request_key: str | None = None
    """Two requests of a conversation with the same key are one turn, which is not run twice."""
    upstream: ChatModel | None = None
    """The user's own model, in the place of whatever model the graph names."""
    store: Searchable | None = None
    """The user's own knowledge, in the place of whatever store the graph names."""

    @cached_property
    def key(self) -> str:
        """The same for the same turn, however often it is sent: of one principal, endpoint, profile, call and turn,
        with the same messages, tools and parameters. 32 hexadecimal digits; empty without a call id, because two
        callers may say the same. Raises ModelError.
        """
        if not self.call.id:
            return ""
        identity = [
            self.call.principal, self.endpoint, self.profile.name, self.call.id, self.call.turn_id, self.messages,
            self.parameters, self.model, self.api_key, self.streaming,
        ]  # fmt: skip
        try:
            data = orjson.dumps(identity, option=orjson.OPT_SORT_KEYS)
        except orjson.JSONEncodeError as error:  # it reads deeper nesting than it writes
            raise ModelError("rejected", "The request is nested too deeply.") from error
        return hashlib.blake2b(data, digest_size=16).hexdigest()
