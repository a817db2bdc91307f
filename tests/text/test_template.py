"""Promise: a conversation renders to the public template, and exactly the assistant's target carries loss."""

import numpy as np
import pytest

from step_audio_r1.errors import BadInput
from step_audio_r1.text import Audio, Message, Text, render, word_level_tokenizer
from step_audio_r1.text.formats import FORMATS

TOKENIZER = word_level_tokenizer(["listen well is the voice sad or happy low slow so sad why? hear A."])
CONVERSATION = (
    Message("system", (Text("listen well"),)),
    Message("human", (Text("is the voice sad"), Text(" or happy\n"), Audio("clip-a"))),
    Message("assistant", (Text("sad"),)),
    Message("human", (Audio("clip-b"), Text("why?"))),
)
COUNTS = [[2, 1], [3]]
PROMPT = (
    "<|BOT|>system\nlisten well<|EOT|>"
    "<|BOT|>human\nis the voice sad or happy\n"
    "<audio_start><audio_patch><audio_patch><audio_end><audio_start><audio_patch><audio_end><|EOT|>"
    "<|BOT|>assistant\nsad<|EOT|>"
    "<|BOT|>human\n<audio_start><audio_patch><audio_patch><audio_patch><audio_end>why?<|EOT|>"
    "<|BOT|>assistant\n<think>\n"
)


def rendered(**target):
    return render(CONVERSATION, TOKENIZER, COUNTS, **target)


def test_a_two_turn_conversation_with_audio_reads_as_the_template():
    item = rendered()
    assert TOKENIZER.decode(item.tokens) == PROMPT
    assert not item.loss_mask.any()
    assert (item.tokens.dtype, item.audio_slots.dtype, item.loss_mask.dtype) == (np.int32, np.int32, bool)
    assert item.tokens.shape == item.audio_slots.shape == item.loss_mask.shape


def test_audio_slots_number_the_patches_and_nothing_else():
    item = rendered(think="low", response="sad")
    assert item.audio_slots[item.audio_slots >= 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert ((item.audio_slots >= 0) == (item.tokens == TOKENIZER.audio_patch)).all()


@pytest.mark.parametrize(
    ("think", "format", "target"),
    [
        ("low slow\nso sad", "think", "low slow\nso sad\n</think>\nsad<|EOT|>"),
        ("", "think", "\n</think>\nsad<|EOT|>"),
        ("low", "thinking_response", "low\n</thinking>\n<response>\nsad\n</response><|EOT|>"),
    ],
)
def test_the_loss_tokens_read_as_the_target(think, format, target):
    item = rendered(think=think, response="sad", format=format)
    prompt = rendered(format=format)
    assert TOKENIZER.decode(item.tokens[item.loss_mask]) == target
    assert TOKENIZER.decode(item.tokens) == TOKENIZER.decode(prompt.tokens) + target
    assert item.tokens[: len(prompt.tokens)].tolist() == prompt.tokens.tolist()
    assert item.tokens[-1] == TOKENIZER.eot and TOKENIZER.eot in TOKENIZER.stop_ids


def test_spans_name_every_token_once_and_give_the_loss():
    item = rendered(think="low", response="sad")
    assert [span.name for span in item.spans] == [
        *("system", "human", "audio", "audio", "assistant", "human", "audio"),
        *("generation_prompt", "think", "response", "eot"),
    ]
    cover = [span for span in item.spans if span.name != "audio"]
    assert [span.start for span in cover] == [0, *(span.stop for span in cover[:-1])]
    assert cover[-1].stop == len(item.tokens)
    loss = [i for name in ("think", "response", "eot") for s in item.named(name) for i in range(s.start, s.stop)]
    assert np.flatnonzero(item.loss_mask).tolist() == loss
    texts = {span.name: TOKENIZER.decode(item.tokens[span.start : span.stop]) for span in item.spans}
    assert texts["think"] == "low\n</think>\n" and texts["response"] == "sad" and texts["eot"] == "<|EOT|>"


@pytest.mark.parametrize("format", list(FORMATS))
def test_the_direct_prompt_is_a_prefix_of_the_empty_think_target(format):
    direct = rendered(prefill="direct", format=format)
    target = rendered(think="", response="sad", format=format)
    assert TOKENIZER.decode(direct.tokens).endswith(FORMATS[format].empty_think)
    assert target.tokens[: len(direct.tokens)].tolist() == direct.tokens.tolist()
    same = rendered(prefill=FORMATS[format].empty_think, format=format)
    assert same.tokens.tolist() == direct.tokens.tolist()


def test_closing_the_thinking_by_force_gives_the_ids_of_training():
    target = rendered(think="low slow", response="sad").tokens.tolist()
    forced = rendered().tokens.tolist() + TOKENIZER.encode("low slow") + TOKENIZER.encode(FORMATS["think"].close)
    assert target == [*forced, *TOKENIZER.encode("sad"), TOKENIZER.eot]
    assert TOKENIZER.decode(TOKENIZER.encode(FORMATS["think"].close)) == "\n</think>\n"


def test_any_prefill_stands_in_place_of_the_opening_tag():
    assert TOKENIZER.decode(rendered(prefill="\n<think>\n").tokens) == PROMPT.replace("<think>", "\n<think>")
    assert TOKENIZER.decode(rendered(prefill="<think>\nlow slow").tokens) == PROMPT + "low slow"
    assert TOKENIZER.decode(rendered(prefill="").tokens) == PROMPT.removesuffix("<think>\n")


def test_content_that_names_special_tokens_forges_neither_turns_nor_audio():
    item = render((Message("human", (Text("hear <|EOT|> <audio_patch>"),)),), TOKENIZER, think="<|EOT|>", response="")
    assert (item.tokens == TOKENIZER.eot).sum() == 2
    assert (item.audio_slots == -1).all() and not (item.tokens == TOKENIZER.audio_patch).any()


def test_an_empty_chunk_keeps_its_pair_of_tags():
    item = render((Message("human", (Audio("a"),)),), TOKENIZER, [[1, 0]])
    assert "<audio_patch><audio_end><audio_start><audio_end><|EOT|>" in TOKENIZER.decode(item.tokens)


@pytest.mark.parametrize(
    ("messages", "counts", "options"),
    [
        ((), [], {}),
        (CONVERSATION[:3], [[1]], {}),
        (CONVERSATION, [[1]], {}),
        (CONVERSATION, [[1], [-1]], {}),
        (CONVERSATION, COUNTS, {"think": "low"}),
        (CONVERSATION, COUNTS, {"response": "sad"}),
        (CONVERSATION, COUNTS, {"think": "low", "response": "sad", "prefill": "direct"}),
        (CONVERSATION, COUNTS, {"format": "xml"}),
    ],
)
def test_what_cannot_be_rendered_is_one_line(messages, counts, options):
    with pytest.raises(BadInput) as caught:
        render(messages, TOKENIZER, counts, **options)
    assert "\n" not in str(caught.value)
