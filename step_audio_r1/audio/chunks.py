"""Clips to 25 s chunks, and how many frames, keys and tokens a chunk becomes: section 2 of the reference."""

from collections.abc import Iterator
from typing import Literal

import numpy as np

from step_audio_r1.audio.blocks import cut
from step_audio_r1.audio.clip import AudioClip
from step_audio_r1.audio.logmel import APPENDED, HOP, SAMPLE_RATE
from step_audio_r1.audio.read import AudioStream
from step_audio_r1.audio.resample import resample_blocks
from step_audio_r1.errors import BadInput

CHUNK_SECONDS = 25
CHUNK_SAMPLES = CHUNK_SECONDS * SAMPLE_RATE
MIN_SAMPLES = 321  # fewer make no audio token under the "hf" count

# The two released front ends mask differently and so differ by one token for a quarter of all lengths.
TokenCount = Literal["hf", "vllm"]


def chunks(clip: AudioClip, drop_short_tail: bool = True) -> list[np.ndarray]:
    """The clip at 16 kHz, cut every 400 000 samples (25 s) after resampling, as the HF path does.

    Args:
      clip: waveform f32[n] at any rate.
      drop_short_tail: leave out a last chunk under 321 samples (20 ms). The released code keeps it and
        renders an empty audio block.

    Returns:
      A list of f32[L] with L <= 400 000; all but the last are exactly that.

    Raises:
      BadInput: the clip is empty, or so short that nothing is left of it.
    """
    return list(stream_chunks(clip, drop_short_tail))


def stream_chunks(sound: AudioClip | AudioStream, drop_short_tail: bool = True) -> Iterator[np.ndarray]:
    """The chunks of `chunks`, one at a time: of an `AudioStream` only the one at hand is in memory.

    Args:
      sound: at any rate, of any length.
      drop_short_tail: as in `chunks`.

    Yields:
      f32[L] with L <= 400 000; all but the last are exactly that.

    Raises:
      BadInput: as `chunks`, at the first step; and what reading an `AudioStream` raises, which may come after good
        chunks: use nothing of a recording before its last chunk has come.
    """
    samples, heard = 0, False
    resampled = resample_blocks(sound.blocks(), sound.sample_rate, SAMPLE_RATE)
    for chunk in cut(resampled, CHUNK_SAMPLES):
        samples = len(chunk)
        if samples >= MIN_SAMPLES or not drop_short_tail:
            heard = True
            yield chunk
    if not heard:
        length = f"{samples} samples at 16 kHz"
        raise BadInput(f"{sound.id}: {length} make no audio token; give at least {MIN_SAMPLES} (20 ms)")


def mel_frames(samples: int) -> int:
    """Mel frames F (100 Hz) of a chunk of `samples` at 16 kHz."""
    return (samples + APPENDED) // HOP


def valid_keys(mel_frames: int, token_count: TokenCount = "hf") -> int:
    """Frames K (50 Hz, after the encoder's strided convolution) that attention may look at."""
    return (_unmasked(mel_frames, token_count) + 1) // 2


def encoder_frames(mel_frames: int, token_count: TokenCount = "hf") -> int:
    """Encoder frames S (25 Hz, after its pooling) that hold sound."""
    return valid_keys(mel_frames, token_count) // 2


def audio_tokens(samples: int, token_count: TokenCount = "hf") -> int:
    """Audio slots A (12.5 Hz, after the adaptor) that a chunk of `samples` at 16 kHz takes in the prompt.

    Args:
      samples: L >= 1.
      token_count: "hf" as the Transformers code counts, (L + 959) // 1280; "vllm" as vLLM does,
        ceil(L / 1280). The same value must go to `valid_keys`, for the encoder's mask.

    Raises:
      ValueError: another `token_count`.
    """
    # The adaptor's convolution: kernel 3, stride 2, one zero at either end.
    return (encoder_frames(mel_frames(samples), token_count) + 2 * 1 - 3) // 2 + 1


def _unmasked(mel_frames: int, token_count: TokenCount) -> int:
    if token_count not in ("hf", "vllm"):
        raise ValueError(f'token_count is "hf" or "vllm", not {token_count!r}')
    return mel_frames - 2 if token_count == "hf" else mel_frames
