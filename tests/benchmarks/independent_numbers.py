"""The authors' rules a second time, as in independent.py: numbers, and words for them, in replies."""

from independent import is_word

UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
)
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
NUMBER_WORDS = {word: number for number, word in enumerate(f"{UNITS} eighteen nineteen".split())}
NUMBER_WORDS |= {word: 10 * number for number, word in enumerate(TENS.split(), 2)}
DIGITS = "0123456789"


def _tokens(text):
    """(word, where it begins, what stands between it and the word before) of the words of a text."""
    found, begin, end = [], None, 0
    for place in range(len(text) + 1):
        if place < len(text) and is_word(text[place]):
            begin = place if begin is None else begin
        elif begin is not None:
            found.append((text[begin:place], begin, text[end:begin]))
            begin, end = None, place
    return found


def _last_validity(text):
    """Valid or invalid, the other one after "not" or "n't", between which and it one adverb may stand."""
    found, tokens = None, _tokens(text)
    for number, (word, _, gap) in enumerate(tokens):
        if word not in ("valid", "invalid"):
            continue
        before = tokens[:number]
        gaps = [gap]
        if before and before[-1][0].endswith("ly") and len(before[-1][0]) > 2 and before[-1][0] != "not":
            adverb, _, gap_before = before[-1]
            if all("a" <= char <= "z" for char in adverb) and len(adverb) <= 22:
                before, gaps = before[:-1], [gap, gap_before]
        negated = bool(before) and all(gap.isspace() and len(gap) < 5 for gap in gaps)
        if negated and before[-1][0] != "not":
            begun = before[-2][0] if len(before) > 1 else ""
            negated = before[-1][0] == "t" and before[-1][2] in ("'", "’") and begun.endswith("n")
        found = word if not negated else "invalid" if word == "valid" else "valid"
    return found


def _digits_at(text, place):
    """(number, where it ends) of digits that begin here: thousands apart by commas, decimals after a point."""
    stop = place + (text[place] == "-")
    groups, run = [], stop
    while stop < len(text) and text[stop] in DIGITS:
        stop += 1
    if not 0 < stop - run <= 15:
        return None
    groups.append(stop)
    while len(groups) < 5 and text[stop : stop + 1] == "," and len(text[stop + 1 : stop + 4].strip(DIGITS)) == 0:
        if len(text[stop + 1 : stop + 4]) < 3:
            break
        stop += 4
        groups.append(stop)
    for end in reversed(groups):
        decimals = end + 1
        while decimals < len(text) and text[decimals] in DIGITS:
            decimals += 1
        for last in (decimals, end):
            if last == decimals and (text[end : end + 1] != "." or not 1 <= decimals - end - 1 <= 15):
                continue
            if last == len(text) or not is_word(text[last]):
                return text[place:last], last
    return None


def _last_number(text):
    """The last number of a text, in digits or in words up to one hundred and ninety-nine."""
    found, place = None, 0
    while place < len(text):
        before = text[place - 1] if place else " "
        if (text[place] in DIGITS or text[place] == "-") and not is_word(before) and before != ".":
            number = _digits_at(text, place)
            if number:
                whole, _, decimals = _without(number[0], ",").partition(".")
                decimals = decimals.rstrip("0")
                found, place = str(int(whole)) + (f".{decimals}" if decimals else ""), number[1]
                continue
        place += 1
    return found


def _number_words(tokens):
    """(where it begins, value) of numbers in words."""
    found, number = [], 0

    def follows(place, spaces=False):
        gap = tokens[place][2] if place < len(tokens) else ""
        return len(gap) == 1 and (gap.isspace() or (gap == "-" and not spaces))

    def below_hundred(place):
        value = NUMBER_WORDS.get(tokens[place][0]) if place < len(tokens) else None
        if value is None:
            return None, place
        if value >= 20 and follows(place + 1) and 0 < NUMBER_WORDS.get(tokens[place + 1][0], 0) < 10:
            return value + NUMBER_WORDS[tokens[place + 1][0]], place + 2
        return value, place + 1

    while number < len(tokens):
        value, after = below_hundred(number)
        if tokens[number][0] in ("one", "a") and follows(number + 1) and tokens[number + 1][0] == "hundred":
            value, after = 100, number + 2
            if follows(after):
                joined = tokens[after][0] == "and" and follows(after + 1, spaces=True)
                more, end = below_hundred(after + 1 if joined else after)
                if more is not None:
                    value, after = 100 + more, end
        if value is not None:
            found.append((tokens[number][1], str(value)))
        number = max(after, number + 1)
    return found


