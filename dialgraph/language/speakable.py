"""Prepares streamed text for a voice: removes thoughts and tool calls first, then Markdown and emoji. Pure."""

from dialgraph.language.hidden import Hidden
from dialgraph.language.markup import Markup


class Speakable:
    """Filters one answer on its way to a voice."""

    def __init__(self, turn_markers: str = "") -> None:
        """`turn_markers`: characters at the beginning of the answer that are marks for the host."""
        self._hidden = Hidden()
        self._markup = Markup(turn_markers)

    def push(self, text: str) -> str:
        """Return what can be spoken now, of this text and of the text held back before."""
        text = self._hidden.push(text)
        return self._markup.push(text) if text else ""

    def flush(self) -> str:
        """Return the rest, at the end of the answer."""
        rest = self._hidden.flush()
        return (self._markup.push(rest) if rest else "") + self._markup.flush()

    end = flush


def speakable(text: str) -> str:
    """Return a whole text as a voice can read it."""
    stage = Speakable()
    return stage.push(text) + stage.flush()
