"""From an output to its row: is it right, what does its thinking claim, is that true, what does it rest on.

Claims are always checked against the clip that the question is about, whatever was heard in its place.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

from step_audio_r1.data.records import Example
from step_audio_r1.eval.config import Job
from step_audio_r1.mgrd import (
    ACOUSTIC_KINDS,
    Chain,
    Claim,
    check_claims,
    claim_precision,
    denials,
    make_chain,
    read_wording,
)
from step_audio_r1.rewards import verify_exact
from step_audio_r1.text import Tokenizer, parse

PERCEPTION_KINDS = ("describe", "transcribe")
# What a caption holds as well.
CAPTION_KINDS = ("word", "tune", "count")


def score(
    example: Example,
    output: str,
    finish_reason: str,
    job: Job,
    tokenizer: Tokenizer,
    *,
    stage: str,
    round: int,
) -> dict[str, Any]:
    """The row of one output, in plain JSON types.

    Keys beside those that name the item and the job:
      correct: 1.0 or 0.0, None if it could not be verified.
      grounded: the thinking names something heard, all its checkable claims are true, and it cites no
        caption; None for direct answers and for clips without labels.
      claim_precision: share of true claims among the checkable ones of the thinking; for perception items the
        share of percepts right, see `percepts_right`. None if there is nothing to check.
      surrogate: the thinking argues from a caption, see `is_surrogate`; None for direct answers and without sound.
      word_accuracy: of a transcript, see `word_accuracy`; None for other kinds.
      self_cognition: the output denies that its writer hears, in the thinking or in the reply, see `mgrd.denials`; None
        without sound.
    """
    # The chain record knows how outputs are read and verified; sample, seed and step have no meaning here.
    chain = make_chain(example, output, finish_reason, sample=0, seed=0, model_step=0, round=round)
    row = {
        "stage": stage,
        "round": round,
        "arm": job.arm,
        "budget": job.budget,
        "condition": job.condition,
        "example_id": example.id,
        "clip": example.clips[0] if example.clips else None,
        "domain": example.domain,
        "kind": example.kind,
        "family": example.family,
        "perceptual": example.perceptual,
        "question": chain.question,
        "choices": list(chain.choices),
        "gold": chain.gold,
        "output": output,
        "think": chain.think,
        "answer": chain.response,
        "finish_reason": finish_reason,
        "think_tokens": len(tokenizer.encode_content(chain.think)) if chain.think else 0,
        "self_cognition": bool(denials(output, example)) if example.clips else None,
    }
    if example.kind in PERCEPTION_KINDS:
        return row | _perception(example, output, finish_reason)
    return row | _reasoning(example, chain, job)


def _reasoning(example: Example, chain: Chain, job: Job) -> dict[str, Any]:
    claims = [Claim(**claim) for claim in chain.claims]
    thinks = job.arm != "direct"
    surrogate = is_surrogate(chain.think, claims, example)
    return {
        "correct": chain.correct,
        "grounded": is_grounded(claims, example) and not surrogate if thinks and example.truth else None,
        "claim_precision": claim_precision(claims),
        "surrogate": surrogate if thinks and example.clips else None,
        "word_accuracy": None,
        **_counted(claims),
    }


def _perception(example: Example, output: str, finish_reason: str) -> dict[str, Any]:
    answer = parse(output).answer or ""
    claims = check_claims(answer, example.truth) if example.truth else []
    verdict = verify_exact(None if finish_reason == "length" else answer, example.answer or "")
    transcript = example.kind == "transcribe" and example.answer
    return {
        "correct": None if verdict.error else verdict.score,
        "grounded": None,
        "claim_precision": percepts_right(claims, example),
        "surrogate": None,
        "word_accuracy": word_accuracy(answer, example.answer) if transcript else None,
        **_counted(claims),
    }


def _counted(claims: Sequence[Claim]) -> dict[str, Any]:
    return {
        "supported": sum(claim.status == "supported" for claim in claims),
        "contradicted": sum(claim.status == "contradicted" for claim in claims),
        "claims": [dataclasses.asdict(claim) for claim in claims],
    }


def heard_kinds(example: Example) -> tuple[str, ...]:
    """Kinds of claims that are evidence from the sound; where a caption answers, spoken words are too."""
    return (*ACOUSTIC_KINDS, "word") if example.perceptual is False else ACOUSTIC_KINDS


def is_grounded(claims: Sequence[Claim], example: Example) -> bool:
    """Whether something heard is claimed and no checkable claim is false."""
    checkable = [claim for claim in claims if claim.status != "uncheckable"]
    heard = any(claim.kind in heard_kinds(example) for claim in checkable)
    return heard and all(claim.status == "supported" for claim in checkable)


def is_surrogate(think: str, claims: Sequence[Claim], example: Example) -> bool:
    """Whether the thinking argues from a text in the sound's place.

    It does if it cites one ("caption", "the transcript", ...), or if it holds what a caption holds and
    nothing heard. Where the clip has no labels, thinking that names no acoustic feature stands for the
    latter. In the audio world, words without meaning are no surrogate; an empty block never is.
    """
    wording = read_wording(think, content=example.perceptual is False)
    if wording.rests_on_text:
        return True
    if not example.truth:
        return bool(think) and not wording.names_features
    kinds = {claim.kind for claim in claims}
    return not kinds.isdisjoint(CAPTION_KINDS) and kinds.isdisjoint(heard_kinds(example))


def percepts_right(claims: Sequence[Claim], example: Example) -> float | None:
    """Share of percepts right: true ones / max(stated, those in the gold answer), so that gaps count.

    A percept said twice is right as often as the gold answer holds it. None without labels or gold answer.
    """
    gold = check_claims(example.answer or "", example.truth) if example.truth else []
    if not gold:
        return None
    there = Counter((claim.kind, claim.value) for claim in gold)
    right = Counter((claim.kind, claim.value) for claim in claims if claim.status == "supported")
    return (right & there).total() / max(len(claims), len(gold))


def word_accuracy(answer: str, gold: str) -> float:
    """1 - word edit distance / words of the longer text; 1.0 for two empty texts."""
    said, true = answer.split(), gold.split()
    previous = list(range(len(true) + 1))
    for i, word in enumerate(said, 1):
        current = [i]
        for j, expected in enumerate(true, 1):
            substituted = previous[j - 1] + (word != expected)
            current.append(min(substituted, previous[j] + 1, current[-1] + 1))
        previous = current
    return 1 - previous[-1] / max(len(said), len(true), 1)
