"""What do the filters of MGRD do, and does it matter where a round's SFT begins?"""

from collections.abc import Iterator

from experiments.answers import (
    AFTER,
    ALL_FILTERS,
    BEFORE,
    STAGES,
    accuracies,
    answered,
    filters,
    measured,
    measures,
)
from experiments.sweep import Cell, Contrast, Sweep

LABELS = {
    "full": "all filters",
    "no_lexical": "no lexical filter",
    "no_claims": "no check of claims",
    "no_correctness": "no check of answers",
    "outcome_only": "outcome only",
    "no_filter": "no filter",
    "restart": "restart from the cold start",
}
WITHOUT = tuple(LABELS)[1:]
# Of chains about perceptual questions ("measures"), and of answers by group ("accuracy").
OF_CHAINS = {
    "grounded_share": "grounded chains",
    "claim_precision": "true claims",
    "surrogate_share": "surrogate chains",
}
OF_ANSWERS = {"perceptual": "right answers to perceptual questions", "content": "right answers to content questions"}
# Said before any run; what is not here is only told. Surrogate chains are told of these two alone.
EXPECTED = {
    **{(arm, name): "above" for arm in ("outcome_only", "no_filter") for name in ("grounded_share", "claim_precision")},
    **{(arm, "surrogate_share"): "below" for arm in ("outcome_only", "no_filter")},
    **{(arm, "perceptual"): "above" for arm in ("outcome_only", "no_filter", "no_correctness")},
    **{("no_claims", name): "above" for name in ("grounded_share", "claim_precision")},
}
DECIDES = {(arm, name) for arm in ("outcome_only", "no_filter") for name in ("grounded_share", "claim_precision")}


def _against_full() -> Iterator[Contrast]:
    for arm in WITHOUT:
        for name, what in (OF_CHAINS | OF_ANSWERS).items():
            expected = EXPECTED.get((arm, name))
            if name == "surrogate_share" and expected is None:
                continue
            cell = measured if name in OF_CHAINS else answered
            sides = [(cell(AFTER, name, arm=side),) for side in ("full", arm)]
            if expected:
                more = "More" if expected == "above" else "Fewer"
                says = f'{more} {what} after round 3 with all filters than with "{LABELS[arm]}".'
            else:
                says = f'{what.capitalize()} after round 3, all filters minus "{LABELS[arm]}".'
            yield Contrast(f"{name}_over_{arm}", says, *sides, expected, decides=(arm, name) in DECIDES)


def _over_rounds() -> Iterator[Contrast]:
    first = STAGES[1]
    for name, what in (("grounded_share", "grounded chains"), ("accuracy", "right answers to perceptual questions")):
        sides = [(measured(stage, name),) for stage in (first, BEFORE)]
        says = f"With all filters, more {what} after round 1 than at the cold start."
        yield Contrast(f"first_round_{name}", says, *sides, "above", decides=False)
        sides = [(measured(stage, name),) for stage in (AFTER, first)]
        says = f"With all filters, more {what} after round 3 than after round 1."
        yield Contrast(f"later_rounds_{name}", says, *sides, "above", decides=False)


def _kept() -> Iterator[Contrast]:
    """Of round 1, whose chains are the same in all arms."""
    for arm in LABELS:
        if arm != "restart":
            where = {"arm": arm, "round": 1, "filter": ALL_FILTERS}
            says = f'Chains of round 1 that are kept, "{LABELS[arm]}".'
            yield Contrast(f"kept_{arm}", says, (Cell("filters", "share", where),), (), None, decides=False)


SWEEP = Sweep(
    name="mgrd_filter",
    claim="Filtering self-distilled chains for acoustic grounding makes the model reason from sound",
    evidence="One example of a chain that shifts; no ablation of the filters, no measure of grounding",
    arms=tuple(LABELS),
    tables={
        "accuracy": accuracies(STAGES, asked=("direct", "thinking")),
        "measures": measures,
        "filters": filters,
    },
    contrasts=(*_against_full(), *_over_rounds(), *_kept()),
    labels=LABELS,
)
