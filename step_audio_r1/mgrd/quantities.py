"""Quantities: silences, durations, hertz, tempo and rate, numbers of sounds and their order."""

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from step_audio_r1.mgrd.amounts import NUMBER, Amount, number
from step_audio_r1.mgrd.clauses import Clause, is_negated
from step_audio_r1.mgrd.sentence import Sentence
from step_audio_r1.mgrd.statement import ANY, CLIP, ELSEWHERE, NOTE, Statement
from step_audio_r1.mgrd.vocabulary import GOVERNORS, Mark, regex

_OF_SPECTRUM = regex(
    r"\b(?:energy|spectr\w+|filter\w*|cut-?off|bandwidth|band|sampl\w+|formants?|harmonics?|overtones?|content|missing)\b"
    r"|能量|带宽|频段|采样|共振峰|谐波|泛音|截止|滤波|响应"
)
_LASTS = regex(
    r"\b(?:last(?:s|ed|ing)?|long|duration|length|runs\s+for|goes\s+on\s+for)\b|持续|时长|长度|长|(?:录音|音频|片段)[^，。]{0,4}\|"
)
_MOMENT = regex(r"(?:\b(?:every|after|at|in|within|until|by)\s+(?:about\s+|around\s+)?|[每第]|每隔|隔了|过了)$")
# One end of a movement: "rises to 400 Hz".
_ONE_END = regex(
    r"(?:\b(?:from|to|at\s+first|starting\s+at|reaching)\s+(?:about\s+|around\s+|roughly\s+)?|[从由到至]约?)$"
)
_GONE = regex(r"[^，。]{0,4}(?:没了|没有了|消失)")
_FIRST_THEN = regex(
    r"^[^.。]{0,30}?(?:\bfollowed\s+by\b|\bthen\b|\bbefore\b|\bprecedes\b|然后|接着|随后|之后|再|其后)[^.。]{0,24}$"
)
_THEN_FIRST = regex(r"^[^.。,，]{0,24}?(?:\bafter\b|\bfollows\b|之前)[^.。,，]{0,16}$")
_ARTICLE = r"(?:an?\s+|the\s+|one\s+|some\s+)?(?:\w+\s+){0,1}"
_BEGINS = regex(rf"\b(?:begins?|starts?|opens?)\s+with\s+{_ARTICLE}$|(?:以|开头是|一开始是|首先是)(?:一[个声阵])?$")
_ENDS = regex(rf"\b(?:ends?|finishes|closes|concludes)\s+with\s+{_ARTICLE}$|(?:结尾是|最后是|末尾是)(?:一[个声阵])?$")
_ENDS_ZH = regex(r"^(?:结束|结尾|收尾)")
_IS_A = regex(rf"^(?:\s+(?:sound|event|one|noise))?\s+(?:is|was)\s+{_ARTICLE}$|^(?:声音|事件)?是(?:一[个声阵])?$")
_COUNT = regex(
    rf"(?<![\w.])(?:(?:just|only|exactly)\s+(?P<one>one)|a\s+(?P<single>single)|(?P<en>{NUMBER}))\s+"
    r"(?:(?!second|more|other|further|different|kinds?|sorts?|of\b)[a-z\-]+\s+){0,2}$"
    r"|(?P<zh>[一二两三四五六七八九十\d]+)[个声下次阵响](?:的)?(?:短促的?|清晰的?|独立的?|短的?)?$"
)
_COUNT_AFTER = regex(r"^(?:一共|总共|共)?(?:响了|有|出现了|响起)?(?P<zh>[一二两三四五六七八九十\d]+)[声下次响]")
_NOT_ALL = regex(
    r"(?:\b(?:first|last|next|other|another|these|those|of|every|each|between|more|or)\s+|[每第前后另这那又再])$"
)
_AT_LEAST = regex(r"(?:\b(?:at\s+least|more\s+than)\s+|至少有?|超过)$")
_MORE_COME = regex(
    r"\b(?:another|again|each|every|per|groups?|sets?|at\s+a\s+time|more\s*[.,;]|one\s+more)\b|[又再每]|一组|另外"
)


def with_decibels(sentence: Sentence, s: Statement) -> Statement:
    """A change or difference of loudness, with the decibels that its clause names."""
    clause = sentence.clause(s.start)
    near = [a for a in sentence.amounts if a.unit == "dB" and clause.start <= a.start < clause.end]
    if not near or s.kind not in ("loudness_change", "loudness_relation"):
        return s
    return replace(s, value=f"{s.value} by {_shown(near[0])}", low=near[0].low, high=near[0].high, unit="dB")


