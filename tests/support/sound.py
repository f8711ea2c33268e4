"""Measurements of sound, independent of the code under test: energy, silence, length and similarity.

Similarity is the distance between mel cepstra (MFCC) along the best alignment in time (DTW). Two voices that say the
same words are closer than one voice that says different words. A beep is close to no speech.
"""

import io
import subprocess
import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float64]
"""Samples of sound, from -1 to 1."""
_HOP_SECONDS, _WINDOW_SECONDS = 0.02, 0.032
_BANDS, _COEFFICIENTS = 26, 13


def samples_of(pcm: bytes) -> Samples:
    """Return the samples of PCM16, little-endian."""
    return np.frombuffer(pcm, dtype="<i2").astype(np.float64) / 32768


def read_wav(data: bytes) -> tuple[int, bytes]:
    """Return the sample rate and the PCM16 of a WAV file, read by Python's own reader."""
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        return file.getframerate(), file.readframes(file.getnframes())


def loudness(samples: Samples, rate: int) -> Samples:
    """Return the root mean square of each 20 ms."""
    size = int(_HOP_SECONDS * rate)
    whole = samples[: len(samples) // size * size].reshape(-1, size)
    return np.asarray(np.sqrt((whole**2).mean(axis=1)))


def longest_gap(samples: Samples, rate: int, quiet: float = 0.003) -> float:
    """Return the longest silence between the first and the last sound, in seconds."""
    heard = np.flatnonzero(loudness(samples, rate) > quiet)
    return float(np.diff(heard).max(initial=1) * _HOP_SECONDS)


def voiced_share(samples: Samples, rate: int, quiet: float = 0.003) -> float:
    """Return the share of the sound that is not silence, from 0 to 1."""
    return float((loudness(samples, rate) > quiet).mean())


def steadiness(samples: Samples, rate: int) -> float:
    """Return the share of the energy at the loudest frequency: near 1 for a beep, small for speech."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    width = max(1, int(20 * len(samples) / rate))
    peak = int(spectrum.argmax())
    return float(spectrum[max(0, peak - width) : peak + width].sum() / spectrum.sum())


def cepstra(samples: Samples, rate: int) -> Samples:
    """Return mel cepstra of shape (frames, 13), without silence at the ends. Their mean over time is subtracted."""
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
    """Return the distance of two rows of cepstra along their best alignment, divided by their total length."""
    costs = np.linalg.norm(one[:, None] - other[None], axis=2)
    row = np.full(len(other) + 1, np.inf)
    row[0] = 0.0
    for cost in costs:
        before, row = row, np.full(len(other) + 1, np.inf)
        for at in range(1, len(other) + 1):
            row[at] = cost[at - 1] + min(before[at], before[at - 1], row[at - 1])
    return float(row[-1] / (len(one) + len(other)))


def debian_says(text: str, voice: str, folder: Path) -> tuple[int, bytes]:
    """Return the rate and PCM16 of the text, spoken by Debian's espeak-ng, not the build under test."""
    file = folder / "debian.wav"
    subprocess.run(["espeak-ng", "-v", voice, "-s", "165", "-w", str(file), "--", text], check=True)
    return read_wav(file.read_bytes())
