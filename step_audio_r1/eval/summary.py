"""Rows of items to rows of results: `eval/summary.json`, `eval/measures.json`, the verdicts of `eval/claims.json`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from step_audio_r1.eval.claims import judge_claims
from step_audio_r1.eval.measures import measures_of
from step_audio_r1.eval.scoring import PERCEPTION_KINDS
from step_audio_r1.files import read_jsonl, write_json
from step_audio_r1.intervals import wilson

Row = Mapping[str, Any]

REASONING_KINDS = ("factual", "procedural", "normative", "contextual", "causal")
# Groups across the kinds of reasoning: does a caption suffice?
GROUPS = {"perceptual": True, "content": False}
_PASS = ("stage", "round", "arm", "budget", "condition")


def summarise(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Results of each pass (stage, round, arm, budget, condition), in the order in which passes appear.

    Of each pass: all questions together, each domain, each kind, and the groups "perceptual" and "content"
    (as kinds). Describing and transcribing are no questions: they appear as their own kinds only. `n` counts
    the items that could be verified; the means are over items, null where no item has a value. An answer without a
    thought that the arm "free" did not ask for is no chain: it counts for the mean of tokens, and not for the shares
    of grounded and surrogate chains.
    `self_cognition_error` is the share of outputs that deny hearing the sound, with its Wilson interval; what asks
    whether the model hears is the domain "identity".
    """
    passes: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        passes.setdefault(tuple(row[key] for key in _PASS), []).append(row)
    return [
        dict(zip(_PASS, name)) | {"domain": domain, "kind": kind} | _results(chosen)
        for name, members in passes.items()
        for domain, kind, chosen in _slices(members)
    ]


def _slices(rows: Sequence[Row]) -> Iterable[tuple[str, str, list[Row]]]:
    """(domain, kind, rows) of the slices that have rows."""
    questions = [row for row in rows if row["kind"] not in PERCEPTION_KINDS]
    slices = [("all", "all", questions)]
    for domain in dict.fromkeys(row["domain"] for row in questions):
        slices.append((domain, "all", [row for row in questions if row["domain"] == domain]))
    for kind in (*REASONING_KINDS, *PERCEPTION_KINDS):
        slices.append(("all", kind, [row for row in rows if row["kind"] == kind]))
    for group, perceptual in GROUPS.items():
        slices.append(("all", group, [row for row in questions if row["perceptual"] is perceptual]))
    return [item for item in slices if item[2]]


def _results(rows: Sequence[Row]) -> dict[str, Any]:
    scores = [row["correct"] for row in rows if row["correct"] is not None]
    denied = [row["self_cognition"] for row in rows if row.get("self_cognition") is not None]
    thinks = rows[0]["arm"] != "direct"
    chains = [row for row in rows if row["arm"] != "free" or row["think"]]
    return {
        "n": len(scores),
        "accuracy": sum(scores) / len(scores) if scores else None,
        "ci95": list(wilson(sum(scores), len(scores))) if scores else None,
        "grounded_share": _mean(chains, lambda row: row["grounded"]),
        "claim_precision": _mean(rows, lambda row: row["claim_precision"]),
        "surrogate_share": _mean(chains, lambda row: row["surrogate"]),
        "mean_think_tokens": _mean(rows, lambda row: row["think_tokens"] if thinks else None),
        "self_cognition_error": sum(denied) / len(denied) if denied else None,
        "self_cognition_ci95": list(wilson(sum(denied), len(denied))) if denied else None,
    }


def _mean(rows: Sequence[Row], value: Callable[[Row], float | None]) -> float | None:
    values = [v for v in map(value, rows) if v is not None]
    return sum(values) / len(values) if values else None


def write_summary(
    eval_dir: Path, stages: Sequence[str] | None = None, roles: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """Writes `measures.json`, `claims.json` and `summary.json` from `items/STAGE.jsonl`, and returns the summary.

    The summary is written last: where it is, so are the others.

    Args:
      eval_dir: has the directory `items`.
      stages: their order; those without a file are passed over. All files by name if left out.
      roles: the stages that the claims speak of, {"pretrain", "cold_start", "final", "rlvr", "dpo"} -> stage.
        Where a role is left out, it is the stage of that name; "final" is else the last stage of an MGRD round.

    Raises:
      BadInput: a file of rows is damaged.
    """
    eval_dir = Path(eval_dir)
    if stages is None:
        stages = sorted(path.stem for path in (eval_dir / "items").glob("*.jsonl"))
    files = {stage: eval_dir / "items" / f"{stage}.jsonl" for stage in stages}
    rows = [row for path in files.values() if path.exists() for row in read_jsonl(path)]
    summary = summarise(rows)
    write_json(eval_dir / "measures.json", measures_of(rows))
    write_json(eval_dir / "claims.json", judge_claims(rows, {**_usual_roles(rows), **(roles or {})}))
    write_json(eval_dir / "summary.json", summary)
    return summary


def _usual_roles(rows: Sequence[Row]) -> dict[str, str]:
    rounds = {row["stage"]: row["round"] for row in rows}
    roles = {role: role for role in ("pretrain", "cold_start", "final", "rlvr", "dpo") if role in rounds}
    distilled = [stage for stage, round in rounds.items() if round > 0]
    if distilled:
        roles.setdefault("final", distilled[-1])
    return roles
