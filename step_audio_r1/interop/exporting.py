"""Our parameters, and tensors of other checkpoints, to safetensors files in the public layout."""

import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from step_audio_r1.errors import BadInput, WorkFailed
from step_audio_r1.files import atomic_path, write_json
from step_audio_r1.interop.names import PARTS, Entry, public_sharding
from step_audio_r1.interop.public_config import to_public
from step_audio_r1.interop.source import INDEX, SINGLE, chosen_entries
from step_audio_r1.interop.tensor_files import CODES, DTYPES, FileTensor, Outgoing, row_blocks, write_file
from step_audio_r1.model import ModelConfig
from step_audio_r1.progress import Progress

MIB = 2**20
SHARD_BYTES = 4096 * MIB


def export_params(
    params: Mapping[str, Any],
    config: ModelConfig,
    destination: Path | str,
    parts: Sequence[str] = PARTS,
    dtype: str = "bfloat16",
    max_shard_bytes: int = SHARD_BYTES,
) -> None:
    """Writes parameters under their public names; the host holds a block of one tensor at a time.

    Args:
      params: {part: tree} without boxes.
      config: their sizes.
      destination: a new (or empty) directory for model.safetensors, or its shards with an index, and
        config.json; or a file whose name ends in ".safetensors", which gets all tensors and no config.
      parts: which parts to write.
      dtype: float32, bfloat16 or float16.
      max_shard_bytes: largest shard, unless a single tensor is larger.

    Raises:
      BadInput: the directory has files already, a part or dtype is unknown, or the parameters are not of
        `config`.
      WorkFailed: a value is not finite in `dtype`, or the files cannot be written.
    """
    destination = Path(destination)
    tensors = outgoing_params(params, config, parts, lambda _: dtype)
    if destination.suffix == ".safetensors":
        with atomic_path(destination) as work:
            write_file(work, tensors)
        return
    with new_directory(destination) as work:
        write_shards(work, tensors, max_shard_bytes)
        write_json(work / "config.json", to_public(config, dtype))


def new_directory(path: Path):
    """`atomic_path` for a directory that must be new or empty.

    Raises:
      BadInput: it has files already, or cannot be put in place by a rename.
    """
    path = path.resolve()  # a link to an empty directory elsewhere means that directory
    if path == Path.cwd() or os.path.ismount(path):
        raise BadInput(f"{path}: is where this command runs, or a whole file system; give a new directory in it")
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise BadInput(f"{path}: exists and is not an empty directory; give a new one")
    return atomic_path(path)


def outgoing_params(
    params: Mapping[str, Any], config: ModelConfig, parts: Sequence[str], dtype_of: Callable[[str], str]
) -> list[Outgoing]:
    """Parameters as public tensors; `dtype_of` names the type that a public tensor shall be stored in.

    Raises:
      BadInput: they are not of `config`, or a type is none that checkpoints come in.
    """
    out = []
    for entry in chosen_entries(config, parts):
        leaf = _leaf(params, entry)
        for layer, name in enumerate(entry.names):
            code = _code(dtype_of(name))
            blocks = functools.partial(_array_blocks, leaf, entry, layer, code)
            out.append(Outgoing(name, code, entry.public_shape, blocks))
    return out


def outgoing_file(tensor: FileTensor, name: str, dtype: str | None = None) -> Outgoing:
    """A tensor of another checkpoint under `name`; byte for byte, or cast to `dtype`."""
    code = tensor.code if dtype is None else _code(dtype)
    blocks = tensor.blocks if code == tensor.code else functools.partial(_cast_blocks, tensor, code)
    return Outgoing(name, code, tensor.shape, blocks)


def _code(dtype: str) -> str:
    if dtype not in CODES:
        raise BadInput(f"dtype={dtype!r}: expected {', '.join(CODES)}")
    return CODES[dtype]


