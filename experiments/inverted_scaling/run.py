"""Does thinking lose to answering at the cold start, and does MGRD turn it? One run a seed, one CSV for all.

  python -m experiments.inverted_scaling.run --seeds=0,1,2 --config=quickstart

Runs are workdirs under runs/inverted_scaling/; finished ones are only read, a killed one is resumed.
"""

import argparse
import csv
import io
import subprocess
import sys
from pathlib import Path

from step_audio_r1.errors import WorkFailed, exit_code
from step_audio_r1.files import read_json, write_text

RESULTS = Path(__file__).parent / "results"
FIELDS = ("config", "seed", "git", "stage", "arm", "group", "n", "accuracy", "low", "high", "grounded", "precision")


def main(argv: list[str]) -> int:
    """Trains what is missing and writes results/CONFIG.csv."""
    parser = argparse.ArgumentParser(prog="python -m experiments.inverted_scaling.run", description=__doc__)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--config", default="quickstart", help="name of a file in configs/")
    parser.add_argument("--runs", type=Path, default=Path("runs/inverted_scaling"))
    parser.add_argument("--dry_run", action="store_true", help="print the commands only")
    args = parser.parse_args(argv)
    return exit_code(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    rows = []
    for seed in (int(s) for s in args.seeds.split(",")):
        workdir = args.runs / f"{args.config}_{seed}"
        flags = [f"--config=configs/{args.config}.py", f"--workdir={workdir}", f"--config.seed={seed}"]
        command = [sys.executable, "-m", "step_audio_r1", "train", *flags]
        print(" ".join(command), flush=True)
        if args.dry_run:
            continue
        if subprocess.run(command, check=False).returncode:
            raise WorkFailed(f"seed {seed}: training ended with an error; its messages stand above")
        rows += collect(workdir, args.config, seed)
    if rows:
        text = io.StringIO()
        writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(RESULTS / f"{args.config}.csv", text.getvalue())


def collect(workdir: Path, config: str, seed: int) -> list[dict[str, object]]:
    """Real sound, no budget: each measured stage, arm and question group as a row."""
    git = read_json(workdir / "provenance.json")["git"]
    rows = []
    for row in read_json(workdir / "eval" / "summary.json"):
        if row["condition"] != "real" or row["budget"] is not None or row["domain"] != "all":
            continue
        if row["kind"] in ("all", "perceptual", "content"):
            found = {"stage": row["stage"], "arm": row["arm"], "group": row["kind"], "n": row["n"]}
            low, high = row["ci95"]
            quality = {"grounded": row["grounded_share"], "precision": row["claim_precision"]}
            accuracy = {"accuracy": row["accuracy"], "low": low, "high": high}
            rows.append({"config": config, "seed": seed, "git": git, **found, **accuracy, **quality})
    return rows


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
