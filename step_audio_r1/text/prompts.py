"""How a question is put into words for the model, alike in training data and on the command line."""

import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from step_audio_r1.errors import BadInput
from step_audio_r1.text.messages import Audio, Text

OPTIONS_MARK = "options :"
OPTION_SEPARATOR = " | "


def with_choices(text: str, choices: Sequence[str]) -> str:
    """The question with its allowed answers after it: "how does the speaker feel options : happy | sad".

    Without choices the question is open and comes back unchanged.
    """
    if not choices:
        return text
    return f"{text} {OPTIONS_MARK} {OPTION_SEPARATOR.join(choices)}"


def _with_lettered_choices(text: str, choices: Sequence[str]) -> str:
    """The published wording (section 5.4). Raises BadInput if there are more choices than letters."""
    if not choices:
        return text
    letters = string.ascii_uppercase
    if len(choices) > len(letters):
        raise BadInput(f"choices: {len(choices)} of them; letters name {len(letters)} at most, give fewer")
    options = "".join(f"{letter}. {choice}\n" for letter, choice in zip(letters, choices))
    request = (
        "Please choose the answer from the following options, do not provide any additional explanations or content:"
    )
    return f"{text}\n{request} \n{options}"


@dataclass(frozen=True)
class PromptStyle:
    """How a model was taught to be asked. The public weights collapse if the audio does not come last (section 14).

    Attributes:
      name: how configs call it.
      put: (question, choices) to the text of the message.
      audio_first: whether the recordings stand before that text or after it.
    """

    name: str
    put: Callable[[str, Sequence[str]], str]
    audio_first: bool


PROMPT_STYLES = {
    style.name: style
    for style in (
        PromptStyle("world", with_choices, audio_first=True),
        PromptStyle("step_audio", _with_lettered_choices, audio_first=False),
    )
}


def question_parts(question: str, choices: Sequence[str], clips: Sequence[str], style: str) -> tuple[Text | Audio, ...]:
    """The parts of the human message that asks `question`, with `choices` if it is not open, about `clips` (their ids).

    A question without words or choices is asked by the recordings alone.

    Raises:
      BadInput: an unknown style; in the style "step_audio", more than 26 choices.
    """
    if style not in PROMPT_STYLES:
        raise BadInput(f"prompt_style: unknown {style!r}; known are {', '.join(PROMPT_STYLES)}")
    known = PROMPT_STYLES[style]
    text = known.put(question, choices)
    words = (Text(text),) if text else ()
    audio = tuple(Audio(clip) for clip in clips)
    return (*audio, *words) if known.audio_first else (*words, *audio)
