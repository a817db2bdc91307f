"""Parameters to and from safetensors files in the public layout, a tensor at a time."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from step_audio_r1.errors import BadInput, WorkFailed
from step_audio_r1.files import atomic_path, read_json, write_json
from step_audio_r1.interop.hf_config import to_public
from step_audio_r1.interop.names import PARTS, Entry, entries, part_of, plain_name
from step_audio_r1.model import ModelConfig

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
GIB = 2**30
_STORED = ("F64", "F32", "F16", "BF16")


class _Tensor(NamedTuple):
    """A public tensor in an open file."""

    file: Path
    handle: Any
    name: str  # as written in the file


def export_params(
    params: Mapping[str, Any],
    config: ModelConfig,
    destination: Path | str,
    parts: Sequence[str] = PARTS,
    dtype: str = "bfloat16",
    max_shard_bytes: int = 4 * GIB,
) -> None:
    """Writes parameters under their public names; host memory holds one shard at a time.

    Args:
      params: {part: tree} without boxes. Leaves are arrays this process can read, or anything with a shape
        that gives layer i as leaf[i] and all of it by np.asarray.
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
    chosen = _chosen(config, parts)
    if dtype not in ("float32", "bfloat16", "float16"):
        raise BadInput(f"dtype={dtype!r}: expected float32, bfloat16 or float16")
    leaves = {entry.path: _leaf(params, entry) for entry in chosen}
    single_file = destination.suffix == ".safetensors"
    shards = _plan(chosen, jnp.dtype(dtype).itemsize, None if single_file else max_shard_bytes)
    if single_file:
        with atomic_path(destination) as work:
            _write(work, shards[0], leaves, dtype)
        return
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise BadInput(f"{destination}: exists and is not an empty directory; give a new one")
    with atomic_path(destination) as work:
        work.mkdir()
        weight_map, total = {}, 0
        for number, shard in enumerate(shards, 1):
            name = SINGLE if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
            total += _write(work / name, shard, leaves, dtype)
            weight_map.update({tensor: name for _, _, tensor in shard})
        if len(shards) > 1:
            write_json(work / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})
        write_json(work / "config.json", to_public(config, dtype))


def import_params(
    source: Path | str,
    config: ModelConfig,
    parts: Sequence[str] = PARTS,
    shardings: Mapping[str, Any] | None = None,
    dtype: str = "float32",
) -> dict[str, Any]:
    """Reads parameters written under public names into our scanned layout, one parameter at a time.

    Args:
      source: a .safetensors file, or a directory with model.safetensors or an index and its shards. Tensors
        of known parts that are not asked for are left alone.
      config: the sizes they must have.
      parts: which parts to read.
      shardings: {part: tree of shardings} (`train.state.param_shardings`); each device then reads only its
        own slice of the files. None: whole, on the default device.
      dtype: of the result.

    Returns:
      {part: nested dicts of arrays}.

    Raises:
      BadInput: a file is missing, damaged or not safetensors; a tensor is missing, mis-shaped, unknown,
        doubled, or stored in a type that is not floating point.
    """
    source = Path(source)
    chosen = _chosen(config, parts)
    with contextlib.ExitStack() as stack:
        tensors = _open_all(source, stack)
        _check(source, tensors, chosen, parts)
        out: dict[str, Any] = {}
        for entry in chosen:
            *parents, last = entry.path.split("/")
            node = out
            for name in parents:
                node = node.setdefault(name, {})
            sharding = None if shardings is None else _at(shardings, entry.path)
            node[last] = _read(entry, tensors, sharding, dtype)
    return out


def _chosen(config: ModelConfig, parts: Sequence[str]) -> list[Entry]:
    for part in parts:
        if part not in PARTS:
            raise BadInput(f"parts: {part!r} is unknown; expected some of {', '.join(PARTS)}")
    return [entry for entry in entries(config) if entry.part in parts]


def _at(tree: Mapping[str, Any], path: str) -> Any:
    for name in path.split("/"):
        tree = tree[name]
    return tree


def _leaf(params: Mapping[str, Any], entry: Entry) -> Any:
    try:
        leaf = _at(params, entry.path)
    except KeyError:
        raise BadInput(f"parameters: {entry.path} is missing; are they of this model config?") from None
    if tuple(leaf.shape) != entry.shape:
        raise BadInput(f"parameters: {entry.path} has shape {tuple(leaf.shape)}, expected {entry.shape}")
    return leaf


_Item = tuple[Entry, int, str]  # the parameter, the layer, the public name


def _plan(chosen: Sequence[Entry], itemsize: int, limit: int | None) -> list[list[_Item]]:
    """Public tensors in order, cut into shards of at most `limit` bytes."""
    shards: list[list[_Item]] = [[]]
    filled = 0
    for entry in chosen:
        size = int(np.prod(entry.public_shape)) * itemsize
        for layer, name in enumerate(entry.names):
            if limit is not None and shards[-1] and filled + size > limit:
                shards.append([])
                filled = 0
            shards[-1].append((entry, layer, name))
            filled += size
    return shards