def silences(sentence: Sentence) -> Iterator[Statement]:
    """Pauses and silences, with the seconds that belong to them."""
    for m in sentence.marks:
        if m.sort != "silence" or _GONE.match(sentence.text, m.end):
            continue
        clause = sentence.clause(m.start)
        near = _time_of(sentence, m, clause)
        if m.name == "silence" and not near and not is_negated(sentence.text, clause, m.start):
            continue
        kind, value = ("pause", "pause") if m.name in ("pause", "silence") else ("silence", m.name)
        start, end = (min(m.start, near.start), max(m.end, near.end)) if near else (m.start, m.end)
        seconds = {"low": near.low, "high": near.high, "unit": "s"} if near else {}
        value = f"{value} of {_shown(near)}" if near else value
        for s in sentence.state(start, end, kind, value, None, **seconds):
            yield replace(s, negated=is_negated(sentence.text, clause, start))


def _time_of(sentence: Sentence, silence: Mark, clause: Clause) -> Amount | None:
    """The seconds that belong to a word of silence: the nearest in its clause that no other one is nearer to."""
    words = [m for m in sentence.marks if m.sort == "silence"]
    for a in sentence.amounts:
        inside = a.unit == "s" and clause.start <= a.start < clause.end and _gap(a, silence) <= 24
        if inside and min(words, key=lambda m: _gap(a, m)) == silence:
            return a
    return None


def durations(sentence: Sentence, silent: list[Statement]) -> Iterator[Statement]:
    """Seconds that something lasts, but those of the silences `silent`."""
    for a in sentence.amounts:
        inside = any(s.start <= a.start < s.end for s in silent)
        if a.unit != "s" or inside or _MOMENT.search(sentence.text[sentence.start : a.start]):
            continue
        behind = next((m for m in sentence.marks if m.start >= a.end and m.sort in GOVERNORS), None)
        adjective = behind and re.fullmatch(r"[\s\-]*(?:long\s+)?|的", sentence.text[a.end : behind.start])
        around = sentence.text[max(sentence.start, a.start - 24) : a.start] + "|" + sentence.text[a.end : a.end + 6]
        if not (_LASTS.search(around) or (adjective and behind)):
            continue
        noun = behind if adjective else sentence.noun_before(Mark(a.start, a.end, "", ""))
        whole = noun is not None and noun.name == CLIP
        about = CLIP if whole else sentence.about(a.start, noun)
        yield from sentence.state(a.start, a.end, "duration", _shown(a), about, low=a.low, high=a.high, unit="s")


def numbers(sentence: Sentence) -> Iterator[Statement]:
    """Hertz, beats a minute, syllables and words a second."""
    for a in sentence.amounts:
        bounds = {"low": a.low, "high": a.high, "unit": a.unit}
        if a.unit == "bpm":
            yield from sentence.state(a.start, a.end, "tempo", _shown(a), sentence.about(a.start), **bounds)
        elif a.unit in ("syllables/s", "words/s"):
            yield from sentence.state(a.start, a.end, "speech_rate", _shown(a), sentence.about(a.start), **bounds)
        elif a.unit == "Hz":
            yield from _hertz(sentence, a, bounds)


def _hertz(sentence: Sentence, a: Amount, bounds: dict) -> Iterator[Statement]:
    clause = sentence.clause(a.start)
    behind = [m for m in sentence.marks if m.start >= a.end and m.sort in GOVERNORS]
    governor = next((m for m in behind if m.start - a.end < 3), None)
    governor = governor or sentence.noun_before(Mark(a.start, a.end, "", ""))
    if governor and governor.name == "brightness":
        yield from sentence.state(a.start, a.end, "brightness", _shown(a), sentence.about(a.start), **bounds)
        return
    of_pitch = governor is not None and governor.name not in ("music", CLIP, "loudness", "tempo", "rate")
    if not of_pitch or _OF_SPECTRUM.search(sentence.text[clause.start : clause.end]):
        return
    about, voice = sentence.about(a.start, governor), sentence.speaks_of_voice(governor)
    if a.low == a.high and _ONE_END.search(sentence.text[clause.start : a.start]):
        about = ELSEWHERE
    glides = a.low != a.high and re.search(
        r"(?:\bfrom\s+(?:about\s+|around\s+|roughly\s+)?|[从由]约?)$",
        sentence.text[clause.start : a.start],
        re.IGNORECASE,
    )
    if glides and None not in (a.low, a.high):
        yield from sentence.state(
            a.start, a.end, "pitch_contour", f"{a.low:g} to {a.high:g} Hz", about, voice=voice, **bounds
        )
    else:
        yield from sentence.state(a.start, a.end, "pitch", _shown(a), about, voice=voice, **bounds)


