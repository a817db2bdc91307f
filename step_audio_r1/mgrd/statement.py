"""A statement: one measurable thing that a text says of a sound."""

from dataclasses import dataclass

from step_audio_r1.mgrd.vocabulary import StatementKind

ELSEWHERE, CLIP = "?", "clip"
# Any sound whatever, as in "three sounds", and any note.
ANY, NOTE = "sound", "note"


@dataclass(frozen=True)
class Statement:
    """One measurable thing that a text says.

    Attributes:
      start, end: character span in the text.
      text: the words of that span.
      kind: what it is about.
      value: what is said, e.g. "high", "rising", "louder", "212 Hz", "siren, click".
      about: the sound it is said of: None is all that sounds, n the n-th event from 1 (-1 is the last), a name one of
        several sorts of sounds; CLIP is the clip with its silences, ELSEWHERE something that cannot be singled out.
      other: what it is compared with, as `about`; None in a comparison with all others ("the loudest").
      low, high: bounds of a stated number in base units (Hz, dB, s, beats a minute, ... a second, events), None where
        open or where no number is stated; of a glide "from 200 to 400 Hz" the start and the end.
      unit: "Hz", "dB", "bpm", "s", "syllables/s" or "words/s"; "" without one.
      voice: whether a human voice is what sounds.
      names: sounds in the order stated (of "event_order").
      negated: "not ...".
      hedged: "perhaps ...".
    """

    start: int
    end: int
    text: str
    kind: StatementKind
    value: str
    about: int | str | None = None
    other: int | str | None = None
    low: float | None = None
    high: float | None = None
    unit: str = ""
    voice: bool = False
    names: tuple[str, ...] = ()
    negated: bool = False
    hedged: bool = False
