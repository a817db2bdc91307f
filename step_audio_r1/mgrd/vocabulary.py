"""The words of measurable statements: where they stand in a text, and what a value means beside the word it is said of.

The terms are in vocabulary.json, as regular expressions: English ones are whole words, Chinese ones stand anywhere.
"""

import functools
import json
import re
from dataclasses import dataclass
from importlib import resources
from typing import Literal, get_args

StatementKind = Literal[
    "pitch",
    "pitch_contour",
    "pitch_relation",
    "loudness",
    "loudness_change",
    "loudness_relation",
    "tempo",
    "speech_rate",
    "event_count",
    "event_order",
    "duration",
    "duration_relation",
    "pause",
    "silence",
    "brightness",
    "brightness_relation",
]
STATEMENT_KINDS = get_args(StatementKind)

Reading = tuple[StatementKind, str]
# What a value means, by the word that governs it; what the table lacks is no statement.
_ANYTHING = ("voice", "sound", "tune", "music", "clip")
_HIGH: dict[str, Reading] = {
    "loudness": ("loudness", "loud"),
    "tempo": ("tempo", "fast"),
    "rate": ("speech_rate", "fast"),
    "brightness": ("brightness", "bright"),
}
_LOW: dict[str, Reading] = {
    "loudness": ("loudness", "soft"),
    "tempo": ("tempo", "slow"),
    "rate": ("speech_rate", "slow"),
    "brightness": ("brightness", "dark"),
}
READINGS: dict[str, dict[str, Reading]] = {
    "high": {**dict.fromkeys(("pitch", "tune", "voice", "sound"), ("pitch", "high")), **_HIGH},
    "low": {**dict.fromkeys(("pitch", "tune", "voice", "sound"), ("pitch", "low")), **_LOW},
    # 声音高 may mean loud as well as high.
    "high of quantity": {"pitch": ("pitch", "high"), **_HIGH},
    "low of quantity": {"pitch": ("pitch", "low"), **_LOW},
    "loud": dict.fromkeys(("loudness", *_ANYTHING), ("loudness", "loud")),
    "soft": dict.fromkeys(("loudness", *_ANYTHING), ("loudness", "soft")),
    "large": {"loudness": ("loudness", "loud")},
    "small": {"loudness": ("loudness", "soft")},
    "fast": {
        **dict.fromkeys(("tempo", "music"), ("tempo", "fast")),
        **dict.fromkeys(("rate", "voice"), ("speech_rate", "fast")),
    },
    "slow": {
        **dict.fromkeys(("tempo", "music"), ("tempo", "slow")),
        **dict.fromkeys(("rate", "voice"), ("speech_rate", "slow")),
    },
    "bright": dict.fromkeys(("brightness", *_ANYTHING), ("brightness", "bright")),
    "dark": dict.fromkeys(("brightness", *_ANYTHING), ("brightness", "dark")),
    "rising": {
        **dict.fromkeys(("pitch", "tune"), ("pitch_contour", "rising")),
        "loudness": ("loudness_change", "louder"),
    },
    "falling": {
        **dict.fromkeys(("pitch", "tune"), ("pitch_contour", "falling")),
        "loudness": ("loudness_change", "softer"),
    },
    "flat": {
        **dict.fromkeys(("pitch", "tune"), ("pitch_contour", "flat")),
        "loudness": ("loudness_change", "steady"),
    },
    "wavering": dict.fromkeys(("pitch", "tune"), ("pitch_contour", "wavering")),
}
# Kind, comparative, superlative.
RELATIONS: dict[str, tuple[StatementKind, str, str]] = {
    "high": ("pitch_relation", "higher", "highest"),
    "low": ("pitch_relation", "lower", "lowest"),
    "loud": ("loudness_relation", "louder", "loudest"),
    "soft": ("loudness_relation", "softer", "softest"),
    "long": ("duration_relation", "longer", "longest"),
    "short": ("duration_relation", "shorter", "shortest"),
    "bright": ("brightness_relation", "brighter", "brightest"),
    "dark": ("brightness_relation", "darker", "darkest"),
}
RELATIONS |= {"high of quantity": RELATIONS["high"], "low of quantity": RELATIONS["low"]}
BY_VOLUME = {
    **dict.fromkeys(("high", "high of quantity", "large"), "loud"),
    **dict.fromkeys(("low", "low of quantity", "small"), "soft"),
}
EQUAL: dict[str, StatementKind] = {
    **dict.fromkeys(("loud", "soft", "loudness", "volume", "level", "响"), "loudness_relation"),
    **dict.fromkeys(("high", "low", "pitch", "高"), "pitch_relation"),
    **dict.fromkeys(("long", "short", "length", "duration", "长"), "duration_relation"),
    **dict.fromkeys(("bright", "dark", "brightness", "亮"), "brightness_relation"),
}
ADJECTIVES = ("high", "low", "loud", "soft", "fast", "slow", "bright", "dark", "flat", "large", "small")
GOVERNORS = ("quantity", "source", "sound")


def regex(pattern: str) -> re.Pattern[str]:
    """The pattern, upper and lower case alike, as all of this vocabulary is read."""
    return re.compile(pattern, re.IGNORECASE)


@dataclass(frozen=True)
class Mark:
    """A term of the vocabulary where it stands."""

    start: int
    end: int
    sort: str
    name: str


def find_marks(text: str) -> list[Mark]:
    """Terms of the vocabulary in order; of overlapping ones the first, and the longest of those."""
    found = [
        Mark(m.start(), m.end(), sort, name) for sort, name, pattern in _vocabulary() for m in pattern.finditer(text)
    ]
    marks: list[Mark] = []
    for mark in sorted(found, key=lambda m: (m.start, -m.end, m.sort)):
        if not marks or mark.start >= marks[-1].end:
            marks.append(mark)
    return [m for m in marks if m.sort != "ignored"]


@functools.cache
def _vocabulary() -> tuple[tuple[str, str, re.Pattern[str]], ...]:
    """(sort, name, pattern) of each entry. Terms are regular expressions; English ones are whole words."""
    table = json.loads(resources.files(__package__).joinpath("vocabulary.json").read_text(encoding="utf-8"))
    sorts = {
        "quantities": "quantity",
        "sources": "source",
        "sounds": "sound",
        "values": "value",
        "alone": "alone",
        "comparatives": "comparative",
        "superlatives": "superlative",
        "silences": "silence",
        "refers": "refer",
    }
    entries = [(sort, name, terms) for section, sort in sorts.items() for name, terms in table[section].items()]
    entries += [(sort, sort, table[sort]) for sort in ("elsewhere", "ignored")]
    return tuple((sort, name, regex("|".join(map(_term, terms)))) for sort, name, terms in entries)


def _term(term: str) -> str:
    if any("\u3400" <= c <= "\u9fff" for c in term):
        return term
    return rf"(?<![a-z0-9])(?:{term.replace(' ', chr(92) + 's+')})(?![a-z0-9])"
