"""What an answer says: which of the choices, or which number. Deterministic; anything ambiguous is None."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from fractions import Fraction

# Words, with a number's sign, point, colon or slash and a word's own # + %; other punctuation is dropped.
_PIECE = re.compile(r"(?:(?<![\w)])[-+])?\.?\d+(?:[.,:/]\d+)*[^\W_]*[#+%]*|[^\W_]+[#+%]*")
_BOXED = re.compile(r"\\boxed\s*\{([^{}]*)\}")
_LABEL = re.compile(r"\A\W*(?:the\s+)?(?:final\s+)?answer(?:\s+is)?\s*[:：]?\s*", re.IGNORECASE)

_ONLY_LETTER = re.compile(r"[(\[（【*]*([A-Za-z])[)\]）】*]*[.:：、。]?\**")
# "B. cat", "(B) cat", "B: cat"; not "A cat", where the letter is an article.
_LETTER_THEN_TEXT = re.compile(r"(?:[(\[（【]([A-Za-z])[)\]）】]|([A-Za-z])[.:：、)）])\s*(.+)", re.DOTALL)
# A capital after "answer is", "option", ..., or a capital in parentheses anywhere.
_NAMED_LETTER = re.compile(
    r"(?:(?i:\banswer(?:\s+is)?|\boption|\bchoice)|答案是?|选项?)[\s:：*(\[（]*([A-Z])(?![A-Za-z0-9'])(?!\s+[a-z])"
    r"|[(（]([A-Z])[)）]"
)


def normal_text(text: str) -> str:
    """The text's words in lower case and plain width, one space between them; punctuation is gone."""
    return " ".join(_PIECE.findall(unicodedata.normalize("NFKC", text).casefold().replace("−", "-")))


def plain_answer(text: str) -> str:
    """The text without what wraps an answer: inside of the last `\\boxed{...}`, without "The answer is"."""
    boxed = _BOXED.findall(text)
    return _LABEL.sub("", boxed[-1] if boxed else text).strip()


def extract_choice(answer_text: str, choices: Sequence[str]) -> str | None:
    """The one of `choices` that the answer means, as it is written there, or None.

    Understood are a choice's text, its letter ("B", "B.", "(b)"), both ("B. cat") and a sentence that
    mentions exactly one choice or names exactly one letter ("The answer is B"). Case, width and punctuation
    do not matter. None if nothing or several are meant, or if letter and text disagree.
    """
    text = plain_answer(answer_text)
    keys = [normal_text(choice) for choice in choices]
    if len(set(keys)) < len(keys):
        keys = [" ".join(choice.casefold().split()) for choice in choices]  # they differ in punctuation only
    readings = set()
    if (index := _index_of_text(text, keys)) is not None:
        readings.add(index)
    if only := _ONLY_LETTER.fullmatch(text):
        readings.add(_index_of_letter(only[1], len(choices)))
    if not readings and (both := _LETTER_THEN_TEXT.fullmatch(text)):
        letter = _index_of_letter(both[1] or both[2], len(choices))
        # What follows a letter may explain it, and then mentions several choices or none.
        mentioned = _mentions(both[3], keys)
        readings |= mentioned if letter is None else {letter, *(mentioned if len(mentioned) == 1 else ())}
        readings |= _named_letters(both[3], len(choices))
    if not readings:
        readings = _named_letters(answer_text, len(choices)) or _mentions(text, keys)
    readings.discard(None)
    return choices[readings.pop()] if len(readings) == 1 else None


def _index_of_letter(letter: str, count: int) -> int | None:
    index = ord(letter.upper()) - ord("A")
    return index if index < count else None


def _named_letters(text: str, count: int) -> set[int | None]:
    return {_index_of_letter(a or b, count) for a, b in _NAMED_LETTER.findall(text)} - {None}


def _index_of_text(text: str, keys: Sequence[str]) -> int | None:
    for form in (normal_text(text), " ".join(text.casefold().split())):
        if form and keys.count(form) == 1:
            return keys.index(form)
    return None


