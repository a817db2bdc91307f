"""What a clip of the audio world holds, as labels: sampled from a seed before any sound is made.

A truth is a plain JSON dict, so that it can travel in records:
  speech:      {"domain": "speech", "words": [...], "word_emotion": e, "pitch": low|high, "rate": slow|fast,
                "loudness": soft|loud, "emotion": e}
  environment: {"domain": "environment", "events": [{"kind": k, "loudness": soft|loud}, ...]}   (in order of time)
  music:       {"domain": "music", "timbre": t, "notes": [level, ...]}
"""

from typing import Any

import numpy as np

CLIP_SECONDS = 3.2
DOMAINS = ("speech", "environment", "music")
SPLITS = ("train", "validation", "test", "probe")

SUBJECTS = ("i", "we", "they")
DETERMINERS = ("the", "this", "my")
OBJECTS = ("day", "dog", "car", "house", "song", "town")
# What a reader of the words alone would take the speaker to feel.
VERB_EMOTION = {
    "love": "happy",
    "enjoy": "happy",
    "understand": "happy",
    "miss": "sad",
    "mourn": "sad",
    "hate": "angry",
    "despise": "angry",
    "fear": "afraid",
    "dread": "afraid",
}
# What the voice tells: (pitch, rate) -> emotion. It is independent of the words.
VOICE_EMOTION = {
    ("high", "fast"): "happy",
    ("low", "slow"): "sad",
    ("low", "fast"): "angry",
    ("high", "slow"): "afraid",
}
EMOTIONS = ("happy", "sad", "angry", "afraid")
PITCHES = ("low", "high")
RATES = ("slow", "fast")
LOUDNESSES = ("soft", "loud")
EVENT_KINDS = ("beep", "burst", "siren", "click", "hum", "chirp")
# World knowledge of someone who never listens: how loud such a thing usually is. In the clips it is independent.
STEREOTYPE_LOUD = ("siren", "burst", "beep")
LEVELS = ("bottom", "low", "mid", "high", "top")
TIMBRES = ("flute", "organ", "pluck")
# The project's canonical sentence (irritation behind an agreement): its words occur in training, the sentence never.
SHORT_SUBJECTS = ("we", "they")
PROBE_WORDS = ("okay", "i", "understand")


# Seeds of the splits. The test clips were drawn anew, from 4 instead of 2, after choices of the recipe had been made in
# the light of results on the old ones; choices are made on validation.
_STREAMS = {"train": 0, "validation": 1, "test": 4, "probe": 3}


def rng_for(split: str, index: int, purpose: int = 0) -> np.random.Generator:
    """The generator of clip `index` of `split`; splits never share a stream. `purpose` separates labels from sound."""
    return np.random.default_rng(np.random.SeedSequence([0xA0D10, _STREAMS[split], index, purpose]))


def clip_id(split: str, index: int) -> str:
    """Name of a clip, e.g. "train-000012"."""
    return f"{split}-{index:06d}"


def sample_truth(split: str, index: int) -> dict[str, Any]:
    """Labels of clip `index` of `split`; a third of the clips falls to each domain, in turn (probe: speech only)."""
    rng = rng_for(split, index)
    domain = "speech" if split == "probe" else DOMAINS[index % 3]
    if domain == "speech":
        return _sample_speech(rng, split)
    if domain == "environment":
        kinds = rng.choice(EVENT_KINDS, size=rng.integers(3, 6))
        return {
            "domain": domain,
            "events": [{"kind": str(kind), "loudness": str(rng.choice(LOUDNESSES))} for kind in kinds],
        }
    notes = rng.choice(LEVELS, size=rng.integers(4, 7))
    return {"domain": domain, "timbre": str(rng.choice(TIMBRES)), "notes": [str(n) for n in notes]}


def _sample_speech(rng: np.random.Generator, split: str) -> dict[str, Any]:
    pitch, rate, loudness = (str(rng.choice(names)) for names in (PITCHES, RATES, LOUDNESSES))
    if split == "probe":
        words = list(PROBE_WORDS)
    else:
        parts = [SUBJECTS, tuple(VERB_EMOTION), DETERMINERS, OBJECTS]
        words = [str(rng.choice(options)) for options in parts]
        if rng.random() < 0.25:
            words = ["okay", *words]
        if rng.random() < 0.12:
            # Short agreements, so that the probe sentence is new by its words and not by its form.
            words = ["okay", str(rng.choice(SHORT_SUBJECTS)), "understand"]
    verb = next(word for word in words if word in VERB_EMOTION)
    return {
        "domain": "speech",
        "words": words,
        "word_emotion": VERB_EMOTION[verb],
        "pitch": pitch,
        "rate": rate,
        "loudness": loudness,
        "emotion": VOICE_EMOTION[pitch, rate],
    }
