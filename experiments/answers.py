"""Readers of what finished runs answered, and of what their rounds kept, for the tables of experiments.

Questions about the one who answers (domain "identity") are none about the sound: they are the group "identity" alone.
What a run has not measured has no rows.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from configs.ablations import COLD, ROUNDS
from experiments.sweep import Cell, Reader, Row
from step_audio_r1.data.world.identity import DOMAIN as IDENTITY
from step_audio_r1.eval import GROUPS, PERCEPTION_KINDS, REASONING_KINDS
from step_audio_r1.files import read_json, read_jsonl
from step_audio_r1.mgrd import self_cognition

# How questions are put together: "domain", "kind" and "family" make a group of each that there is.
Grouping = Literal["all", "perceptual", "content", "domain", "kind", "family", "identity"]
# What thinking about the real sound is compared with: no thinking, or something else in the sound's place.
Against = Literal["direct", "silence", "noise", "swapped"]
QUESTIONS: tuple[Grouping, ...] = ("all", "perceptual", "content")
# After these the loop is measured: before any round, and after each.
STAGES = (COLD, *(f"mgrd_{number}_rlvr" for number in range(1, ROUNDS + 1)))
BEFORE, AFTER = STAGES[0], STAGES[-1]
QUARTERS = range(4)
# The line of a round's filters that is about all of them.
ALL_FILTERS = "all filters"


def answered(
    stage: str,
    group: str = "perceptual",
    column: str = "accuracy",
    *,
    arm: str = "full",
    asked: str = "thinking",
    budget: int | None = None,
) -> Cell:
    """A cell of the table "accuracy", which `accuracies` reads, of the real sound."""
    where = {"arm": arm, "stage": stage, "asked": asked, "budget": budget, "condition": "real", "group": group}
    return Cell("accuracy", column, where)


def gained(stage: str, group: str = "perceptual", column: str = "gain", *, against: Against = "direct") -> Cell:
    """A cell of arm "full" in the table "gains", which `gains` reads."""
    return Cell("gains", column, {"arm": "full", "stage": stage, "against": against, "group": group})


def measured(stage: str, column: str, group: str = "perceptual", *, arm: str = "full") -> Cell:
    """A cell of the table "measures", which `measures` reads."""
    return Cell("measures", column, {"arm": arm, "stage": stage, "group": group})


def accuracies(
    stages: Sequence[str],
    asked: Sequence[str] = ("direct", "thinking", "free"),
    budgets: Sequence[int | None] = (None,),
    conditions: Sequence[str] = ("real",),
    groups: Sequence[Grouping] = QUESTIONS,
) -> Reader:
    """Reads how questions were answered: one row a stage, way of asking, budget, condition and group.

    Columns beside these: n (answers that could be verified) and accuracy; of chains the shares grounded and surrogate,
    and precision, the mean over chains of the share of claims that are true; think_tokens, the mean length of thinking
    (of all chains together where they vote), None for direct answers; thinks, the share of outputs with a thought;
    self_cognition_error, the share of outputs that deny hearing. Means are over the outputs that have the value.

    Args:
      stages: after which it was measured.
      asked: direct, thinking, free, or majority_N.
      budgets: of thinking, in tokens; None is no limit.
      conditions: what was heard.
      groups: of questions.
    """

    def read(workdir: Path) -> Iterator[Row]:
        for stage, rows in _stages(workdir, stages):
            for (arm, budget, condition), members in _passes(rows).items():
                if arm in asked and budget in budgets and condition in conditions:
                    about = {"stage": stage, "round": members[0]["round"]}
                    about |= {"asked": arm, "budget": budget, "condition": condition}
                    for group, chosen in _grouped(members, groups):
                        yield about | {"group": group} | _results(chosen)

    return read


def _results(rows: Sequence[Row]) -> Row:
    right = [row["correct"] for row in rows if row["correct"] is not None]
    direct = rows[0]["arm"] == "direct"
    chains = [row for row in rows if row["arm"] != "free" or row["think"]]  # free to answer at once
    return {
        "n": len(right),
        "accuracy": _mean(right),
        "grounded": _mean(row["grounded"] for row in chains),
        "precision": _mean(row["claim_precision"] for row in rows),
        "surrogate": _mean(row["surrogate"] for row in chains),
        "think_tokens": None if direct else _mean(row["think_tokens"] for row in rows),
        "thinks": _mean(bool(row["think"].strip()) for row in rows),
        "self_cognition_error": _mean(row["self_cognition"] for row in rows),
    }


def gains(
    stages: Sequence[str], against: Sequence[Against] = ("direct",), groups: Sequence[Grouping] = QUESTIONS
) -> Reader:
    """Reads what thinking about the real sound gains: one row a stage, side that it is compared with and group.

    Columns beside stage, round, against and group: n, the questions that were answered on both sides (no other clip can
    be swapped in for a few); their accuracies `thinking` and `other`, and `gain`, the first minus the second.
    """
    unknown = set(against) - set(get_args(Against))
    if unknown:
        raise ValueError(f"no side {unknown.pop()!r}; there are {', '.join(get_args(Against))}")
    others = {side: ("direct", None, "real") if side == "direct" else ("thinking", None, side) for side in against}

    def read(workdir: Path) -> Iterator[Row]:
        for stage, rows in _stages(workdir, stages):
            passes = _passes(rows)
            sides = {name: dict(_grouped(passes.get(name, ()), groups)) for name in others.values()}
            for group, chosen in _grouped(passes.get(("thinking", None, "real"), ()), groups):
                about = {"stage": stage, "round": chosen[0]["round"], "group": group}
                for side, name in others.items():
                    if found := _gain(chosen, sides[name].get(group, ())):
                        yield about | {"against": side} | found

    return read


def _gain(thinking: Iterable[Row], other: Iterable[Row]) -> Row | None:
    first, second = ({row["example_id"]: row["correct"] for row in side} for side in (thinking, other))
    both = [(right, second[name]) for name, right in first.items() if None not in (right, second.get(name))]
    if not both:
        return None
    accuracies = [_mean(side) for side in zip(*both)]
    gain = accuracies[0] - accuracies[1]
    return {"n": len(both), "thinking": accuracies[0], "other": accuracies[1], "gain": gain}


def denials(stages: Sequence[str], asked: Sequence[str] = ("direct", "thinking", "free")) -> Reader:
    """Reads who denies hearing the clip (self-cognition error), of the real sound and without a budget.

    One row a stage, way of asking and group: "identity", each family of it, and "sound" for all other questions about
    clips. Columns beside these: n outputs; the share `denied`, which is the sum of `in_thoughts` (the thinking says so,
    whatever the answer does) and `only_in_answer`.
    """

    def read(workdir: Path) -> Iterator[Row]:
        for stage, rows in _stages(workdir, stages):
            chosen = [row for row in rows if row["self_cognition"] is not None and row["kind"] not in PERCEPTION_KINDS]
            passes = _passes(chosen)
            for arm in asked:
                outputs = passes.get((arm, None, "real"), ())
                for group, some in _by(outputs, _asked_about).items():
                    about = {"stage": stage, "round": some[0]["round"], "asked": arm, "group": group}
                    yield about | _denied(some)

    return read


def _asked_about(row: Row) -> tuple[str, ...]:
    return (IDENTITY, row["family"]) if row["domain"] == IDENTITY else ("sound",)


def _denied(rows: Sequence[Row]) -> Row:
    thought = [bool(row["self_cognition"] and self_cognition(row["think"])) for row in rows]
    answered = [bool(row["self_cognition"]) and not there for row, there in zip(rows, thought)]
    return {
        "n": len(rows),
        "denied": _mean(row["self_cognition"] for row in rows),
        "in_thoughts": _mean(thought),
        "only_in_answer": _mean(answered),
    }


def measures(workdir: Path) -> Iterator[Row]:
    """Reads `eval/measures.json`: of each measured stage all questions about sound, and the perceptual ones.

    precision_1 to precision_4 are the precision of claims by the quarter of the chain in which they stand,
    audio_attention is the mean over decoding steps, and _low and _high are 95 % intervals over questions. What the
    measures are stands in `step_audio_r1/eval/measures.py`.
    """
    yield from map(_flat, _measured(workdir))


def _flat(row: Mapping[str, Any]) -> Row:
    flat: Row = {}
    for name, value in row.items():
        if name == "decay":
            flat |= {f"precision_{i + 1}": value[i]["precision"] for i in QUARTERS}
        elif name == "audio_attention":
            flat[name] = _mean(value or ())
        elif name.endswith("_ci95"):
            plain = name.removesuffix("_ci95")
            flat[f"{plain}_low"], flat[f"{plain}_high"] = value or (None, None)
        else:
            flat[name] = value
    return flat


def attention(workdir: Path) -> Iterator[Row]:
    """Reads the share of attention on the sound by decoding step (the first is 1) from `eval/measures.json`.

    A late step speaks of long chains only.
    """
    for row in _measured(workdir):
        for step, share in enumerate(row["audio_attention"] or (), 1):
            yield {"stage": row["stage"], "group": row["group"], "step": step, "attention": share}


def _measured(workdir: Path) -> list[Mapping[str, Any]]:
    path = workdir / "eval" / "measures.json"
    return read_json(path) if path.exists() else []


def filters(workdir: Path) -> Iterator[Row]:
    """Reads what each filter of each round kept of the chains that came to it, and "all filters" of those sampled."""
    for summary in map(read_json, sorted((workdir / "chains").glob("round_*/summary.json"))):
        whole = {"name": ALL_FILTERS, "seen": summary["sampled"], "kept": summary["kept"]}
        whole["errors"] = sum(row["errors"] for row in summary["filters"])
        for row in (*summary["filters"], whole):
            counts = {key: row[key] for key in ("seen", "kept", "errors")}
            share = row["kept"] / row["seen"] if row["seen"] else None
            yield {"round": summary["round"], "filter": row["name"], **counts, "share": share}


def _grouped(rows: Iterable[Row], groups: Sequence[Grouping]) -> Iterator[tuple[str, list[Row]]]:
    """The groups that have rows, in the order of `groups` and by name among domains, kinds and families.

    Describing and transcribing are no questions and are left out.
    """
    rows = [row for row in rows if row["kind"] not in PERCEPTION_KINDS]
    for grouping in groups:
        yield from sorted(_by(rows, lambda row, by=grouping: _groups(row, by)).items())


def _groups(row: Row, by: Grouping) -> tuple[str, ...]:
    if (row["domain"] == IDENTITY) != (by == "identity"):
        return ()
    if by in ("all", "identity"):
        return (by,)
    if by in GROUPS:
        return (by,) if row["perceptual"] is GROUPS[by] else ()
    known = by != "kind" or row["kind"] in REASONING_KINDS
    return (row[by],) if row[by] and known else ()


def _passes(rows: Iterable[Row]) -> dict[tuple[str, int | None, str], list[Row]]:
    """The rows by way of asking, budget and condition."""
    return _by(rows, lambda row: [(row["arm"], row["budget"], row["condition"])])


def _by(rows: Iterable[Row], names: Callable[[Row], Iterable[Any]]) -> dict[Any, list[Row]]:
    """The rows by each of their names."""
    found: dict[Any, list[Row]] = {}
    for row in rows:
        for name in names(row):
            found.setdefault(name, []).append(row)
    return found


def _stages(workdir: Path, stages: Sequence[str]) -> Iterator[tuple[str, list[Row]]]:
    """The stages that were measured with all rows of their items."""
    for stage in stages:
        path = workdir / "eval" / "items" / f"{stage}.jsonl"
        if path.exists():
            yield stage, read_jsonl(path)


def _mean(numbers: Iterable[float | None]) -> float | None:
    found = [float(number) for number in numbers if number is not None]
    return sum(found) / len(found) if found else None
