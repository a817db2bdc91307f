"""Promise: sound goes into the decoder as in transformers: log-mel, encoder, adaptor, and all of it together."""

import numpy as np
import pytest

from step_audio_r1.audio import log_mel, mel_filters
from tests.golden import cases, ours
from tests.golden.compare import assert_same_features, assert_same_log_mel, assert_same_logits

reference = pytest.importorskip("tests.golden.reference")
pytestmark = pytest.mark.parity


def test_mel_filters_are_whispers():
    np.testing.assert_array_max_ulp(mel_filters(), reference.whisper().mel_filters.astype(np.float32), maxulp=1)


@pytest.mark.parametrize("samples", [1, 320, 321, 9_600, 24_321, 160_000, 400_000, 479_520])
def test_log_mel_is_whispers_in_all_our_frames(samples):
    """Whisper pads to 30 s, we append 479 zeros: the same silence as far as our frames go, and never the maximum."""
    assert_same_log_mel(log_mel(cases.sound(samples)), reference.log_mel(cases.sound(samples)))


@pytest.mark.parametrize("count", ["hf", "vllm"])
@pytest.mark.parametrize("lengths", [cases.MEL_LENGTHS, (cases.FULL_CHUNK,)], ids=["together", "full chunk"])
def test_encoder_is_qwen2_audios(lengths, count):
    for n, features in zip(lengths, ours.encode(cases.PUBLIC, cases.mel_batch(lengths), lengths, count)):
        assert_same_features(features, reference.encode(cases.PUBLIC, cases.mel(n), count))


def test_adaptor():
    assert_same_features(*(side.adapt(cases.PUBLIC, cases.features()) for side in (ours, reference)))


@pytest.mark.parametrize("name", cases.WHOLE)
def test_the_whole_from_waveforms_to_logits(name):
    assert_same_logits(*(side.answer_logits(cases.MODELS[name], cases.conversation()) for side in (ours, reference)))
