"""Notes of the music domain: five pitch levels in three timbres that differ in harmonics and in envelope."""

import numpy as np
from scipy import signal

from step_audio_r1.data.world.speech import SAMPLE_RATE
from step_audio_r1.data.world.truth import LEVELS, TIMBRES
from step_audio_r1.errors import BadInput

LEVEL_HZ = dict(zip(LEVELS, (220.0, 293.7, 392.0, 523.3, 698.5), strict=True))
# Players are never quite in tune; the levels lie 33 % apart, so this cannot confuse two of them.
DETUNE = 0.02

_NOTE_RMS = (0.06, 0.12)
_ORGAN_HARMONICS = {1: 1.0, 2: 0.8, 3: 0.6, 4: 0.5, 6: 0.4, 8: 0.3}
_PLUCK_HARMONICS = 8


def make_note(level: str, timbre: str, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """One note.

    Args:
      level: one of LEVELS; its frequency is LEVEL_HZ within 2 %.
      timbre: one of TIMBRES: flute (nearly pure, breathy, soft onset), organ (many steady harmonics), pluck
        (sharp onset, high harmonics die first).
      seconds: how long it lasts, at least 0.1.
      rng: draws tuning, loudness (RMS .06 to .12 over the note), phases and breath.

    Returns:
      f32[n] samples at 16 kHz.

    Raises:
      BadInput: an unknown level or timbre.
    """
    if level not in LEVEL_HZ:
        raise BadInput(f"note level {level!r}: must be one of {', '.join(LEVELS)}")
    if timbre not in TIMBRES:
        raise BadInput(f"timbre {timbre!r}: must be one of {', '.join(TIMBRES)}")
    hertz = LEVEL_HZ[level] * rng.uniform(1 - DETUNE, 1 + DETUNE)
    loudness = rng.uniform(*_NOTE_RMS)
    time_s = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    if timbre == "flute":
        breath = signal.lfilter([0.3, -0.3], [1, -0.4], rng.standard_normal(len(time_s)))
        sound = _partial(time_s, hertz, rng) + 0.08 * _partial(time_s, 2 * hertz, rng) + 0.12 * breath
        attack_s, release_s = 0.06, 0.05
    elif timbre == "organ":
        sound = sum(share * _partial(time_s, n * hertz, rng) for n, share in _ORGAN_HARMONICS.items())
        attack_s, release_s = 0.015, 0.03
    else:
        sound = sum(
            np.exp(-time_s * (3 + 2.5 * n)) * _partial(time_s, n * hertz, rng) / n
            for n in range(1, _PLUCK_HARMONICS + 1)
        )
        attack_s, release_s = 0.003, 0.03
    attack, release = round(attack_s * SAMPLE_RATE), round(release_s * SAMPLE_RATE)
    sound[:attack] *= np.linspace(0, 1, attack)
    sound[-release:] *= np.linspace(1, 0, release)
    return (sound * (loudness / np.sqrt(np.mean(sound**2)))).astype(np.float32)


def _partial(time_s: np.ndarray, hertz: float, rng: np.random.Generator) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * time_s + rng.uniform(0, 2 * np.pi))
