"""Tell the host how to speak this turn."""

from typing import Any

from dialgraph import Metadata, State, Turn, Update, node


@node()
async def control_speech(
    state: State, turn: Turn, *, interruptable: bool = True, tts_params: dict[str, Any] | None = None
) -> Update:
    """Say whether the caller may break in, and with which voice the host is to speak.

    Agora reads both from the first chunk of an answer, so it stands before every step that speaks; for other hosts it
    does nothing.
    """
    data: dict[str, object] = {"interruptable": interruptable}
    if tts_params:
        data["tts_params"] = tts_params
    await turn.emit(Metadata(data))
    return None
