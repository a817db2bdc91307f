"""Sound that passes by in blocks: f32[n] arrays of any length, one after another."""

from collections.abc import Iterable, Iterator

import numpy as np


def cut(blocks: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The same samples in pieces of exactly `size`; only the last may be shorter. Pieces are copies."""
    held, count = [], 0
    for block in blocks:
        while count + len(block) >= size:
            head, block = block[: size - count], block[size - count :]
            yield np.concatenate([*held, head])
            held, count = [], 0
        held.append(block)
        count += len(block)
    if count:
        yield np.concatenate(held)
