"""A truth becomes a clip: 3.2 s of sound, and what each 40 ms frame of it holds.

Everything is a function of (split, index): one random stream decides what happens, another how it sounds.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from step_audio_r1.audio import AudioClip
from step_audio_r1.data.world import truth as world
from step_audio_r1.data.world.environment import EVENT_SECONDS, make_event
from step_audio_r1.data.world.music import make_note
from step_audio_r1.data.world.speech import SAMPLE_RATE, speak
from step_audio_r1.errors import BadInput

CLIP_SAMPLES = round(world.CLIP_SECONDS * SAMPLE_RATE)
FRAMES_PER_SECOND = 25
CLIP_FRAMES = round(world.CLIP_SECONDS * FRAMES_PER_SECOND)

WORDS = tuple(sorted({*world.SUBJECTS, *world.VERB_EMOTION, *world.DETERMINERS, *world.OBJECTS, *world.PROBE_WORDS}))
CONTENT_CLASSES = ("silence", *WORDS, *world.EVENT_KINDS, *world.TIMBRES)
PITCH_CLASSES = ("none", "voice low", "voice high", *world.LEVELS)
LOUDNESS_CLASSES = ("none", *world.LOUDNESSES)
RATE_CLASSES = ("none", *world.RATES)

# espeak settings behind each label (half-open ranges of integers), and the RMS of the spoken part.
VOICE_PITCH = {"low": (8, 29), "high": (72, 96)}
VOICE_RATE_WPM = {"slow": (105, 131), "fast": (210, 251)}
VOICE_RMS = {"soft": 0.025, "loud": 0.1}

_FIELDS = {
    "speech": ("words", "pitch", "rate", "loudness"),
    "environment": ("events",),
    "music": ("timbre", "notes"),
}
_GAIN_DB = 1.5
_NOISE_LOG10_RMS = (-3.2, -2.3)
_MARGIN_SECONDS = 0.05
# Two equal events or notes in a row must be heard, and labelled, as two: the gap is longer than one frame.
_GAP_SAMPLES = round(0.06 * SAMPLE_RATE)
_SHORTEST_NOTE_SECONDS = 0.2


@dataclass(frozen=True, eq=False)
class FrameLabels:
    """What each frame of a clip holds, on the encoder's 25 Hz grid.

    Frame s covers [s / 25, (s + 1) / 25) seconds and carries the label of its centre. All arrays are int8[S],
    S = 80.

    Attributes:
      content: index into CONTENT_CLASSES: silence, a word, an event kind or a timbre.
      pitch: index into PITCH_CLASSES: of the voice or of the note; none elsewhere.
      loudness: index into LOUDNESS_CLASSES: of speech and events; none in music and silence.
      rate: index into RATE_CLASSES: of speech; none elsewhere.
    """

    content: np.ndarray
    pitch: np.ndarray
    loudness: np.ndarray
    rate: np.ndarray


class _Part(NamedTuple):
    """One labelled stretch of a clip: a word, an event or a note; times in seconds."""

    start: float
    end: float
    content: str
    pitch: str = "none"
    loudness: str = "none"
    rate: str = "none"


def make_clip(split: str, index: int) -> tuple[AudioClip, dict[str, Any], FrameLabels]:
    """Clip `index` of `split`: its sound, its truth and its frame labels.

    The same arguments give the same bytes, in any process and in any order.

    Returns:
      AudioClip with waveform f32[51200] in [-1, 1] at 16 kHz; the truth of `sample_truth`; labels int8[80].

    Raises:
      WorkFailed: espeak-ng cannot be loaded (speech only).
    """
    truth = world.sample_truth(split, index)
    waveform, labels = synthesise(truth, world.rng_for(split, index, purpose=1))
    return AudioClip(waveform, SAMPLE_RATE, world.clip_id(split, index)), truth, labels


def synthesise(truth: dict[str, Any], rng: np.random.Generator) -> tuple[np.ndarray, FrameLabels]:
    """Makes the sound of a truth, sampled or written by hand.

    Args:
      truth: a dict as in `truth.py`. Of speech only words, pitch, rate and loudness are read.
      rng: draws all that the truth leaves open: exact pitch, tempo, offsets, tuning, gain and noise floor.

    Returns:
      f32[51200] samples at 16 kHz in [-1, 1], and the labels, int8[80] each.

    Raises:
      BadInput: the truth names something that the world does not have, or does not fit into 3.2 s.
      WorkFailed: espeak-ng cannot be loaded (speech only).
    """
    domain = truth.get("domain")
    if domain not in _FIELDS:
        raise BadInput(f"domain {domain!r}: must be one of {', '.join(world.DOMAINS)}")
    missing = [field for field in _FIELDS[domain] if field not in truth]
    if missing:
        raise BadInput(f"truth of a {domain} clip: has no {missing[0]!r}; it needs {', '.join(_FIELDS[domain])}")
    waveform = np.zeros(CLIP_SAMPLES, np.float32)
    if domain == "speech":
        parts = _add_speech(waveform, truth, rng)
    elif domain == "environment":
        parts = _add_events(waveform, truth["events"], rng)
    else:
        parts = _add_notes(waveform, truth["notes"], truth["timbre"], rng)
    waveform *= np.float32(10 ** (rng.uniform(-_GAIN_DB, _GAIN_DB) / 20))
    noise_rms = np.float32(10 ** rng.uniform(*_NOISE_LOG10_RMS))
    waveform += noise_rms * rng.standard_normal(CLIP_SAMPLES, dtype=np.float32)
    return np.clip(waveform, -1, 1), _frame_labels(parts)


def _add_speech(waveform: np.ndarray, truth: dict[str, Any], rng: np.random.Generator) -> list[_Part]:
    for field, choices in (("pitch", VOICE_PITCH), ("rate", VOICE_RATE_WPM), ("loudness", VOICE_RMS)):
        if truth[field] not in choices:
            raise BadInput(f"speech {field} {truth[field]!r}: must be one of {', '.join(choices)}")
    unknown = [word for word in truth["words"] if word not in WORDS]
    if unknown:
        raise BadInput(f"speech word {unknown[0]!r}: not in the world's vocabulary of {len(WORDS)} words")
    pitch = int(rng.integers(*VOICE_PITCH[truth["pitch"]]))
    rate_wpm = int(rng.integers(*VOICE_RATE_WPM[truth["rate"]]))
    sound, times = speak(truth["words"], pitch, rate_wpm)
    spare_s = world.CLIP_SECONDS - len(sound) / SAMPLE_RATE - 2 * _MARGIN_SECONDS
    if spare_s < 0:
        raise BadInput(f"speech of {len(truth['words'])} words: does not fit into {world.CLIP_SECONDS} s")
    start = round((_MARGIN_SECONDS + rng.uniform(0, spare_s)) * SAMPLE_RATE)
    sound *= np.float32(VOICE_RMS[truth["loudness"]] / np.sqrt(np.mean(sound**2)))
    waveform[start : start + len(sound)] += sound
    offset_s = start / SAMPLE_RATE
    voice = (f"voice {truth['pitch']}", truth["loudness"], truth["rate"])
    return [_Part(offset_s + begin, offset_s + end, word, *voice) for word, begin, end in times]


def _add_events(waveform: np.ndarray, events: list[dict[str, str]], rng: np.random.Generator) -> list[_Part]:
    room = _slot_samples(len(events), EVENT_SECONDS[1], "events") - _GAP_SAMPLES
    parts = []
    for number, event in enumerate(events):
        sound = make_event(event["kind"], event["loudness"], rng.uniform(*EVENT_SECONDS), rng)
        start = number * (room + _GAP_SAMPLES) + int(rng.integers(room - len(sound) + 1))
        waveform[start : start + len(sound)] += sound
        end_s = (start + len(sound)) / SAMPLE_RATE
        parts.append(_Part(start / SAMPLE_RATE, end_s, event["kind"], loudness=event["loudness"]))
    return parts


def _add_notes(waveform: np.ndarray, notes: list[str], timbre: str, rng: np.random.Generator) -> list[_Part]:
    room = _slot_samples(len(notes), _SHORTEST_NOTE_SECONDS, "notes") - _GAP_SAMPLES
    parts = []
    for number, level in enumerate(notes):
        seconds = rng.uniform(0.8, 1.0) * room / SAMPLE_RATE
        sound = make_note(level, timbre, seconds, rng)
        start = number * (room + _GAP_SAMPLES) + int(rng.integers(room - len(sound) + 1))
        waveform[start : start + len(sound)] += sound
        parts.append(_Part(start / SAMPLE_RATE, (start + len(sound)) / SAMPLE_RATE, timbre, pitch=level))
    return parts


def _slot_samples(count: int, shortest_s: float, what: str) -> int:
    """Samples of each of `count` equal slots, a gap included; BadInput if there are none or too many."""
    most = int(CLIP_SAMPLES / (shortest_s * SAMPLE_RATE + _GAP_SAMPLES))
    if not 0 < count <= most:
        raise BadInput(f"{count} {what}: a clip holds 1 to {most}")
    return CLIP_SAMPLES // count


def _frame_labels(parts: list[_Part]) -> FrameLabels:
    centre_s = (np.arange(CLIP_FRAMES) + 0.5) / FRAMES_PER_SECOND
    tracks = {}
    for field, classes in (
        ("content", CONTENT_CLASSES),
        ("pitch", PITCH_CLASSES),
        ("loudness", LOUDNESS_CLASSES),
        ("rate", RATE_CLASSES),
    ):
        track = np.zeros(CLIP_FRAMES, np.int8)
        for part in parts:
            track[(centre_s >= part.start) & (centre_s < part.end)] = classes.index(getattr(part, field))
        # A label beyond the classes would train to NaN without a word.
        assert track.min() >= 0 and track.max() < len(classes), field
        tracks[field] = track
    return FrameLabels(**tracks)