def counts(sentence: Sentence) -> Iterator[Statement]:
    """How often a sound is heard: "three knocks"."""
    more = bool(_MORE_COME.search(sentence.text[sentence.start : sentence.end + 60]))
    for m in sentence.marks:
        if m.sort != "sound" and not (m.sort == "source" and m.name in ("tune", "sound")):
            continue
        before = _COUNT.search(sentence.text[sentence.start : m.start])
        behind = _COUNT_AFTER.match(sentence.text[m.end : sentence.end])
        counted = before or (behind if m.sort == "sound" else None)
        if not counted:
            continue
        figure = counted["zh"] if counted is behind or counted["zh"] else counted["en"] or "one"
        start = sentence.start + counted.start() if before else m.end + counted.start("zh")
        value = number(figure)
        if re.fullmatch(r"[一二两三四五六七八九]{2}", figure):  # 五六声: five or six
            continue
        plain_one = value == 1 and before and not (before["one"] or before["single"])
        if value != int(value) or plain_one or _NOT_ALL.search(sentence.text[sentence.start : start]):
            continue
        noun = m.name if m.sort == "sound" else NOTE if m.name == "tune" else ANY
        high = None if _AT_LEAST.search(sentence.text[sentence.start : start]) else value
        above = re.search(r"more\s+than\s+$|超过$", sentence.text[sentence.start : start], re.IGNORECASE)
        about = ELSEWHERE if more else noun if sentence.mixed and noun not in (ANY, NOTE) else None
        end = m.end if before else m.end + counted.end()
        what = f"{value:g} {noun}"
        yield from sentence.state(
            min(start, m.start), end, "event_count", what, about, low=value + bool(above), high=high, names=(noun,)
        )


def orders(sentence: Sentence) -> Iterator[Statement]:
    """Which sound comes when: "the last is a bell", "a knock, then a bell"."""
    sounds = [m for m in sentence.marks if m.sort == "sound"]
    for m in sounds:
        before, behind = sentence.text[sentence.start : m.start], sentence.text[m.end : sentence.end]
        refer = next(
            (r for r in sentence.marks if r.sort == "refer" and _IS_A.match(sentence.text[r.end : m.start] or "?")),
            None,
        )
        place = None
        if refer and refer.end <= m.start:
            place = int(refer.name)
        elif _ENDS.search(before) or (before.endswith("以") and _ENDS_ZH.match(behind)):
            place = -1
        elif _BEGINS.search(before):
            place = 1
        if place is not None:
            yield from sentence.state(
                m.start, m.end, "event_order", f"{m.name} {_place_name(place)}", place, names=(m.name,)
            )
    for a, b in pairwise(sounds):
        if a.name == b.name:
            continue
        between, lead = sentence.text[a.end : b.start], sentence.text[sentence.start : a.start].lower()
        if re.search(r"\bbefore\s+(?:the\s+|an?\s+)?$", lead) or _THEN_FIRST.match(between):
            names = (b.name, a.name)
        elif re.search(r"\bafter\s+(?:the\s+|an?\s+)?$", lead) or _FIRST_THEN.match(between):
            names = (a.name, b.name)
        else:
            continue
        yield from sentence.state(a.start, b.end, "event_order", " before ".join(names), None, names=names)


def _gap(a: Amount, m: Mark) -> int:
    return max(a.start - m.end, m.start - a.end, 0)


def _shown(a: Amount) -> str:
    if a.low is None:
        return f"under {a.high:g} {a.unit}"
    if a.high is None:
        return f"over {a.low:g} {a.unit}"
    return f"{a.low:g} {a.unit}" if a.low == a.high else f"{a.low:g} to {a.high:g} {a.unit}"


def _place_name(place: int) -> str:
    return "last" if place < 0 else f"number {place}"
