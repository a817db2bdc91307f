"""Promise: the thinking is seen to close exactly where its text closes, and is closed by force with the rest of it."""

from collections.abc import Iterator

import numpy as np
import pytest
from public_tokenizer import public_tokenizer

from step_audio_r1.errors import BadInput
from step_audio_r1.text import FORMATS, TextMarker, Tokenizer, word_level_tokenizer

# Words that are parts of tags: between two of them stands a space, so they spell no tag.
PARTS = "</ think> </thi nk> < > x< </think>x k>\ny slow"
TOKENIZERS = {"words": word_level_tokenizer([PARTS, "slow low"]), "bytes": public_tokenizer()}
TEXTS = sorted({text for form in FORMATS.values() for text in (form.close, form.closing_tag)})


def longest_beginning(text: str, marker: str) -> int:
    """The definition of a state: found once it stays, else the longest suffix that begins the marker."""
    if marker in text:
        return len(marker)
    return max(k for k in range(len(marker)) if text.endswith(marker[:k]))


def telling_sequences(tokenizer: Tokenizer, marker: str, count: int) -> Iterator[list[int]]:
    """Random ids, most of which have to do with the marker, often several in its own order."""
    rng = np.random.default_rng(0)
    spellings = tokenizer.spellings()
    tokens = [i for i, text in enumerate(spellings) if text]
    near = [i for i in tokens if spellings[i] in marker or set(spellings[i]) & set("<>\n")]
    for _ in range(count):
        ids, at = [], 0
        for _ in range(rng.integers(1, 10)):
            kind = rng.random()
            if kind < 0.6:
                start = at if kind < 0.5 else int(rng.integers(len(marker)))
                at = int(rng.integers(start, len(marker) + 1))
                ids += tokenizer.encode(marker[start:at])
            else:
                ids.append(int(rng.choice(near if kind < 0.9 else tokens)))
        yield ids


@pytest.mark.parametrize(
    ("name", "text"),
    [(name, text) for name in TOKENIZERS for text in TEXTS] + [("bytes", text) for text in ("\n\n</", "aba", ">")],
)
def test_the_state_is_that_of_the_decoded_text(name, text):
    tokenizer = TOKENIZERS[name]
    marker = TextMarker(tokenizer, text)
    seen = np.zeros(len(text) + 1, int)
    for ids in telling_sequences(tokenizer, text, 1000):
        states = [marker.state_after(ids[:n]) for n in range(len(ids) + 1)]
        expected = [longest_beginning(tokenizer.decode(ids[:n]), text) for n in range(len(ids) + 1)]
        assert states == expected, (ids, tokenizer.decode(ids))
        seen[states] += 1
    assert seen[0] and seen[-1] and (name == "words" or seen.all())


@pytest.mark.parametrize("text", sorted({form.close for form in FORMATS.values()}))
@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_close_that_has_begun_is_completed_and_not_written_twice(name, text):
    tokenizer = TOKENIZERS[name]
    marker = TextMarker(tokenizer, text)
    assert marker.completions.shape == (len(text) + 1, marker.completion_lengths.max())
    assert marker.completions.dtype == marker.completion_lengths.dtype == np.int32
    for begun in telling_sequences(tokenizer, text, 500):
        state = marker.state_after(begun)
        rest = marker.completions[state, : marker.completion_lengths[state]].tolist()
        before, after = tokenizer.decode(begun), tokenizer.decode(begun + rest)
        assert marker.state_after(rest, state) == len(text)
        if text in before:
            assert not rest
        elif name == "bytes":
            assert after == before + text[state:]
        else:
            assert after.endswith(text) and after in (before + text[state:], before + text)


def test_with_one_token_a_tag_the_states_decide_as_comparing_ids_does():
    tokenizer = TOKENIZERS["words"]
    close = tokenizer.encode(FORMATS["think"].close)
    marker = TextMarker(tokenizer, FORMATS["think"].close)
    newline, tag = close[:2]
    assert marker.completions[0].tolist() == close == [newline, tag, newline]
    assert marker.completions[1, : marker.completion_lengths[1]].tolist() == [tag, newline]
    rng = np.random.default_rng(2)
    for _ in range(500):
        ids = rng.choice([newline, tag, *tokenizer.encode("slow low </ think>")], size=12).tolist()
        closed = [n for n in range(len(ids) + 1) if ids[max(0, n - 3) : n] == close]
        states = [marker.state_after(ids[:n]) for n in range(len(ids) + 1)]
        assert [n for n, state in enumerate(states) if state == len(marker.text)] == (
            list(range(closed[0], len(ids) + 1)) if closed else []
        )
        for n, state in enumerate(states):
            begun = max((k for k in (1, 2) if ids[max(0, n - k) : n] == close[:k]), default=0)
            rest = marker.completions[state, : marker.completion_lengths[state]].tolist()
            assert rest == ([] if state == len(marker.text) else close[begun:])


def test_rows_are_those_of_the_model_and_rows_without_a_token_are_no_part_of_anything():
    tokenizer = public_tokenizer()
    marker = TextMarker(tokenizer, "</think>", rows=tokenizer.vocab_size + 9)
    assert marker.next_state.shape == (tokenizer.vocab_size + 9, 9) and marker.next_state.dtype == np.int8
    tokens = sorted(tokenizer.inner.get_vocab().values())
    unused = sorted(set(range(len(marker.next_state))) - set(tokens))
    assert len(unused) > 9  # the vocabulary has holes
    assert (marker.next_state[unused, :-1] == 0).all() and (marker.next_state[:, -1] == 8).all()
    assert TextMarker(tokenizer, "</think>").next_state.tolist() == marker.next_state[: tokenizer.vocab_size].tolist()
    assert TextMarker(tokenizer, "-" * 200).next_state.max() == 200


def test_parts_of_characters_neither_match_nor_hide_a_tag():
    tokenizer = public_tokenizer()
    marker = TextMarker(tokenizer, "</think>")
    cut = tokenizer.encode("😀")[:1]
    tag = tokenizer.encode("</think>")
    assert tokenizer.decode(cut) == "�"
    assert marker.state_after(cut + tag) == 8 == marker.state_after(tokenizer.encode("难过。</think>"))
    assert marker.state_after(tag[:1] + cut + tag[1:]) == 0


@pytest.mark.parametrize(
    ("name", "text", "rows"),
    [("bytes", "", None), ("bytes", "结束", None), ("bytes", "</think>", 300), ("words", "</reason>", None)],
)
def test_what_no_marker_can_be_made_of_is_one_line(name, text, rows):
    with pytest.raises(BadInput) as caught:
        TextMarker(TOKENIZERS[name], text, rows)
    assert "\n" not in str(caught.value)
