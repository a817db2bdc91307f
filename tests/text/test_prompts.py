"""Promise: a question is put as the model was taught to be asked, word for word and in the order it needs."""

import pytest
from public_tokenizer import public_tokenizer

from step_audio_r1.errors import BadInput
from step_audio_r1.text import PROMPT_STYLES, Audio, Message, Text, question_parts, render

PUBLISHED = (
    "What is heard?\n"
    "Please choose the answer from the following options, do not provide any additional explanations or content: \n"
    "A. a dog\n"
    "B. 门\n"
)


@pytest.mark.parametrize(
    ("style", "choices", "parts"),
    [
        ("step_audio", ("a dog", "门"), (Text(PUBLISHED), Audio("a"), Audio("b"))),
        ("step_audio", (), (Text("What is heard?"), Audio("a"), Audio("b"))),
        ("world", ("a dog", "门"), (Audio("a"), Audio("b"), Text("What is heard? options : a dog | 门"))),
        ("world", (), (Audio("a"), Audio("b"), Text("What is heard?"))),
    ],
)
def test_each_style_has_its_wording_and_its_order(style, choices, parts):
    assert question_parts("What is heard?", choices, ["a", "b"], style) == parts


def test_the_public_style_ends_in_the_audio_when_rendered():
    tokenizer = public_tokenizer()
    parts = question_parts("What is heard?", ("a dog", "门"), ["a"], "step_audio")
    text = tokenizer.decode(render((Message("human", parts),), tokenizer, [[2]]).tokens)
    audio = "<audio_start><audio_patch><audio_patch><audio_end>"
    assert text == f"<|BOT|>human\n{PUBLISHED}{audio}<|EOT|><|BOT|>assistant\n<think>\n"


@pytest.mark.parametrize("style", list(PROMPT_STYLES))
def test_what_is_not_there_leaves_no_part(style):
    assert question_parts("", (), ["a"], style) == (Audio("a"),)
    assert question_parts("why", (), [], style) == (Text("why"),)


def test_letters_and_styles_run_out_in_one_line():
    choices = [f"choice {i}" for i in range(27)]
    assert question_parts("q", choices[:26], [], "step_audio")[0].text.endswith("\nZ. choice 25\n")
    assert question_parts("q", choices, [], "world")[0].text.endswith("| choice 26")
    for count, style in ((27, "step_audio"), (2, "publik")):
        with pytest.raises(BadInput) as caught:
            question_parts("q", choices[:count], ["a"], style)
        assert "\n" not in str(caught.value)
