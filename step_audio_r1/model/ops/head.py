"""The chunked vocabulary head: log-probability, entropy and argmax rank of targets without ever holding [B, T, V]."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

# Probability zero in float32, yet finite: -inf would turn the entropy's gradient into NaN.
NEVER = -1e30


class HeadOutput(NamedTuple):
    """Per position, float32."""

    logp: Float[Array, "B T"]  # log-probability of the target; cross-entropy is its negative
    entropy: Float[Array, "B T"]  # of the whole distribution, in nats
    correct: Float[Array, "B T"]  # 1 where the target is the most likely token


def logits(
    hidden: Float[Array, "*B D"], kernel_DV: Float[Array, "D V"], real_vocab: int | None
) -> Float[Array, "*B V"]:
    """float32 logits; rows at and past `real_vocab` are padding of the table and get `NEVER`."""
    z = jnp.einsum("...d,dv->...v", hidden, kernel_DV, preferred_element_type=jnp.float32)
    if real_vocab is None or real_vocab == kernel_DV.shape[1]:
        return z
    return jnp.where(jax.lax.broadcasted_iota(jnp.int32, z.shape, z.ndim - 1) < real_vocab, z, NEVER)


def chunked_head(
    hidden_BTD: Float[Array, "B T D"],
    kernel_DV: Float[Array, "D V"],
    targets_BT: Int[Array, "B T"],
    chunk: int,
    real_vocab: int | None = None,
) -> HeadOutput:
    """Scores `targets_BT` under the softmax of hidden @ kernel, `chunk` time steps at a time.

    Each chunk is rematerialised in the backward pass, so memory is [B, chunk, V]. A last partial chunk is padded.
    """
    B, T, D = hidden_BTD.shape
    chunk = min(chunk, T)
    pad = -T % chunk
    hidden = jnp.pad(hidden_BTD, ((0, 0), (0, pad), (0, 0)))
    targets = jnp.pad(targets_BT, ((0, 0), (0, pad)))

    def score(carry, piece):
        h, y = piece
        z = logits(h, kernel_DV, real_vocab)
        lse = jax.nn.logsumexp(z, axis=-1)
        here = jax.lax.broadcasted_iota(jnp.int32, z.shape, 2) == y[..., None]
        # A masked sum instead of a gather keeps a vocabulary split over devices where it is.
        at_target = jnp.where(here, z, 0.0).sum(-1)
        probability = jnp.exp(z - lse[..., None])
        entropy = lse - (probability * z).sum(-1)
        correct = (at_target >= z.max(-1)).astype(jnp.float32)
        return carry, (at_target - lse, entropy, jax.lax.stop_gradient(correct))

    if T + pad == chunk:
        _, out = score(None, (hidden, targets))
        return HeadOutput(*(x[:, :T] for x in out))
    pieces = (
        jnp.moveaxis(hidden.reshape(B, -1, chunk, D), 1, 0),
        jnp.moveaxis(targets.reshape(B, -1, chunk), 1, 0),
    )
    _, out = jax.lax.scan(jax.checkpoint(score, prevent_cse=False), None, pieces)
    return HeadOutput(*(jnp.moveaxis(x, 0, 1).reshape(B, -1)[:, :T] for x in out))
