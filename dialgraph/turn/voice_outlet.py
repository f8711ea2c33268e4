"""The voice outlet: it collects words into sentences and lets a voice speak them, while the model goes on."""

import asyncio
from collections.abc import Callable, Mapping
from math import inf

from dialgraph.language.spoken import SentenceCutter
from dialgraph.speech.port import Voice, VoiceError, refuse_unknown
from dialgraph.turn.events import Audio, Event, Filler, Say, Transcript
from dialgraph.turn.frames import Frames
from dialgraph.turn.line import OutletStage, Sink, nowhere
from dialgraph.turn.sound_format import FrameFormat, SoundFormat
from dialgraph.turn.turn import Turn
from dialgraph.turn.voice_player import VoicePlayer

_LONGEST_VOICE = 128
_LONGEST_WHOLE_SECONDS = 900.0
_FORMATS: Mapping[str, SoundFormat] = {"pcm16": "pcm16", "pcm": "pcm16", "wav": "wav"}


def attach_voice(turn: Turn, voice: str, manner: FrameFormat) -> None:
    """Let a voice speak everything that is said from now on. Raise VoiceError if the engine does not have the voice."""
    engine = turn.services.voice(voice)
    refuse_unknown(voice, engine, manner.voice)
    line = turn.line
    line.attach(VoiceOutlet(engine, line.sound(lambda: manner), line.fail), OutletStage.SOUND)


def sound_format_of(
    turn: Turn, *, sample_rate: int = 16_000, frame_ms: int = 40, real_time: bool = True, sound: SoundFormat = "pcm16"
) -> FrameFormat:
    """Return the sound format of the turn. The request's `audio` sets the voice, and its `format` overrides `sound`.

    A reply that is not streamed is not paced. A host that requires raw PCM gets it, whatever format it names. Raise
    VoiceError for an unknown format or an invalid voice name.
    """
    asked = turn.request.get("audio")
    given: Mapping[str, object] = asked if isinstance(asked, Mapping) else {}
    wanted = given.get("format") or sound
    form = _FORMATS.get(wanted.lower()) if isinstance(wanted, str) else None
    if turn.profile.raw_sound:
        form = "pcm16"
    if form is None:
        raise VoiceError("rejected", f"Unknown sound format {str(wanted)[:32]!r}. Accepted: {', '.join(_FORMATS)}.")
    voice = given.get("voice")
    if isinstance(voice, Mapping):  # OpenAI's form of a custom voice
        voice = voice.get("id")
    if voice is not None and not (isinstance(voice, str) and len(voice) <= _LONGEST_VOICE and voice.isprintable()):
        raise VoiceError("rejected", f"`audio.voice` must be a name of at most {_LONGEST_VOICE} characters.")
    return FrameFormat(
        voice=voice or "",
        format=form,
        sample_rate=sample_rate,
        frame_ms=frame_ms,
        paced=real_time and turn.asked.streaming,
        longest_seconds=inf if turn.asked.streaming else _LONGEST_WHOLE_SECONDS,
    )


class VoiceOutlet:
    """The outlet that lets a voice speak the words of a turn, sentence by sentence."""

    def __init__(self, voice: Voice, frames: Frames, failed: Callable[[BaseException], None]) -> None:
        """Create the outlet. `failed` is called once, with the error, if the voice fails."""
        self.sink: Sink = nowhere
        self.promised = False
        """Whether it has taken words that are certain to be spoken."""
        self._voice = voice
        self._frames = frames
        self._failed = failed
        self._cutter = SentenceCutter()
        self._blank = ""
        """White space after the last sentence. Empty lines make no sound, but words must not run together."""
        self._pause: asyncio.TimerHandle | None = None
        self._speaker: VoicePlayer | None = None

    async def push(self, event: Event) -> None:
        """Hold words until their sentence ends. Other events that the caller hears come after the held words."""
        if self._speaker is not None:
            self._speaker.raise_failure()
        if isinstance(event, Say):
            self._stop_waiting()
            self.promised = self.promised or bool(event.text.strip())
            for sentence in self._cutter.push(event.text):
                await self._say(sentence)
            if (seconds := self._cutter.pause) is not None:
                self._pause = asyncio.get_running_loop().call_later(seconds, self._end_sentence)
        elif isinstance(event, Filler):
            # A filler is needed only if no sentence is on its way. Held words come after it.
            if self._speaker is None or self._speaker.silent:
                await self._the_speaker().put(Filler(event.text.rstrip() + " "))
        elif event.audible:
            await self.end_words()
            if self._speaker is None and not isinstance(event, Transcript | Audio):
                await self.sink(event)
            else:  # also sound from other sources: it is played after the words, at the same pace
                await self._the_speaker().put(event)
        else:
            await self.sink(event)

    async def end_words(self, *, last: bool = False) -> None:
        """Let the voice speak the words that are held."""
        self._stop_waiting()
        await self._say(self._cutter.rest())

    async def flush(self) -> None:
        """Let the voice speak the words that are held, and wait for their last frame."""
        await self.end_words()
        if self._speaker is not None:
            await self._speaker.played()

    async def aclose(self) -> None:
        """Stop immediately, even in the middle of a word."""
        self._stop_waiting()
        if self._speaker is not None:
            await self._speaker.aclose()

    async def _say(self, sentence: str) -> None:
        if sentence := self._with_words(sentence):
            await self._the_speaker().put(sentence)

    def _end_sentence(self) -> None:
        self._pause = None
        speaker = self._the_speaker()
        if not speaker.full and (sentence := self._with_words(self._cutter.rest())):
            speaker.put_now(sentence)

    def _with_words(self, sentence: str) -> str:
        """Return the sentence with the white space before it, or an empty text if it has only white space."""
        self._blank, sentence = "", self._blank + sentence
        if not sentence.strip():
            self._blank, sentence = sentence, ""
        return sentence

    def _the_speaker(self) -> VoicePlayer:
        if self._speaker is None:
            self._speaker = VoicePlayer(self._voice, self._frames, self.sink, self._failed)
        return self._speaker

    def _stop_waiting(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
