"""Is more thinking better, before MGRD and after it, and is one long chain better than several that vote?"""

from collections.abc import Iterator
from itertools import pairwise

from experiments.answers import AFTER, BEFORE, STAGES, accuracies, answered
from experiments.sweep import Contrast, Sweep

BUDGETS = (0, 2, 4, 6, 8, 12, 16, 24, None)
VOTES = ("majority_1", "majority_4", "majority_8")
# Steps up from these budgets were expected to help: each still cuts many chains, and is thinking.
CUTTING = (2, 4, 6, 8, 12)


def _more(
    name: str, says: str, stage: str, more: int | None, less: int, expected: str | None, decides: bool = False
) -> Contrast:
    """What the larger of two budgets gains on perceptual questions."""
    sides = [(answered(stage, budget=budget),) for budget in (more, less)]
    return Contrast(name, says, *sides, expected, decides=decides)


def _ends() -> Iterator[Contrast]:
    says = "At the cold start whole chains are worse than none."
    yield _more("cold_start_whole_minus_none", says, BEFORE, None, 0, "below", decides=True)
    yield _more(
        "cold_start_whole_minus_4",
        "At the cold start, whole chains minus those cut at 4 tokens.",
        BEFORE,
        None,
        4,
        None,
    )
    for number, stage in enumerate(STAGES[1:], 1):
        for less, than in ((4, "those cut at 4 tokens"), (0, "none")):
            says = f"After round {number} whole chains are better than {than}."
            yield _more(
                f"round_{number}_whole_minus_{less or 'none'}", says, stage, None, less, "above", decides=stage == AFTER
            )


def _steps() -> Iterator[Contrast]:
    for less, more in pairwise(BUDGETS):
        name = f"step_{less}_{'whole' if more is None else more}"
        if less in CUTTING:
            says = f"After round 3 thinking of {more} tokens is better than of {less}."
            yield _more(name, says, AFTER, more, less, "above")
        else:
            reaches = "without limit" if more is None else f"of {more} tokens"
            yield _more(name, f"After round 3, thinking {reaches} minus of {less} tokens.", AFTER, more, less, None)


def _votes() -> Iterator[Contrast]:
    for when, stage in (("At the cold start", BEFORE), ("After round 3", AFTER)):
        for votes in VOTES[1:]:
            name, number = f"{'cold' if stage == BEFORE else 'after'}_{votes}", votes.partition("_")[2]
            chosen, drawn = answered(stage, asked=votes), answered(stage, asked=VOTES[0])
            says = f"{when} a vote of {number} drawn chains is better than one drawn chain."
            yield Contrast(name, says, (chosen,), (drawn,), "above", decides=False)
            says = f"{when}, a vote of {number} drawn chains minus one greedy chain."
            yield Contrast(f"{name}_greedy", says, (chosen,), (answered(stage),), None, decides=False)
            tokens = [(answered(stage, column="think_tokens", asked=asked),) for asked in (votes, "thinking")]
            says = f"{when}, what the vote of {number} costs more than one greedy chain."
            yield Contrast(f"{name}_cost", says, *tokens, None, "tokens", decides=False)


SWEEP = Sweep(
    name="thinking_budget",
    claim="Longer thinking is worse in audio models, and after MGRD it is better: test-time compute scales",
    evidence="Said of the model as a whole; no curve of accuracy over length of thinking",
    arms=("full",),
    tables={"accuracy": accuracies(STAGES, asked=("thinking", *VOTES), budgets=BUDGETS)},
    contrasts=(*_ends(), *_steps(), *_votes()),
)
