"""Rotary position embedding, rotate-half form (Su et al. 2021; as in Qwen2)."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def rotate(x_BTHC: Float[Array, "B T H C"], positions_BT: Int[Array, "B T"], theta: float) -> Float[Array, "B T H C"]:
    """Rotates each pair (c, c + C/2) of a head by position * theta^(-2c/C). Angles are float32."""
    half = x_BTHC.shape[-1] // 2
    frequency = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = positions_BT[:, :, None, None].astype(jnp.float32) * frequency
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    first, second = jnp.split(x_BTHC.astype(jnp.float32), 2, axis=-1)
    out = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return out.astype(x_BTHC.dtype)
