"""Where a piece of text stands in sampled ids: an automaton over tokens, whatever tokens spell it.

Public vocabularies have no </think>, and BPE writes it with other ids after other text (".</", " </", ">\\n\\n"). So a
decoder that must see the thinking close cannot compare ids. It looks up a state for each token instead, on the device.
"""

from collections.abc import Iterable

import numpy as np

from step_audio_r1.errors import BadInput
from step_audio_r1.text.tokenizer import Tokenizer


class TextMarker:
    """Finds `text` in sampled ids, and says how to complete it.

    State k < L says that the longest suffix of the text so far that begins `text` has k characters (L = len(text));
    state L says that `text` has been completed, also in the middle of a token, and stays. Sampling starts in state 0:
    what the prompt ends with does not count. So `next_state[:, k] == L` are the tokens that complete it after state k.

    Two of them serve a thinking budget. The closing tag's (`form.closing_tag`) says whether the thinking has ended.
    The whole closing text's (`form.close`) says how much of it the model has begun by itself, and so what to force.

    Attributes:
      text: what is looked for.
      next_state: int8[rows, L + 1] (int16 for L > 127), the state after a token. Ids without a token, which decode to
        nothing, lead to state 0.
      completions: int32[L + 1, W], row k holds the ids that complete `text` from state k, then zeros. They spell the
        rest of it, or all of it where the vocabulary cannot write the rest. Row L is empty.
      completion_lengths: int32[L + 1], how many ids each row of `completions` has.
    """

    def __init__(self, tokenizer: Tokenizer, text: str, rows: int | None = None):
        """Builds the tables for a tokenizer, in a fraction of a second for a public vocabulary.

        Args:
          tokenizer: whose ids are sampled.
          text: ASCII, so that no token holds a part of one of its characters.
          rows: of the model's vocabulary, padding rows included; default the tokenizer's own.

        Raises:
          BadInput: text that is empty, not ASCII or not to be written with this vocabulary; too few rows.
        """
        rows = tokenizer.vocab_size if rows is None else rows
        if not text or not text.isascii():
            raise BadInput(f"marker: {text!r} is empty or not ASCII; give the closing text of an output format")
        if rows < tokenizer.vocab_size:
            raise BadInput(f"marker: {rows} rows for {tokenizer.vocab_size} ids; give the model's vocabulary size")
        self.text = text
        self.next_state = _transitions(tokenizer, text, rows)
        whole = tokenizer.encode(text)
        if self.state_after(whole) != len(text):
            raise BadInput(f"tokenizer: cannot write {text!r}; use one whose vocabulary holds these tags")
        completions = []
        for state in range(len(text)):
            rest = tokenizer.encode(text[state:])
            completions.append(rest if self.state_after(rest, state) == len(text) else whole)
        completions.append([])
        self.completion_lengths = np.array([len(ids) for ids in completions], np.int32)
        self.completions = np.zeros((len(completions), self.completion_lengths.max()), np.int32)
        for row, ids in zip(self.completions, completions, strict=True):
            row[: len(ids)] = ids

    def state_after(self, ids: Iterable[int], state: int = 0) -> int:
        """The state after `ids`, one by one."""
        for token in ids:
            state = int(self.next_state[int(token), state])
        return state


def _transitions(tokenizer: Tokenizer, text: str, rows: int) -> np.ndarray:
    L = len(text)
    table = np.zeros((rows, L + 1), np.int8 if L <= 127 else np.int16)
    table[:, L] = L
    step = _character_steps(text)
    # A word-level vocabulary puts a space between words; it stands before the token's own text.
    spaced = [state for state in range(L) if tokenizer.implies_space(text[:state], "a")]
    step_of_space = step.get(" ", [0] * L + [L])
    # Any other token leads to state 0: it neither begins, nor goes on with, nor ends the text.
    endings = tuple(text[i:] for i in range(1, L))
    for token, spelling in enumerate(tokenizer.spellings()):
        if spelling and (text[0] in spelling or spelling in text or spelling.startswith(endings)):
            states = list(range(L + 1))
            if spaced and tokenizer.implies_space("a", spelling):
                for state in spaced:
                    states[state] = step_of_space[state]
            for character in spelling:
                if character in step:
                    states = [step[character][state] for state in states]
                else:
                    states = [L if state == L else 0 for state in states]
            table[token] = states
    return table


def _character_steps(text: str) -> dict[str, list[int]]:
    """The automaton of Knuth, Morris and Pratt: for each character of `text`, the state after it from each state."""
    L = len(text)
    steps = {character: [0] * L + [L] for character in text}
    steps[text[0]][0] = 1
    fallback = 0  # the state of text[1:state]
    for state in range(1, L):
        for row in steps.values():
            row[state] = row[fallback]
        steps[text[state]][state] = state + 1
        fallback = steps[text[state]][fallback]
    return steps
