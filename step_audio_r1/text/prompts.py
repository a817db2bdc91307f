"""How a question is put into words for the model, alike in training data and on the command line."""

from collections.abc import Sequence

OPTIONS_MARK = "options :"
OPTION_SEPARATOR = " | "


def with_choices(text: str, choices: Sequence[str]) -> str:
    """The question with its allowed answers after it: "how does the speaker feel options : happy | sad".

    Without choices the question is open and comes back unchanged.
    """
    if not choices:
        return text
    return f"{text} {OPTIONS_MARK} {OPTION_SEPARATOR.join(choices)}"
