"""Rotary position embedding, rotate-half form (Su et al. 2021; as in Qwen2)."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


def frequencies(head_dim: int, theta: float) -> Float[np.ndarray, "C/2"]:
    """theta^(-2c/C) for each pair c, float32, to the bit of transformers' Qwen2.

    A constant and no part of the compiled program, because the last bit counts: at position 40 000 it turns the first
    pairs by 0.002. The steps round as the published models' own code does: quotient, power and reciprocal to float32.
    """
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    # In float64 first: a float32 power is off by a bit here and there, and where depends on the machine.
    return np.float32(1) / (theta ** exponents.astype(np.float64)).astype(np.float32)


def rotate(x_BTHC: Float[Array, "B T H C"], positions_BT: Int[Array, "B T"], theta: float) -> Float[Array, "B T H C"]:
    """Rotates each pair (c, c + C/2) of a head by position * theta^(-2c/C). Angles are float32."""
    angle = positions_BT[:, :, None, None].astype(jnp.float32) * frequencies(x_BTHC.shape[-1], theta)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    first, second = jnp.split(x_BTHC.astype(jnp.float32), 2, axis=-1)
    out = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return out.astype(x_BTHC.dtype)
