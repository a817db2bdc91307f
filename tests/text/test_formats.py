"""Promise: every output form is read as it was meant, cut-off thinking has no answer, nothing raises."""

import random

import pytest

from step_audio_r1.errors import BadInput
from step_audio_r1.text.formats import FORMATS, Parsed, format_named, parse


@pytest.mark.parametrize("form", FORMATS.values(), ids=list(FORMATS))
def test_what_is_written_is_read_with_and_without_the_opening_tag(form):
    text = form.render("low pitch\nso sad", "sad")
    expected = Parsed("low pitch\nso sad", "sad", "complete")
    assert parse(text) == parse(text.removeprefix(form.generation_prefix)) == expected
    assert parse(form.empty_think + "sad" + form.end) == Parsed("", "sad", "no_think")
    assert form.render("", "sad").startswith(form.empty_think)


def test_the_default_format_is_the_published_one():
    form = format_named("think")
    assert form.render("r", "a") == "<think>\nr\n</think>\na"
    assert (form.generation_prefix, form.empty_think) == ("<think>\n", "<think>\n\n</think>\n")
    with pytest.raises(BadInput, match="thinking_response"):
        format_named("xml")


@pytest.mark.parametrize(
    ("text", "think", "answer", "status"),
    [
        ("<think>\nr\n</think>\n<RESPONSE>\nB\n</RESPONSE>", "r", "B", "complete"),
        ("r</think>It sounds low. <RESPONSE>B</RESPONSE>", "r", "B", "complete"),
        ("r</think><RESPONSE>B", "r", "B", "complete"),
        ("<thinking>\nr\n</thinking>\nResponse: sad", "r", "sad", "complete"),
        ("<thinking>r</thinking>\nIn short.\n**Response:** sad\n", "r", "sad", "complete"),
        ("<THINK>r</Think >\na", "r", "a", "complete"),
        ("<think>r</thinking>a", "r", "a", "complete"),
        ("  \n<think>\n \n</think>\n\na", "", "a", "no_think"),
        ("<think>r</think>\n \n", "r", None, "no_answer"),
        ("<think>r</think><response></response>", "r", None, "no_answer"),
        ("<think>\nr and more r", "r and more r", None, "truncated"),
        ("no tags", "no tags", None, "truncated"),
        ("<response>B</response>", "B", None, "truncated"),
        ("", None, None, "truncated"),
        ("<think><think>r</think>a", "r", "a", "malformed"),
        ("<think>r</think>a</think>", "r", "a", "malformed"),
        ("<think>r</think><think>s</think>a", "r", "sa", "malformed"),
        ("hm <think>r</think>a", "hm r", "a", "malformed"),
    ],
)
def test_known_forms(text, think, answer, status):
    assert parse(text) == Parsed(think, answer, status)


def test_the_annotation_defect_is_flagged():
    assert parse('r\n</think>\n{"model":"some-provider","prompt":"请仔细聆听').annotation_json
    assert parse("r</think>```json\n{ 'transcription': 'hi'}```").annotation_json
    assert not parse('r</think>{"answer": "B"}').annotation_json
    assert not parse("r</think>The model: B").annotation_json


def test_no_assembly_of_tags_and_words_raises_or_changes_its_mind():
    rng = random.Random(0)
    pieces = ["<think>", "</think>", "<thinking>", "</thinking>", "<response>", "</response>", "<RESPONSE>"]
    pieces += [
        "Response:",
        "</",
        "<",
        ">",
        "think",
        "\n",
        " ",
        "word",
        "慢",
        "\x00",
        '{"model":',
        "\ud800",
        "<think >",
    ]
    for _ in range(3000):
        text = "".join(rng.choice(pieces) for _ in range(rng.randrange(14)))
        parsed = parse(text)
        assert parsed == parse(text)
        closed = parsed.status != "truncated"
        assert closed == any(tag in text.lower() for tag in ("</think>", "</thinking>"))
        assert (parsed.answer is not None) == (parsed.status in ("complete", "no_think", "malformed"))
        assert parsed.answer is None or parsed.answer.strip() == parsed.answer != ""


def test_long_hostile_text_is_read_in_linear_time():
    for piece in ("<response>", "<think", "</think>", "Response:", "\n* ", "< "):
        parse("</think>" + piece * 20_000)
