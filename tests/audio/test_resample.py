"""Promise: resampling is torchaudio's default formula, sample for sample, at any pair of rates."""

import math
import sys

import numpy as np
import pytest

from step_audio_r1.audio import resample
from step_audio_r1.audio.resample import resample_blocks


def dense(x, source, target):
    """The formula in float64 for every output and every input, each kernel clipped as torchaudio clips it."""
    common = math.gcd(source, target)
    old, new = source // common, target // common
    base = min(old, new) * 0.99
    j, k = np.arange(math.ceil(new * len(x) / old))[:, None], np.arange(len(x))[None]
    t = np.clip((k / old - j / new) * base, -6, 6)
    return (np.sinc(t) * np.cos(t * math.pi / 12) ** 2 * base / old) @ x.astype(np.float64)


@pytest.mark.parametrize(
    "source, target",
    [
        (44100, 16000),
        (8000, 16000),
        (48000, 16000),
        (16000, 24000),
        (16000, 44100),
        (11025, 16000),
        (16001, 16000),
    ],
)
@pytest.mark.parametrize("length", [1, 7, 1500])
def test_matches_dense_evaluation(source, target, length):
    x = np.random.default_rng(length).standard_normal(length).astype(np.float32)
    ours = resample(x, source, target)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, dense(x, source, target), atol=2e-6)


@pytest.mark.parametrize("source", [8000, 11025, 16000, 22050, 32000, 44100, 48000, 96000, 44101])
@pytest.mark.parametrize("length", [0, 1, 2, 159, 441, 1000, 44100])
def test_length(source, length):
    assert len(resample(np.zeros(length, np.float32), source, 16000)) == -(-length * 16000 // source)


def test_equal_rates_change_nothing():
    x = np.random.default_rng(0).standard_normal(100).astype(np.float32)
    np.testing.assert_array_equal(resample(x, 16000, 16000), x)


@pytest.mark.parametrize("source", [8000, 44100, 48000])
def test_tone_is_kept(source):
    x = np.sin(2 * np.pi * 1000 * np.arange(source) / source).astype(np.float32)
    wanted = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    np.testing.assert_allclose(resample(x, source, 16000)[200:-200], wanted[200:-200], atol=5e-3)


@pytest.mark.parametrize("source", [44100, 48000])
def test_tone_above_the_new_nyquist_is_removed(source):
    x = np.sin(2 * np.pi * 11000 * np.arange(source) / source).astype(np.float32)
    assert np.abs(resample(x, source, 16000)[200:-200]).max() < 5e-3


@pytest.mark.parametrize(
    "source, target", [(8000, 16000), (11025, 16000), (44100, 16000), (96000, 16000), (16000, 44100)]
)
@pytest.mark.parametrize("size", [1, 13, 441, 4096])
@pytest.mark.parametrize("held", [100, 1000, 1 << 18])
def test_blocks_join_to_the_whole_bit_for_bit(monkeypatch, source, target, size, held):
    x = np.random.default_rng(size).standard_normal(6000).astype(np.float32)
    whole = resample(x, source, target)  # shorter than what is filtered at a time: one filter run, and its tail
    monkeypatch.setattr(sys.modules["step_audio_r1.audio.resample"], "_BLOCK_SAMPLES", held)
    blocks = (x[at : at + size] for at in range(0, len(x), size))
    joined = np.concatenate(list(resample_blocks(blocks, source, target)))
    np.testing.assert_array_equal(joined.view(np.int32), whole.view(np.int32))
