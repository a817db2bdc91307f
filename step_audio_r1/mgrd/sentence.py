"""One sentence: its marks and amounts, and which sound each of its words is said of."""

from collections.abc import Iterator
from dataclasses import replace

from step_audio_r1.mgrd.amounts import find_amounts
from step_audio_r1.mgrd.clauses import Clause, is_negated
from step_audio_r1.mgrd.statement import CLIP, ELSEWHERE, Statement
from step_audio_r1.mgrd.vocabulary import ADJECTIVES, GOVERNORS, Mark, StatementKind, regex

# Between an adjective and its noun; and what follows an adjective that has none ("the pitch is high, ...").
_ATTRIBUTIVE = regex(
    r"[\s,\-]*(?:(?!(?:is|are|was|were|in|at|of|with|to|than|as|on|for|then|which|that|it|has|have|by|from|like|the|an?"
    r"|this|its|his|her|through|throughout)\b)[a-z]+[\s,\-]+){0,2}|的?"
)
PREDICATE = regex(
    r"\s*(?:$|[.,;:!?)，。；：！？、…—]|[\u3400-\u9fff])|\s+(?:and|but|or|nor|in|at|with|for|here|than|overall|enough|too"
    r"|throughout|from|as|while|so|to|over|by|through|then|during|when|because|which|on|about|around|again|until|rather"
    r"|instead|compared|relative|without|not|all|almost|within|indeed|suggesting|indicating|showing)\b"
)
# "high for a man": what is high for whom is not measured.
_FOR_ITS_SORT = regex(r"\s+for\s+(?:an?|his|her|such|some)\b")
_PRONOUN = regex(r"\s*(?:it|this|that|they|its)\b|\s*它")


class Sentence:
    """One sentence of a text.

    Attributes:
      text: the whole text; all positions are characters of it.
      clauses, marks, amounts: its clauses, terms of the vocabulary and numbers with a unit, in order.
      places: the marks that single out a sound ("the first knock" is one).
      start, end: character span in the text.
      mixed: whether the text names several sorts of sounds.
      speaks: whether it speaks of a voice, `several_voices` of several ones.
      before: the sentence before it.
      governed: the noun that governs each value read so far.
      last_about: what its last statement was about.
    """

    def __init__(
        self,
        text: str,
        clauses: list[Clause],
        marks: list[Mark],
        mixed: bool,
        speaks: bool,
        several_voices: bool,
        before: "Sentence | None",
    ):
        self.text, self.clauses, self.marks, self.mixed = text, clauses, marks, mixed
        self.speaks, self.several_voices, self.before = speaks, several_voices, before
        self.start, self.end = clauses[0].start, clauses[-1].end
        self.places = [
            m
            for i, m in enumerate(marks)
            if m.sort == "refer"
            or (m.sort == "sound" and not (i and marks[i - 1].sort == "refer" and m.start - marks[i - 1].end < 2))
        ]
        shifted = find_amounts(text[self.start : self.end])
        self.amounts = [replace(a, start=a.start + self.start, end=a.end + self.start) for a in shifted]
        self.governed: dict[Mark, Mark] = {}
        self.last_about: int | str | None = None

    def state(
        self, start: int, end: int, kind: StatementKind, value: str, about: int | str | None, **more
    ) -> Iterator[Statement]:
        """The statement, unless its clause asserts nothing."""
        clause = self.clause(start)
        if clause.asserts:
            negated = is_negated(self.text, clause, start)
            if about not in (None, ELSEWHERE):
                self.last_about = about
            yield Statement(start, end, "", kind, value, about, negated=negated, hedged=clause.hedged, **more)

    def clause(self, at: int) -> Clause:
        """The clause around a character."""
        return next((c for c in self.clauses if c.start <= at < c.end), self.clauses[-1])

    def about(self, at: int, governor: Mark | None = None) -> int | str | None:
        """What a word at `at` is said of: the governing sound, or the place or sound named last before it."""
        clause = self.clause(at)
        # "At the end, the pitch ..." reaches up to the next value.
        since = max((m.end for m in self.marks if m.sort == "value" and m.end <= at), default=self.start)
        if any(m.sort == "elsewhere" and min(since, clause.start) <= m.start < clause.end for m in self.marks):
            return ELSEWHERE
        if governor and governor.sort == "source" and governor.name in ("voice", "music"):
            if governor.name == "voice" and self.several_voices:
                return ELSEWHERE
            return governor.name if self.mixed else None
        if governor and governor.sort == "source" and governor.name == CLIP:
            return None
        named = [m for m in self.marks if m.end <= at and (m.sort == "elsewhere" or m in self.places)]
        if governor and governor.sort == "sound" and not any(m.sort == "refer" for m in named):
            return self.named(governor)
        if named:
            return ELSEWHERE if named[-1].sort == "elsewhere" else self.named(named[-1])
        if self.before and self.before.last_about is not None and _PRONOUN.match(self.text, self.start):
            return ELSEWHERE
        voices = self.several_voices and self.speaks
        return ELSEWHERE if voices else None

    def named(self, mark: Mark) -> int | str | None:
        """`place`, but None for a sound that is the only sort there is."""
        return self.place(mark) if self.mixed or mark.sort == "refer" else None

    def place(self, mark: Mark) -> int | str:
        """The number or name of a sound that a mark singles out."""
        return int(mark.name) if mark.sort == "refer" else mark.name

    def speaks_of_voice(self, governor: Mark | None) -> bool:
        """Whether a voice sounds: by the governing word, else by what the text has spoken of so far."""
        if governor and (governor.sort == "sound" or governor.name in ("tune", "sound", "music")):
            return False
        return self.speaks

    def governor(self, value: Mark) -> Mark | None:
        """The noun behind an adjective ("low, slow voice"), else the one that it is said of ("the voice is slow")."""
        following = [m for m in self.marks if m.start >= value.end and m.sort != "value"][:1]
        if following and following[0].sort in GOVERNORS:
            between = self.text[value.end : following[0].start]
            for m in self.marks:
                if m.sort == "value" and value.end <= m.start < following[0].start:
                    between = between.replace(self.text[m.start : m.end], " ", 1)
            if _ATTRIBUTIVE.fullmatch(between) or (following[0].sort == "quantity" and between.strip() == "in"):
                return following[0]
        if _FOR_ITS_SORT.match(self.text, value.end):
            return None
        chinese = not self.text[value.start : value.end].isascii()
        if value.name in ADJECTIVES and not chinese and not PREDICATE.match(self.text, value.end):
            return None
        return self.noun_before(value)

    def noun_before(self, value: Mark) -> Mark | None:
        """The noun before a word: a quantity if there is one since the value before it, else the nearest sound."""
        nouns: list[Mark] = []
        for m in reversed([m for m in self.marks if m.end <= value.start]):
            if m.sort == "value" and (nouns or m in self.governed):
                return _first(nouns) or self.governed.get(m)
            if nouns and any(m.end <= a.start and a.end <= nouns[-1].start for a in self.amounts):
                break  # "the pitch is 150 Hz, the voice soft"
            if m.sort in GOVERNORS:
                nouns.append(m)
        return _first(nouns)


def _first(nouns: list[Mark]) -> Mark | None:
    """The nearest quantity, else the nearest noun; `nouns` from the nearest on."""
    return next((m for m in nouns if m.sort == "quantity"), nouns[0] if nouns else None)
