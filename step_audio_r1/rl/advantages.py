"""Advantages for one reward at the end of a response; everything is float32 and masked by lengths."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def terminal_rewards(rewards_R: Float[Array, "R"], mask_RT: Float[Array, "R T"]) -> Float[Array, "R T"]:
    """Puts each row's reward on its last response token (the last 1 of the mask); rows without one get none."""
    T = mask_RT.shape[1]
    last_R = T - 1 - jnp.argmax(mask_RT[:, ::-1], axis=1)
    here = jnp.arange(T)[None] == last_R[:, None]
    return jnp.where(here, rewards_R.astype(jnp.float32)[:, None], 0.0) * mask_RT


def gae(
    rewards_RT: Float[Array, "R T"],
    values_RT: Float[Array, "R T"],
    mask_RT: Float[Array, "R T"],
    gamma: float = 1.0,
    lam: float = 1.0,
) -> tuple[Float[Array, "R T"], Float[Array, "R T"]]:
    """Generalised advantage estimation (Schulman et al. 2016) over the response tokens of each row.

    Args:
      rewards_RT: reward received with token t.
      values_RT: value of the state before token t.
      mask_RT: 1 on response tokens, which are contiguous; what follows the last one is worth 0 (no bootstrap).
      gamma: discount; 1 in the report.
      lam: 1 in the report, so that the advantage is the return minus the value.

    Returns:
      (advantages, value targets), both 0 off the mask.
    """
    values = values_RT.astype(jnp.float32) * mask_RT
    nxt = jnp.pad(values[:, 1:], ((0, 0), (0, 1)))
    delta = (rewards_RT.astype(jnp.float32) + gamma * nxt - values) * mask_RT

    def back(carry_R, x):
        delta_R, mask_R = x
        carry_R = (delta_R + gamma * lam * carry_R) * mask_R
        return carry_R, carry_R

    zero = jnp.zeros(values.shape[0], jnp.float32)
    _, advantages = jax.lax.scan(back, zero, (delta.T, mask_RT.T), reverse=True)
    advantages = advantages.T
    return advantages, (advantages + values) * mask_RT


def normalise(advantages_RT: Float[Array, "R T"], mask_RT: Float[Array, "R T"]) -> Float[Array, "R T"]:
    """Zero mean and unit variance over all response tokens of the batch (global, once a rollout)."""
    count = jnp.maximum(mask_RT.sum(), 1.0)
    mean = (advantages_RT * mask_RT).sum() / count
    variance = (jnp.square(advantages_RT - mean) * mask_RT).sum() / count
    return (advantages_RT - mean) * jax.lax.rsqrt(variance + 1e-8) * mask_RT