def _mentions(text: str, keys: Sequence[str]) -> set[int]:
    """Indices of the keys that stand in the text as whole words and not inside a longer key's mention."""
    form = normal_text(text)
    spans = []
    for index, key in enumerate(keys):
        # Only ASCII words have edges; Chinese is written without spaces.
        pattern = rf"(?<![a-z0-9]){re.escape(key)}(?![a-z0-9])"
        spans += [(m.start(), m.end(), index) for m in re.finditer(pattern, form)] if key else []
    return {
        index
        for start, stop, index in spans
        if not any(a <= start and stop <= b and b - a > stop - start for a, b, _ in spans)
    }


_UNITS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
_UNITS = (*_UNITS.split(), "seventeen", "eighteen", "nineteen")
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_VALUES = {name: n for n, name in enumerate(_UNITS)} | {name: 20 + 10 * n for n, name in enumerate(_TENS)}
_UNIT_WORDS = "|".join(_UNITS[1:10])
_LONGEST_FIRST = "|".join(sorted(_UNITS, key=len, reverse=True))
_BELOW_HUNDRED = rf"(?:(?:{'|'.join(_TENS)})(?:[-\s]+(?:{_UNIT_WORDS}))?|{_LONGEST_FIRST})"
_NUMBER_WORDS = rf"(?:(?:(?:an?|{_UNIT_WORDS})\s+)?hundred(?:\s+(?:and\s+)?{_BELOW_HUNDRED})?|{_BELOW_HUNDRED})"
_NUMBER = re.compile(
    r"(?P<sign>(?<![\w)])-\s?|\b(?:minus|negative)\s+)?\$?(?:"
    r"(?<![a-z0-9_.])(?P<whole>\d+)\s+(?P<over>\d+/\d+)"
    r"|(?<![a-z0-9_.])(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?!\d)(?P<under>\s?/\s?\d+)?"
    rf"|(?<![a-z])(?P<words>{_NUMBER_WORDS})(?![a-z]))"
)
_STATED = re.compile(r"answer\s*(?:is|:|：)?|答案[是为:：]?", re.IGNORECASE)
_LONGEST = 40  # digits; a longer run is no answer, and arithmetic with it could take for ever


def extract_number(text: str) -> Fraction | None:
    """The number that the text states, exactly, or None.

    Understood are digits with thousands' commas and decimals, fractions ("3/4", "1 1/2"), signs ("-5",
    "minus five"), number words below one thousand, units and currency around the number. Of several numbers
    it is the first after the last "answer is"; without such words the last one, as in worked solutions.
    """
    boxed = _BOXED.findall(text)
    plain = unicodedata.normalize("NFKC", boxed[-1] if boxed else text).casefold()
    plain = plain.replace("−", "-").replace("⁄", "/")
    stated = list(_STATED.finditer(plain))
    if stated and (value := next(_numbers(plain[stated[-1].end() :]), None)) is not None:
        return value
    return next(iter(list(_numbers(plain))[::-1]), None)


def is_number(text: str) -> bool:
    """True if the text is one number and nothing else (a percent sign and a full stop may follow)."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("−", "-").strip().rstrip(".% ")
    return _NUMBER.fullmatch(plain) is not None


def _numbers(text: str) -> Iterator[Fraction]:
    for found in _NUMBER.finditer(text):
        if len(found[0]) <= _LONGEST or found["words"]:
            value = _value(found)
            if value is not None:
                yield -value if found["sign"] else value


def _value(found: re.Match[str]) -> Fraction | None:
    if found["words"]:
        hundreds, _, rest = found["words"].rpartition("hundred")
        value = 0
        if "hundred" in found["words"]:
            value = 100 * _VALUES.get(hundreds.strip(), 1)
        return Fraction(value + sum(_VALUES.get(word, 0) for word in re.split(r"[-\s]+", rest)))
    try:
        if found["whole"]:
            return Fraction(int(found["whole"])) + Fraction(found["over"])
        return Fraction(found["digits"].replace(",", "")) / int((found["under"] or "/1").strip(" /"))
    except ZeroDivisionError:
        return None
