"""What of PPO does the recipe need: a critic, of its own weights, and a single update a rollout?"""

from experiments.audio_rlvr import held_out, tables, trained
from experiments.iterations import CURVES, UPDATES
from experiments.sweep import Contrast, Sweep

LABELS = {
    "rl_format": "own critic, one update",
    "rl_shared": "critic on the actor's trunk",
    "rl_no_critic": "no critic: mean of the prompt's samples",
    "rl_updates": "own critic, four updates",
}
OWN, SHARED, NONE, FOUR = LABELS
COLUMNS = {name: CURVES[name] for name in ("reward_audio", "correct_audio", "think_tokens_audio", "entropy")} | UPDATES


def _answers(name: str, other: str, says: str, expected=None, decides=False, asked="free") -> Contrast:
    """Held-out accuracy with the recipe less with `other`."""
    return Contrast(name, says, held_out(OWN, asked=asked), held_out(other, asked=asked), expected, decides=decides)


def _samples(name: str, other: str, says: str, column: str, expected=None, unit="other") -> Contrast:
    """A column of the training samples with the recipe less with `other`."""
    return Contrast(name, says, trained(OWN, column), trained(other, column), expected, unit, decides=False)


def _explained(arm: str, expected=None) -> Contrast:
    says = f"Variance of the returns that the values explain in the last ten iterations: {LABELS[arm]}."
    return Contrast(
        f"explained_{arm}", says, trained(arm, "explained_variance_last"), (), expected, "other", decides=False
    )


SWEEP = Sweep(
    name="critic",
    claim="PPO with a critic of its own weights and one update a rollout is the recipe for RLVR",
    evidence="none: the report names on-policy PPO and shows no other",
    arms=tuple(LABELS),
    tables=tables(COLUMNS),
    contrasts=(
        _answers(
            "own_over_none",
            NONE,
            "With a critic more held-out questions are answered right than with the mean of the prompt's samples.",
            "above",
            decides=True,
        ),
        _answers(
            "one_over_four",
            FOUR,
            "With one update a rollout more held-out questions are answered right than with four.",
            "above",
            decides=True,
        ),
        _answers("own_over_shared", SHARED, "Held-out accuracy, own weights less the actor's trunk."),
        _answers("own_over_none_thinking", NONE, "Own critic less none, where the model must think.", asked="thinking"),
        _answers("one_over_four_thinking", FOUR, "One update less four, where the model must think.", asked="thinking"),
        *(
            _samples(
                f"training_{name}",
                other,
                f"Training accuracy on sound, last ten iterations: the recipe's less that of {LABELS[other]}.",
                "correct_audio_last",
                unit="points",
            )
            for name, other in (("none", NONE), ("shared", SHARED), ("four", FOUR))
        ),
        _explained(OWN, "above"),
        _explained(SHARED),
        _explained(NONE),
        _samples(
            "advantage_spread",
            NONE,
            "Spread of the advantages before they are normalised, last ten iterations: own critic less none.",
            "advantage_std_last",
        ),
        _samples(
            "update_time_none", NONE, "Seconds of an iteration's updates, own critic less none.", "update_s", "above"
        ),
        _samples(
            "update_time_shared",
            SHARED,
            "Seconds of an iteration's updates, own critic less a shared trunk.",
            "update_s",
            "above",
        ),
        _samples("update_time_four", FOUR, "Seconds of an iteration's updates, one update less four.", "update_s"),
    ),
    labels=LABELS,
)
