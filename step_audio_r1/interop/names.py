"""Our parameter paths and the public Step-Audio tensor names: one table, both ways.

Public names and shapes are those of the Step-Audio-2-mini / Step-Audio-R1 module tree in PyTorch. Ours are
paths of the Flax tree, where the layers of a scan are stacked on axis 0. A kernel's axes are the public ones
reversed: Linear [out, in] -> [in, out], Conv1d [out, in, width] -> [width, in, out]; the rest is as it is.
"""

import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any

import jax
from flax import linen as nn
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from step_audio_r1.model import ModelConfig, init_params

PARTS = ("encoder", "adaptor", "decoder")

# Ours -> public. "{i}" is the layer: one of our stacked parameters holds that public tensor of every layer.
TABLE = {
    "encoder/conv1/kernel": "encoder.conv1.weight",
    "encoder/conv1/bias": "encoder.conv1.bias",
    "encoder/conv2/kernel": "encoder.conv2.weight",
    "encoder/conv2/bias": "encoder.conv2.bias",
    "encoder/positional_embedding": "encoder.positional_embedding.weight",
    "encoder/blocks/attn_ln/scale": "encoder.blocks.{i}.attn_ln.weight",
    "encoder/blocks/attn_ln/bias": "encoder.blocks.{i}.attn_ln.bias",
    "encoder/blocks/query/kernel": "encoder.blocks.{i}.attn.query.weight",
    "encoder/blocks/query/bias": "encoder.blocks.{i}.attn.query.bias",
    "encoder/blocks/key/kernel": "encoder.blocks.{i}.attn.key.weight",
    "encoder/blocks/value/kernel": "encoder.blocks.{i}.attn.value.weight",
    "encoder/blocks/value/bias": "encoder.blocks.{i}.attn.value.bias",
    "encoder/blocks/out/kernel": "encoder.blocks.{i}.attn.out.weight",
    "encoder/blocks/out/bias": "encoder.blocks.{i}.attn.out.bias",
    "encoder/blocks/mlp_ln/scale": "encoder.blocks.{i}.mlp_ln.weight",
    "encoder/blocks/mlp_ln/bias": "encoder.blocks.{i}.mlp_ln.bias",
    "encoder/blocks/fc1/kernel": "encoder.blocks.{i}.mlp.0.weight",
    "encoder/blocks/fc1/bias": "encoder.blocks.{i}.mlp.0.bias",
    "encoder/blocks/fc2/kernel": "encoder.blocks.{i}.mlp.2.weight",
    "encoder/blocks/fc2/bias": "encoder.blocks.{i}.mlp.2.bias",
    "encoder/after_norm/scale": "encoder.after_norm.weight",
    "encoder/after_norm/bias": "encoder.after_norm.bias",
    "adaptor/conv/kernel": "adapter.conv.weight",
    "adaptor/conv/bias": "adapter.conv.bias",
    "adaptor/linear1/kernel": "adapter.linear1.weight",
    "adaptor/linear1/bias": "adapter.linear1.bias",
    "adaptor/linear2/kernel": "adapter.linear2.weight",
    "adaptor/linear2/bias": "adapter.linear2.bias",
    "decoder/embedding": "model.embed_tokens.weight",
    "decoder/layers/input_norm/scale": "model.layers.{i}.input_layernorm.weight",
    "decoder/layers/q/kernel": "model.layers.{i}.self_attn.q_proj.weight",
    "decoder/layers/q/bias": "model.layers.{i}.self_attn.q_proj.bias",
    "decoder/layers/k/kernel": "model.layers.{i}.self_attn.k_proj.weight",
    "decoder/layers/k/bias": "model.layers.{i}.self_attn.k_proj.bias",
    "decoder/layers/v/kernel": "model.layers.{i}.self_attn.v_proj.weight",
    "decoder/layers/v/bias": "model.layers.{i}.self_attn.v_proj.bias",
    "decoder/layers/o/kernel": "model.layers.{i}.self_attn.o_proj.weight",
    "decoder/layers/post_attention_norm/scale": "model.layers.{i}.post_attention_layernorm.weight",
    "decoder/layers/gate/kernel": "model.layers.{i}.mlp.gate_proj.weight",
    "decoder/layers/up/kernel": "model.layers.{i}.mlp.up_proj.weight",
    "decoder/layers/down/kernel": "model.layers.{i}.mlp.down_proj.weight",
    "decoder/norm/scale": "model.norm.weight",
    "decoder/head/kernel": "lm_head.weight",
}

