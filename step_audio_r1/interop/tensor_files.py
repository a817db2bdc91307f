"""safetensors files, a block of rows at a time: whoever reads or writes a tensor never holds the whole file.

The library's own reader maps files into memory, and its writer wants all tensors at once; both would let a process grow
to the size of the checkpoint. The format is eight bytes of header length, a JSON header, then the tensors' bytes
(github.com/huggingface/safetensors, "Format"). The library still judges whether a file is sound.
"""

import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from step_audio_r1.errors import BadInput

# The types that public checkpoints come in, by their name in the format.
DTYPES = {"F32": jnp.dtype("float32"), "BF16": jnp.dtype("bfloat16"), "F16": jnp.dtype("float16")}
CODES = {dtype.name: code for code, dtype in DTYPES.items()}
BLOCK_BYTES = 64 * 2**20
_LONGEST_HEADER = 100 * 10**6  # the format's own limit


@dataclass(frozen=True)
class FileTensor:
    """A tensor in a safetensors file.

    Attributes:
      file: where it is.
      name: what the file calls it.
      code: its type, a key of `DTYPES` (or another, which `interop` refuses).
      shape: in the public orientation.
      start: byte offset of its values in the file.
    """

    file: Path
    name: str
    code: str
    shape: tuple[int, ...]
    start: int

    @property
    def dtype(self) -> np.dtype:
        """NumPy type of its values."""
        return DTYPES[self.code]

    def rows(self, first: int, last: int) -> np.ndarray:
        """Rows [first, last) of axis 0, read into new memory.

        Raises:
          BadInput: the file ends before them or cannot be read.
        """
        out = np.empty((last - first, *self.shape[1:]), self.dtype)
        row = math.prod(self.shape[1:]) * self.dtype.itemsize
        try:
            with open(self.file, "rb", buffering=0) as file:
                file.seek(self.start + first * row)
                _fill(file, out.reshape(-1).view(np.uint8))
        except OSError as error:
            raise BadInput(f"{self.file}: tensor {self.name} cannot be read: {error.strerror or error}") from error
        return out

    def blocks(self) -> Iterator[np.ndarray]:
        """All rows in order, in blocks of at most `BLOCK_BYTES` (one row at least)."""
        for first, last in row_blocks(self.shape, self.dtype.itemsize):
            yield self.rows(first, last)


def _fill(file: Any, target: np.ndarray) -> None:
    view, done = memoryview(target), 0
    while done < len(view):
        count = file.readinto(view[done:])
        if not count:
            raise OSError(f"the file ends {len(view) - done} bytes too early")
        done += count


def row_blocks(shape: Sequence[int], itemsize: int) -> Iterator[tuple[int, int]]:
    """Cuts axis 0 of a tensor into runs [first, last) of at most `BLOCK_BYTES` (one row at least)."""
    step = max(1, BLOCK_BYTES // max(1, math.prod(shape[1:]) * itemsize))
    for first in range(0, shape[0], step):
        yield first, min(first + step, shape[0])


def read_header(path: Path) -> dict[str, FileTensor]:
    """The tensors of a safetensors file by name; nothing but the header is read.

    Raises:
      BadInput: the file cannot be read, is no safetensors file, or is cut short (the tensor that is cut is named).
    """
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            start = file.read(8)
            length = int.from_bytes(start, "little")
            text = file.read(length) if length <= min(size, _LONGEST_HEADER) else b""
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = getattr(error, "strerror", None) or str(error)
        raise BadInput(f"{path}: cannot be read: {reason}; is the checkpoint complete?") from error
    try:
        header = json.loads(text)
        tensors = [_entry(path, name, item, 8 + length) for name, item in header.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if start == b"version ":  # a Git LFS pointer
            raise BadInput(f"{path}: only points to the file; fetch it with `git lfs pull`") from error
        raise BadInput(f"{path}: truncated, damaged or not a safetensors file; copy it again") from error
    for tensor, stop in tensors:
        if stop > size:
            raise BadInput(
                f"{path}: truncated: tensor {tensor.name} is expected to end at byte {stop}, but the file has "
                f"{size}; copy it again"
            )
    try:
        with safe_open(path, framework="np"):
            pass
    except (SafetensorError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise BadInput(f"{path}: damaged or not a safetensors file ({reason}); copy it again") from error
    return {tensor.name: tensor for tensor, _ in tensors}


def _entry(path: Path, name: str, item: dict[str, Any], data: int) -> tuple[FileTensor, int]:
    start, stop = item["data_offsets"]
    return FileTensor(path, name, item["dtype"], tuple(item["shape"]), data + start), data + stop


@dataclass(frozen=True)
class Outgoing:
    """A tensor to be written.

    Attributes:
      name, code, shape: as in `FileTensor`; the code is one of `DTYPES`.
      blocks: gives its values as arrays of the right type, row blocks in order.
    """

    name: str
    code: str
    shape: tuple[int, ...]
    blocks: Callable[[], Iterator[np.ndarray]]

    @property
    def dtype(self) -> np.dtype:
        """NumPy type of its values."""
        return DTYPES[self.code]

    @property
    def bytes(self) -> int:
        """Size of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


def write_file(
    path: Path,
    tensors: Sequence[Outgoing],
    *,
    writes: bool = True,
    written: Callable[[int], None] = lambda size: None,
) -> None:
    """Writes a safetensors file, a block at a time.

    Args:
      path: a new file.
      tensors: in any order.
      writes: False only takes the blocks and drops them: arrays that live on several hosts are fetched by all of them
        together, but one host writes.
      written: called with the bytes of each block when it is out.
    """
    # Wide types first: then every tensor is aligned to its own width.
    ordered = sorted(tensors, key=lambda tensor: -tensor.dtype.itemsize)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}  # transformers refuses files without it
    at = 0
    for tensor in ordered:
        offsets = [at, at + tensor.bytes]
        header[tensor.name] = {"dtype": tensor.code, "shape": list(tensor.shape), "data_offsets": offsets}
        at += tensor.bytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path if writes else os.devnull, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in ordered:
            for block in tensor.blocks():
                if writes:
                    file.write(memoryview(np.ascontiguousarray(block).reshape(-1).view(np.uint8)))
                written(block.nbytes)
