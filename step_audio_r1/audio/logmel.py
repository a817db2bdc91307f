"""The encoder's input: log-mel frames of one chunk, to the letter of the released front end."""

from functools import lru_cache

import numpy as np
from jaxtyping import Float
from numpy.lib.stride_tricks import sliding_window_view
from scipy import fft

SAMPLE_RATE = 16_000
N_FFT = 400
HOP = 160
N_MELS = 128
APPENDED = 479  # zeros on the right: every started 10 ms gets its frame, and two more
POWER_FLOOR = 1e-10

# Slaney's mel scale: linear to 1 kHz (200/3 Hz a mel), then 27 mels for every factor of 6.4.
_LINEAR_HZ = 200 / 3
_BREAK_HZ = 1000.0
_LOG_STEP = np.log(6.4) / 27


def log_mel(waveform: Float[np.ndarray, "n"], n_mels: int = N_MELS) -> Float[np.ndarray, "F M"]:
    """Log-mel frames of one chunk.

    479 zeros appended; STFT of 400 samples every 160 with a periodic Hann window, centred, reflected at both
    ends; the last frame dropped; power; Slaney mel bins; y = log10 of them, no lower than -10 and no lower
    than 8 below the chunk's maximum; (y + 4) / 4.

    Args:
      waveform: f32[n] at 16 kHz, n >= 1, one chunk: the floor depends on the chunk's own maximum.
      n_mels: mel bins M.

    Returns:
      f32[F, M] with F = (n + 479) // 160, one frame every 10 ms.

    Raises:
      ValueError: the waveform is empty.

    Source: `log_mel_spectrogram` of the Step-Audio 2 release, section 2.1 of the reference.
    """
    if len(waveform) == 0:
        raise ValueError("log_mel: the waveform is empty")
    half, n = N_FFT // 2, len(waveform)
    # What is reflected at the right end lies within the appended zeros: it is half a window of zeros.
    padded = np.zeros(half + n + APPENDED + half, np.float32)
    padded[half : half + n] = waveform
    padded[:half] = padded[2 * half : half : -1]
    windows = sliding_window_view(padded, N_FFT)[::HOP][:-1]
    # From here on in place: fresh memory costs more than the arithmetic.
    spectrum = fft.rfft(windows * hann_window(), axis=-1, overwrite_x=True)
    power = np.square(spectrum.real)
    power += np.square(spectrum.imag)
    bins = power @ mel_filters(n_mels)
    np.log10(np.maximum(bins, np.float32(POWER_FLOOR), out=bins), out=bins)
    np.maximum(bins, bins.max() - np.float32(8), out=bins)
    bins += np.float32(4)
    bins /= np.float32(4)
    return bins


@lru_cache(maxsize=4)
def mel_filters(n_mels: int = N_MELS) -> Float[np.ndarray, "bins M"]:
    """Triangular mel filters over the 201 bins of a 400-point spectrum at 16 kHz, each of unit area (Slaney).

    Args:
      n_mels: filters M, spread from 0 to 8000 Hz.

    Returns:
      f32[201, M], read-only: power spectra times this are mel bins.

    Source: `librosa.filters.mel` at its defaults.
    """
    hertz = np.linspace(0, SAMPLE_RATE / 2, N_FFT // 2 + 1)
    edges = _mel_to_hertz(np.linspace(0, _hertz_to_mel(SAMPLE_RATE / 2), n_mels + 2))
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    rising = (hertz[:, None] - low) / (centre - low)
    falling = (high - hertz[:, None]) / (high - centre)
    filters = np.maximum(0, np.minimum(rising, falling)) * (2 / (high - low))
    filters = filters.astype(np.float32)
    filters.setflags(write=False)
    return filters


@lru_cache(maxsize=1)
def hann_window() -> Float[np.ndarray, "n"]:
    """The periodic Hann window of an STFT frame: f32[400], read-only."""
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)).astype(np.float32)
    window.setflags(write=False)
    return window


def _hertz_to_mel(hertz: float) -> float:
    """For frequencies above the break, which is all that is asked of it."""
    return _BREAK_HZ / _LINEAR_HZ + np.log(hertz / _BREAK_HZ) / _LOG_STEP


def _mel_to_hertz(mels: np.ndarray) -> np.ndarray:
    break_mel = _BREAK_HZ / _LINEAR_HZ
    return np.where(mels < break_mel, mels * _LINEAR_HZ, _BREAK_HZ * np.exp(_LOG_STEP * (mels - break_mel)))
