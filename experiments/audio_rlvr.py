"""What the experiments on RLVR with questions about sound share: its stage, their tables, and the cells of them."""

from collections.abc import Mapping

from experiments.answers import accuracies
from experiments.iterations import CURVES, iterations, summary
from experiments.sweep import Cell, Reader

STAGE = "audio_rlvr"
# Where arms begin: after RLVR on text, or (`rl1_*`) after the SFT of the first round of MGRD.
COLD_START, FIRST_ROUND = "text_rlvr", "mgrd_1_sft"
# Held-out questions, as the policy answers them (free), with thinking, and directly; before the stage and after it.
MEASURED = (COLD_START, FIRST_ROUND, STAGE)


def tables(curves: Mapping[str, str] = CURVES) -> dict[str, Reader]:
    """Held-out answers, iterations with the columns of `curves`, and the means of their ends."""
    return {"answers": accuracies(MEASURED), "iterations": iterations(STAGE, curves), "summary": summary(STAGE)}


def held_out(
    arm: str, column: str = "accuracy", asked: str = "free", group: str = "all", stage: str = STAGE
) -> tuple[Cell, ...]:
    """A column of an arm's held-out answers."""
    return (Cell("answers", column, {"arm": arm, "stage": stage, "asked": asked, "group": group}),)


def trained(arm: str, column: str) -> tuple[Cell, ...]:
    """A column of an arm's `summary`: of the samples that it trained on."""
    return (Cell("summary", column, {"arm": arm}),)
