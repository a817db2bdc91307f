"""Is the answer right? One verifier for each kind of gold answer, and the rule that picks it."""

from collections.abc import Sequence

from step_audio_r1.rewards.verdict import Verdict
from step_audio_r1.text import extract_choice, extract_number, is_number, normal_text, plain_answer


def verify(answer_text: str | None, gold: str | None, choices: Sequence[str] = ()) -> Verdict:
    """Scores an answer 1.0 or 0.0 by the kind of its record: with choices, with a numeric gold, or free text.

    No answer is wrong. No gold, or a gold that is none of the choices, is an error of the data.
    """
    if gold is None or not gold.strip():
        return Verdict.failed("no gold answer")
    if choices:
        return verify_choice(answer_text, gold, choices)
    return verify_number(answer_text, gold) if is_number(gold) else verify_exact(answer_text, gold)


def verify_choice(answer_text: str | None, gold: str, choices: Sequence[str]) -> Verdict:
    """Scores an answer against one of `choices`. Gold names it by text or letter; else it is an error."""
    expected = gold if gold in choices else extract_choice(gold, choices)
    if expected is None:
        return Verdict.failed("the gold answer is none of the choices")
    if answer_text is None:
        return Verdict(0.0, "no answer")
    meant = extract_choice(answer_text, choices)
    if meant is None:
        return Verdict(0.0, "no single choice recognised")
    return Verdict(float(meant == expected), f"chose {meant!r}")


def verify_number(answer_text: str | None, gold: str) -> Verdict:
    """Scores an answer against a number, compared exactly. A gold without a number is an error."""
    expected = extract_number(gold)
    if expected is None:
        return Verdict.failed("the gold answer is no number")
    if answer_text is None:
        return Verdict(0.0, "no answer")
    stated = extract_number(answer_text)
    if stated is None:
        return Verdict(0.0, "no number recognised")
    return Verdict(float(stated == expected), f"stated {stated}")


def verify_exact(answer_text: str | None, gold: str) -> Verdict:
    """Scores free text: equal words in any case, width and punctuation ("The answer is" may precede)."""
    expected = normal_text(gold)
    if not expected:
        return Verdict.failed("the gold answer holds no words")
    if answer_text is None:
        return Verdict(0.0, "no answer")
    same = expected in (normal_text(answer_text), normal_text(plain_answer(answer_text)))
    return Verdict(float(same), "same words" if same else "other words")
