"""The child process with espeak-ng: reads sentences from stdin and writes sound and words to stdout, until stdin ends.

It is run by path and isolated (`python -I -S`), with the standard library alone, so it starts in 20 milliseconds. The
library is GPL-3.0 and not thread-safe. Here none of our code is linked with it, and it speaks one sentence at a time.
"""

import ctypes
import json
import struct
import sys
from collections.abc import Mapping
from typing import Any, BinaryIO

LENGTH = struct.Struct("<I")
FRAME = struct.Struct("<cI")
"""A frame's kind and its number of bytes: `s` sound, `w` a word, `e` the end, `x` an error, `r` the sample rate."""
WORD = struct.Struct("<ii")
"""The word's position in the text, in characters, and its start, in milliseconds."""
BLOCK = 64 * 1024
"""The number of bytes of sound that are sent together."""

_SYNCHRONOUS, _BUFFER_MS = 2, 100
_AT_CHARACTERS = 1
_UTF8_WITH_A_PAUSE_BEHIND = 0x1001
"""Without the second flag, sentences that are spoken one by one run together."""
_RATE, _VOLUME, _PITCH = 1, 2, 3
_LEVEL = 80
"""The volume. At espeak-ng's default, 100, Mandarin reaches full scale."""
_WORD_EVENT, _LAST_EVENT = 1, 0
_DEATH_OF_THE_PARENT, _SIGKILL = 1, 9


class _Event(ctypes.Structure):
    """`espeak_EVENT` of speak_lib.h."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("name", ctypes.c_char * 8),
    )


_Heard = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class Synthesiser:
    """espeak-ng, and the sound so far of the sentence that it speaks."""

    def __init__(self, library: str, data: str, out: BinaryIO) -> None:
        self._espeak = ctypes.CDLL(library)
        self._out = out
        self._sound = bytearray()
        self._callback = _Heard(self._hear)  # stored here, because ctypes does not keep it
        self.sample_rate: int = self._espeak.espeak_Initialize(_SYNCHRONOUS, _BUFFER_MS, data.encode(), 0)
        self._espeak.espeak_SetSynthCallback(self._callback)
        self._voice = ""

    def speak(self, asked: Mapping[str, Any]) -> None:
        """Speak one sentence, to its end."""
        if asked["voice"] != self._voice:
            if self._espeak.espeak_SetVoiceByName(asked["voice"].encode()) != 0:
                self._voice = ""
                self._send(b"x", b"voice")
                return
            self._voice = asked["voice"]
        self._espeak.espeak_SetParameter(_RATE, asked["rate"], 0)
        self._espeak.espeak_SetParameter(_VOLUME, _LEVEL, 0)
        self._espeak.espeak_SetParameter(_PITCH, asked["pitch"], 0)
        text = asked["text"].encode() + b"\0"
        failed = self._espeak.espeak_Synth(text, len(text), 0, _AT_CHARACTERS, 0, _UTF8_WITH_A_PAUSE_BEHIND, None, None)
        self._give_on()
        self._send(b"x", b"engine") if failed else self._send(b"e", b"")

    def _hear(self, samples: Any, count: int, events: Any) -> int:
        at = 0
        while events[at].type != _LAST_EVENT:
            event = events[at]
            if event.type == _WORD_EVENT:
                self._send(b"w", WORD.pack(event.text_position - 1, event.audio_position))
            at += 1
        if samples and count > 0:
            self._sound += ctypes.string_at(samples, count * 2)
            if len(self._sound) >= BLOCK:
                self._give_on()
        return 0

    def _give_on(self) -> None:
        if self._sound:
            self._send(b"s", bytes(self._sound))
            self._sound.clear()

    def _send(self, kind: bytes, data: bytes) -> None:
        self._out.write(FRAME.pack(kind, len(data)) + data)
        if kind != b"w":
            self._out.flush()


def main(library: str, data: str) -> None:
    """Speak until stdin ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DEATH_OF_THE_PARENT, _SIGKILL, 0, 0, 0)
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    synthesiser = Synthesiser(library, data, stdout)
    stdout.write(FRAME.pack(b"r", LENGTH.size) + LENGTH.pack(max(synthesiser.sample_rate, 0)))
    stdout.flush()
    while length := stdin.read(LENGTH.size):
        synthesiser.speak(json.loads(stdin.read(*LENGTH.unpack(length))))


if __name__ == "__main__":
    main(*sys.argv[1:3])
