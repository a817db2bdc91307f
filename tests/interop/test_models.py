"""Promise: the named model configs have the published sizes, part by part."""

import jax
import pytest
from flax import linen as nn

from configs import models
from step_audio_r1.model import init_params, model_config


def _counts(fields) -> dict[str, int]:
    config = model_config(fields.to_dict())
    shapes = nn.unbox(jax.eval_shape(lambda: init_params(config, jax.random.key(0))))
    return {part: sum(x.size for x in jax.tree.leaves(tree)) for part, tree in shapes.items()}


@pytest.mark.parametrize(
    "fields, decoder, adaptor, total",
    [
        (models.step_audio_r1(), "32.832", "18.03", "33.487"),
        (models.step_audio_2_mini(), "7.663", "14.88", "8.315"),
    ],
    ids=["33B", "8B"],
)
def test_published_parameter_counts(fields, decoder, adaptor, total):
    counts = _counts(fields)
    assert counts.keys() == {"encoder", "adaptor", "decoder"}
    assert f"{counts['encoder'] / 1e6:.2f}" == "636.97"
    assert f"{counts['decoder'] / 1e9:.3f}" == decoder
    assert f"{counts['adaptor'] / 1e6:.2f}" == adaptor
    assert f"{sum(counts.values()) / 1e9:.3f}" == total


def test_published_details():
    large, small = models.step_audio_r1(), models.step_audio_2_mini()
    assert (large.decoder.rms_eps, small.decoder.rms_eps) == (1e-5, 1e-6)
    assert large.decoder.vocab == small.decoder.vocab == 158_720
    assert large.decoder.rope_theta == small.decoder.rope_theta == 1e6


def test_miniature_is_small():
    counts = _counts(models.miniature(vocab=512))
    assert sum(counts.values()) < 2e6
    assert model_config(models.miniature(300).to_dict()).decoder.vocab == 300
