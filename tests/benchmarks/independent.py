"""The authors' rules a second time, for comparison with those of step_audio_r1/benchmarks, in another style on purpose.

Written from what is known of the authors' scripts and without a look at our scorers: loops over characters and tables
where those have regular expressions, the authors' rows where those have items. Each function takes a row of the
authors' file and a prediction, and says "correct", "wrong", "dropped" or "refused".
"""

from step_audio_r1.benchmarks import MISSING

UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def is_word(char):
    return char == "_" or char.isalnum()


def word_set(text):
    """The words of a lower-cased text: longest runs of letters, digits and underscores."""
    found, run = set(), ""
    for char in text.lower() + " ":
        if is_word(char):
            run += char
        elif run:
            found.add(run)
            run = ""
    return found


def _token_rule(options, answer, prediction):
    said, wanted, banned = word_set(prediction), word_set(answer), set()
    for option in options:
        words = word_set(option)
        if words != wanted:
            banned.update(word for word in words if word not in wanted)
    if len(said) == 0:
        return "wrong"
    for word in wanted:
        if word not in said:
            return "wrong"
    for word in said:
        if word in banned:
            return "wrong"
    return "correct"


def mmau(row, prediction):
    """MMAU: as MMAR, but a task or a difficulty that the script does not know ends it."""
    known = row["task"] in ("sound", "music", "speech") and row["difficulty"] in ("easy", "medium", "hard")
    return mmar(row, prediction) if known or prediction is MISSING else "refused"


def mmar(row, prediction):
    """MMAR: a record without the key is skipped, anything but a text ends the script."""
    if prediction is MISSING:
        return "dropped"
    if type(prediction) is not str:
        return "refused"
    return _token_rule(row["choices"], row["answer"], prediction)


def audiobench_mmau(row, prediction):
    """AudioBench's string match: options and answer begin with a letter in brackets, four characters in all."""
    if type(prediction) is not str:
        return "refused"
    answer = row["answer"]["text"] if type(row["answer"]) is dict else row["answer"]
    return _token_rule([choice[4:] for choice in row["choices"]], answer[4:], prediction)


def rubric(point_lists):
    """MMAR-Rubrics: replies of five calls, each the points given, to the mean of the middle three shares."""
    shares = []
    for points in point_lists:
        total = 0
        for point in points:
            total += point
        shares.append(total / len(points))
    least, most = shares.index(min(shares)), shares.index(max(shares))
    if least == most:  # all are the same
        return shares[0]
    middle = [share for place, share in enumerate(shares) if place not in (least, most)]
    return (middle[0] + middle[1] + middle[2]) / 3


def _plain_line(text):
    """Stripped of white space at both ends, then without newlines inside."""
    start, stop = 0, len(text)
    while start < stop and text[start].isspace():
        start += 1
    while stop > start and text[stop - 1].isspace():
        stop -= 1
    return "".join(char for char in text[start:stop] if char != "\n")


def _letter(line):
    """The first character if it is one of ABCD, else the last but one if that is."""
    for place in (0, -2):
        if len(line) >= abs(place) and line[place] in "ABCD":
            return line[place]
    return None


def mmsu(row, prediction):
    """MMSU: what is no text is dropped, what is empty is wrong, what has no letter is dropped."""
    if prediction is MISSING:
        return "wrong"
    if type(prediction) is not str:
        return "dropped"
    line = _plain_line(prediction)
    if line in ("", "None"):
        return "wrong"
    letter = _letter(line)
    if letter is None:
        return "dropped"
    return "correct" if row["choice_" + letter.lower()] == row["answer_gt"] else "wrong"


def airbench_foundation(row, prediction):
    """AIR-Bench Foundation: as MMSU, but what is empty is dropped too, and what is no text ends the script."""
    if type(prediction) is not str:
        return "refused"
    line = _plain_line(prediction)
    if line in ("", "None"):
        return "dropped"
    letter = _letter(line)
    if letter is None:
        return "dropped"
    for gold in "abcd":
        if row.get("choice_" + gold) == row["answer_gt"]:
            return "correct" if gold.upper() == letter else "wrong"
    return "refused"


