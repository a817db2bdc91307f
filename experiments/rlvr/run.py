"""Does RLVR improve held-out accuracy, on text and on sound? One run a seed, two CSV files.

  python -m experiments.rlvr.run --seeds=3

Runs are workdirs under runs/rlvr/; finished ones are only read, one that was stopped goes on. Written are
results/rlvr.csv (each measured stage of each seed, and its gain over the first, paired by question) and
results/rlvr_gains.csv (the gains over these seeds). Its config has no arms and its gains are of single questions over
seeds, so it is no sweep of experiments.run.

Exit codes: 0 done, 1 a run failed, 2 bad input, 75 stopped (give the same command again).
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.plan import train_flags
from experiments.results import write_csv
from experiments.run import parse_seeds
from experiments.sweep import over_seeds
from experiments.workers import Job, Workers
from step_audio_r1.errors import WorkFailed, exit_code
from step_audio_r1.eval import PERCEPTION_KINDS
from step_audio_r1.files import read_json, read_jsonl
from step_audio_r1.intervals import bootstrap_mean, paired_difference, wilson

RESULTS = Path(__file__).parent / "results"
# Questions of a group; "sound" and "text" are all there are.
GROUPS = {
    "all": lambda row: True,
    "text": lambda row: row["clip"] is None,
    "sound": lambda row: row["clip"] is not None,
    "sound, perceptual": lambda row: row["clip"] is not None and row["perceptual"],
    "maths": lambda row: row["domain"] == "maths",
    "logic": lambda row: row["domain"] == "logic",
    "code": lambda row: row["domain"] == "code",
    "dialogue": lambda row: row["domain"] == "dialogue",
}

# Correctness by example id.
Scores = dict[str, float]


def main(argv: Sequence[str]) -> int:
    """Trains what is missing, writes the CSV files and prints the table of gains."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.rlvr.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="3", help="how many, or a list: 3 is 0,1,2 (default: %(default)s)")
    parser.add_argument("--runs", type=Path, metavar="DIR", default=Path("runs/rlvr"), help="%(default)s")
    parser.add_argument("--dry_run", action="store_true", help="print the commands only")
    args = parser.parse_args(argv)
    return exit_code(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    workdirs = {seed: args.runs / f"rlvr_{seed}" for seed in parse_seeds(args.seeds)}
    jobs = [Job(path.name, train_flags("configs/rlvr.py", path, seed)) for seed, path in workdirs.items()]
    if args.dry_run:
        print("\n".join(" ".join(["step-audio-r1", *job.flags]) for job in jobs))
        return
    with Workers(args.runs, count=2) as workers:
        workers.start(jobs)
        failed = [ended.job.name for ended in workers.ended() if ended.outcome == "failed"]
    if failed:
        raise WorkFailed(f"{', '.join(failed)}: why stands above; the same command tries again")
    rows, gains = collect(workdirs)
    write_csv(RESULTS / "rlvr.csv", rows)
    write_csv(RESULTS / "rlvr_gains.csv", gains)
    print(table(gains))


def collect(workdirs: Mapping[int, Path]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of seeds, and of gains over seeds, from `eval/items/` of finished runs.

    A gain is a stage's accuracy less that of the first measured stage, on the same questions with the same arm. Its
    interval within a seed, and `questions_*` over seeds (of each question's mean), are bootstraps over questions;
    `seeds_*` is Student's over the seeds' gains, and holds for another seed.
    """
    rows, gains = [], defaultdict(dict)
    for seed, workdir in workdirs.items():
        git = read_json(workdir / "provenance.json")["git"]
        passes = _passes(workdir)
        first = next(stage for stage, *_ in passes)
        for (stage, arm, group), scores in passes.items():
            n, right = len(scores), sum(scores.values())
            low, high = wilson(right, n)
            about = {"seed": seed, "git": git, "stage": stage, "arm": arm, "group": group, "n": n}
            gain = (None, None, None)
            if stage != first:
                before = passes[first, arm, group]
                change = paired_difference(scores, before)
                gain = (change.value, *change.interval)
                gains[stage, arm, group][seed] = {name: scores[name] - before[name] for name in scores.keys() & before}
            change = dict(zip(("gain", "gain_low", "gain_high"), gain))
            rows.append(about | {"accuracy": right / n, "low": low, "high": high} | change)
    return rows, [_gain(*key, of_seeds) for key, of_seeds in gains.items()]


def _passes(workdir: Path) -> dict[tuple[str, str, str], Scores]:
    """Scores of each (stage, arm, group) with the real sound and no budget, in the order of stages."""
    stages = read_json(workdir / "stages.json")
    passes: dict[tuple[str, str, str], Scores] = {}
    for stage in stages:
        path = workdir / "eval" / "items" / f"{stage}.jsonl"
        for row in read_jsonl(path) if path.exists() else []:
            if row["kind"] in PERCEPTION_KINDS or row["condition"] != "real" or row["budget"] is not None:
                continue
            if row["correct"] is not None:
                for group in (name for name, belongs in GROUPS.items() if belongs(row)):
                    passes.setdefault((stage, row["arm"], group), {})[row["example_id"]] = row["correct"]
    return passes


def _gain(stage: str, arm: str, group: str, of_seeds: Mapping[int, Scores]) -> dict[str, Any]:
    """The mean gain over seeds with both intervals."""
    shared = sorted(set.intersection(*(set(scores) for scores in of_seeds.values())))
    means = [sum(scores[name] for scores in of_seeds.values()) / len(of_seeds) for name in shared]
    each = [sum(scores.values()) / len(scores) for scores in of_seeds.values()]
    low, high = bootstrap_mean(means)
    spread = over_seeds(each)
    return {
        "stage": stage,
        "arm": arm,
        "group": group,
        "seeds": len(each),
        "n": len(shared),
        "gain": spread.mean,
        "questions_low": low,
        "questions_high": high,
        "seeds_low": spread.low,
        "seeds_high": spread.high,
    }


def table(gains: Sequence[Mapping[str, Any]]) -> str:
    """The gains in points as a Markdown table."""
    return "\n".join(_lines(gains))


def _lines(gains: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "| after | arm | questions | n | gain | 95 % over questions | 95 % over seeds |"
    yield "|---|---|---|---|---|---|---|"
    for row in gains:
        spans = [(row[f"{over}_low"], row[f"{over}_high"]) for over in ("questions", "seeds")]
        shown = ["" if low is None else f"{100 * low:+.1f} to {100 * high:+.1f}" for low, high in spans]
        cells = [row["stage"], row["arm"], row["group"], str(row["n"]), f"{100 * row['gain']:+.1f}", *shown]
        yield f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
