"""How the thinking ends: seen in the text of the sampled tokens, whatever ids spell it, and forced by a budget."""

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Int

from step_audio_r1.text import TextMarker, Tokenizer


class Thinking(struct.PyTreeNode):
    """How far each of R rows is in closing its thinking."""

    tag: Int[Array, "R"]  # state of the closing tag's marker
    text: Int[Array, "R"]  # state of the whole closing text's marker
    closed: Bool[Array, "R"]  # the thinking has ended
    budget: Int[Array, ""]  # tokens after which it is closed by force


class Closing:
    """The closing tag of an output format, which ends the thinking, and the closing text that a budget writes."""

    def __init__(self, tokenizer: Tokenizer, tag: str, text: str, rows: int):
        """The tables for a tokenizer and a format.

        Args:
          tokenizer: whose ids are sampled.
          tag: `form.closing_tag`.
          text: `form.close`, of which `tag` is a part.
          rows: of the model's vocabulary.
        """
        self._tag, self._text = TextMarker(tokenizer, tag, rows), TextMarker(tokenizer, text, rows)
        self._tag_start = text.index(tag)

    def begin(self, rows: int, budget: Int[Array, ""]) -> Thinking:
        """Nothing is written yet."""
        zeros = jnp.zeros((rows,), jnp.int32)
        return Thinking(zeros, zeros, jnp.zeros((rows,), bool), budget)

    def early_tokens(self) -> Bool[Array, "V"]:
        """The tokens with which a closing can begin: without them it can neither begin nor be complete."""
        return jnp.asarray((self._tag.next_state[:, 0] > 0) | (self._text.next_state[:, 0] > 0))

    def force(self, s: Thinking, t: Int[Array, ""], token_R: Int[Array, "R"]) -> tuple[Thinking, Int[Array, "R"]]:
        """The token at position t, or in its place the next one of the closing where that is due."""
        due = (t >= s.budget) & ~s.closed
        # What the model has begun by itself is finished, not written twice; also a tag that does not follow a newline.
        inside_tag = (s.tag > 0) & (s.tag < len(self._tag.text))
        text = jnp.where(due & inside_tag, self._tag_start + s.tag, s.text)
        return s.replace(text=text), jnp.where(due, jnp.asarray(self._text.completions)[text, 0], token_R)

    def advance(self, s: Thinking, token_R: Int[Array, "R"]) -> Thinking:
        """The state after a token."""
        tag = jnp.asarray(self._tag.next_state)[token_R, s.tag].astype(jnp.int32)
        text = jnp.asarray(self._text.next_state)[token_R, s.text].astype(jnp.int32)
        # Between its tag and its end, the closing text goes on: a budget may still have to finish it.
        tag_end = self._tag_start + len(self._tag.text)
        going_on = (text >= tag_end) & (text < len(self._text.text))
        closed = s.closed | ((tag == len(self._tag.text)) & ~going_on)
        return s.replace(tag=tag, text=text, closed=closed)
