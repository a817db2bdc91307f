"""A training step on packed rows, against one example a row padded to the longest. `python -m benchmarks.packing`

The measure is target tokens a second: the same loss, the same examples' mixture.
"""

import jax
import numpy as np
from flax import linen as nn

from benchmarks.timing import compare
from configs.models import miniature
from configs.recipe import BATCH
from step_audio_r1.data.batches import BatchConfig, batches
from step_audio_r1.data.features import ClipFeatures
from step_audio_r1.data.world.examples import examples, vocabulary
from step_audio_r1.model import AudioLM, init_params, model_config
from step_audio_r1.parallel import MeshConfig, make_mesh
from step_audio_r1.text import word_level_tokenizer
from step_audio_r1.train import OptimiserConfig, make_sft_step, optimiser, schedule, to_device, train_state

CLIPS = 300
STEPS = 4


def main() -> None:
    """SFT steps of the miniature on the world's cold-start sources."""
    tokenizer = word_level_tokenizer(vocabulary())
    config = model_config(miniature(vocab=tokenizer.vocab_size).to_dict())
    rng = np.random.default_rng(0)
    clip = rng.normal(size=(1, 80, 96)).astype(np.float16)
    store = ClipFeatures({f"train-{i:06d}": (clip, [40]) for i in range(CLIPS)}, (80, 96))
    names = ("text_caption", "text_percepts", "audio_direct", "describe")
    sources = {name: (list(examples(name, "train", CLIPS)), 0.25) for name in names}
    mesh = make_mesh(MeshConfig())
    model = AudioLM(config)
    rate = OptimiserConfig(1e-3)
    params = nn.unbox(jax.jit(lambda k: init_params(config, k))(jax.random.key(0)))
    trained = {name: params[name] for name in ("adaptor", "decoder")}
    trained = jax.device_put(trained, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))

    def runner(shape: BatchConfig, one_a_row: bool):
        found = [to_device(_split(b) if one_a_row else b, mesh) for b in _take(sources, tokenizer, store, shape)]
        tx = optimiser(rate, 100)
        state = train_state(jax.tree.map(lambda x: x.copy(), trained), tx, mesh)
        step = make_sft_step(model, tx, schedule(rate, 100), mesh, state)
        held = {"state": state}

        def work() -> None:
            for batch in found:
                held["state"], _ = step(held["state"], batch)
            jax.block_until_ready(held["state"])

        return work, sum(float(b.loss_weights.sum()) for b in found)

    packed, packed_tokens = runner(BatchConfig(**BATCH), False)
    padded, padded_tokens = runner(BatchConfig(rows=48, tokens=128, chunks=1, packing_bins=48), True)
    # Both see about 48 examples a step; the rates are put on the packed side's amount.
    scale = packed_tokens / padded_tokens

    def padded_as_much() -> None:
        for _ in range(max(1, round(scale))):
            padded()

    print(f"target tokens a call: packed {packed_tokens:.0f}, padded {padded_tokens:.0f}")
    compare("packing", packed, padded_as_much, "one example a row", packed_tokens, "target tokens/s")


def _take(sources, tokenizer, store, shape):
    stream = batches(sources, tokenizer, store, shape, seed=0)
    return [next(stream) for _ in range(STEPS)]


def _split(batch):
    """Keeps the first example of each row only, as an unpacked loader would have it."""
    first = batch["segment_ids"] == 1
    return {
        **batch,
        "segment_ids": first.astype(np.int32),
        "loss_weights": batch["loss_weights"] * first,
        "audio_slots": np.where(first, batch["audio_slots"], -1),
    }


if __name__ == "__main__":
    main()
