"""Written text → text that a voice can read, while it streams: what is hidden goes first, then the marks. Pure."""

from dialgraph.language.hidden import Hidden
from dialgraph.language.markup import Markup


class Speakable:
    """One answer on its way to a voice."""

    def __init__(self, turn_markers: str = "") -> None:
        """`turn_markers`: characters with which the answer may begin that are for the host."""
        self._hidden = Hidden()
        self._markup = Markup(turn_markers)

    def push(self, text: str) -> str:
        """What of it, and of what was held back, can be spoken now."""
        text = self._hidden.push(text)
        return self._markup.push(text) if text else ""

    def flush(self) -> str:
        """The rest: no more will come."""
        rest = self._hidden.flush()
        return (self._markup.push(rest) if rest else "") + self._markup.flush()


def speakable(text: str) -> str:
    """A whole text at once."""
    stage = Speakable()
    return stage.push(text) + stage.flush()
