"""Promise: log-mel frames equal the reference recipe, recomputed here another way in float64."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from scipy import fft

from step_audio_r1.audio import log_mel, mel_filters, mel_frames


def slaney_filters(n_mels):
    """librosa's mel filter bank by its definition, one triangle at a time: float64[201, n_mels]."""

    def hertz(mel):
        return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)

    top = 15 + 27 * np.log(8) / np.log(6.4)
    edges = [hertz(mel) for mel in np.linspace(0, top, n_mels + 2)]
    filters = np.zeros((201, n_mels))
    for m, (low, centre, high) in enumerate(zip(edges, edges[1:], edges[2:])):
        for b in range(201):
            f = 40.0 * b
            weight = (f - low) / (centre - low) if f <= centre else (high - f) / (high - centre)
            filters[b, m] = max(0.0, weight) * 2 / (high - low)
    return filters


def by_definition(x, n_mels):
    """The recipe with an explicit DFT matrix, frame by frame, in float64."""
    x = np.concatenate([x.astype(np.float64), np.zeros(479)])
    x = np.concatenate([x[200:0:-1], x, x[-2:-202:-1]])
    n = np.arange(400)
    window = np.sin(np.pi * n / 400) ** 2
    dft = np.exp(-2j * np.pi * np.outer(n, np.arange(201)) / 400)
    frames = [x[at : at + 400] * window for at in range(0, len(x) - 399, 160)][:-1]
    mel = np.abs(np.array(frames) @ dft) ** 2 @ slaney_filters(n_mels)
    y = np.log10(np.maximum(mel, 1e-10))
    return (np.maximum(y, y.max() - 8) + 4) / 4


def sound(n):
    t = np.arange(n) / 16000
    noise = np.random.default_rng(n).standard_normal(n)
    return (0.4 * np.sin(2 * np.pi * (300 * t + 900 * t**2)) + 0.02 * noise).astype(np.float32)


@pytest.mark.parametrize("n", [1, 320, 321, 1000, 16000, 40001])
@pytest.mark.parametrize("n_mels", [16, 128])
def test_equals_the_definition(n, n_mels):
    ours = log_mel(sound(n), n_mels)
    assert ours.shape == (mel_frames(n), n_mels) and ours.dtype == np.float32
    np.testing.assert_allclose(ours, by_definition(sound(n), n_mels), atol=2e-5)


def test_filters_equal_the_definition():
    np.testing.assert_allclose(mel_filters(), slaney_filters(128), atol=1e-8)


def test_silence_is_the_floor_and_the_floor_is_the_chunks_own():
    np.testing.assert_allclose(log_mel(np.zeros(1600, np.float32)), -1.5, atol=1e-6)
    x = sound(16000)
    ours = log_mel(x)
    assert ours.min() == pytest.approx(ours.max() - 2, abs=1e-6)


def test_loudness_only_shifts():
    x = sound(8000)
    np.testing.assert_allclose(log_mel(0.1 * x), log_mel(x) - 0.5, atol=2e-4)


def test_empty_waveform_is_refused():
    with pytest.raises(ValueError, match="empty"):
        log_mel(np.zeros(0, np.float32))


@pytest.mark.parametrize("n", [1, 160, 1000, 40001])
def test_bit_for_bit_the_recipe_step_by_step(n):
    padded = np.pad(np.pad(sound(n), (0, 479)), 200, mode="reflect")
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)).astype(np.float32)
    spectrum = fft.rfft(sliding_window_view(padded, 400)[::160][:-1] * window)
    y = np.log10(np.maximum((spectrum.real**2 + spectrum.imag**2) @ mel_filters(), np.float32(1e-10)))
    wanted = (np.maximum(y, y.max() - np.float32(8)) + np.float32(4)) / np.float32(4)
    np.testing.assert_array_equal(log_mel(sound(n)).view(np.int32), wanted.view(np.int32))