# Besides their own two forms, these are what a letter matches where case is ignored.
FOLDED = {"İ": "i", "ı": "i", "ſ": "s", "K": "k"}


def _fold(char):
    return FOLDED.get(char, char.lower() if len(char.lower()) == 1 else char)


def skip_spaces(text, place):
    while place < len(text) and text[place].isspace():
        place += 1
    return place


def _letter_after(text, place):
    """A letter at `place` that no word goes on with, as a capital."""
    if place >= len(text) or _fold(text[place]) not in UPPER.lower():
        return None
    ends = place + 1 == len(text) or not is_word(text[place + 1])
    return text[place].upper() if ends else None


def _after_phrase(text, words, colon):
    """The letter after the first of these phrases that has one; words are apart by white space."""
    for begin in range(len(text)):
        place = begin
        for number, word in enumerate(words):
            after = skip_spaces(text, place)
            if (number and after == place) or "".join(map(_fold, text[after : after + len(word)])) != word:
                break
            if not number and after > place:
                break
            place = after + len(word)
        else:
            if colon:
                place += place < len(text) and text[place] in ":："
            after = skip_spaces(text, place)
            if (letter := _letter_after(text, after)) and (colon or after > place):
                return letter
    return None


PHRASES = (
    (("answer",), True),
    (("final answer",), True),
    (("answer", "is"), False),
    (("the answer is",), False),
    (("choice",), True),
    (("selected",), True),
)


def _lone_letters(text):
    """Capitals that are words, with a point or bracket after them if a word goes on behind it."""
    found, place = [], 0
    while place < len(text):
        if text[place] in UPPER and (place == 0 or not is_word(text[place - 1])):
            next1, next2 = text[place + 1 : place + 2], text[place + 2 : place + 3]
            if next1 in (".", ")") and next2 and is_word(next2):
                found.append(text[place])
                place += 2
                continue
            if not next1 or not is_word(next1):
                found.append(text[place])
        place += 1
    return found


def speechr_letter(options, label, text):
    """The letter that SpeechR's script reads in a text."""
    letters = UPPER[: len(options)]
    text = text.strip()
    lower = text.lower()
    for words, colon in PHRASES:
        letter = _after_phrase(text, words, colon)
        if letter and letter in letters:
            return letter
    lone = [letter for letter in _lone_letters(text.upper()) if letter in letters]
    if len(lone) == 1:
        return lone[0]
    names = [option.lower().strip().strip(".") for option in options]
    for letter, name in zip(letters, names, strict=True):
        if name in lower:
            return letter
    if set(names) not in ({"yes", "no"}, {"true", "false"}):
        return None
    yes, no = "yes" in lower or "true" in lower, "no" in lower or "false" in lower
    gold = names[label - 1]
    if yes != no and yes == (gold in ("yes", "true")):
        return letters[names.index(gold)]
    return None


def speechr(row, prediction):
    """SpeechR's multiple choice: what is empty or absent is an empty text, what else is no text ends the script."""
    if prediction is MISSING or not prediction:
        prediction = ""
    if type(prediction) is not str:
        return "refused"
    letter = speechr_letter(row["options"], row["label"], prediction)
    return "correct" if letter == UPPER[row["label"] - 1] else "wrong"


def voicebench_letter(templates, text):
    """The letter that VoiceBench's templates read; each has the letter's place as [CHOICE]. None for none."""
    text = text.lower()
    if text[:3] in ("<1>", "<2>", "<3>"):
        text = text[3:].strip()
    for template in templates:
        before, after = template.split("[CHOICE]")
        for letter in "abcd":
            if text.find(before + letter + after) >= 0:
                return letter.upper()
    for letter in "abcd":
        if text == letter or (text[:1] == letter and len(text) > 1 and text[1] in ".,:)"):
            return letter.upper()
    return None


def voicebench(templates, row, prediction):
    """VoiceBench's choices; where the script would draw a letter, the verdict is wrong."""
    if type(prediction) is not str:
        return "refused"
    return "correct" if voicebench_letter(templates, prediction) == row["reference"] else "wrong"