def _write(path: Path, shard: Sequence[_Item], leaves: Mapping[str, Any], dtype: str) -> int:
    """Writes one file; returns the bytes of its tensors."""
    tensors = {}
    for entry, layer, name in shard:
        leaf = leaves[entry.path]
        array = np.asarray(leaf[layer] if entry.stacked else leaf)
        with np.errstate(over="ignore"):  # an overflow to infinity is found below
            array = array.astype(jnp.dtype(dtype))
        if not np.isfinite(array.astype(np.float32)).all():
            raise WorkFailed(f"{entry.path}: has values that are not finite in {dtype}; nothing was written")
        tensors[name] = np.ascontiguousarray(array.T if entry.reversed else array)
    try:
        save_file(tensors, path, metadata={"format": "pt"})
    except SafetensorError as error:
        raise WorkFailed(f"{path.name}: could not be written: {_line(error)}") from error
    return sum(x.nbytes for x in tensors.values())


def _files(source: Path) -> list[Path]:
    """The safetensors files that make up `source`."""
    if not source.exists():
        raise BadInput(f"{source}: no such file or directory; give a .safetensors file or its directory")
    if not source.is_dir():
        return [source]
    if not (source / INDEX).exists():
        if not (source / SINGLE).exists():
            raise BadInput(f"{source}: has neither {SINGLE} nor {INDEX}; is it a checkpoint directory?")
        return [source / SINGLE]
    index = read_json(source / INDEX)
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise BadInput(f"{source / INDEX}: has no weight_map; the file is damaged or of another kind")
    names = set(weight_map.values())
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise BadInput(f"{source / INDEX}: {name!r} is not the name of a file beside it")
    return [source / name for name in sorted(names)]


def _open_all(source: Path, stack: contextlib.ExitStack) -> dict[str, _Tensor]:
    """Opens every file (memory-mapped) and lists its tensors by public name."""
    tensors: dict[str, _Tensor] = {}
    for file in _files(source):
        try:
            handle = stack.enter_context(safe_open(file, framework="np"))
            names = list(handle.keys())
        except SafetensorError as error:
            raise BadInput(
                f"{file}: truncated, damaged or not a safetensors file ({_line(error)}); copy it again"
            ) from error
        except OSError as error:
            reason = error.strerror or _line(error)
            raise BadInput(f"{file}: cannot be read: {reason}; is the checkpoint complete?") from error
        for name in names:
            plain = plain_name(name)
            if plain in tensors:
                raise BadInput(f"{file}: tensor {plain} is also in {tensors[plain].file}; keep one of them")
            tensors[plain] = _Tensor(file, handle, name)
    return tensors


def _check(source: Path, tensors: Mapping[str, _Tensor], chosen: Sequence[Entry], parts: Sequence[str]) -> None:
    """Compares names, shapes and types with the table before anything is read."""
    expected = {name: entry.public_shape for entry in chosen for name in entry.names}
    missing = [name for name in expected if name not in tensors]
    if missing:
        name, shape = missing[0], list(expected[missing[0]])
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise BadInput(f"{source}: tensor {name} of shape {shape} is missing{more}; is the config right?")
    for name, tensor in tensors.items():
        part = part_of(name)
        if part is None or (part in parts and name not in expected):
            raise BadInput(f"{tensor.file}: tensor {tensor.name} is unknown; is the config right?")
        if name in expected:
            header = tensor.handle.get_slice(tensor.name)
            shape, kind = tuple(header.get_shape()), header.get_dtype()
            where = f"{tensor.file}: tensor {tensor.name}"
            if shape != expected[name]:
                raise BadInput(f"{where} has shape {list(shape)}, expected {list(expected[name])}")
            if kind not in _STORED:
                raise BadInput(f"{where} is stored as {kind}; expected {', '.join(_STORED)}")


def _read(entry: Entry, tensors: Mapping[str, _Tensor], sharding: Any, dtype: str) -> jax.Array:
    """One parameter, placed; only the slices that this process's devices hold are read."""
    kind = jnp.dtype(dtype)

    def region(index: tuple[slice, ...]) -> np.ndarray:
        index = tuple(slice(*s.indices(n)) for s, n in zip(index, entry.shape))
        inner = index[1:] if entry.stacked else index
        layers = range(len(entry.names))[index[0]] if entry.stacked else range(1)
        out = np.empty([s.stop - s.start for s in index], kind)
        for at, layer in enumerate(layers):
            values = _slice(tensors[entry.names[layer]], inner[::-1] if entry.reversed else inner)
            target = out[at] if entry.stacked else out
            target[...] = values.T if entry.reversed else values
        return out

    if sharding is None:
        return jax.device_put(region((slice(None),) * len(entry.shape)))
    return jax.make_array_from_callback(entry.shape, sharding, region)


def _slice(tensor: _Tensor, index: tuple[slice, ...]) -> np.ndarray:
    try:
        return tensor.handle.get_slice(tensor.name)[index]
    except SafetensorError as error:
        raise BadInput(f"{tensor.file}: tensor {tensor.name} cannot be read: {_line(error)}") from error


def public_tensors(config: ModelConfig, parts: Sequence[str] = PARTS) -> Iterator[tuple[str, tuple[int, ...]]]:
    """(public name, shape) of every tensor of these parts, in the order they are written."""
    for entry in _chosen(config, parts):
        for name in entry.names:
            yield name, entry.public_shape


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
