"""The node `control_speech`: says how the host should speak this turn."""

from typing import Any

from dialgraph import Metadata, State, Turn, Update, node


@node()
async def control_speech(
    state: State, turn: Turn, *, interruptable: bool = True, tts_params: dict[str, Any] | None = None
) -> Update:
    """Set whether the caller may interrupt, and with which voice the host speaks.

    Put this step before every step that speaks, because Agora reads both values from the first chunk of an answer. For
    other hosts it does nothing.

    - `interruptable`: whether the caller may interrupt the answer.
    - `tts_params`: the host's own parameters for its voice.
    """
    data: dict[str, object] = {"interruptable": interruptable}
    if tts_params:
        data["tts_params"] = tts_params
    await turn.emit(Metadata(data))
    return None
