"""From here on what is said is heard."""

from dialgraph import State, Turn, Update, node
from dialgraph.turn.sound_format import FrameMs, SampleRate, SoundFormat
from dialgraph.turn.voice_outlet import attach_voice, sound_format_of


@node(uses={"voice": "voice"}, sounds=True)
async def emit_audio(
    state: State,
    turn: Turn,
    *,
    voice: str = "main",
    sample_rate: SampleRate = 16_000,
    frame_ms: FrameMs = 40,
    sound: SoundFormat = "pcm16",
    real_time: bool = True,
) -> Update:
    """Open the audio outlet and return at once: each sentence leaves as its transcript and 40 ms frames of PCM16.

    A request whose `modalities` leave audio out gets text; its `audio.voice` and `audio.format` (`pcm16` or `wav`)
    count before the endpoint's. Frames leave as fast as they are heard, a fifth of a second ahead; without `real_time`,
    and in a reply that is not streamed, as fast as they are made.
    """
    if turn.asks_for("audio", absent=True) and not turn.line.voiced:
        manner = sound_format_of(turn, sample_rate=sample_rate, frame_ms=frame_ms, real_time=real_time, sound=sound)
        attach_voice(turn, voice, manner)
    return None
