"""Statements: what prose says about a sound that can be measured, in English and Chinese.

The terms of vocabulary.json are marked in each sentence. A value ("high", "rising") becomes a statement through the
word that governs it ("pitch", "volume", "voice"), and is about the place named last ("the second knock"), else the
clip. The reader rather misses a statement than makes one up:

- What stands in quotation marks is said by somebody else. Questions, conditions ("if the pitch were high"), what is
  usual or expected, talk about options and alternatives ("high or low") are no statements.
- "not loud" is a statement with `negated`. "perhaps loud" is one with `hedged`: as evidence of hearing it is neither
  right nor wrong.
- What is said of a moment, the background or one of several speakers is about `ELSEWHERE`: no measurement answers it.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from step_audio_r1.mgrd.clauses import sentences, without_quotations
from step_audio_r1.mgrd.comparisons import equals, relations
from step_audio_r1.mgrd.quantities import counts, durations, numbers, orders, silences, with_decibels
from step_audio_r1.mgrd.sentence import Sentence
from step_audio_r1.mgrd.statement import Statement
from step_audio_r1.mgrd.vocabulary import READINGS, find_marks, regex

_SEVERAL_VOICES = regex(
    r"\bman\b[\s\S]*\bwoman\b|\bwoman\b[\s\S]*\bman\b|\bhe\b[\s\S]*\bshe\b|\bshe\b[\s\S]*\bhe\b"
    r"|\b(?:two|three|both|several)\s+(?:speakers|voices|people)|\bsecond\s+(?:speaker|voice)|男[\s\S]*女|女[\s\S]*男|两个人"
)
_OR = regex(r"\s*,?\s*(?:or|还是|或者?|或是)\s*(?:\w+\s+){0,2}")


def parse_statements(text: str) -> list[Statement]:
    """The statements of a text in order. Any text can be read."""
    plain = without_quotations(text)
    marks = find_marks(plain)
    sorts = {m.name for m in marks if m.sort == "sound"}
    sorts |= {m.name for m in marks if m.sort == "source" and m.name in ("voice", "music")}
    speaks, several = any(m.name in ("voice", "rate") for m in marks), bool(_SEVERAL_VOICES.search(plain))
    found: list[Statement] = []
    before: Sentence | None = None
    for clauses in sentences(plain):
        start, end = clauses[0].start, clauses[-1].end
        inside = [m for m in marks if start <= m.start < end]
        sentence = Sentence(plain, clauses, inside, len(sorts) > 1, speaks, several, before)
        found += _statements(sentence)
        before = sentence
    return [replace(s, text=text[s.start : s.end]) for s in sorted(found, key=lambda s: (s.start, s.end))]


def _statements(sentence: Sentence) -> list[Statement]:
    """All statements of the sentence."""
    if not any(clause.asserts for clause in sentence.clauses):
        return []
    compared = [*relations(sentence), *equals(sentence)]
    values = [v for v in _values(sentence) if not any(r.start <= v.start < r.end for r in compared)]
    values = _without_alternatives(sentence, values)
    silent = list(silences(sentence))
    changes = [with_decibels(sentence, s) for s in (*compared, *values)]
    others = [*numbers(sentence), *durations(sentence, silent), *counts(sentence), *orders(sentence)]
    return [*changes, *silent, *others]


def _values(sentence: Sentence) -> Iterator[Statement]:
    """Values, each with the noun that governs it."""
    for m in sentence.marks:
        if m.sort == "alone":
            kind, _, value = m.name.partition(" ")
            governor = sentence.noun_before(m)
            yield from sentence.state(
                m.start, m.end, kind, value, sentence.about(m.start, governor), voice=sentence.speaks_of_voice(governor)
            )
        elif m.sort == "value" and (governor := sentence.governor(m)):
            sentence.governed[m] = governor
            reading = READINGS[m.name].get("sound" if governor.sort == "sound" else governor.name)
            if reading:
                voice = sentence.speaks_of_voice(governor)
                yield from sentence.state(m.start, m.end, *reading, sentence.about(m.start, governor), voice=voice)


def _without_alternatives(sentence: Sentence, found: list[Statement]) -> list[Statement]:
    """Drops "high or low": nothing is stated; "not high or low" negates both."""
    kept = list(found)
    for a, b in pairwise(found):
        if _OR.fullmatch(sentence.text[a.end : b.start]):
            if a.negated:
                kept = [replace(s, negated=True) if s == b else s for s in kept]
            else:
                kept = [s for s in kept if s not in (a, b)]
    return kept
