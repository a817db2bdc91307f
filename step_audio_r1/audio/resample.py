"""Resampling as torchaudio does by default, written out."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from math import ceil, gcd

import numpy as np
from jaxtyping import Float
from scipy.signal import upfirdn

from step_audio_r1.audio.blocks import cut

LOWPASS_FILTER_WIDTH = 6  # zero crossings of the sinc on either side
ROLLOFF = 0.99  # cut-off as a share of the lower Nyquist frequency
_BLOCK_SAMPLES = 1 << 18  # filtered at a time: long against a kernel at the usual rates, short against memory


def resample(waveform: Float[np.ndarray, "n"], source_rate: int, target_rate: int) -> Float[np.ndarray, "m"]:
    """Band-limited resampling with a Hann-windowed sinc.

    With rates o -> r in lowest terms and b = ROLLOFF * min(o, r), output sample j is

        y[j] = b / o * sum_k x[k] * sinc(u) * cos(pi * u / (2 * W))**2      with u = b * (k / o - j / r)

    over |u| < W = LOWPASS_FILTER_WIDTH, and sinc(u) = sin(pi u) / (pi u). x is zero outside the clip.

    Args:
      waveform: f32[n] samples.
      source_rate: their rate (Hz), positive.
      target_rate: the rate wanted (Hz), positive.

    Returns:
      f32[m] samples, m = ceil(n * target_rate / source_rate); the waveform itself where the rates are equal.

    Source: `torchaudio.functional.resample` at its defaults (sinc_interp_hann, width 6, rolloff 0.99).
    """
    waveform = np.asarray(waveform, np.float32)
    if source_rate == target_rate or len(waveform) == 0:
        return waveform
    return np.concatenate(list(resample_blocks((waveform,), source_rate, target_rate)))


def resample_blocks(blocks: Iterable[np.ndarray], source_rate: int, target_rate: int) -> Iterator[np.ndarray]:
    """`resample` of sound that comes in blocks f32[n]: what it yields, joined, equals the whole resampled at once.

    Every output is the sum of the same products in the same order wherever the blocks end, so they are equal bit for
    bit. Memory is bounded by the kernel, one block and `_BLOCK_SAMPLES`; the blocks yielded are of uneven lengths.
    """
    common = gcd(source_rate, target_rate)
    old, new = source_rate // common, target_rate // common
    if old == new:
        yield from blocks
        return
    kernel, skip = _kernel(old, new)
    # Output j of the filter meets samples k with 0 <= j * old - k * new < len(kernel). `held` begins at sample `start`,
    # a multiple of `old`, so that it begins on an output too; `done` outputs are out, or skipped.
    held, start, done = np.zeros(0, np.float32), 0, skip

    def filtered(stop: int) -> np.ndarray:
        # upfirdn is the polyphase form: of each kernel only the taps that meet a sample are multiplied.
        first = start // old * new
        return upfirdn(kernel, held, up=new, down=old)[done - first : stop - first]

    for block in cut(blocks, _BLOCK_SAMPLES):
        held = np.concatenate([held, block])
        ready = -(-(start + len(held)) * new // old)  # the first output that meets a later sample
        if ready > done:
            yield filtered(ready)
            done = ready
            needed = max(0, (done * old - len(kernel)) // new + 1) // old * old
            held, start = held[needed - start :], needed
    if len(held):
        yield filtered(skip + -(-(start + len(held)) * new // old))


@lru_cache(maxsize=4)
def _kernel(old: int, new: int) -> tuple[np.ndarray, int]:
    """The whole kernel at rate old * new, and how many outputs come before the first sample's own.

    All `new` phases of the kernel are samples of this one curve, every `new`-th tap. Computed in float64.
    """
    base = ROLLOFF * min(old, new)
    half = int(LOWPASS_FILTER_WIDTH * old * new / base)
    # The centre must fall on an output sample: zeros fill up the left wing to a multiple of `old`.
    skip = ceil(half / old)
    u = np.arange(-skip * old, half + 1) * (base / (old * new))
    window = np.cos(np.pi * u / (2 * LOWPASS_FILTER_WIDTH)) ** 2 * (np.abs(u) < LOWPASS_FILTER_WIDTH)
    return (np.sinc(u) * window * (base / old)).astype(np.float32), skip
