"""From here on what is said is heard."""

from typing import Annotated
from uuid import uuid4

from pydantic import Field

from nodes.contract import State, Turn, Update, node
from nodes.line import Place
from nodes.speaking import SpeakingOutlet


@node(uses={"voice": "voice"})
async def emit_audio(
    state: State,
    turn: Turn,
    *,
    voice: str = "main",
    frame_ms: Annotated[int, Field(ge=10, le=1000)] = 40,
    real_time: bool = True,
) -> Update:
    """Open the audio outlet and return at once: words leave as a transcript and 40 ms frames of PCM16.

    A request whose `modalities` leave audio out gets text. A reply that is not streamed is not paced.
    """
    if turn.wants("audio") and not turn.line.voiced:
        speaker = turn.services.voice(voice)
        identity = f"audio_{uuid4().hex[:24]}"
        turn.line.voiced = True
        outlet = SpeakingOutlet(speaker, identity, frame_ms, paced=real_time and turn.streaming)
        turn.line.attach(outlet, Place.SOUND)
    return None