# The serving fork of vLLM and Qwen2-Audio nest the decoder under this name.
_NESTED = "language_model."

# Qwen2-Audio's encoder is the same network under other names (transformers, modeling_qwen2_audio.py).
_TOWER = re.compile(r"(?:model\.)?audio_tower\.(?:layers\.(?P<layer>\d+)\.)?(?P<module>.+)\.(?P<leaf>weight|bias)")
_TOWER_MODULES = {
    "conv1": "conv1",
    "conv2": "conv2",
    "embed_positions": "positional_embedding",
    "layer_norm": "after_norm",
}
_TOWER_LAYER_MODULES = {
    "self_attn.q_proj": "attn.query",
    "self_attn.k_proj": "attn.key",
    "self_attn.v_proj": "attn.value",
    "self_attn.out_proj": "attn.out",
    "self_attn_layer_norm": "attn_ln",
    "fc1": "mlp.0",
    "fc2": "mlp.2",
    "final_layer_norm": "mlp_ln",
}


@dataclasses.dataclass(frozen=True)
class Entry:
    """One of our parameters and where its values are in the public files.

    Attributes:
      path: ours, e.g. "decoder/layers/q/kernel".
      shape: ours, with the layer axis if stacked.
      names: public tensor names, one a layer if stacked, else one.
      stacked: whether axis 0 is the layer.
      reversed: whether the axes (of one layer) are the public ones reversed.
    """

    path: str
    shape: tuple[int, ...]
    names: tuple[str, ...]
    stacked: bool
    reversed: bool

    @property
    def part(self) -> str:
        """encoder, adaptor or decoder."""
        return self.path.split("/", 1)[0]

    def leaf_of(self, tree: Mapping[str, Any]) -> Any:
        """What `tree` ({part: nested dicts}) has at this path. Raises KeyError if nothing."""
        return functools.reduce(lambda node, key: node[key], self.path.split("/"), tree)

    @property
    def public_shape(self) -> tuple[int, ...]:
        """Shape of each public tensor."""
        shape = self.shape[1:] if self.stacked else self.shape
        return shape[::-1] if self.reversed else shape


@functools.lru_cache(maxsize=8)
def entries(config: ModelConfig) -> tuple[Entry, ...]:
    """The whole table for a model of these sizes, in the order of `TABLE`; a tied model has no `lm_head`."""
    abstract = nn.unbox(jax.eval_shape(lambda: init_params(config, jax.random.key(0))))
    shapes = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(abstract)
    }
    layers = {"encoder": config.encoder.layers, "decoder": config.decoder.layers}
    out = []
    for path, name in TABLE.items():
        if path not in shapes:
            continue
        stacked = "{i}" in name
        count = layers[path.split("/", 1)[0]] if stacked else 1
        names = tuple(name.format(i=i) for i in range(count))
        out.append(Entry(path, shapes[path], names, stacked, path.endswith("/kernel")))
    return tuple(out)


def part_of(name: str) -> str | None:
    """The part a public tensor belongs to; None if its name is of no known part."""
    first = plain_name(name).split(".", 1)[0]
    return {"encoder": "encoder", "adapter": "adaptor", "model": "decoder", "lm_head": "decoder"}.get(first)


def plain_name(name: str) -> str:
    """A public name as Step-Audio's own files write it; names of no known dialect come back unchanged."""
    tower = _TOWER.fullmatch(name)
    if tower is None:
        return name.removeprefix(_NESTED)
    layer, module, leaf = tower.group("layer", "module", "leaf")
    known = (_TOWER_MODULES if layer is None else _TOWER_LAYER_MODULES).get(module)
    if known is None:
        return name
    return f"encoder.{known}.{leaf}" if layer is None else f"encoder.blocks.{layer}.{known}.{leaf}"


def public_sharding(entry: Entry, sharding: Sharding | None) -> NamedSharding | None:
    """Where a public tensor has to be, so that turning it into ours, or back, moves nothing between devices."""
    if not isinstance(sharding, NamedSharding):
        return None
    axes = [*sharding.spec, *[None] * (len(entry.shape) - len(sharding.spec))]
    axes = axes[1:] if entry.stacked else axes
    return NamedSharding(sharding.mesh, PartitionSpec(*(axes[::-1] if entry.reversed else axes)))
