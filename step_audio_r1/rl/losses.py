"""PPO's two losses as sums over tokens; the caller divides once (section 7 of the recipe)."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float


class PolicyTerms(NamedTuple):
    """Per token [R, T], 0 off the mask."""

    loss: Float[Array, "R T"]
    ratio: Float[Array, "R T"]
    clipped: Float[Array, "R T"]  # 1 where the clip decides


def policy_terms(
    logp_RT: Float[Array, "R T"],
    old_logp_RT: Float[Array, "R T"],
    advantages_RT: Float[Array, "R T"],
    mask_RT: Float[Array, "R T"],
    clip: float,
) -> PolicyTerms:
    """The clipped surrogate, negated to be minimised: -min(ratio A, clip(ratio, 1-e, 1+e) A). There is no KL term."""
    ratio = jnp.exp((logp_RT - old_logp_RT) * mask_RT)
    plain = ratio * advantages_RT
    bounded = jnp.clip(ratio, 1 - clip, 1 + clip) * advantages_RT
    loss = -jnp.minimum(plain, bounded) * mask_RT
    return PolicyTerms(loss, ratio * mask_RT, (bounded < plain).astype(jnp.float32) * mask_RT)


def value_terms(
    values_RT: Float[Array, "R T"],
    old_values_RT: Float[Array, "R T"],
    targets_RT: Float[Array, "R T"],
    mask_RT: Float[Array, "R T"],
    clip: float,
) -> Float[Array, "R T"]:
    """Half the larger of the squared errors of the value and of the value clipped around the old one."""
    bounded = old_values_RT + jnp.clip(values_RT - old_values_RT, -clip, clip)
    worst = jnp.maximum(jnp.square(values_RT - targets_RT), jnp.square(bounded - targets_RT))
    return 0.5 * worst * mask_RT
