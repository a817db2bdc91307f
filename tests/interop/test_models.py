"""Promise: the public models have the published sizes, part by part, to the parameter."""

import jax
import numpy as np
import pytest

from configs import models
from step_audio_r1.model import init_params, model_config

ENCODER = 636_968_960
ROWS = 158_720


def by_shape(rows, d, layers, heads, kv_heads, ffn):
    """(adaptor, decoder) counted from the public tensor shapes."""
    adaptor = (1280 * 1280 * 3 + 1280) + (2048 * 1280 + 2048) + (d * 2048 + d)
    attention = 2 * heads * 128 * d + heads * 128 + 2 * (kv_heads * 128 * d + kv_heads * 128)
    return adaptor, 2 * rows * d + layers * (attention + 3 * ffn * d + 2 * d) + d


PUBLISHED = {
    "step_audio_r1": (ENCODER, *by_shape(ROWS, 5120, 64, 40, 8, 27648)),
    "step_audio_2_mini": (ENCODER, *by_shape(ROWS, 3584, 28, 28, 4, 18944)),
}
# Qwen2.5 as published, with its own token tables: (rows, parameters), from the public checkpoints' indices.
QWEN = {
    "0.5b": (151_936, 494_032_768),
    "1.5b": (151_936, 1_543_714_304),
    "3b": (151_936, 3_085_938_688),
    "7b": (152_064, 7_615_616_512),
    "14b": (152_064, 14_770_033_664),
    "32b": (152_064, 32_763_876_352),
}


def counts(fields):
    config = model_config(fields.to_dict())
    abstract = jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
    return tuple(
        sum(int(np.prod(x.shape)) for x in jax.tree.leaves(abstract[part]))
        for part in ("encoder", "adaptor", "decoder")
    )


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_public_models_part_by_part(name):
    found = counts(getattr(models, name)())
    assert found == PUBLISHED[name]
    assert round(sum(found) / 1e9, 3) == {"step_audio_r1": 33.487, "step_audio_2_mini": 8.315}[name]


def test_what_sizes_do_not_show():
    large, small = models.step_audio_r1().decoder, models.step_audio_2_mini().decoder
    assert (large.rms_eps, small.rms_eps) == (1e-5, 1e-6)
    assert (large.max_positions, small.max_positions) == (65_536, 16_384)
    assert large.rope_theta == small.rope_theta == 1e6
    assert "tied" not in large and "tied" not in small


@pytest.mark.parametrize("size", list(QWEN))
def test_from_parts_is_qwen2_5_with_the_public_rows(size):
    fields = models.from_parts(size)
    encoder, adaptor, decoder = counts(fields)
    rows, published = QWEN[size]
    tables, width = 1 if fields.decoder.tied else 2, fields.decoder.d_model
    assert encoder == ENCODER and adaptor == 3 * 1280**2 + 1280 + 1281 * 2048 + 2049 * width
    assert decoder == published + tables * (ROWS - rows) * width


def test_miniature_is_small_and_shares_the_front_end():
    fields = models.miniature(400)
    assert fields.encoder.mel_bins == 128 and fields.encoder.max_positions == 1500
    assert sum(counts(fields)) < 2_000_000
