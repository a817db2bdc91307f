"""From a response to its reward: 0.8 correct + 0.2 format for audio, correct alone for text (section 7)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from step_audio_r1.errors import BadInput
from step_audio_r1.rewards.format_reward import reasoning_present
from step_audio_r1.rewards.verdict import Verdict
from step_audio_r1.rewards.verifiers import verify
from step_audio_r1.text import parse


@dataclass(frozen=True)
class RewardConfig:
    """Weights of the audio reward (text rows are always binary), and the least words that are reasoning."""

    correct_weight: float = 0.8
    format_weight: float = 0.2
    min_think_tokens: int = 1

    def __post_init__(self):
        for name in ("correct_weight", "format_weight"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise BadInput(f"reward.{name}: {value} is no weight; give a number of zero or more")


@dataclass(frozen=True)
class RewardParts:
    """A reward and what it is made of, all Python floats.

    Attributes:
      total: the weighted sum; nan if `error`.
      correct: 1.0 or 0.0 before weighting; nan if `error`.
      format: 1.0 or 0.0 before weighting; for text rows it is logged and has no weight.
      reason: one line, both verdicts.
      error: the answer could not be checked; the sample must be left out, not counted as wrong.
    """

    total: float
    correct: float
    format: float
    reason: str
    error: bool = False


def score_response(
    text: str,
    finish_reason: str,
    *,
    gold: str | None,
    choices: Sequence[str] = (),
    question: str = "",
    modality: Literal["audio", "text"],
    config: RewardConfig | None = None,
) -> RewardParts:
    """Scores one sampled response (section 7, B).

    Args:
      text: the assistant's text without <|EOT|>, with or without the opening tag that the generation prompt
        holds; after any other prefill, with the prefill.
      finish_reason: "length" means cut off: all parts are 0, whatever the text holds.
      gold: gold answer, as in `Example.answer`.
      choices: allowed answers, () if open.
      question: the prompt's text; reasoning that only repeats it is none.
      modality: "audio" or "text".
      config: weights; the default is RewardConfig().

    Raises:
      ValueError: another modality.
    """
    config = config or RewardConfig()
    if modality not in ("audio", "text"):
        raise ValueError(f"modality is 'audio' or 'text', got {modality!r}")
    if finish_reason == "length":
        return RewardParts(0.0, 0.0, 0.0, "truncated at the length limit")
    parsed = parse(text)
    form = reasoning_present(parsed, question, config.min_think_tokens)
    # An annotation fragment may name the right choice by accident; it answers nothing.
    answer = None if parsed.annotation_json else parsed.answer
    correct = verify(answer, gold, choices)
    weights = (config.correct_weight, config.format_weight) if modality == "audio" else (1.0, 0.0)
    return RewardParts(
        total=_total(correct, form, weights),
        correct=correct.score,
        format=form.score,
        reason=f"{parsed.status}; {correct.reason}; {form.reason}",
        error=correct.error,
    )


def _total(correct: Verdict, form: Verdict, weights: tuple[float, float]) -> float:
    return float(weights[0]) * correct.score + float(weights[1]) * form.score
