"""Promise: clips are cut as the reference cuts them; frames and tokens follow its closed forms."""

import numpy as np
import pytest

from step_audio_r1.audio import (
    AudioClip,
    audio_tokens,
    chunks,
    encoder_frames,
    log_mel,
    mel_frames,
    valid_keys,
)
from step_audio_r1.errors import BadInput

# Samples, mel frames, tokens under the "hf" and the "vllm" count: section 2.3 of the reference.
TABLE = [
    (1, 3, 0, 1),
    (320, 4, 0, 1),
    (321, 5, 1, 1),
    (16000, 102, 13, 13),
    (16641, 107, 13, 14),
    (160000, 1002, 125, 125),
    (400000, 2502, 313, 313),
    (464000, 2902, 363, 363),
    (479680, 3000, 375, 375),
]


@pytest.mark.parametrize("samples, frames, hf, vllm", TABLE)
def test_table(samples, frames, hf, vllm):
    assert mel_frames(samples) == frames
    assert audio_tokens(samples) == hf
    assert audio_tokens(samples, token_count="vllm") == vllm


def test_tokens_equal_the_network_step_by_step_for_every_length():
    def conv(n, kernel, stride, pad):
        return (n + 2 * pad - kernel) // stride + 1

    for samples in range(1, 480_001):
        frames = mel_frames(samples)
        for count, unmasked, direct in (
            ("hf", frames - 2, (samples + 959) // 1280),
            ("vllm", frames, -(-samples // 1280)),
        ):
            keys = conv(unmasked, 3, 2, 1)
            pooled = keys // 2
            tokens = conv(pooled, 3, 2, 1)
            assert tokens == direct == audio_tokens(samples, count)
            if samples % 997 == 0:
                assert valid_keys(frames, count) == keys and encoder_frames(frames, count) == pooled
        differ = 1 <= samples % 1280 <= 320
        assert audio_tokens(samples, "vllm") - audio_tokens(samples) == differ


def test_unknown_count_is_refused():
    with pytest.raises(ValueError, match="token_count"):
        audio_tokens(16000, token_count="both")


def test_log_mel_has_the_counted_frames():
    for samples in (1, 160, 161, 16641):
        assert len(log_mel(np.ones(samples, np.float32))) == mel_frames(samples)


def clip(samples, rate=16000):
    return AudioClip(np.random.default_rng(0).standard_normal(samples).astype(np.float32), rate, "noise")


@pytest.mark.parametrize(
    "samples, kept, dropped",
    [
        (400_000, [400_000], [400_000]),
        (400_001, [400_000, 1], [400_000]),
        (800_321, [400_000, 400_000, 321], [400_000, 400_000, 321]),
    ],
)
def test_cut_every_25_seconds(samples, kept, dropped):
    assert [len(piece) for piece in chunks(clip(samples), drop_short_tail=False)] == kept
    assert [len(piece) for piece in chunks(clip(samples))] == dropped


def test_pieces_join_to_the_clip():
    whole = clip(500_000)
    np.testing.assert_array_equal(np.concatenate(chunks(whole)), whole.waveform)


def test_resampled_before_the_cut():
    pieces = chunks(clip(48000 * 26, rate=48000))
    assert [len(piece) for piece in pieces] == [400_000, 16_000]


def test_nothing_left_is_refused():
    with pytest.raises(BadInput, match="noise: 320 samples"):
        chunks(clip(320))
    with pytest.raises(BadInput, match="noise: 0 samples"):
        chunks(clip(0), drop_short_tail=False)
    assert [len(piece) for piece in chunks(clip(320), drop_short_tail=False)] == [320]
