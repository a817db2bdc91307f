"""The SFT step: token-mean cross-entropy on target tokens, encoder frozen (Eq. 1 of the report)."""

from collections.abc import Callable

import jax
import optax
from jax.sharding import Mesh

from step_audio_r1.data.batches import Batch
from step_audio_r1.model import AudioLM
from step_audio_r1.parallel import batch_sharding, replicated
from step_audio_r1.train.metrics import Mean
from step_audio_r1.train.state import TrainState

SFTStep = Callable[[TrainState, Batch], tuple[TrainState, dict[str, Mean]]]


def make_sft_step(
    model: AudioLM, tx: optax.GradientTransformation, schedule: optax.Schedule, mesh: Mesh, where: TrainState
) -> SFTStep:
    """Compiles the step for states that live as `where` does (a TrainState of arrays or of their shapes).

    The state is donated. Metrics: train/loss (nats a target token), train/accuracy, train/grad_norm,
    train/learning_rate, train/target_tokens.
    """
    homes = jax.tree.map(lambda x: x.sharding, where)

    def loss(params, batch: Batch):
        out = model.apply(
            {"params": params},
            batch.tokens,
            batch.audio_slots,
            batch.features,
            batch.positions,
            batch.segment_ids,
            method="score",
        )
        weights = batch.loss_weights
        total = weights.sum()
        mean = -(out.logp * weights).sum() / jax.numpy.maximum(total, 1.0)
        return mean, (Mean.of(-out.logp, weights), Mean.of(out.correct, weights))

    def step(state: TrainState, batch: Batch):
        (_, (nll, accuracy)), grads = jax.value_and_grad(loss, has_aux=True)(state.params, batch)
        # Gradients need not inherit the parameters' sharding; say it, or fsdp would hold them whole.
        grads = jax.lax.with_sharding_constraint(grads, homes.params)
        metrics = {
            "train/loss": nll,
            "train/accuracy": accuracy,
            "train/grad_norm": Mean.scalar(optax.global_norm(grads)),
            "train/learning_rate": Mean.scalar(schedule(state.step)),
            "train/target_tokens": Mean.scalar(nll.weight),
        }
        return state.apply(tx, grads), metrics

    return jax.jit(
        step,
        donate_argnums=0,
        in_shardings=(homes, batch_sharding(mesh)),
        out_shardings=(homes, replicated(mesh)),
    )
