"""The parts of WAV that speech needs: read and write headers, and convert samples of all usual formats to PCM16 mono.

Source: Multimedia Programming Interface and Data Specifications 1.0 (RIFF), and Microsoft's WAVEFORMATEXTENSIBLE.
"""

import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_RIFF = struct.Struct("<4sI4s")
_CHUNK = struct.Struct("<4sI")
_FORMAT = struct.Struct("<HHIIHH")
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_UNKNOWN_LENGTH = 0xFFFFFFFF
PACKED = (b"ID3", b"OggS", b"fLaC", b"\x1aE\xdf\xa3")
"""The first bytes of MP3, Ogg, FLAC and WebM. Played as PCM they are noise."""
HEADER_BYTES = 44
"""The length of what `header` writes."""


class WavError(Exception):
    """The data is not a WAV that can be played. The message continues the words "a WAV that"."""


class Format(NamedTuple):
    """The format of the samples."""

    sample_rate: int
    channels: int
    bits: int
    floating: bool = False

    @property
    def frame_bytes(self) -> int:
        """Return the bytes of one sample of every channel."""
        return self.channels * self.bits // 8


def header(sample_rate: int, data_bytes: int | None = None) -> bytes:
    """Return the header of PCM16 mono. Without a length it is the header of a stream of unknown length."""
    length = _UNKNOWN_LENGTH if data_bytes is None else data_bytes
    whole = _UNKNOWN_LENGTH if data_bytes is None else min(data_bytes + HEADER_BYTES - 8, _UNKNOWN_LENGTH)
    form = _FORMAT.pack(_PCM, 1, sample_rate, sample_rate * 2, 2, 16)
    return _RIFF.pack(b"RIFF", whole, b"WAVE") + _CHUNK.pack(b"fmt ", len(form)) + form + _CHUNK.pack(b"data", length)


def with_its_length(stream: bytes) -> bytes:
    """Return a complete WAV with its length filled in if `header` left it out. Return other bytes unchanged."""
    if not stream.startswith(b"RIFF") or stream[40:44] != b"\xff" * 4:
        return stream
    sample_rate = struct.unpack_from("<I", stream, 24)[0]
    return header(sample_rate, len(stream) - HEADER_BYTES) + stream[HEADER_BYTES:]


def read_header(data: bytes) -> tuple[Format, int, int | None] | None:
    """Return the format, the offset of the samples, and their number of bytes (None: to the end of the data).

    Return None if more data is needed. Raise WavError.
    """
    if len(data) < _RIFF.size:
        return None
    riff, _, wave = _RIFF.unpack_from(data)
    if riff != b"RIFF" or wave != b"WAVE":
        raise WavError("has no RIFF header")
    at, found = _RIFF.size, None
    while len(data) >= at + _CHUNK.size:
        name, length = _CHUNK.unpack_from(data, at)
        at += _CHUNK.size
        if name == b"data":
            if found is None:
                raise WavError("has samples before its format")
            return found, at, None if length in (0, _UNKNOWN_LENGTH) else length
        if name == b"fmt ":
            if length < _FORMAT.size or length > 1024:
                raise WavError("has a damaged format")
            if len(data) < at + length:
                return None
            found = _format(data[at : at + length])
        at += length + length % 2
    return None


def _format(data: bytes) -> Format:
    kind, channels, sample_rate, _, _, bits = _FORMAT.unpack_from(data)
    if kind == _EXTENSIBLE and len(data) >= 26:
        kind = struct.unpack_from("<H", data, 24)[0]
    good = bits == 32 if kind == _FLOAT else kind == _PCM and bits in (8, 16, 24, 32)
    if not good:
        raise WavError(f"has samples of kind {kind} and {bits} bits. Accepted: PCM of 8 to 32 bits, floats of 32 bits")
    if not 1 <= channels <= 8 or not 4_000 <= sample_rate <= 192_000:
        raise WavError(f"has {channels} channels at {sample_rate} Hz. Accepted: 1 to 8 channels at 4,000 to 192,000 Hz")
    return Format(sample_rate, channels, bits, kind == _FLOAT)


def mono16(frames: bytes, form: Format) -> bytes:
    """Return whole frames as PCM16 mono: the mean of the channels."""
    if (form.channels, form.bits) == (1, 16):
        return frames
    samples = _as_float(frames, form).reshape(-1, form.channels).mean(axis=1)
    return bytes(np.clip(np.rint(samples * 32_768), -32_768, 32_767).astype("<i2").tobytes())


def _as_float(frames: bytes, form: Format) -> NDArray[np.float64]:
    """Return the samples as numbers from -1 to 1."""
    if form.floating:
        return np.nan_to_num(np.frombuffer(frames, dtype="<f4").astype(np.float64), posinf=0.0, neginf=0.0)
    if form.bits == 8:  # the only width without a sign
        return (np.frombuffer(frames, dtype=np.uint8).astype(np.float64) - 128) / 128
    if form.bits == 24:
        padded = np.zeros((len(frames) // 3, 4), dtype=np.uint8)
        padded[:, 1:] = np.frombuffer(frames, dtype=np.uint8).reshape(-1, 3)
        return np.asarray(padded.view("<i4")[:, 0] / 2**31, dtype=np.float64)
    whole = np.frombuffer(frames, dtype=f"<i{form.bits // 8}")
    return np.asarray(whole / 2 ** (form.bits - 1), dtype=np.float64)
