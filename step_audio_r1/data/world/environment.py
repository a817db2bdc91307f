"""Sound events of the environment domain: six kinds that differ in spectrum or rhythm, each soft or loud."""

from collections.abc import Callable

import numpy as np
from scipy import signal

from step_audio_r1.data.world.speech import SAMPLE_RATE
from step_audio_r1.data.world.truth import EVENT_KINDS
from step_audio_r1.errors import BadInput

EVENT_RMS = {"soft": 0.025, "loud": 0.1}
EVENT_SECONDS = (0.30, 0.45)

_FADE_SECONDS = 0.01


def _beep(time_s: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.sin(2 * np.pi * 1000 * time_s + _phase(rng))


def _burst(time_s: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal(len(time_s))


def _siren(time_s: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    # The phase is the integral of 700 + 250 sin(2 pi 3 t) Hz.
    return np.sin(2 * np.pi * 700 * time_s - 250 / 3 * np.cos(2 * np.pi * 3 * time_s + _phase(rng)))


def _click(time_s: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    # A ring of a few ms, not one sample: a single sample of the same RMS would overload the clip.
    since_click = time_s % 0.05
    return np.exp(-since_click / 0.004) * np.sin(2 * np.pi * 1800 * since_click)


def _hum(time_s: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return sum(np.sin(2 * np.pi * 120 * n * time_s + _phase(rng)) / n for n in range(1, 7))


def _chirp(time_s: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return signal.chirp(time_s % 0.1, f0=2000, t1=0.1, f1=4500)


def _phase(rng: np.random.Generator) -> float:
    return rng.uniform(0, 2 * np.pi)


_MAKERS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "beep": _beep,
    "burst": _burst,
    "siren": _siren,
    "click": _click,
    "hum": _hum,
    "chirp": _chirp,
}


def make_event(kind: str, loudness: str, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """One sound event.

    Args:
      kind: one of EVENT_KINDS.
      loudness: "soft" or "loud": RMS .025 or .1 over the whole event.
      seconds: how long it lasts.
      rng: draws phases and noise.

    Returns:
      f32[n] samples at 16 kHz, faded in and out over 10 ms.

    Raises:
      BadInput: an unknown kind or loudness.
    """
    if kind not in _MAKERS:
        raise BadInput(f"event kind {kind!r}: must be one of {', '.join(EVENT_KINDS)}")
    if loudness not in EVENT_RMS:
        raise BadInput(f"event loudness {loudness!r}: must be one of {', '.join(EVENT_RMS)}")
    time_s = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    sound = _MAKERS[kind](time_s, rng)
    fade = np.linspace(0, 1, round(_FADE_SECONDS * SAMPLE_RATE))
    sound[: len(fade)] *= fade
    sound[-len(fade) :] *= fade[::-1]
    return (sound * (EVENT_RMS[loudness] / np.sqrt(np.mean(sound**2)))).astype(np.float32)
