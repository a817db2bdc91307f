"""Does the format term of the reward keep the model thinking, and does that pay? (figure 4)"""

from experiments.audio_rlvr import held_out, tables, trained
from experiments.sweep import Contrast, Sweep

# What an arm's name begins with, and where its run does: in names of contrasts and in words.
STARTS = {"rl": ("cold_start", "From the cold start"), "rl1": ("after_SFT", "After one round's SFT")}


def _contrasts(prefix: str, name: str, start: str) -> tuple[Contrast, ...]:
    """With the term less without it."""
    arms = f"{prefix}_format", f"{prefix}_no_format"

    def of_samples(column: str) -> dict:
        return dict(zip(("plus", "minus"), (trained(arm, column) for arm in arms)))

    def of_answers(**what: str) -> dict:
        return dict(zip(("plus", "minus"), (held_out(arm, **what) for arm in arms)))

    return (
        Contrast(
            f"{name}_think_tokens",
            f"{start}: with the term thinking about sound is longer in the last ten iterations.",
            **of_samples("think_tokens_audio_last"),
            expected="above",
            unit="tokens",
        ),
        Contrast(
            f"{name}_samples_that_reason",
            f"{start}: with the term more samples about sound reason in the last ten iterations.",
            **of_samples("format_audio_last"),
            expected="above",
        ),
        Contrast(
            f"{name}_accuracy",
            f"{start}: with the term more held-out questions are answered right, thinking or not as the model likes.",
            **of_answers(),
            expected="above",
        ),
        Contrast(
            f"{name}_answers_that_think",
            f"{start}: with the term more of these held-out answers think.",
            **of_answers(column="thinks"),
            expected="above",
        ),
        Contrast(
            f"{name}_shrinks",
            f"{start}: without the term thinking about sound gets shorter, last ten iterations less first ten.",
            plus=trained(arms[1], "think_tokens_audio_last"),
            minus=trained(arms[1], "think_tokens_audio_first"),
            expected="below",
            unit="tokens",
            decides=False,
        ),
        Contrast(
            f"{name}_training",
            f"{start}: with the term fewer training samples about sound are right in the last ten iterations.",
            **of_samples("correct_audio_last"),
            expected="below",
            decides=False,
        ),
        Contrast(
            f"{name}_thinking",
            f"{start}: held-out accuracy where the model must think, with the term less without.",
            **of_answers(asked="thinking"),
            expected=None,
            decides=False,
        ),
        Contrast(
            f"{name}_direct",
            f"{start}: held-out accuracy of direct answers, with the term less without.",
            **of_answers(asked="direct"),
            expected=None,
            decides=False,
        ),
        Contrast(
            f"{name}_text",
            f"{start}: thinking about text in the last ten iterations, where no term is paid, with less without.",
            **of_samples("think_tokens_text_last"),
            expected=None,
            unit="tokens",
            decides=False,
        ),
        Contrast(
            f"{name}_same_start",
            f"{start}: thinking about sound in the first iteration, which both runs share: exactly 0.",
            **of_samples("think_tokens_audio_start"),
            expected=None,
            unit="tokens",
            decides=False,
        ),
    )


SWEEP = Sweep(
    name="format_reward",
    claim="A format term in the reward keeps RLVR from unlearning to think, and accuracy gains by it",
    evidence="figure 4, single runs: 2483 against 1649 tokens at the end; MMAU 77.7 against 76.5",
    arms=("rl_format", "rl_no_format", "rl1_format", "rl1_no_format"),
    tables=tables(),
    contrasts=tuple(contrast for arms, start in STARTS.items() for contrast in _contrasts(arms, *start)),
    labels={
        "rl_format": "0.8 / 0.2, cold start",
        "rl_no_format": "1 / 0, cold start",
        "rl1_format": "0.8 / 0.2, after one round",
        "rl1_no_format": "1 / 0, after one round",
    },
)
