"""Public tensors into our parameters, straight to the devices that hold them."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from step_audio_r1.interop.names import PARTS, Entry, public_sharding
from step_audio_r1.interop.source import chosen_entries, read_tensors
from step_audio_r1.interop.tensor_files import FileTensor, row_blocks
from step_audio_r1.model import ModelConfig
from step_audio_r1.progress import Progress


def import_params(
    source: Path | str,
    config: ModelConfig,
    parts: Sequence[str] = PARTS,
    shardings: Mapping[str, Any] | None = None,
    dtype: str = "float32",
) -> dict[str, Any]:
    """Reads a checkpoint in the public layout into our scanned layout, one public tensor at a time.

    The host holds what its devices need of one public tensor, as it is stored; layers are stacked, turned and cast on
    the devices. On several hosts all of them call this together.

    Args:
      source: see `read_tensors`.
      config: the sizes they must have.
      parts: which parts to read.
      shardings: {part: tree of NamedShardings} (`train.param_shardings`). None: whole, on the default device.
      dtype: of the result.

    Returns:
      {part: nested dicts of arrays}.

    Raises:
      BadInput: see `read_tensors`; nothing is placed before all names, shapes and types have been checked.
    """
    tensors = read_tensors(source, config, parts)
    out: dict[str, Any] = {}
    with Progress(f"read {Path(source).name}", len(tensors), "tensor", brief=True) as progress:
        for entry in chosen_entries(config, parts):
            *parents, last = entry.path.split("/")
            node = out
            for name in parents:
                node = node.setdefault(name, {})
            sharding = None if shardings is None else entry.leaf_of(shardings)
            own = [tensors[name] for name in entry.names]
            node[last] = _place(entry, own, sharding, jnp.dtype(dtype), progress)
    return out


def _place(
    entry: Entry,
    tensors: Sequence[FileTensor],
    sharding: NamedSharding | None,
    dtype: jnp.dtype,
    progress: Progress,
) -> jax.Array:
    """One parameter."""
    where = public_sharding(entry, sharding)
    if not entry.stacked:
        progress.advance()
        return _turned(_on_devices(tensors[0], where), entry.reversed, dtype, sharding)
    stack = jnp.zeros(entry.shape, dtype, device=sharding)
    for layer, tensor in enumerate(tensors):
        stack = _inserted(stack, _on_devices(tensor, where), layer, entry.reversed, sharding)
        # Dispatch runs ahead of the transfers; without this, so would the copies on the host.
        jax.block_until_ready(stack)
        progress.advance()
    return stack


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _turned(tensor, reverse, dtype, sharding):
    tensor = (tensor.T if reverse else tensor).astype(dtype)
    return tensor if sharding is None else jax.lax.with_sharding_constraint(tensor, sharding)


# The stack is filled in place.
@functools.partial(jax.jit, static_argnums=(3, 4), donate_argnums=0)
def _inserted(stack, tensor, layer, reverse, sharding):
    layer_values = (tensor.T if reverse else tensor).astype(stack.dtype)
    stack = jax.lax.dynamic_update_index_in_dim(stack, layer_values, layer, 0)
    return stack if sharding is None else jax.lax.with_sharding_constraint(stack, sharding)


def _on_devices(tensor: FileTensor, sharding: NamedSharding | None) -> jax.Array:
    """A public tensor in its stored type; each region is read once for all local devices that hold it."""
    if sharding is None:
        return jax.device_put(_regions(tensor, [tuple((0, n) for n in tensor.shape)])[0])
    places: dict[tuple[tuple[int, int], ...], list[jax.Device]] = {}
    for device, index in sharding.addressable_devices_indices_map(tensor.shape).items():
        region = tuple(s.indices(n)[:2] for s, n in zip(index, tensor.shape))
        places.setdefault(region, []).append(device)
    values = _regions(tensor, list(places))
    shards = [jax.device_put(x, d) for x, devices in zip(values, places.values()) for d in devices]
    return jax.make_array_from_single_device_arrays(tensor.shape, sharding, shards)


def _regions(tensor: FileTensor, regions: Sequence[tuple[tuple[int, int], ...]]) -> list[np.ndarray]:
    """Values of several regions ((first, last) along each axis), in one pass over the rows they need."""
    if len(regions) == 1 and regions[0][1:] == tuple((0, n) for n in tensor.shape[1:]):
        return [tensor.rows(*regions[0][0])]  # whole rows, as they stand in the file
    out = [np.empty([b - a for a, b in region], tensor.dtype) for region in regions]
    low, high = min(r[0][0] for r in regions), max(r[0][1] for r in regions)
    for first, last in row_blocks((high - low, *tensor.shape[1:]), tensor.dtype.itemsize):
        first, last = low + first, low + last
        block = tensor.rows(first, last)
        for values, ((a, b), *rest) in zip(out, regions):
            begin, end = max(a, first), min(b, last)
            if begin < end:
                values[begin - a : end - a] = block[(slice(begin - first, end - first), *(slice(*r) for r in rest))]
    return out
