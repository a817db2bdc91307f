"""Holds what prose says about a sound against measurements, and against labels where a clip has them.

Between clearly true and clearly false lies a band in which nothing is decided: each rule below has one bound from
which a statement is supported and another from which it is contradicted. Labels go before the signal: they settle what
it cannot (which kinds of sounds, in which order) and what depends on the speaker (a high voice).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from step_audio_r1.audio import Acoustics, Event
from step_audio_r1.data.world import truth as world
from step_audio_r1.mgrd.claims import Claim, Status
from step_audio_r1.mgrd.statement import ANY, CLIP, ELSEWHERE, NOTE, Statement
from step_audio_r1.mgrd.statements import parse_statements

# True, False, or None where nothing is decided; and what was found.
Finding = tuple[bool | None, str]

# (low at most, high at least) in Hz. Median f0 in speech is about 120 Hz (men) and 210 Hz (women; Baken and Orlikoff
# 2000): a voice below the one or near the other is plainly low or high. Other sounds have no such middle: low is below
# G3, high above D5.
VOICE_HZ, SOUND_HZ = (125.0, 195.0), (200.0, 600.0)
# dBFS over what sounds: ITU-T P.56 levels speech to -26 dB; 6 dB from that is plain.
LOUDNESS_DB = (-32.0, -20.0)
# Beats a minute: adagio ends at 76, vivace begins at 140.
TEMPO_BPM = (76.0, 140.0)
# Syllables a second without pauses: read English has about 4 to 5.
SPEECH_RATE = (3.5, 5.2)
SYLLABLES_A_WORD = 1.4
# Hz of the power centroid: vowels lie between.
BRIGHTNESS_HZ = (500.0, 2500.0)
# Least share of voiced frames, and least tempo confidence, from which there is a pitch or a tempo to speak of.
LEAST_VOICED, LEAST_TEMPO = 0.3, 0.5
# A measured difference is plain from the first number on, and absent below the second.
LOUDER_DB, HIGHER_SEMITONES, LONGER_RATIO, BRIGHTER_RATIO = (2.0, 0.5), (1.0, 0.3), (1.2, 1.06), (1.25, 1.08)
GROWING_DB, GLIDE_SEMITONES = (3.0, 1.0), (2.0, 0.5)


def check_statements(think: str, acoustics: Acoustics | None, truth: Mapping[str, Any]) -> list[Claim]:
    """The measurable statements of a text in their order, each supported, contradicted or uncheckable.

    Args:
      think: prose in English or Chinese; any text can be read.
      acoustics: measurements of the clip it is about, None where there are none.
      truth: known labels, {} if there are none. Those of the audio world are read (data/world/truth.py); other keys and
        other forms are left alone.
    """
    checker = _Checker(acoustics, truth)
    return [checker.claim(statement) for statement in parse_statements(think)]


class _Checker:
    """What is known of one clip."""

    def __init__(self, acoustics: Acoustics | None, truth: Mapping[str, Any]):
        self.heard, self.labels = acoustics, _Labels(truth)

    def claim(self, s: Statement) -> Claim:
        """The statement with its status."""
        holds, measured = self._find(s)
        if holds is not None and s.negated:
            holds = not holds
        status: Status = "uncheckable" if holds is None else "supported" if holds else "contradicted"
        value = f"not {s.value}" if s.negated else s.value
        return Claim(s.start, s.end, s.text, s.kind, value, status, measured)

    def _find(self, s: Statement) -> Finding:
        if s.hedged:
            return None, "said with doubt"
        if ELSEWHERE in (s.about, s.other):
            return None, "not about a part that can be measured"
        if s.unit == "" or s.kind in ("event_count", "speech_rate"):
            found = self.labels.find(s, self.heard)
            if found is not None:
                return found
        if s.kind == "event_order":
            return None, "no labels"
        if self.heard is None:
            return None, "not measured"
        return _RULES[s.kind](self, s, self.heard)

    # What a statement is about

    def _event(self, about: int | str | None) -> Event | None:
        """The measured event of a statement, None if it is not certain which one that is."""
        events = self.heard.events
        if isinstance(about, int):
            certain = self.heard.count_low == self.heard.count_high or len(events) == self.labels.count
            index = about - 1 if about > 0 else len(events) + about
            return events[index] if certain and 0 <= index < len(events) else None
        if isinstance(about, str):
            found = self.labels.positions(about)
            if len(events) == self.labels.count and len(found) == 1:
                return events[found[0]]
        return None

    def _one(self, s: Statement, of_event: Callable[[Event], Any], whole: Any) -> Any:
        """A measure of what the statement is about, None if there is none."""
        if s.about is None or s.about == CLIP:
            return whole
        event = self._event(s.about)
        return of_event(event) if event else None

    # One rule a kind

    def pitch(self, s: Statement, heard: Acoustics) -> Finding:
        """In Hz within a semitone (false beyond 2.5, more if the pitch moves); high or low by the references."""
        pitch = heard.pitch if heard.pitch and heard.pitch.voiced >= LEAST_VOICED else None
        hz = self._one(s, lambda e: e.hz, pitch and pitch.hz)
        if hz is None:
            return None, "no pitch found"
        shown = f"{hz:.0f} Hz"
        if not s.unit:
            return _zone(s.value == "high", hz, VOICE_HZ if s.voice else SOUND_HZ), shown
        moves = pitch.range / 2 if pitch and s.about is None else 0.0
        distance = _outside(*(b and 12 * math.log2(b) for b in (s.low, s.high)), 12 * math.log2(hz))
        if abs(distance - 12) < 1:  # the tracker and the writer may differ by an octave
            return None, shown
        return _near(distance, 1.0 if s.low and s.high else 0.0, 2.5 + moves), shown

    def contour(self, s: Statement, heard: Acoustics) -> Finding:
        """Rising from 2 semitones on, with the trend; of several events also if each of them does."""
        pitch = heard.pitch
        if (s.about is not None and len(heard.events) > 1) or pitch is None or pitch.voiced < LEAST_VOICED:
            return None, "no contour found"
        shown = f"{pitch.start_hz:.0f} to {pitch.end_hz:.0f} Hz, range {pitch.range:.1f} semitones"
        if s.unit:
            ends = max(abs(12 * math.log2(a / b)) for a, b in ((pitch.start_hz, s.low), (pitch.end_hz, s.high)))
            return _near(ends, 2.0, 4.0), shown
        if s.value == "flat":
            return (
                True if pitch.range <= 1.5 else False if max(abs(pitch.change), pitch.range - 2) >= 3 else None
            ), shown
        if s.value == "wavering":
            moves = pitch.range >= 4 and abs(pitch.trend) <= 0.7
            return (True if moves else False if pitch.range <= 1.5 else None), shown
        sign = 1 if s.value == "rising" else -1
        plain, none = GLIDE_SEMITONES
        if sign * pitch.change >= plain and sign * pitch.trend >= 0.3:
            return True, shown
        each = [sign * e.change for e in heard.events if e.change is not None]
        if len(each) == len(heard.events) > 1 and min(each) >= plain:
            return True, f"each by {min(each):.1f} semitones or more"
        if sign * pitch.change <= none and sign * pitch.trend <= 0.1 and max(each, default=0.0) <= none:
            return False, shown
        return None, shown

    def loudness(self, s: Statement, heard: Acoustics) -> Finding:
        """Loud from -20 dBFS, soft up to -32."""
        level = self._one(s, lambda e: e.level, heard.level)
        if level is None:
            return None, "no level found"
        return _zone(s.value == "loud", level, LOUDNESS_DB), f"{level:.1f} dBFS"

    def loudness_change(self, s: Statement, heard: Acoustics) -> Finding:
        """By 3 dB from the first to the last third, and along a straight line; false below 1 dB in both."""
        if s.about is not None or heard.level is None:
            return None, "no level found"
        thirds = heard.level_end - heard.level_start
        shown = f"{thirds:+.1f} dB from first to last third"
        if s.value.startswith("steady"):
            most = max(abs(thirds), abs(heard.level_change))
            return (True if most <= 2 and heard.dynamic <= 6 else False if abs(thirds) >= 4 else None), shown
        sign = 1 if s.value.startswith("louder") else -1
        least, most = sorted((sign * thirds, sign * heard.level_change))
        holds = True if least >= GROWING_DB[0] else False if most <= GROWING_DB[1] else None
        if s.unit and holds:
            shown = f"{heard.level_change:+.1f} dB from start to end"
            amount = _outside(s.low, s.high, abs(heard.level_change))
            return _near(amount, max(2.5, 0.25 * most), max(6.0, 0.6 * most)), shown
        return holds, shown

    def tempo(self, s: Statement, heard: Acoustics) -> Finding:
        """In beats a minute within 4 % (false beyond 12 %); twice, three times or half as fast may be meant."""
        bpm = heard.tempo
        if s.about not in (None, "music") or bpm is None or heard.tempo_confidence < LEAST_TEMPO:
            return None, "no tempo found"
        shown = f"{bpm:.0f} beats a minute"
        if not s.unit:
            return _zone(s.value == "fast", bpm, TEMPO_BPM), shown
        away = [abs(_outside(s.low, s.high, bpm * factor)) / (bpm * factor) for factor in (1, 2, 3, 1 / 2, 1 / 3)]
        if min(away[1:]) <= 0.06:
            return None, shown
        return _near(away[0], 0.04 if s.low and s.high else 0.0, 0.12), shown

    def speech_rate(self, s: Statement, heard: Acoustics) -> Finding:
        """In syllables a second within a quarter (false from two fifths below, two thirds above); words vary more."""
        rate, bounds = heard.syllable_rate, (0.6, 0.8, 1.25, 1.65)
        if s.about not in (None, "voice") or not rate:
            return None, "no syllables found"
        shown = f"{rate:.1f} syllables a second"
        if not s.unit:
            return _zone(s.value == "fast", rate, SPEECH_RATE), shown
        if s.unit == "words/s":
            rate, bounds = rate / SYLLABLES_A_WORD, (0.45, 0.7, 1.45, 2.2)
        stated = min(max(rate, s.low or 0.0), rate if s.high is None else max(s.high, s.low or 0.0))
        far_below, below, above, far_above = bounds
        ratio = stated / rate
        return (True if below <= ratio <= above else None if far_below < ratio < far_above else False), shown

    def count(self, s: Statement, heard: Acoustics) -> Finding:
        """Where all ways to part the sound into events agree, true or false; false too where none gives the number."""
        if s.about is not None:
            return None, "one of several sorts of sounds, and no labels"
        low, high = heard.count_low, heard.count_high
        shown = f"{low} events" if low == high else f"{low} to {high} events"
        if low == high:
            return s.low <= low <= (high if s.high is None else s.high), shown
        outside = high < s.low or (s.high is not None and low > s.high)
        return (False if outside else None), shown

    def duration(self, s: Statement, heard: Acoustics) -> Finding:
        """Within 12 % or 0.12 s (false beyond 35 % and 0.3 s) of the clip, of what sounds in it, or of each event."""
        if s.about == CLIP:
            lengths = [heard.seconds]
        elif s.about is None:
            lengths = [heard.seconds, heard.sounding, *(e.end - e.start for e in heard.events)]
        else:
            event = self._event(s.about)
            lengths = [event.end - event.start] if event else []
        if not lengths:
            return None, "no such event found"
        nearest = min(lengths, key=lambda t: abs(_outside(s.low, s.high, t)))
        holds = _about_as_long(s, nearest)
        each = lengths[2:]
        if s.about is None and holds and nearest in each and max(each) > 1.3 * min(each):
            return None, "of events of different length"
        return holds, f"{nearest:.2f} s"

    def pause(self, s: Statement, heard: Acoustics) -> Finding:
        """From 0.3 s on, none below 0.15 s: a stop consonant is as long; a stated length as durations are."""
        longest = max(heard.pauses, default=0.0)
        shown = f"longest pause {longest:.2f} s"
        if s.unit and heard.pauses:
            nearest = min(heard.pauses, key=lambda t: abs(_outside(s.low, s.high, t)))
            return _about_as_long(s, nearest), f"pause of {nearest:.2f} s"
        return (True if longest >= 0.3 and not s.unit else False if longest < 0.15 else None), shown

    def silence(self, s: Statement, heard: Acoustics) -> Finding:
        """At the beginning or end from 0.25 s on, none below 0.08 s; everywhere if nothing sounds."""
        if s.value == "all":
            return heard.level is None, "nothing sounds" if heard.level is None else f"{heard.level:.1f} dBFS"
        seconds = heard.leading if s.value.startswith("leading") else heard.trailing
        shown = f"{seconds:.2f} s of silence"
        if s.unit:
            return _about_as_long(s, seconds), shown
        return (True if seconds >= 0.25 else False if seconds < 0.08 else None), shown

    def brightness(self, s: Statement, heard: Acoustics) -> Finding:
        """Bright from a centroid of 2500 Hz, dark up to 500; in Hz within 15 % (false beyond 50 %)."""
        centroid = self._one(s, lambda e: e.centroid, heard.centroid)
        if centroid is None:
            return None, "no centroid found"
        shown = f"centroid {centroid:.0f} Hz"
        if not s.unit:
            return _zone(s.value == "bright", centroid, BRIGHTNESS_HZ), shown
        return _near(abs(_outside(s.low, s.high, centroid)) / centroid, 0.15, 0.5), shown

    def relation(self, s: Statement, heard: Acoustics) -> Finding:
        """One event against another, or against all others; equal below the plain difference and far from it."""
        one = self._event(s.about)
        others = [self._event(s.other)] if s.other is not None else [e for e in heard.events if e != one]
        if one is None or not others or None in others:
            return None, "not certain which events are meant"
        findings = [_compare(s, one, other) for other in others]
        if any(holds is None for holds, _ in findings) and not any(holds is False for holds, _ in findings):
            return None, findings[0][1]
        worst = next((f for f in findings if f[0] is False), findings[0])
        return worst


_RULES: dict[str, Callable[[_Checker, Statement, Acoustics], Finding]] = {
    "pitch": _Checker.pitch,
    "pitch_contour": _Checker.contour,
    "loudness": _Checker.loudness,
    "loudness_change": _Checker.loudness_change,
    "tempo": _Checker.tempo,
    "speech_rate": _Checker.speech_rate,
    "event_count": _Checker.count,
    "duration": _Checker.duration,
    "pause": _Checker.pause,
    "silence": _Checker.silence,
    "brightness": _Checker.brightness,
    **dict.fromkeys(
        ("pitch_relation", "loudness_relation", "duration_relation", "brightness_relation"), _Checker.relation
    ),
}


def _zone(upper: bool, value: float, bounds: tuple[float, float]) -> bool | None:
    """Whether the upper (else the lower) of two opposites holds, None between them."""
    low, high = bounds
    return None if low < value < high else (value >= high) == upper


def _outside(low: float | None, high: float | None, value: float) -> float:
    """How far a value lies outside stated bounds, 0 inside them."""
    low, high = (high, low) if low is not None and high is not None and low > high else (low, high)
    return max((low - value) if low is not None else 0.0, (value - high) if high is not None else 0.0, 0.0)


def _near(distance: float, near: float, far: float) -> bool | None:
    return True if distance <= near else False if distance >= far else None


def _about_as_long(s: Statement, seconds: float) -> bool | None:
    distance = _outside(s.low, s.high, seconds)
    stated = max(b for b in (s.low, s.high, 0.0) if b is not None)
    if s.low is None or s.high is None:
        return _near(distance, 0.0, max(0.1, 0.1 * stated))
    return _near(distance, max(0.12, 0.12 * stated), max(0.25, 0.35 * stated))


def _compare(s: Statement, one: Event, other: Event) -> Finding:
    """Two measures of the difference must agree on it, where there are two."""
    if s.kind == "loudness_relation":
        differences, (plain, none) = [one.level - other.level, one.peak - other.peak], LOUDER_DB
        shown = f"{differences[0]:+.1f} dB"
    elif s.kind == "pitch_relation":
        if one.hz is None or other.hz is None:
            return None, "no pitch found"
        differences, (plain, none) = [12 * math.log2(one.hz / other.hz)], HIGHER_SEMITONES
        shown = f"{differences[0]:+.1f} semitones"
    else:
        of = (lambda e: e.end - e.start) if s.kind == "duration_relation" else (lambda e: e.centroid)
        differences = [math.log(of(one) / of(other))]
        plain, none = map(math.log, LONGER_RATIO if s.kind == "duration_relation" else BRIGHTER_RATIO)
        shown = f"{of(one):.3g} against {of(other):.3g}"
    if s.value == "equal":
        most = max(map(abs, differences))
        return _near(most, (plain + none) / 2, 1.5 * plain), shown
    sign = -1 if s.value.split()[0] in _LESS else 1
    least, most = sorted((sign * differences[0], sign * differences[-1]))
    holds = True if least >= plain else False if most <= none else None
    if s.unit and holds:
        holds = _near(_outside(s.low, s.high, abs(differences[0])), 2.0, 5.0)
    return holds, shown


_LESS = ("softer", "softest", "lower", "lowest", "shorter", "shortest", "darker", "darkest")


class _Labels:
    """The labels of a clip of the audio world; what is missing or of another form settles nothing."""

    def __init__(self, truth: Mapping[str, Any]):
        events = truth.get("events")
        named = isinstance(events, Sequence) and all(isinstance(e, Mapping) and "kind" in e for e in events)
        self.kinds = [str(e["kind"]) for e in events] if named else []
        self.loudness = [e.get("loudness") for e in events] if named else []
        notes = truth.get("notes")
        self.notes = list(notes) if isinstance(notes, Sequence) and set(notes) <= set(world.LEVELS) else []
        self.words = truth.get("words") if truth.get("domain") == "speech" else None
        self.voice = {key: truth.get(key) for key in ("pitch", "rate", "loudness")} if self.words else {}
        self.count = len(self.kinds or self.notes)

    def positions(self, name: str) -> list[int]:
        """Where events of this kind stand."""
        return [i for i, kind in enumerate(self.kinds) if kind == name]

    def find(self, s: Statement, heard: Acoustics | None) -> Finding | None:
        """What the labels say, None if nothing."""
        if s.kind == "event_count":
            return self._count(s)
        if s.kind == "event_order":
            return self._order(s)
        if s.kind == "speech_rate" and s.unit == "words/s" and self.words and heard and heard.sounding:
            rate = len(self.words) / heard.sounding
            return _near(abs(_outside(s.low, s.high, rate)) / rate, 0.2, 0.5), f"{rate:.1f} words a second"
        if s.unit:
            return None
        if s.kind == "pitch" and self.notes:
            return self._note(s)
        if s.kind in ("pitch", "speech_rate") and s.about in (None, "voice"):
            said, opposites = (
                self.voice.get({"pitch": "pitch", "speech_rate": "rate"}[s.kind]),
                (*world.PITCHES, *world.RATES),
            )
            return (said == s.value, f"label {said}") if said in opposites and s.value in opposites else None
        if s.kind == "loudness":
            found = {self.voice.get("loudness")} if self.words else {self.loudness[i] for i in self._places(s.about)}
            said = next(iter(found)) if len(found) == 1 else None
            return (said == s.value, f"label {said}") if said in world.LOUDNESSES else None
        if s.kind in ("loudness_relation", "pitch_relation"):
            return self._relation(s)
        return None

    def _places(self, about: int | str | None) -> list[int]:
        """Indices of the labelled events or notes that a statement is about; [] beyond the last."""
        if about is None:
            return list(range(self.count))
        if isinstance(about, str):
            return self.positions(about)
        index = about - 1 if about > 0 else self.count + about
        return [index] if 0 <= index < self.count else []

    def _count(self, s: Statement) -> Finding | None:
        (noun,) = s.names
        counted = len(self.notes) if noun == NOTE else self.count if noun == ANY else len(self.positions(noun))
        known = bool(self.notes) if noun == NOTE else bool(self.count) if noun == ANY else bool(self.kinds)
        if not known:
            return None
        return s.low <= counted <= (counted if s.high is None else s.high), f"{counted} by label"

    def _order(self, s: Statement) -> Finding | None:
        if not self.kinds:
            return None
        shown = ", ".join(self.kinds)
        if isinstance(s.about, int):
            return any(self.kinds[i] == s.names[0] for i in self._places(s.about)), shown
        first, second = (self.positions(name) for name in s.names)
        return bool(first and second and min(first) < max(second)), shown

    def _note(self, s: Statement) -> Finding | None:
        heights = {world.LEVELS.index(self.notes[i]) for i in self._places(s.about)}
        if len(heights) != 1 or (height := heights.pop()) == 2:
            return None
        return (height > 2) == (s.value == "high"), f"label {world.LEVELS[height]}"

    def _relation(self, s: Statement) -> Finding | None:
        of_pitch = s.kind == "pitch_relation"
        ranks = [world.LEVELS.index(n) for n in self.notes] if of_pitch else [l == "loud" for l in self.loudness]
        one = self._places(s.about)
        other = self._places(s.other) if s.other is not None else [i for i in range(len(ranks)) if i not in one]
        if len(ranks) != self.count or len(one) != 1 or not other or (s.other is not None and len(other) != 1):
            return None
        differences = [int(ranks[one[0]]) - int(ranks[i]) for i in other]
        if not of_pitch and 0 in differences:
            return None  # two loud sounds may yet differ
        shown = f"labels {', '.join(str(x) for x in (self.notes if of_pitch else self.loudness))}"
        if s.value == "equal":
            return not any(differences), shown
        sign = -1 if s.value in _LESS else 1
        return all(sign * d > 0 for d in differences), shown
