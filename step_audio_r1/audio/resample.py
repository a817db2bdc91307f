"""Resampling as torchaudio does by default, written out."""

from functools import lru_cache
from math import ceil, gcd

import numpy as np
from jaxtyping import Float
from scipy.signal import upfirdn

LOWPASS_FILTER_WIDTH = 6  # zero crossings of the sinc on either side
ROLLOFF = 0.99  # cut-off as a share of the lower Nyquist frequency


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
    common = gcd(source_rate, target_rate)
    old, new = source_rate // common, target_rate // common
    if old == new or len(waveform) == 0:
        return np.asarray(waveform, np.float32)
    kernel, skip = _kernel(old, new)
    # upfirdn is the polyphase form: of each kernel only the taps that meet a sample are multiplied.
    filtered = upfirdn(kernel, np.asarray(waveform, np.float32), up=new, down=old)
    return filtered[skip : skip + ceil(new * len(waveform) / old)]


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
