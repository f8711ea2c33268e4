"""What a test can measure of sound, written without the code under test: energy, silence, length, and likeness.

Likeness is the distance of mel cepstra (MFCC) along the best alignment in time (DTW): two voices that say the same
words are nearer than one voice that says other words, and a beep is near to nothing.
"""

import io
import subprocess
import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float64]
"""From -1 to 1."""
_HOP_SECONDS, _WINDOW_SECONDS = 0.02, 0.032
_BANDS, _COEFFICIENTS = 26, 13


def samples_of(pcm: bytes) -> Samples:
    """PCM16, little-endian."""
    return np.frombuffer(pcm, dtype="<i2").astype(np.float64) / 32768


def read_wav(data: bytes) -> tuple[int, bytes]:
    """The rate and the PCM16 of a WAV, as Python's own reader has them."""
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        return file.getframerate(), file.readframes(file.getnframes())


def loudness(samples: Samples, rate: int) -> Samples:
    """Root mean square of each 20 ms."""
    size = int(_HOP_SECONDS * rate)
    whole = samples[: len(samples) // size * size].reshape(-1, size)
    return np.asarray(np.sqrt((whole**2).mean(axis=1)))


def longest_gap(samples: Samples, rate: int, quiet: float = 0.003) -> float:
    """The longest silence between the first and the last sound, in seconds."""
    heard = np.flatnonzero(loudness(samples, rate) > quiet)
    return float(np.diff(heard).max(initial=1) * _HOP_SECONDS)


def voiced_share(samples: Samples, rate: int, quiet: float = 0.003) -> float:
    """How much of it is not silence."""
    return float((loudness(samples, rate) > quiet).mean())


def steadiness(samples: Samples, rate: int) -> float:
    """The share of the loudest frequency: near 1 for a beep, small for speech."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    width = max(1, int(20 * len(samples) / rate))
    peak = int(spectrum.argmax())
    return float(spectrum[max(0, peak - width) : peak + width].sum() / spectrum.sum())


def cepstra(samples: Samples, rate: int) -> Samples:
    """Shape (frames, 13): mel cepstra of what is not silence at the ends, their mean over time taken away."""
    heard = np.flatnonzero(loudness(samples, rate) > 0.01)
    hop, window = int(_HOP_SECONDS * rate), int(_WINDOW_SECONDS * rate)
    samples = samples[heard[0] * hop : (heard[-1] + 1) * hop]
    samples = np.append(samples[0], samples[1:] - 0.97 * samples[:-1])
    starts = range(0, len(samples) - window, hop)
    frames = np.stack([samples[at : at + window] for at in starts]) * np.hamming(window)
    power = np.abs(np.fft.rfft(frames, 512)) ** 2
    mels = np.linspace(_mel(80), _mel(min(7600, rate / 2)), _BANDS + 2)
    edges = 700 * (10 ** (mels / 2595) - 1) * 512 / rate
    bins = np.arange(power.shape[1])
    bank = np.stack([np.interp(bins, edges[at : at + 3], [0, 1, 0]) for at in range(_BANDS)])
    energies = np.log(power @ bank.T + 1e-10)
    places = np.arange(_BANDS) + 0.5
    cosines = np.stack([np.cos(np.pi * k * places / _BANDS) for k in range(1, _COEFFICIENTS + 1)])
    found = energies @ cosines.T
    return np.asarray(found - found.mean(axis=0))


def _mel(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))


def distance(one: Samples, other: Samples) -> float:
    """Of two rows of cepstra along their best alignment, for each step of it."""
    costs = np.linalg.norm(one[:, None] - other[None], axis=2)
    row = np.full(len(other) + 1, np.inf)
    row[0] = 0.0
    for cost in costs:
        before, row = row, np.full(len(other) + 1, np.inf)
        for at in range(1, len(other) + 1):
            row[at] = cost[at - 1] + min(before[at], before[at - 1], row[at - 1])
    return float(row[-1] / (len(one) + len(other)))


def debian_says(text: str, voice: str, folder: Path) -> tuple[int, bytes]:
    """The same words by Debian's espeak-ng, another build than the one under test."""
    file = folder / "debian.wav"
    subprocess.run(["espeak-ng", "-v", voice, "-s", "165", "-w", str(file), "--", text], check=True)
    return read_wav(file.read_bytes())
