"""Scaled dot-product attention with grouped keys and an explicit mask; softmax in float32."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

# Large and finite: a row without any key (padding) gets a uniform, harmless average instead of NaN.
MASKED = -1e10


def attend(
    q_BTHC: Float[Array, "B T H C"],
    k_BSKC: Float[Array, "B S K C"],
    v_BSKC: Float[Array, "B S K C"],
    mask_BTS: Bool[Array, "B T S"],
) -> Float[Array, "B T H C"]:
    """Attention of T queries over S keys; query head h reads key head h // (H/K).

    Args:
      q_BTHC: queries, already scaled.
      k_BSKC: keys.
      v_BSKC: values.
      mask_BTS: True where a query may see a key.
    """
    B, T, H, C = q_BTHC.shape
    K = k_BSKC.shape[2]
    q_BTKGC = q_BTHC.reshape(B, T, K, H // K, C)
    logits = jnp.einsum("btkgc,bskc->bkgts", q_BTKGC, k_BSKC, preferred_element_type=jnp.float32)
    logits = jnp.where(mask_BTS[:, None, None], logits, MASKED)
    weights = jax.nn.softmax(logits, axis=-1).astype(v_BSKC.dtype)
    return jnp.einsum("bkgts,bskc->btkgc", weights, v_BSKC).reshape(B, T, H, C)
