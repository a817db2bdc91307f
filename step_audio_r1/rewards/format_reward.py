"""The format reward: is reasoning present? (section 7, R_audio leaves it undefined; this is our pin)."""

import re

from step_audio_r1.rewards.verdict import Verdict
from step_audio_r1.text import Parsed, normal_text

# Chinese is written without spaces, so each of its characters counts as a word.
_WORD = re.compile(r"[\u3400-\u9fff]|[^\s\u3400-\u9fff]+")


def reasoning_present(parsed: Parsed, question: str, min_think_tokens: int = 1) -> Verdict:
    """Scores 1.0 for a closed think block of `min_think_tokens` words or more that is not the question again.

    Words stand in for tokens, so that the score does not depend on a tokenizer. One is the least minimum.
    """
    if parsed.status == "truncated":
        return Verdict(0.0, "thinking never closed")
    if not parsed.think:
        return Verdict(0.0, "no reasoning")
    count = len(_WORD.findall(parsed.think))
    if count < max(1, min_think_tokens):
        return Verdict(0.0, f"{count} words of reasoning, {min_think_tokens} needed")
    said, asked = normal_text(parsed.think), normal_text(question)
    # Repeating the question, once or often, leaves nothing when every copy is taken out.
    if asked and not said.replace(asked, "").strip():
        return Verdict(0.0, "reasoning is a copy of the question")
    return Verdict(1.0, f"{count} words of reasoning")
