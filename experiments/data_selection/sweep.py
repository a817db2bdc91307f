"""Which questions should RLVR be given, and how many? (figure 5, and the 200 000 unfiltered items)"""

from experiments.answers import accuracies
from experiments.audio_rlvr import COLD_START, FIRST_ROUND, MEASURED, STAGE, held_out, tables, trained
from experiments.data_selection.pools import pools
from experiments.sweep import Cell, Contrast, Sweep

LABELS = {
    "rl_format": "moderate",
    "rl_failed": "failed",
    "rl_easy": "easy",
    "rl_all": "unselected",
    "rl_moderate_small": "moderate, few",
    "rl_all_small": "unselected, few",
    "rl_all_large": "unselected, all that were tried",
}
# The second design: from the first round's SFT, where thinking pays.
SECOND = {
    "rl1_format": "moderate",
    "rl1_failed": "failed",
    "rl1_all": "unselected",
    "rl1_all_large": "unselected, all that were tried",
}
# Pairs of the grid of size and selection: name, plus, minus, the sentence.
GRID = (
    (
        "more_selected",
        "rl_format",
        "rl_moderate_small",
        "Held-out accuracy after the usual number of moderate questions less after few.",
    ),
    (
        "more_unselected_few",
        "rl_all",
        "rl_all_small",
        "Held-out accuracy after the usual number of unselected questions less after few.",
    ),
    (
        "more_unselected",
        "rl_all_large",
        "rl_all",
        "Held-out accuracy after all questions that were tried, unselected, less after the usual number.",
    ),
)


def _kept(arm: str) -> tuple[Cell, ...]:
    return (Cell("pools", "kept", {"arm": arm, "family": "all"}),)


def _over(name: str, arm: str, other: str, says: str, decides: bool = False, **what: str) -> Contrast:
    """Held-out answers after one arm less those after the other, expected above."""
    return Contrast(name, says, held_out(arm, **what), held_out(other, **what), expected="above", decides=decides)


def _gain(arm: str) -> Contrast:
    says = f"Held-out accuracy after RLVR less before it: {LABELS[arm]}."
    expected = "above" if arm == "rl_format" else None
    before = held_out(arm, stage=COLD_START)
    return Contrast(f"gain_{arm}", says, held_out(arm), before, expected=expected, decides=False)


DECIDING = (
    _over(
        "moderate_over_failed",
        "rl_format",
        "rl_failed",
        "Moderate questions lead to more right held-out answers, thinking or not as the model likes, than failed ones.",
        decides=True,
    ),
    Contrast(
        "think_tokens_over_failed",
        "Failed questions lead to shorter thinking: tokens on the same held-out questions, moderate less failed.",
        held_out("rl_format", "think_tokens"),
        held_out("rl_failed", "think_tokens"),
        expected="above",
        unit="tokens",
    ),
    _over(
        "selected_over_many",
        "rl_format",
        "rl_all_large",
        "A pool of moderate questions leads to more right held-out answers than all that were tried, unselected.",
        decides=True,
    ),
)
TOLD = (
    _over(
        "moderate_over_failed_perceptual",
        "rl_format",
        "rl_failed",
        "Moderate over failed, on perceptual questions.",
        group="perceptual",
    ),
    _over(
        "moderate_over_failed_thinking",
        "rl_format",
        "rl_failed",
        "Moderate over failed, where the model must think.",
        asked="thinking",
    ),
    _over("moderate_over_easy", "rl_format", "rl_easy", "Moderate over easy, held out."),
    _over("moderate_over_all", "rl_format", "rl_all", "Moderate over unselected, held out."),
    _over(
        "moderate_over_all_few", "rl_moderate_small", "rl_all_small", "Moderate over unselected, few of each, held out."
    ),
    *(
        Contrast(name, says, held_out(arm), held_out(other), expected=None, decides=False)
        for name, arm, other, says in GRID
    ),
    *(_gain(arm) for arm in LABELS),
    Contrast(
        "training_reward",
        "Training reward in the last ten iterations, each on its own questions: moderate above failed.",
        trained("rl_format", "reward_audio_last"),
        trained("rl_failed", "reward_audio_last"),
        expected="above",
        unit="other",
        decides=False,
    ),
    Contrast(
        "training_length",
        "Thinking about sound in the last ten iterations, each on its own questions: moderate above failed.",
        trained("rl_format", "think_tokens_audio_last"),
        trained("rl_failed", "think_tokens_audio_last"),
        expected="above",
        unit="tokens",
        decides=False,
    ),
    Contrast(
        "failed_start",
        "Accuracy on failed questions in the first iteration (in the report 33 % in spite of 0 of 8).",
        trained("rl_failed", "correct_audio_start"),
        (),
        expected=None,
        decides=False,
    ),
    Contrast(
        "pool_moderate", "Questions in the pool of moderate ones.", _kept("rl_format"), (), None, "other", decides=False
    ),
    Contrast(
        "pool_failed", "Questions in the pool of failed ones.", _kept("rl_failed"), (), None, "other", decides=False
    ),
)


def _second_design() -> tuple[Contrast, ...]:
    """Written after the first had been seen, so that nothing of it decides."""
    found = []
    for arm, label in list(SECOND.items())[1:]:
        says = f"Second design: held-out accuracy after moderate questions above that after {label}."
        found.append(_over(f"second_moderate_over_{arm.removeprefix('rl1_')}", "rl1_format", arm, says))
    for arm, label in SECOND.items():
        says = f"Second design: held-out accuracy after RLVR less before it, {label}."
        before = held_out(arm, stage=FIRST_ROUND)
        found.append(Contrast(f"second_gain_{arm}", says, held_out(arm), before, expected=None, decides=False))
    says = "Second design: tokens of thinking on the same held-out questions, moderate above failed."
    tokens = (held_out(arm, "think_tokens") for arm in ("rl1_format", "rl1_failed"))
    found.append(Contrast("second_think_tokens_over_failed", says, *tokens, "above", unit="tokens", decides=False))
    return tuple(found)


SWEEP = Sweep(
    name="data_selection",
    claim="RLVR needs questions of moderate difficulty: failed ones do worse, and more unselected ones gain nothing",
    evidence="figure 5, single runs: reward 0.76 against 0.71, tokens 2483 against 2064; of 200 000 items no number",
    arms=(*LABELS, *SECOND),
    tables=tables()
    | {
        "families": accuracies(MEASURED, asked=("free",), groups=("family",)),
        "pools": pools(STAGE),
    },
    contrasts=DECIDING + TOLD + _second_design(),
    labels=LABELS | {arm: f"{label}, after SFT" for arm, label in SECOND.items()},
)
