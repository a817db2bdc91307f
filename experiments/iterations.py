"""Iterations of an RLVR stage, from metrics.jsonl: each of them, and the means over the first and the last ten.

The share of rollouts that think is `format_audio`: the format part of the reward is found, and logged, whatever its
weight is. It is 1 where the think block closes, is not empty and is more than the question again (`reasoning_present`),
and 0 for a sample that was cut off.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from experiments.sweep import Reader, Row
from step_audio_r1.errors import BadInput
from step_audio_r1.files import read_jsonl

# Column: the metric in it. Reward, accuracy and format are apart, and so are questions about sound and about text.
CURVES = {
    "reward_audio": "reward/total_audio",
    "correct_audio": "reward/correct_audio",
    "format_audio": "reward/format_audio",
    "think_tokens_audio": "rollout/think_tokens_audio",
    "correct_text": "reward/correct_text",
    "format_text": "reward/format_text",
    "think_tokens_text": "rollout/think_tokens_text",
    "new_tokens": "rollout/new_tokens",  # sound and text together, the answer included: the report's rollout_avg_tokens
    "entropy": "ppo/entropy",
}
# The critic and the updates. What a run does not have stays empty: a warm-up has no policy update, "none" no critic.
UPDATES = {
    "explained_variance": "ppo/explained_variance",
    "advantage_std": "ppo/advantage_std",
    "equal_groups": "ppo/equal_groups",
    "value_loss": "critic/loss",
    "grad_norm": "ppo/grad_norm",
    "clip_fraction": "ppo/clip_fraction",
    "ratio_std": "ppo/ratio_std",
    "update_s": "time/update_s",
    "step_s": "time/step_s",
}
# Means of so many iterations stand for a run's beginning and its end, as in the digest of the paper's curves.
ENDS = 10
_DIGITS = 4


def iterations(stage: str, columns: Mapping[str, str] = CURVES) -> Reader:
    """Reader of {iteration, *columns}, one row an iteration from 1, values with four digits and None where missing.

    Raises:
      BadInput: the run has no iterations of `stage`.
    """

    def read(workdir: Path) -> list[Row]:
        return [
            {"iteration": row["stage_step"]} | {name: _rounded(_value(row, key)) for name, key in columns.items()}
            for row in _rows(workdir, stage)
        ]

    return read


def summary(stage: str) -> Reader:
    """Reader of one row a run, of the columns of `CURVES` and `UPDATES`.

    COLUMN_first, COLUMN_last   the mean over the first and the last ten iterations (of those that have a value)
    think_tokens_audio_start, correct_audio_start   of the first iteration, whose samples the untrained policy drew
    update_s, step_s            medians over the iterations: the first ones, and now and then another, compile programs

    Raises:
      BadInput: the run has no iterations of `stage`.
    """

    def read(workdir: Path) -> list[Row]:
        rows = _rows(workdir, stage)
        columns = {name: [_value(row, key) for row in rows] for name, key in (CURVES | UPDATES).items()}
        found: Row = {"iterations": len(rows)}
        for name in ("think_tokens_audio", "correct_audio"):
            found[f"{name}_start"] = columns[name][0]
        times = {name: columns.pop(name) for name in ("update_s", "step_s")}
        for name, values in columns.items():
            found |= {f"{name}_first": _mean(values[:ENDS]), f"{name}_last": _mean(values[-ENDS:])}
        return [found | {name: median(values) for name, values in times.items()}]

    return read


def _rows(workdir: Path, stage: str) -> list[Row]:
    path = workdir / "metrics.jsonl"
    rows = [row for row in read_jsonl(path) if row.get("stage") == stage and "reward/total" in row]
    if not rows:
        raise BadInput(f"{path}: no iterations of RLVR in stage {stage!r}; give the workdir of a run that has them")
    return rows


def _value(row: Row, key: str) -> float | None:
    value: Any = row.get(key)
    return value if value is not None and math.isfinite(value) else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{_DIGITS}g}")


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
