"""Decoding with a KV cache shared by a prompt's samples, against a forward over the whole row for each token.

The peer is how the public inference code of Step-Audio 2 decodes (no cache). `python -m benchmarks.decode`
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from benchmarks.timing import compare
from configs.models import miniature
from step_audio_r1.model import AudioLM, init_params, model_config
from step_audio_r1.parallel import MeshConfig, make_mesh
from step_audio_r1.rollout import LocalEngine, Prompt, SamplingConfig

PROMPTS, SAMPLES, LENGTH, NEW = 16, 8, 64, 32


def main() -> None:
    """Greedy decoding of the miniature's shape with random weights: 16 prompts, 8 samples each, 32 new tokens."""
    config = model_config(miniature(vocab=142).to_dict())
    model = AudioLM(config)
    params = nn.unbox(jax.jit(lambda k: init_params(config, k))(jax.random.key(0)))
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 142, (PROMPTS, LENGTH)).astype(np.int32)
    features = np.zeros((0, 80, 96), np.float16)
    prompts = [Prompt(str(i), row, np.full(LENGTH, -1, np.int32), features) for i, row in enumerate(tokens)]
    # No id stops, so that both sides decode every token.
    engine = LocalEngine(model, make_mesh(MeshConfig()), stop_ids=(142,), max_rows=PROMPTS * SAMPLES)
    weights = engine.decode_params(params)
    sampling = SamplingConfig(max_new_tokens=NEW, temperature=0.0)

    @jax.jit
    def next_tokens(row_BT, at):
        B, T = row_BT.shape
        positions = jnp.broadcast_to(jnp.arange(T), (B, T))
        none = jnp.zeros((B, 0, 80, 96))
        arguments = (row_BT, jnp.full((B, T), -1), none, positions, jnp.ones((B, T), jnp.int32))

        def forward(m, *a):
            return m.hidden(*a)[:, at - 1] @ m.decoder.head_kernel()

        return row_BT.at[:, at].set(model.apply({"params": params}, *arguments, method=forward).argmax(-1))

    def without_cache() -> None:
        rows = jnp.asarray(np.repeat(np.pad(tokens, ((0, 0), (0, NEW))), SAMPLES, axis=0))
        for at in range(LENGTH, LENGTH + NEW):
            rows = next_tokens(rows, at)
        jax.block_until_ready(rows)

    def with_cache() -> None:
        engine.generate(weights, prompts, SAMPLES, sampling, 0)

    compare("decode", with_cache, without_cache, "forward without a cache", PROMPTS * SAMPLES * NEW, "tokens/s")


if __name__ == "__main__":
    main()
