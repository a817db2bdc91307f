"""Comparisons: "the second knock is louder than the first", "the longest", "as high as"."""

import re
from collections.abc import Iterator
from itertools import pairwise

from step_audio_r1.mgrd.sentence import PREDICATE, Sentence
from step_audio_r1.mgrd.statement import Statement
from step_audio_r1.mgrd.vocabulary import BY_VOLUME, EQUAL, RELATIONS, Mark, StatementKind, regex

_THAN = regex(r"(?:\s+in\s+(?P<by>pitch|volume|loudness|level|timbre))?\s+than\s+(?:that\s+of\s+)?(?:the\s+|a\s+)?$")
_AS = regex(r"\b(?:as\s+(?P<as>loud|high|long|low|soft|bright|short)\s+as|same\s+(?P<same>pitch|loudness|volume|level"
             r"|length|duration|brightness)\s+as)\s+(?:the\s+)?$")  # fmt: skip
_AS_ZH = regex(r"^(?:的声音|的音)?(?:一样|同样)(?P<as>响|高|长|亮)")


def relations(sentence: Sentence) -> Iterator[Statement]:
    """Superlatives, and comparatives with what they compare."""
    for m in sentence.marks:
        if m.sort == "superlative":
            kind, _, value = _relation(sentence, m, None)
            near = [p for p in sentence.places if p.end <= m.start][-1:]
            behind = [p for p in sentence.places if p.start >= m.end]
            near = near or [p for p in behind if p.sort == "refer"][:1] or behind[:1]
            if near:
                yield from sentence.state(m.start, m.end, kind, value, sentence.place(near[0]))
        elif m.sort in ("comparative", "value"):
            yield from _comparison(sentence, m)


def _comparison(sentence: Sentence, m: Mark) -> Iterator[Statement]:
    before = [p for p in sentence.places if p.end <= m.start]
    behind = next((p for p in sentence.places if p.start >= m.end), None)
    than = behind and _THAN.search(sentence.text[m.end : behind.start])
    if m.sort == "comparative" and than and not than.start() and before:
        kind, value, _ = _relation(sentence, m, than["by"])
        about, other, end = before[-1], behind, behind.end
    elif before and sentence.text[: before[-1].start].endswith("比") and m.start - before[-1].end <= 8:
        if len(before) < 2 or (m.name not in RELATIONS and m.name not in BY_VOLUME):
            return
        kind, value, _ = _relation(sentence, m, None)
        about, other, end = before[-2], before[-1], m.end
    elif m.sort == "comparative" and before and before[-1].sort == "refer" and int(before[-1].name) > 1:
        # "The second is louder" than the one before it.
        if not re.search(r"\bthan\b", sentence.text[m.end : sentence.end]) and PREDICATE.match(sentence.text, m.end):
            kind, value, _ = _relation(sentence, m, None)
            index = int(before[-1].name)
            yield from sentence.state(m.start, m.end, kind, value, index, other=index - 1)
        return
    else:
        return
    yield from sentence.state(m.start, end, kind, value, sentence.place(about), other=sentence.place(other))


def _relation(sentence: Sentence, m: Mark, by: str | None) -> tuple[StatementKind, str, str]:
    governor = sentence.noun_before(m)
    volume = by in ("volume", "loudness", "level") or (by is None and governor and governor.name == "loudness")
    return RELATIONS[BY_VOLUME.get(m.name, m.name) if volume or m.name in ("large", "small") else m.name]


def equals(sentence: Sentence) -> Iterator[Statement]:
    """Equality: "the second is as loud as the first", "第二声和第一声一样响"."""
    for about, other in pairwise(sentence.places):
        between = sentence.text[about.end : other.start]
        m = _AS.search(between) or _AS_ZH.match(sentence.text[other.end : sentence.end])
        if m and (m.re is _AS or re.search(r"[和与跟同]$", between)):
            kind = EQUAL[(m["as"] or m["same"] if m.re is _AS else m["as"]).lower()]
            start = about.end + m.start() if m.re is _AS else other.end + m.start("as")
            end = other.end if m.re is _AS else other.end + m.end()
            yield from sentence.state(start, end, kind, "equal", sentence.place(about), other=sentence.place(other))
