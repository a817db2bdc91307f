"""The Qwen2.5 decoder: pre-norm, grouped-query attention with rotary positions, SwiGLU; a scan over its layers.

One forward serves training, prefill and decoding. With a cache, keys and values are written at each row's own slots and
queries see the slots written so far; without one, queries see earlier positions of their own segment.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float, Int

from step_audio_r1.model.config import DecoderConfig
from step_audio_r1.model.layers import Linear, RMSNorm, fan_in
from step_audio_r1.model.ops.attention import attend
from step_audio_r1.model.ops.rotary import rotate


class KVCache(struct.PyTreeNode):
    """Keys and values of every layer, and how many slots of each row are filled."""

    k: Float[Array, "L B S K C"]
    v: Float[Array, "L B S K C"]
    lengths: Int[Array, "B"]

    @classmethod
    def empty(cls, config: DecoderConfig, rows: int, slots: int, dtype: jnp.dtype) -> "KVCache":
        """An empty cache of `slots` positions for `rows` rows."""
        shape = (config.layers, rows, slots, config.kv_heads, config.head_dim)
        return cls(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype), jnp.zeros((rows,), jnp.int32))


class DecoderBlock(nn.Module):
    """One layer. The cache, if any, travels in the carry and is updated in place at (layer, row, slot)."""

    config: DecoderConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, carry, positions_BT, slots_BT, mask):
        x_BTD, k_cache, v_cache, layer = carry
        cfg = self.config
        B, T, D = x_BTD.shape
        H, K, C = cfg.heads, cfg.kv_heads, cfg.head_dim

        def project(name: str, y, heads: int, axis: str):
            return Linear(heads * C, ("embed", axis), True, self.dtype, name=name)(y).reshape(B, T, heads, C)

        with jax.named_scope("attention"):
            y = RMSNorm(cfg.rms_eps, name="input_norm")(x_BTD)
            q_BTHC = rotate(project("q", y, H, "heads"), positions_BT, cfg.rope_theta) * C**-0.5
            k_BTKC = rotate(project("k", y, K, "kv_heads"), positions_BT, cfg.rope_theta)
            v_BTKC = project("v", y, K, "kv_heads")
            if k_cache is not None:
                rows = jnp.arange(B)[:, None]
                k_cache = k_cache.at[layer, rows, slots_BT].set(k_BTKC.astype(k_cache.dtype), mode="drop")
                v_cache = v_cache.at[layer, rows, slots_BT].set(v_BTKC.astype(v_cache.dtype), mode="drop")
                k_BTKC, v_BTKC = k_cache[layer].astype(self.dtype), v_cache[layer].astype(self.dtype)
            out = attend(q_BTHC, k_BTKC, v_BTKC, mask).reshape(B, T, H * C)
            x_BTD = x_BTD + Linear(D, ("heads", "embed"), False, self.dtype, name="o")(out)
        with jax.named_scope("mlp"):
            y = RMSNorm(cfg.rms_eps, name="post_attention_norm")(x_BTD)
            gate = Linear(cfg.ffn, ("embed", "mlp"), False, self.dtype, name="gate")(y)
            up = Linear(cfg.ffn, ("embed", "mlp"), False, self.dtype, name="up")(y)
            x_BTD = x_BTD + Linear(D, ("mlp", "embed"), False, self.dtype, name="down")(jax.nn.silu(gate) * up)
        return (x_BTD, k_cache, v_cache, layer + 1), None


class HeadKernel(nn.Module):
    """The kernel of the vocabulary head; `ops.head` multiplies by it in pieces."""

    shape: tuple[int, int]

    @nn.compact
    def __call__(self) -> Float[Array, "D V"]:
        return self.param("kernel", nn.with_logical_partitioning(fan_in, ("embed", "vocab")), self.shape, jnp.float32)


class Decoder(nn.Module):
    """Token table, layers, final norm and the vocabulary head (of its own, or the token table)."""

    config: DecoderConfig
    dtype: jnp.dtype
    remat: str = "none"

    def setup(self):
        cfg = self.config
        self.embedding = self.param(
            "embedding",
            nn.with_logical_partitioning(nn.initializers.normal(cfg.d_model**-0.5), ("vocab", "embed")),
            (cfg.vocab, cfg.d_model),
            jnp.float32,
        )
        # A module of its own, so that a critic can do without the vocabulary.
        if not cfg.tied:
            self.head = HeadKernel((cfg.d_model, cfg.vocab))
        block = nn.remat(DecoderBlock, prevent_cse=False) if self.remat == "full" else DecoderBlock
        self.layers = nn.scan(
            block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,
            length=cfg.layers,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )(cfg, self.dtype)
        self.norm = RMSNorm(cfg.rms_eps)

    def embed(self, tokens_BT: Int[Array, "B T"]) -> Float[Array, "B T D"]:
        """Rows of the token table."""
        return self.embedding[tokens_BT].astype(self.dtype)

    def head_kernel(self) -> Float[Array, "D V"]:
        """The head's kernel in the compute dtype, for `ops.head`."""
        kernel_DV = self.embedding.T if self.config.tied else self.head()
        return kernel_DV.astype(self.dtype)

    def forward(
        self,
        x_BTD: Float[Array, "B T D"],
        positions_BT: Int[Array, "B T"],
        segment_ids_BT: Int[Array, "B T"],
    ) -> Float[Array, "B T D"]:
        """Final hidden states of packed rows: causal inside a segment, blind to the others (0 is padding)."""
        T = x_BTD.shape[1]
        same = segment_ids_BT[:, :, None] == segment_ids_BT[:, None, :]
        mask = same & jnp.tril(jnp.ones((T, T), bool))[None]
        (x, _, _, _), _ = self.layers((x_BTD, None, None, jnp.int32(0)), positions_BT, None, mask)
        return self.norm(x)

    def extend(
        self, x_BTD: Float[Array, "B T D"], valid_BT: Int[Array, "B T"], cache: KVCache
    ) -> tuple[Float[Array, "B T D"], KVCache]:
        """Continues each row of `cache` by its valid tokens (prefill: many; decoding: one) and returns hidden states.

        Args:
          x_BTD: embeddings, valid tokens first.
          valid_BT: bool, True where a token is real; the rest is not written.
          cache: what came before; a row's next slot is its length, and slot equals position.
        """
        S = cache.k.shape[2]
        offsets = jnp.cumsum(valid_BT, axis=1) - 1
        positions = cache.lengths[:, None] + jnp.maximum(offsets, 0)
        slots = jnp.where(valid_BT, positions, S)  # out of range: dropped by the scatter
        mask = jnp.arange(S)[None, None, :] <= positions[:, :, None]
        (x, k, v, _), _ = self.layers((x_BTD, cache.k, cache.v, jnp.int32(0)), positions, slots, mask)
        lengths = cache.lengths + valid_BT.sum(1, dtype=jnp.int32)
        return self.norm(x), KVCache(k, v, lengths)
