"""AudioClip: the one form in which sound crosses rooms before it becomes a log-mel."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class AudioClip:
    """Mono sound in memory; `AudioStream` is the same for a file of any length.

    Attributes:
      waveform: f32[n] samples, nominally in [-1, 1].
      sample_rate: samples a second (Hz).
      id: name for messages and records: a path, or the id of a record.
    """

    waveform: np.ndarray
    sample_rate: int
    id: str

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.waveform) / self.sample_rate

    def blocks(self) -> Iterator[np.ndarray]:
        """The waveform in blocks: here in one."""
        yield np.asarray(self.waveform, np.float32)