def big_bench_audio(category, reply):
    """What our matcher shall read in a reply to Big Bench Audio: the last of the category's words. None for none."""
    text = reply.lower()
    if category == "formal_fallacies":
        return _last_validity(text)
    tokens = _tokens(text)
    if category == "object_counting":
        words = _number_words(tokens)
        rest = text if not words else text[words[-1][0] :]
        return _last_number(rest) or (words[-1][1] if words else _last_number(text))
    said = [word for word, _, _ in tokens if word in ("yes", "no")]
    return said[-1] if said else None


TRIGGERS = ("The answer is:", "The answer is", "the answer is", "####")


def _cut_at_triggers(text):
    """What stands after the last trigger, and whether there is one."""
    start, place, found = 0, 0, False
    while place < len(text):
        for trigger in TRIGGERS:
            if text.startswith(trigger, place):
                place += len(trigger)
                start, found = place, True
                break
        else:
            place += 1
    return text[start:], found


def _numbers(text):
    """A sign if a digit follows, digits, a slash or none, a point or none, digits or none."""
    found, place = [], 0
    while place < len(text):
        stop = place + 1 if text[place] == "-" else place
        if stop >= len(text) or not text[stop].isdecimal():
            place += 1
            continue
        while stop < len(text) and text[stop].isdecimal():
            stop += 1
        for mark in "/.":
            if stop < len(text) and text[stop] == mark:
                stop += 1
        while stop < len(text) and text[stop].isdecimal():
            stop += 1
        found.append(text[place:stop])
        place = stop
    return found


def _whole_literal(text):
    """A whole number as Python's source may have it; None for what it may not."""
    if not text or not all(char in "0123456789" for char in text) or len(text) > 4300:
        return None
    return None if text[0] == "0" and text.strip("0") else int(text)


def _quotient(text):
    """The value of a/b as Python's source would have it; None where that ends in an error."""
    sign = -1 if text[:1] == "-" else 1
    above, slash, below = text.removeprefix("-").partition("/")
    upper = _whole_literal(above)
    if not slash or upper is None:
        return None
    if below[:1] == "." and below[1:] and all(char in "0123456789" for char in below[1:]):
        lower = float(below)
    else:
        lower = _whole_literal(below)
    if lower is None or lower == 0:
        return None
    try:
        return sign * upper / lower
    except OverflowError:
        return None


def normal_number(text):
    """A number in the authors' form: no zeros at the end, of the exponent too, no bare point."""
    try:
        value = float(text)
    except ValueError:
        value = _quotient(text)
        if value is None:
            return text
    digits = str(value)
    while digits[-1] == "0":
        digits = digits[:-1]
    return str(int(digits[:-1])) if digits[-1] == "." else str(float(digits))


def _without(text, char):
    return "".join(c for c in text if c != char)


def mathematics(prediction):
    """What Spoken-MQA's script reads in a prediction."""
    text = prediction.strip("\n")
    if any(text.count(trigger) > 1 for trigger in TRIGGERS):
        blank = text.find("\n\n")
        text = text if blank < 0 else text[:blank]
    text, flagged = _cut_at_triggers(text)
    text = _without(text.strip("\n").rstrip(".").rstrip("/").strip(" "), ",")
    numbers = _numbers(text)
    if not numbers:
        return "empty"
    chosen = numbers[0] if flagged else numbers[-1]
    return (normal_number(chosen).rstrip(".").rstrip("/") or "empty")[:100]


def spoken_mqa(row, prediction):
    """Spoken-MQA: number match with the first reference."""
    if type(prediction) is not str:
        return "refused"
    reference = row["answer"]["text"]
    if isinstance(reference, list):
        reference = reference[0]
        if "####" in reference:
            place = reference.rfind("#### ")
            reference = _without(reference if place < 0 else reference[place + 5 :], ",")
        reference = normal_number(reference)
    return "correct" if mathematics(prediction).lower() == reference.lower() else "wrong"
