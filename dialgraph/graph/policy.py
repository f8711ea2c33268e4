"""The policy: how an endpoint behaves in a call, in addition to its steps. Data only."""

from dataclasses import replace
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dialgraph.profiles.profile import Profile

FALLBACK = {
    "en": "I am sorry, something went wrong on my side. Could you say that again?",
    "zh": "很抱歉，我这边出了点问题。您能再说一遍吗？",
}


_ByLanguage = Annotated[dict[str, str], Field(min_length=1)]


class Value(BaseModel):
    """A frozen value of a declaration. An unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class GuardRule(Value):
    """One rule of the guard: what must not be spoken and what is done instead. It checks one sentence at a time."""

    find: Literal["cards", "identity_numbers", "phone_numbers", "words", "check"]
    """What to find: card numbers (Luhn), identity numbers (Chinese, US), phone numbers, the listed words, or the
    author's own check."""
    words: tuple[str, ...] = ()
    """The list for `find="words"`. Case is ignored, and English words match only as whole words."""
    check: str = ""
    """The name of a function in `compile_graph(checks=…)`. It gets a sentence and returns the sentence to speak, or
    None to drop it. If nothing else is said in the turn, the policy's `fallback` is."""
    action: Literal["mask", "replace", "block"] = "mask"
    """`mask`: replace what was found with `instead`. `replace`: replace the whole sentence with `instead`. `block`: do
    not say the sentence. If nothing else is said in the turn, say `instead`, or the policy's `fallback` if it is not
    set."""
    instead: str | _ByLanguage = Field(default_factory=lambda: {"en": "(withheld)", "zh": "（不便透露）"})
    """One text, or one per language."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        """Refuse words and checks that would never be looked for."""
        if self.words and self.find != "words":
            raise ValueError(f"`words` needs find='words', not {self.find!r}")
        if self.check and self.find != "check":
            raise ValueError(f"`check` needs find='check', not {self.find!r}")
        if not all(word.strip() for word in self.words):
            raise ValueError("`words` must not have an empty text")
        return self


class Memory(Value):
    """What an endpoint remembers of a call between its turns."""

    slots: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")], Literal["text", "number", "date", "yes_no"]]
    """Name → type, in the order in which a flow asks for them."""
    private: tuple[str, ...] = ()
    """The slots whose values no log, record or trace shows, such as a caller's name."""
    lifetime_minutes: int = Field(default=60, gt=0, le=60 * 24 * 30)
    """How long the memory is stored after the last turn of the call."""

    @model_validator(mode="after")
    def _knows(self) -> Self:
        if unknown := [name for name in self.private if name not in self.slots]:
            raise ValueError(f"`private` names {unknown[0]!r}, which is no slot")
        return self


class Policy(Value):
    """How an endpoint behaves in a call. A field that is None takes its value from the host's profile."""

    profile: str = ""
    """The host's profile. Empty: found from the request, by its header or by fields that only that host sends."""
    speakable: bool | None = None
    """Whether the text is made fit to be spoken."""
    numbers: Literal["leave", "words"] = "leave"
    """`words`: write prices, measures, dates and phone numbers as a voice says them. This needs the extra `numbers`.
    `leave` is the default, because most voices read plain numbers well, and a wrong word is worse than a digit."""
    guard: tuple[GuardRule, ...] = ()
    """Rules for what must not be spoken."""
    fills_silence: bool | None = None
    """Whether the host fills silences itself. Then our fillers are not spoken."""
    filler_suffix: str | None = None
    """The text that is added after a filler."""
    on_failure: Literal["raise", "speak"] | None = None
    """What a failed turn sends. `raise`: an error. `speak`: the fallback text and a normal finish."""
    fallback: str | _ByLanguage = Field(default_factory=lambda: dict(FALLBACK))
    """The fallback text: one text, or one per language."""
    private: tuple[str, ...] = ()
    """Words that no log, record or trace shows, such as names. Numbers of cards, identities and phones, e-mail
    addresses and keys are never shown."""
    newest_wins: bool = True
    """Whether a new turn of a call ends the older turn that still runs. Without a call id it never does."""
    joins: bool = True
    """Whether a turn that is sent again joins the run in progress. Without a call id it never does."""
    linger_ms: int | None = Field(default=None, ge=0, le=30_000)
    """How long a turn continues after its last client has left."""
    voice: str = "main"
    """The voice that speaks if the request's `modalities` ask for audio and no step of the graph makes sound. Empty:
    no voice speaks, and `modalities` is passed to the model, because some models answer in sound themselves."""
    memory: Memory | None = None
    """What the endpoint remembers of a call between its turns. None: nothing."""

    def applied_to(self, profile: Profile) -> Profile:
        """Return the host's profile with the values that this policy sets itself."""
        own = {
            name: value
            for name in ("speakable", "fills_silence", "filler_suffix", "on_failure", "linger_ms")
            if (value := getattr(self, name)) is not None
        }
        return replace(profile, **own) if own else profile
