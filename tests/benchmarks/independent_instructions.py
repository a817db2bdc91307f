"""The authors' rules a second time, as in independent.py: instructions that a reply keeps or not."""

from independent import UPPER, is_word, skip_spaces

from step_audio_r1.benchmarks import MISSING


def _pieces(text, mark):
    """Of a text between marks, those that are not blank."""
    found, start = 0, 0
    while True:
        stop = text.find(mark, start)
        part = text[start:] if stop < 0 else text[start:stop]
        found += bool(part.strip())
        if stop < 0:
            return found
        start = stop + len(mark)


def _only(text, spaces):
    """ASCII letters in lower case, and spaces if wanted."""
    kept = [char for char in text if char in UPPER or char in UPPER.lower() or (spaces and char == " ")]
    return "".join(kept).lower()


def _spans(text, opening, closing, barred):
    """How many times `opening`, at least one character none of which is `barred`, then `closing`."""
    found = start = 0
    while (begin := text.find(opening, start)) >= 0:
        inner = begin + len(opening)
        bar = text.find(barred, inner)
        if bar < 0:
            return found
        if bar > inner and text.startswith(closing, bar):
            found, start = found + 1, bar + len(closing)
        else:
            start = begin + 1
    return found


def _bullets(text):
    """Stars that begin a line, but for white space, and that white space follows; it is part of the bullet."""
    found = place = 0
    while place < len(text):
        if place == 0 or text[place] == "\n":
            star = skip_spaces(text, place)
            after = skip_spaces(text, star + 1)
            if text[star : star + 1] == "*" and after > star + 1:
                found, place = found + 1, after
            else:
                place = max(star, place + 1)
        else:
            place += 1
    return found


def _whole_words(text, keyword):
    """How often a keyword stands in a text with a word's edge at both of its ends."""
    text, keyword = text.lower(), keyword.lower()

    def edge(place):
        before = place > 0 and is_word(text[place - 1])
        after = place < len(text) and is_word(text[place])
        return before != after

    found = place = 0
    while (place := text.find(keyword, place)) >= 0:
        if edge(place) and edge(place + len(keyword)):
            found += 1
            place += len(keyword)
        else:
            place += 1
    return found


def _within(count, rule, kwargs):
    if "at least" in rule:
        return count >= kwargs["N"]
    if "at most" in rule:
        return count <= kwargs["N"]
    return kwargs["N1"] <= count <= kwargs["N2"]


def instruction(row, text):
    """Whether a reply keeps MMAU-Pro's instruction, for all but the sentence counts."""
    rule, kwargs = row["task_identifier"], row["kwargs"] or {}
    low = text.lower()
    if rule == "Include Keywords":
        return all(word.lower() in low for word in kwargs["keywords"].split(", "))
    if rule == "Forbidden Words":
        return all(word.lower() not in low for word in kwargs["forbidden_words"].split(", "))
    if rule == "Keyword Frequency":
        return _whole_words(text, kwargs["keyword"]) == kwargs["N"]
    if rule == "Number Paragraphs":
        return _pieces(text, "***") == kwargs["N"]
    if rule.startswith("Number Words"):
        return _within(len(text.split()), rule, kwargs)
    if rule.startswith("All-capital Words"):
        return _within(sum(word.isupper() for word in text.split()), rule, kwargs)
    if rule == "Postscript":
        return _only(kwargs["postscript_marker"], False) in _only(text, False)
    if rule == "Number Placeholder":
        return _spans(text, "[", "]", "]") >= kwargs["N"]
    if rule == "Number Bullets":
        return _bullets(text) == kwargs["N"]
    if rule == "Title":
        return _spans(text, "<<", ">>", ">") > 0
    if rule == "Minimum Number Highlighted Section":
        return _spans(text, "*", "*", "*") >= kwargs["N"]
    if rule == "Multiple Sections":
        return _pieces(text.strip(), kwargs["section_splitter"]) == kwargs["N"]
    if rule == "Repeat Prompt":
        return low.strip().startswith(row["question"].lower().strip())
    if rule == "Two Responses":
        halves = text.split("******")
        return len(halves) == 2 and halves[0].lower().strip() != halves[1].lower().strip()
    if rule == "All Uppercase":
        return text.isupper()
    if rule == "All Lowercase":
        return text.islower()
    if rule == "Quotation":
        bare = text.strip()
        return bare[:1] == '"' and bare[-1:] == '"'
    if rule == "No Commas":
        return all(char != "," for char in text)
    if rule == "Start Checker":
        return _only(text, True).startswith(_only(kwargs["start_phrase"], True))
    if rule == "End Checker":
        return _only(text, True).endswith(_only(kwargs["end_phrase"], True))
    return False


def mmau_pro_instruction(row, prediction):
    """MMAU-Pro's instruction rows: whatever is no text is scored as Python prints it, so null is "None"."""
    if prediction is MISSING:
        return "wrong"
    return "correct" if instruction(row, str(prediction)) else "wrong"
