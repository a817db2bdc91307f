"""What is asked about a clip of the audio world: ten families, each with one true answer.

A *content* family can be answered from a caption alone; a *perceptual* one needs the sound.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from step_audio_r1.data.records import Kind
from step_audio_r1.data.world import truth as world

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")
ORDINALS = ("second", "third", "last")
NOTHING = "nothing"
YES_NO = ("yes", "no")


@dataclass(frozen=True)
class Family:
    """A kind of question: where it belongs, how it is phrased and which answers it may have."""

    domain: str
    kind: Kind
    perceptual: bool
    phrasings: tuple[str, str]
    choices: tuple[str, ...]


@dataclass(frozen=True)
class Question:
    """One question about one clip with its true answer; `choices` is the full answer set of its family."""

    family: str
    kind: Kind
    perceptual: bool
    text: str
    answer: str
    choices: tuple[str, ...]


# A clip has at most five events and six notes, so a count of them, or of the later notes, ends at five.
_COUNTS = NUMBERS[:6]
FAMILIES = {
    "about": Family(
        "speech",
        "factual",
        False,
        ("what does the speaker talk about", "which thing do the words name"),
        world.OBJECTS,
    ),
    "feel": Family(
        "speech",
        "contextual",
        True,
        ("how does the speaker feel", "what is the feeling in the voice"),
        world.EMOTIONS,
    ),
    "fitting": Family(
        "speech",
        "normative",
        True,
        ("does the voice fit the words", "is the tone proper for these words"),
        YES_NO,
    ),
    "nth": Family(
        "environment",
        "procedural",
        False,
        ("which sound comes {ordinal}", "what is the {ordinal} sound"),
        world.EVENT_KINDS,
    ),
    "nloud": Family(
        "environment",
        "factual",
        True,
        ("how many sounds are loud", "what is the number of loud sounds"),
        _COUNTS,
    ),
    "nearer": Family(
        "environment",
        "contextual",
        True,
        ("is the sound coming nearer", "does the sound move towards you"),
        YES_NO,
    ),
    "cause": Family(
        "environment",
        "causal",
        True,
        ("what woke the baby", "which sound broke the quiet"),
        (*world.EVENT_KINDS, NOTHING),
    ),
    "timbre": Family(
        "music",
        "factual",
        False,
        ("which instrument plays", "what is the instrument"),
        world.TIMBRES,
    ),
    "above": Family(
        "music",
        "factual",
        True,
        ("how many notes are above the first", "what is the number of notes above the first"),
        _COUNTS,
    ),
    "peak": Family(
        "music",
        "procedural",
        True,
        ("which note is the highest", "where is the peak of the notes"),
        NUMBERS[1:],
    ),
}


def questions_for(truth: dict[str, Any], rng: np.random.Generator) -> list[Question]:
    """One question of every family that fits the clip, each in one of its two phrasings picked by `rng`.

    A sentence without an object (the probe words) has no `about` question.
    """
    questions = []
    for name, family in FAMILIES.items():
        if family.domain != truth["domain"] or (name == "about" and object_of(truth) is None):
            continue
        text = family.phrasings[rng.integers(2)]
        if "{ordinal}" in text:
            text = text.format(ordinal=ORDINALS[rng.integers(len(ORDINALS))])
        questions.append(
            Question(name, family.kind, family.perceptual, text, true_answer(name, truth, text), family.choices)
        )
    return questions


def true_answer(family: str, truth: dict[str, Any], text: str) -> str:
    """The answer that the labels give; `text` is the question, which for `nth` says which sound is meant."""
    match family:
        case "about":
            return object_of(truth)
        case "feel":
            return truth["emotion"]
        case "fitting":
            return YES_NO[truth["emotion"] != truth["word_emotion"]]
        case "nth":
            return truth["events"][asked_position(text, len(truth["events"]))]["kind"]
        case "nloud":
            return NUMBERS[sum(is_loud(event) for event in truth["events"])]
        case "nearer":
            first, *_, last = truth["events"]
            return YES_NO[is_loud(first) or not is_loud(last)]
        case "cause":
            return next((event["kind"] for event in truth["events"] if is_loud(event)), NOTHING)
        case "timbre":
            return truth["timbre"]
        case "above":
            first, *later = heights(truth)
            return NUMBERS[sum(height > first for height in later)]
        case "peak":
            return NUMBERS[1 + first_highest(heights(truth))]
    raise ValueError(f"no family of questions is called {family!r}")


def object_of(truth: dict[str, Any]) -> str | None:
    """The thing that the sentence names, or None."""
    return next((word for word in truth["words"] if word in world.OBJECTS), None)


def asked_position(text: str, n_events: int) -> int:
    """Index of the event that an `nth` question asks for."""
    ordinal = next(word for word in text.split() if word in ORDINALS)
    return {"second": 1, "third": 2, "last": n_events - 1}[ordinal]


def is_loud(event: dict[str, str]) -> bool:
    """Whether the event is a loud one."""
    return event["loudness"] == "loud"


def heights(truth: dict[str, Any]) -> list[int]:
    """The notes as numbers, higher for a higher pitch."""
    return [world.LEVELS.index(note) for note in truth["notes"]]


def first_highest(values: list[int]) -> int:
    """Index of the greatest value, the first one among equals."""
    return values.index(max(values))
