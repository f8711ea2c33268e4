"""The history of fillers: the usual time to the first word of each endpoint, and the last filler of each call."""

from collections import OrderedDict, deque
from statistics import median

_TURNS = 50
"""How many turns of an endpoint its usual time is calculated from."""
_REMEMBERED_CALLS = 10_000

CallKey = tuple[str, str]
"""The principal and the call id."""


class FillerHistory:
    """The history of fillers of one process. It is bounded and in memory: losing it only repeats a phrase."""

    def __init__(self) -> None:
        self._first_words: dict[str, deque[float]] = {}
        self._spoken: OrderedDict[CallKey, tuple[str, float]] = OrderedDict()

    def answered(self, endpoint: str, first_word_ms: float) -> None:
        """Record how many milliseconds a turn of this endpoint took to its first word."""
        self._first_words.setdefault(endpoint, deque(maxlen=_TURNS)).append(first_word_ms)

    def usual_ms(self, endpoint: str) -> float | None:
        """Return the median time to the first word in the endpoint's latest turns. None before the first turn."""
        times = self._first_words.get(endpoint)
        return median(times) if times else None

    def spoke(self, call: CallKey, phrase: str, now: float) -> None:
        """Record that a phrase was said in this call. `now` is in seconds."""
        self._spoken[call] = (phrase, now)
        self._spoken.move_to_end(call)
        if len(self._spoken) > _REMEMBERED_CALLS:
            self._spoken.popitem(last=False)

    def last(self, call: CallKey, now: float) -> tuple[str, float]:
        """Return the last phrase of this call and how many seconds ago it was said. None yet: `("", infinity)`."""
        phrase, at = self._spoken.get(call, ("", float("-inf")))
        return phrase, now - at
