"""What goes into decoding and what comes out; an outside engine only has to speak these types."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from step_audio_r1.errors import BadInput


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """How tokens are drawn.

    Attributes:
      max_new_tokens: longest continuation; a sample that reaches it has finish reason "length".
      temperature: 0 is greedy.
      top_k: 0 keeps all tokens.
      top_p: 1 keeps all tokens.
      min_think_tokens: the thinking cannot close before this many tokens (1 forces the model to think).
      thinking_budget: the end of thinking is forced after this many tokens; None leaves it to the model.
    """

    max_new_tokens: int = 64
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_think_tokens: int = 0
    thinking_budget: int | None = None

    def __post_init__(self):
        if self.max_new_tokens < 1:
            raise BadInput(f"sampling.max_new_tokens={self.max_new_tokens}: at least 1")
        if not 0 <= self.temperature < math.inf or not 0 < self.top_p <= 1 or self.top_k < 0:
            raise BadInput("sampling: temperature >= 0, top_k >= 0 and 0 < top_p <= 1 are needed")
        if self.thinking_budget is not None and self.thinking_budget < self.min_think_tokens:
            raise BadInput(
                f"sampling.thinking_budget={self.thinking_budget} is below min_think_tokens={self.min_think_tokens}"
            )


@dataclasses.dataclass(frozen=True, eq=False)
class Prompt:
    """A rendered prompt with its sound.

    Attributes:
      id: decides, with the seed and the sample's index, every random draw of its samples.
      tokens: int32[T].
      audio_slots: int32[T], n * A + a at audio token a of chunk n, else -1.
      features: f16[N, S, E], encoder output of its chunks.
    """

    id: str
    tokens: np.ndarray
    audio_slots: np.ndarray
    features: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Rollout:
    """Samples of P prompts, G each, prompt by prompt: row p * G + g.

    Attributes:
      tokens: int32[R, T'], the continuation, stop token included; zeros past the length.
      lengths: int32[R].
      logprobs: f32[R, T'], of each token under the untruncated softmax at temperature 1.
      finish_reasons: "stop" or "length" for each row.
      samples: G.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    logprobs: np.ndarray
    finish_reasons: tuple[str, ...]
    samples: int

    def ids(self, row: int) -> list[int]:
        """Token ids of a row without padding."""
        return self.tokens[row, : self.lengths[row]].tolist()


# generate(prompts, samples, sampling, seed) -> samples of each prompt, prompt by prompt: an engine with its weights
Generate = Callable[[Sequence[Prompt], int, SamplingConfig, int], Rollout]


class Engine(Protocol):
    """Anything that continues prompts with given weights."""

    def generate(
        self, params: Any, prompts: Sequence[Prompt], samples: int, sampling: SamplingConfig, seed: int
    ) -> Rollout:
        """Draws `samples` continuations of each prompt."""
        ...
