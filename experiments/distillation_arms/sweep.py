"""Is MGRD better than other ways to teach audio reasoning, at equal steps?"""

from collections.abc import Iterator

from experiments.answers import AFTER, STAGES, accuracies, answered, measured, measures
from experiments.sweep import Cell, Contrast, Sweep

LABELS = {
    "direct_sft": "SFT on chains of text",
    "cross_modal": "chains of a teacher with a caption",
    "knowledge": "token distributions of that teacher",
    "structured": "structured chains of a text teacher",
    "full": "MGRD",
}
OTHERS = tuple(LABELS)[:-1]
# These learn what somebody reasons who has only a text.
SURROGATES = ("direct_sft", "cross_modal")


def _against_mgrd() -> Iterator[Contrast]:
    for arm in OTHERS:
        than = f'"{LABELS[arm]}"'
        sides = [(answered(AFTER, arm=side),) for side in ("full", arm)]
        says = f"More right answers to perceptual questions after MGRD than after {than}."
        yield Contrast(f"perceptual_over_{arm}", says, *sides, "above")
        says = f"More grounded chains after MGRD than after {than}."
        yield Contrast(f"grounded_share_over_{arm}", says, *_chains(arm, "grounded_share"), "above")
        says = f"More true claims after MGRD than after {than}."
        yield Contrast(f"claim_precision_over_{arm}", says, *_chains(arm, "claim_precision"), "above", decides=False)
        sides = _chains(arm, "surrogate_share")
        if arm in SURROGATES:
            says = f"Fewer surrogate chains after MGRD than after {than}."
            yield Contrast(f"surrogate_share_over_{arm}", says, *sides, "below")
        else:
            says = f"Surrogate chains, MGRD minus {than}."
            yield Contrast(f"surrogate_share_over_{arm}", says, *sides, None, decides=False)
        sides = [(answered(AFTER, "content", arm=side),) for side in ("full", arm)]
        says = f"Right answers to content questions, MGRD minus {than}."
        yield Contrast(f"content_over_{arm}", says, *sides, None, decides=False)


def _chains(arm: str, name: str) -> list[tuple[Cell, ...]]:
    return [(measured(AFTER, name, arm=side),) for side in ("full", arm)]


def _thinking_pays() -> Iterator[Contrast]:
    yield _gain("full", "After MGRD thinking is better than answering directly on perceptual questions.", "above")
    for arm in OTHERS:
        yield _gain(arm, f'After "{LABELS[arm]}", thinking minus direct on perceptual questions.', None)


def _gain(arm: str, says: str, expected: str | None) -> Contrast:
    sides = [(answered(AFTER, arm=arm, asked=asked),) for asked in ("thinking", "direct")]
    return Contrast(f"{arm}_gain", says, *sides, expected, decides=False)


SWEEP = Sweep(
    name="distillation_arms",
    claim="MGRD is better than SFT on text chains, cross-modal distillation and knowledge distillation",
    evidence="A table of properties in words; none of these was trained beside MGRD",
    arms=tuple(LABELS),
    tables={"accuracy": accuracies(STAGES, asked=("direct", "thinking")), "measures": measures},
    contrasts=(*_against_mgrd(), *_thinking_pays()),
    labels=LABELS,
)
