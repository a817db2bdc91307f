"""Which mesh axis each logical axis of a parameter lives on: one frozen table for training, one for decoding."""

import dataclasses
from typing import Any

import jax
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from step_audio_r1.errors import BadInput


@dataclasses.dataclass(frozen=True)
class Rules:
    """Field = logical axis of a parameter (see model/layers.py), value = mesh axis or None (whole on every device)."""

    layers: str | None = None
    vocab: str | None = "tensor"
    embed: str | None = "fsdp"
    heads: str | None = "tensor"
    kv_heads: str | None = "tensor"
    mlp: str | None = "tensor"
    encoder_in: str | None = None
    encoder: str | None = "fsdp"

    def spec(self, names: tuple[str | None, ...]) -> PartitionSpec:
        """Translates logical names to mesh axes.

        Raises:
          BadInput: a mesh axis would be used twice.
        """
        axes = [None if name is None else getattr(self, name) for name in names]
        used = [axis for axis in axes if axis is not None]
        if len(used) != len(set(used)):
            raise BadInput(f"sharding rules: {names} -> {tuple(axes)} uses a mesh axis twice; change one of the rules")
        return PartitionSpec(*axes)


TRAINING = Rules()
# Decoding reads all weights for each token: keep them whole along embed instead of gathering them every step.
DECODING = Rules(embed=None, encoder=None)


def shardings(abstract: Any, mesh: Mesh, rules: Rules) -> Any:
    """Shardings for a tree of boxed abstract parameters (or anything optax derives from them).

    An axis that does not divide its dimension is refused.
    """

    def one(leaf: Any) -> NamedSharding:
        if not isinstance(leaf, nn.LogicallyPartitioned):
            return NamedSharding(mesh, PartitionSpec())
        spec = rules.spec(leaf.names)
        for size, axis, name in zip(leaf.value.shape, spec, leaf.names):
            if axis is not None and size % mesh.shape[axis]:
                raise BadInput(
                    f"config.mesh.{axis}={mesh.shape[axis]} does not divide the {name} axis of size {size}; "
                    f"use a divisor of {size}"
                )
        return NamedSharding(mesh, spec)

    return jax.tree.map(one, abstract, is_leaf=lambda x: isinstance(x, nn.LogicallyPartitioned))
