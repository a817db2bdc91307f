"""AdamW with warm-up and cosine decay, as one config and one function."""

import dataclasses

import jax
import optax


@dataclasses.dataclass(frozen=True)
class OptimiserConfig:
    """Fields follow optax; `final_fraction` of the peak rate is left at the last step (1 = constant)."""

    learning_rate: float = 1e-5
    warmup_steps: int = 0
    final_fraction: float = 0.1
    b1: float = 0.9
    b2: float = 0.95
    weight_decay: float = 0.0
    clip_norm: float = 1.0


def schedule(config: OptimiserConfig, steps: int) -> optax.Schedule:
    """Linear warm-up, then cosine. The first update already has a rate above zero."""
    warmup = min(config.warmup_steps, steps)
    peak = config.learning_rate
    decay = optax.cosine_decay_schedule(peak, max(steps - warmup, 1), config.final_fraction)
    if warmup == 0:
        return decay
    return optax.join_schedules([optax.linear_schedule(peak / (warmup + 1), peak, warmup), decay], [warmup])


# Leaves that are matrices by meaning. Counting dimensions would take the scanned layers' stacked biases for matrices.
DECAYED = ("kernel", "embedding")


def optimiser(config: OptimiserConfig, steps: int) -> optax.GradientTransformation:
    """Global-norm clipping, then AdamW; weight decay on kernels and embeddings, not on biases and norm scales."""

    def is_decayed(params):
        return jax.tree.map_with_path(lambda path, _: path[-1].key in DECAYED, params)

    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(schedule(config, steps), config.b1, config.b2, weight_decay=config.weight_decay, mask=is_decayed),
    )
