"""How an endpoint behaves in a call, beside what its steps do: data only."""

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from dialgraph.profiles.profile import Profile

FALLBACK = {
    "en": "I am sorry, something went wrong on my side. Could you say that again?",
    "zh": "很抱歉，我这边出了点问题。您能再说一遍吗？",
}


_ByLanguage = Annotated[dict[str, str], Field(min_length=1)]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GuardRule(_Value):
    """What must not be spoken, and what happens to it: a sentence at a time, before it leaves."""

    find: Literal["cards", "identity_numbers", "phone_numbers", "words", "check"]
    """Card numbers (Luhn), identity numbers (Chinese, US), phone numbers, words of a list, or a check of the author."""
    words: tuple[str, ...] = ()
    """The list for `words`; case does not count, and English words are found whole."""
    check: str = ""
    """The name of a function given to `compile_graph(checks=…)`: sentence → the sentence to speak, or None for none."""
    action: Literal["mask", "replace", "block"] = "mask"
    """`mask`: say `instead` in place of what was found; `replace`: in place of the whole sentence; `block`: say nothing
    of the sentence."""
    instead: str | _ByLanguage = Field(default_factory=lambda: {"en": "(withheld)", "zh": "（不便透露）"})
    """One text, or one a language."""


class Memory(_Value):
    """What an endpoint keeps of a call between its turns."""

    slots: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")], Literal["text", "number", "date", "yes_no"]]
    """Name → type, in the order in which a flow asks for them."""
    lifetime_minutes: int = Field(default=60, gt=0, le=60 * 24 * 30)
    """How long it is kept after the last turn of the call."""


class Policy(_Value):
    """None stands for what the profile of the host says."""

    profile: str = ""
    """The host's profile; empty: told from the request, by its header or by what only that host sends."""
    speakable: bool | None = None
    """Whether words are made fit for a voice."""
    numbers: Literal["leave", "words"] = "leave"
    """`words`: prices, measures, dates and phone numbers are written as a voice says them; needs the extra `numbers`.
    Most voices read plain numbers well by themselves, and a wrong word is worse than a digit."""
    guard: tuple[GuardRule, ...] = ()
    """What must not be spoken."""
    fills_silence: bool | None = None
    """Whether the host fills silences itself, so that acknowledgements of ours stay unspoken."""
    filler_suffix: str | None = None
    """What stands behind an acknowledgement."""
    on_failure: Literal["raise", "speak"] | None = None
    """What a failed turn tells: an error, or the fallback line and a normal finish."""
    fallback: str | _ByLanguage = Field(default_factory=lambda: dict(FALLBACK))
    """The fallback line: one text, or one a language."""
    newest_wins: bool = True
    """Whether a new turn of a call ends the older one that still runs. Never without a call id."""
    joins: bool = True
    """Whether the same turn sent again joins the run in flight. Never without a call id."""
    linger_ms: int | None = Field(default=None, ge=0, le=30_000)
    """How long a turn goes on when its last client has left."""
    voice: str = "main"
    """Who speaks where a request's `modalities` ask for audio and no step of the graph makes sound; empty: nobody, and
    `modalities` goes on to the model, for one that answers in sound itself."""
    memory: Memory | None = None
    """What is kept of a call between its turns; None: nothing."""

    def applied_to(self, profile: Profile) -> Profile:
        """The host's profile with what this endpoint sets otherwise."""
        own = {
            name: value
            for name in ("speakable", "fills_silence", "filler_suffix", "on_failure", "linger_ms")
            if (value := getattr(self, name)) is not None
        }
        return replace(profile, **own) if own else profile
