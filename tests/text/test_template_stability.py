"""Promise: conversations read as the public template has them, and no id changes because of what follows."""

import jinja2
import numpy as np
import pytest
from public_tokenizer import public_tokenizer

from step_audio_r1.text import FORMATS, Audio, Message, Text, render, word_level_tokenizer

TOKENIZERS = {"words": word_level_tokenizer(["low slow sad why? A. listen well. x the voice is happy"])}
TOKENIZERS["bytes"] = public_tokenizer()
# Where byte-level BPE joins what meets: closing signs with newlines, newlines with newlines, spaces with words.
PIECES = ["low", " slow", "sad.", "x > 0:", " ", "  ", "\t", "\n", "\n\n", "\r\n", ".", "。", "!", ">", "</", "<", "/"]
PIECES += ["</p>\n", "声音很低", "慢", "😀", "e\u0301", "\u0301", "'s", "4", "```py\n    return x\n", "print('</a>')\n"]
PIECES += ["<think>", "</think>", "\n</think>\n", "</thinking>", "\n<response>\n", "<|EOT|>", "<audio_patch>"]


def random_text(rng: np.random.Generator) -> str:
    return "".join(rng.choice(PIECES, size=rng.integers(0, 7)))


def begins(longer, shorter) -> bool:
    return longer.tokens[: len(shorter.tokens)].tolist() == shorter.tokens.tolist()


@pytest.mark.parametrize("format", list(FORMATS))
@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_longer_conversation_begins_with_the_ids_of_the_shorter(name, format):
    tokenizer, form = TOKENIZERS[name], FORMATS[format]
    rng = np.random.default_rng(0)
    for _ in range(300):
        asked, again, think, response = (random_text(rng) for _ in range(4))
        if rng.random() < 0.3:
            think = ""
        human = Message("human", (Text(asked), Audio("a"), Text(asked)) if rng.random() < 0.5 else (Text(asked),))
        first = (Message("system", (Text(again),)), human)[int(rng.integers(2)) :]
        counts = [[2, 1]] if len(human.parts) > 1 else []
        answer = form.render(think, response)
        cut = int(rng.integers(len(answer) + 1))  # parts are joined, so where they are cut means nothing
        history = Message("assistant", (Text(answer[:cut]), Text(answer[cut:])))
        second = (*first, history, Message("human", (Audio("b"), Text(again))))

        prompt = render(first, tokenizer, counts, format=format)
        turn = render(first, tokenizer, counts, think=think, response=response, format=format)
        longer = render(second, tokenizer, [*counts, [3]], format=format)
        longest = render(second, tokenizer, [*counts, [3]], think=again, response=asked, format=format)
        assert begins(turn, prompt) and begins(longer, turn) and begins(longest, longer), (asked, think, response)
        if not think:
            direct = render(first, tokenizer, counts, prefill="direct", format=format)
            assert begins(turn, direct) and begins(direct, prompt)
        # The next turn may ask for the other format.
        other = next(other for other in FORMATS if other != format)
        assert begins(render(second, tokenizer, [*counts, [3]], format=other), turn)


def test_the_pieces_meet_where_byte_level_bpe_would_join_them():
    """The property above says something: in one run the same text has other ids."""
    tokenizer = TOKENIZERS["bytes"]
    for think, response in (("\nlow", "sad"), ("low", "\n\nsad")):
        turn = render((Message("human", (Text("why?"),)),), tokenizer, think=think, response=response)
        assert tokenizer.encode(tokenizer.decode(turn.tokens)) != turn.tokens.tolist()


# Section 5.2, stated again.
TEMPLATE = jinja2.Environment(keep_trailing_newline=True).from_string(
    "{% for message in messages %}<|BOT|>{{ message.role }}\n"
    "{% for part in message.parts %}"
    "{% if part.clip is defined %}<audio_start><audio_patch><audio_end>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}"
    "{% if not (loop.last and message.role == 'assistant') %}<|EOT|>{% endif %}"
    "{% endfor %}"
    "{% if messages[-1].role != 'assistant' %}<|BOT|>assistant\n<think>\n{% endif %}"
)
SYSTEM = Message("system", (Text("你是一个语音助手。"),))
QUESTION_FIRST = Message("human", (Text("why?\nA. sad\nB. happy\n"), Audio("a")))
AUDIO_FIRST = Message("human", (Audio("b"), Text(" the voice is low.\n")))
BOTH = Message("human", (Text("low "), Audio("a"), Text("\n\n"), Audio("b"), Text("x > 0")))
REPLY = Message("assistant", (Text("<think>\nlow.\n\n</think>\n\nsad 😀"),))
PLAIN = Message("assistant", (Text("\nsad</p>\n"),))


@pytest.mark.parametrize(
    "messages",
    [
        (QUESTION_FIRST,),
        (SYSTEM, AUDIO_FIRST),
        (BOTH, REPLY, QUESTION_FIRST),
        (SYSTEM, QUESTION_FIRST, REPLY, AUDIO_FIRST, PLAIN, BOTH),
        (Message("human", (Audio("a"), Audio("b"))), Message("assistant", ()), Message("human", (Text(""),))),
    ],
)
def test_what_is_decoded_is_what_the_public_template_renders(messages):
    tokenizer = TOKENIZERS["bytes"]
    clips = sum(isinstance(part, Audio) for message in messages for part in message.parts)
    chunks = [[3], [2, 0], [1]]
    counts = [chunks[k % 3] for k in range(clips)]
    blocks = ["".join(f"<audio_start>{'<audio_patch>' * n}<audio_end>" for n in count) for count in counts]

    def public(messages) -> str:
        head, *rest = TEMPLATE.render(messages=messages).split("<audio_start><audio_patch><audio_end>")
        return head + "".join(block + text for block, text in zip(blocks, rest, strict=True))

    assert tokenizer.decode(render(messages, tokenizer, counts).tokens) == public(messages)
    # The target is the last turn, which the public template leaves open.
    target = render(messages, tokenizer, counts, think="low. ", response=" sad")
    last = Message("assistant", (Text(FORMATS["think"].render("low. ", " sad")),))
    assert tokenizer.decode(target.tokens) == public((*messages, last)) + "<|EOT|>"
