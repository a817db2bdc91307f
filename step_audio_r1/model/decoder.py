"""The Qwen2.5 decoder: pre-norm, grouped-query attention with rotary positions, SwiGLU.

Its layers are one block scanned over stacked weights where it trains, and blocks of their own where it decodes: a step
of decoding does little more than read all weights, and copying each layer's out of the stack would double that.
"""

from typing import Any

import einops
import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from step_audio_r1.model.config import DecoderConfig
from step_audio_r1.model.layers import Linear, RMSNorm, fan_in
from step_audio_r1.model.ops.attention import attend
from step_audio_r1.model.ops.rotary import rotate


class KVCache(struct.PyTreeNode):
    """Keys and values of the tokens so far, one array a layer.

    All rows write the same slots together, one after another, so that an update is one slice and happens in place. A
    row without a token at a slot (its prompt is shorter, its sample has ended) leaves it invalid.
    """

    k: tuple[Float[Array, "B K S C"], ...]
    v: tuple[Float[Array, "B K S C"], ...]
    valid: Bool[Array, "B S"]  # slots that hold a token of the row
    end: Int[Array, ""]  # slots written so far

    @classmethod
    def empty(cls, config: DecoderConfig, rows: int, slots: int, dtype: jnp.dtype) -> "KVCache":
        """An empty cache of `slots` slots for `rows` rows."""
        shape = (rows, config.kv_heads, slots, config.head_dim)
        k, v = (tuple(jnp.zeros(shape, dtype) for _ in range(config.layers)) for _ in "kv")
        return cls(k, v, jnp.zeros((rows, slots), bool), jnp.int32(0))

    @property
    def lengths(self) -> Int[Array, "B"]:
        """How many tokens each row holds, which is the position of its next one."""
        return self.valid.sum(1, dtype=jnp.int32)

    def repeat(self, times: int) -> "KVCache":
        """Every row `times` times, one after another."""
        k, v, valid = jax.tree.map(lambda x: jnp.repeat(x, times, axis=0), (self.k, self.v, self.valid))
        return KVCache(k, v, valid, self.end)


class DecoderBlock(nn.Module):
    """One layer. With a cache (its k and v), keys and values are written from slot `end` on and all slots are read."""

    config: DecoderConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BTD, positions_BT, mask, cache=None, end=None):
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
            if cache is not None:
                cache = tuple(
                    jax.lax.dynamic_update_slice_in_dim(old, einops.rearrange(new, "b t k c -> b k t c"), end, axis=2)
                    for old, new in zip(cache, (k_BTKC, v_BTKC))
                )
                k_BTKC, v_BTKC = (einops.rearrange(x, "b k s c -> b s k c") for x in cache)
            out = attend(q_BTHC, k_BTKC, v_BTKC, mask).reshape(B, T, H * C)
            x_BTD = x_BTD + Linear(D, ("heads", "embed"), False, self.dtype, name="o")(out)
        with jax.named_scope("mlp"):
            y = RMSNorm(cfg.rms_eps, name="post_attention_norm")(x_BTD)
            gate = Linear(cfg.ffn, ("embed", "mlp"), False, self.dtype, name="gate")(y)
            up = Linear(cfg.ffn, ("embed", "mlp"), False, self.dtype, name="up")(y)
            x_BTD = x_BTD + Linear(D, ("mlp", "embed"), False, self.dtype, name="down")(jax.nn.silu(gate) * up)
        return x_BTD, cache


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
    scan_layers: bool = True

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
        if self.scan_layers:
            block = nn.remat(DecoderBlock, prevent_cse=False) if self.remat == "full" else DecoderBlock
            self.layers = nn.scan(
                block,
                variable_axes={"params": 0},
                split_rngs={"params": True},
                in_axes=nn.broadcast,
                length=cfg.layers,
                metadata_params={nn.PARTITION_NAME: "layers"},
            )(cfg, self.dtype)
        else:
            self.layers = [DecoderBlock(cfg, self.dtype) for _ in range(cfg.layers)]
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
        for layers in (self.layers,) if self.scan_layers else self.layers:
            x_BTD, _ = layers(x_BTD, positions_BT, mask)
        return self.norm(x_BTD)

    def extend(
        self, x_BTD: Float[Array, "B T D"], valid_BT: Bool[Array, "B T"], cache: KVCache
    ) -> tuple[Float[Array, "B T D"], KVCache]:
        """Continues each row of `cache` by its valid tokens (prefill: many; decoding: one) and returns hidden states.

        Layers that are scanned have no cache: build the model with `scan_layers=False`.

        Args:
          x_BTD: embeddings.
          valid_BT: True where a token is real; the others take a slot too, but no token ever sees it.
          cache: what came before, with T free slots.
        """
        T = x_BTD.shape[1]
        positions = cache.lengths[:, None] + jnp.maximum(jnp.cumsum(valid_BT, axis=1) - 1, 0)
        valid_BS = jax.lax.dynamic_update_slice_in_dim(cache.valid, valid_BT, cache.end, axis=1)
        earlier_TS = jnp.arange(valid_BS.shape[1]) <= cache.end + jnp.arange(T)[:, None]
        mask = valid_BS[:, None] & earlier_TS
        written = []
        for block, *entry in zip(self.layers, cache.k, cache.v):
            x_BTD, entry = block(x_BTD, positions, mask, entry, cache.end)
            written.append(entry)
        return self.norm(x_BTD), KVCache(*zip(*written), valid_BS, cache.end + T)


def unstack_layers(params: Any, layers: int) -> Any:
    """A decoder's parameters as it has them with `scan_layers=False`: those of each layer by themselves."""
    apart = {f"layers_{i}": jax.tree.map(lambda x, i=i: x[i], params["layers"]) for i in range(layers)}
    return {name: x for name, x in params.items() if name != "layers"} | apart
