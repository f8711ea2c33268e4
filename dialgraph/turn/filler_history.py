"""What this process knows of silences: how long each endpoint usually takes, and what was last said in each call."""

from collections import OrderedDict, deque
from statistics import median

_TURNS = 50
"""Of an endpoint, that its usual time is taken from."""
_REMEMBERED_CALLS = 10_000

CallKey = tuple[str, str]
"""Principal and call id."""


class FillerHistory:
    """Bounded, in memory: what is lost at a restart costs one repeated phrase."""

    def __init__(self) -> None:
        self._first_words: dict[str, deque[float]] = {}
        self._spoken: OrderedDict[CallKey, tuple[str, float]] = OrderedDict()

    def answered(self, endpoint: str, first_word_ms: float) -> None:
        """A turn of this endpoint reached its first word."""
        self._first_words.setdefault(endpoint, deque(maxlen=_TURNS)).append(first_word_ms)

    def usual_ms(self, endpoint: str) -> float | None:
        """The median time to the first word of the endpoint's latest turns; None before the first."""
        times = self._first_words.get(endpoint)
        return median(times) if times else None

    def spoke(self, call: CallKey, phrase: str, now: float) -> None:
        """A phrase is said in this call."""
        self._spoken[call] = (phrase, now)
        self._spoken.move_to_end(call)
        if len(self._spoken) > _REMEMBERED_CALLS:
            self._spoken.popitem(last=False)

    def last(self, call: CallKey, now: float) -> tuple[str, float]:
        """The phrase last said in this call and how many seconds ago; `("", infinity)` if there was none."""
        phrase, at = self._spoken.get(call, ("", float("-inf")))
        return phrase, now - at
