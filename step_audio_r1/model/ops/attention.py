"""Scaled dot-product attention with grouped keys and an explicit mask; softmax in float32."""

import einops
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
    T, K = q_BTHC.shape[1], k_BSKC.shape[2]
    # The queries of a group stand one after another on the time axis: two plain batched matrix products remain, which
    # is about twice as fast on a CPU as a product with one more batch axis.
    q_BKXC = einops.rearrange(q_BTHC, "b t (k g) c -> b k (g t) c", k=K)
    logits = jnp.einsum("bkxc,bskc->bkxs", q_BKXC, k_BSKC, preferred_element_type=jnp.float32)
    logits = einops.rearrange(logits, "b k (g t) s -> b k g t s", t=T)
    weights = jax.nn.softmax(jnp.where(mask_BTS[:, None, None], logits, MASKED), axis=-1).astype(v_BSKC.dtype)
    weights = einops.rearrange(weights, "b k g t s -> b k (g t) s")
    out_BKXC = jnp.einsum("bkxs,bskc->bkxc", weights, v_BSKC)
    return einops.rearrange(out_BKXC, "b k (g t) c -> b t (k g) c", t=T)
