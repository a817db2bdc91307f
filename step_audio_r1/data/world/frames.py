"""Log-mels of world clips with the labels of their frames, for pre-training an encoder.

Free of JAX, because worker processes import it.
"""

import os

import numpy as np

from step_audio_r1.audio import log_mel
from step_audio_r1.data.workers import map_in_workers
from step_audio_r1.data.world.clips import (
    CONTENT_CLASSES,
    LOUDNESS_CLASSES,
    PITCH_CLASSES,
    RATE_CLASSES,
    make_clip,
)
from step_audio_r1.errors import BadInput
from step_audio_r1.progress import Progress

# Label -> its classes; the order of the labels' axis.
HEADS = {
    "content": CONTENT_CLASSES,
    "pitch": PITCH_CLASSES,
    "loudness": LOUDNESS_CLASSES,
    "rate": RATE_CLASSES,
}


def make_frames(split: str, clips: int, mel_bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Log-mels f16[clips, F, M] and frame labels int8[clips, 4, S] of a split."""
    if clips < 1:
        raise BadInput(f"config.world.{split}={clips}: the encoder stage needs clips")
    with Progress(f"make {split} frames", clips, "clip") as progress:
        out = []
        tasks = [(split, i, mel_bins) for i in range(clips)]
        for item in map_in_workers(_frames_of, tasks, workers=os.cpu_count() or 1):
            out.append(item)
            progress.advance()
    mels, labels = zip(*out)
    return np.stack(mels), np.stack(labels)


def _frames_of(task: tuple[str, int, int]) -> tuple[np.ndarray, np.ndarray]:
    split, index, mel_bins = task
    clip, _, labels = make_clip(split, index)
    mel = log_mel(clip.waveform, n_mels=mel_bins).astype(np.float16)
    return mel, np.stack([getattr(labels, name) for name in HEADS])
