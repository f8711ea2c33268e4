"""The node `emit_audio`: turns the words of all later steps into sound."""

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
    """Speak the words of all later steps: send each sentence as a transcript and frames of PCM16 sound.

    The step returns immediately. A request that has `modalities` without `audio` gets text. The request's `audio.voice`
    selects a speaker of the voice, and its `audio.format` overrides `sound`.

    - `voice`: the name of a voice in the settings.
    - `sample_rate`: samples per second.
    - `frame_ms`: the length of a frame in milliseconds.
    - `sound`: the format, `pcm16` or `wav`.
    - `real_time`: send frames as fast as they are played, 0.2 seconds ahead. If false, or if the reply is not streamed,
      frames are sent as soon as they are ready.
    """
    if turn.asks_for("audio", absent=True) and not turn.line.voiced:
        manner = sound_format_of(turn, sample_rate=sample_rate, frame_ms=frame_ms, real_time=real_time, sound=sound)
        attach_voice(turn, voice, manner)
    return None