def write_shards(directory: Path, tensors: Sequence[Outgoing], max_shard_bytes: int = SHARD_BYTES) -> None:
    """Makes `directory` (if need be) and writes model.safetensors, or several shards and their index.

    On several hosts all of them call this together, and the first one writes.
    """
    writes = jax.process_index() == 0
    shards = _shards(tensors, max_shard_bytes)
    directory.mkdir(exist_ok=True)
    weight_map: dict[str, str] = {}
    total = sum(tensor.bytes for tensor in tensors)
    with Progress(f"write {directory.name}", total // MIB, "MiB") as progress:
        written = 0

        def count(size: int) -> None:
            nonlocal written
            written += size
            progress.advance(written // MIB - progress.done)

        for number, shard in enumerate(shards, 1):
            name = SINGLE if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
            write_file(directory / name, shard, writes=writes, written=count)
            weight_map.update({tensor.name: name for tensor in shard})
    if len(shards) > 1 and writes:
        write_json(directory / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def _shards(tensors: Sequence[Outgoing], limit: int) -> list[list[Outgoing]]:
    shards: list[list[Outgoing]] = [[]]
    filled = 0
    for tensor in tensors:
        if shards[-1] and filled + tensor.bytes > limit:
            shards.append([])
            filled = 0
        shards[-1].append(tensor)
        filled += tensor.bytes
    return shards


def _leaf(params: Mapping[str, Any], entry: Entry) -> Any:
    try:
        leaf = entry.leaf_of(params)
    except KeyError:
        raise BadInput(f"parameters: {entry.path} is missing; are they of this model config?") from None
    if tuple(leaf.shape) != entry.shape:
        raise BadInput(f"parameters: {entry.path} has shape {tuple(leaf.shape)}, expected {entry.shape}")
    return leaf


def _array_blocks(leaf: jax.Array, entry: Entry, layer: int, code: str) -> Iterator[np.ndarray]:
    """Row blocks of one public tensor: turned and cast where the parameter lives, then fetched."""
    dtype = DTYPES[code]
    where = public_sharding(entry, getattr(leaf, "sharding", None))
    tensor = _public_tensor(leaf, layer, entry.stacked, entry.reversed, dtype, where)
    if not tensor.is_fully_addressable:
        # Other hosts hold parts of it: whole on every device, each of them can read it.
        tensor = jax.jit(lambda x: x, out_shardings=NamedSharding(where.mesh, PartitionSpec()))(tensor)
    # Equal regions are fetched once.
    shards = {str(shard.index): shard for shard in tensor.addressable_shards}.values()
    parts = [(tuple(s.indices(n)[:2] for s, n in zip(x.index, tensor.shape)), np.asarray(x.data)) for x in shards]
    for first, last in row_blocks(entry.public_shape, dtype.itemsize):
        block = np.empty((last - first, *entry.public_shape[1:]), dtype)
        for region, values in parts:
            (low, high), *rest = region
            begin, end = max(low, first), min(high, last)
            if begin < end:
                block[(slice(begin - first, end - first), *(slice(*r) for r in rest))] = values[begin - low : end - low]
        yield _finite(block, entry.path)


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5))
def _public_tensor(leaf, layer, stacked, reverse, dtype, where):
    tensor = jax.lax.dynamic_index_in_dim(leaf, layer, 0, keepdims=False) if stacked else leaf
    tensor = tensor.astype(dtype).T if reverse else tensor.astype(dtype)
    return tensor if where is None else jax.lax.with_sharding_constraint(tensor, where)


def _cast_blocks(tensor: FileTensor, code: str) -> Iterator[np.ndarray]:
    for block in tensor.blocks():
        with np.errstate(over="ignore"):  # an overflow to infinity is found
            yield _finite(block.astype(DTYPES[code]), tensor.name)


def _finite(block: np.ndarray, name: str) -> np.ndarray:
    if not np.isfinite(block.astype(np.float32)).all():
        raise WorkFailed(f"{name}: has values that are not finite in {block.dtype.name}; nothing was written")
    return block
