"""Does thinking lose to answering at the cold start, and does MGRD turn it? One run a seed, one CSV a variant.

  python -m experiments.inverted_scaling.run --seeds=0,1,2 --config=quickstart --variant=described

Runs are workdirs under runs/inverted_scaling/; finished ones are only read, a killed one is resumed.
"""

import argparse
import csv
import importlib
import io
import subprocess
import sys
from pathlib import Path

from step_audio_r1.errors import WorkFailed, exit_code
from step_audio_r1.files import read_json, write_text

RESULTS = Path(__file__).parent / "results"
FIELDS = (
    "config",
    "variant",
    "seed",
    "git",
    "stage",
    "arm",
    "group",
    "n",
    "accuracy",
    "low",
    "high",
    "grounded",
    "precision",
)
# The distillation prompt of all rounds: the model's own description in place of the audio, or just the question. About
# sound the model often does not think at all, so that `plain` has to ban the empty think block.
VARIANTS = {
    "described": {},
    "plain": {"listen": "()", "prompt": "{question}", "sampling.min_think_tokens": "1"},
}


def main(argv: list[str]) -> int:
    """Trains what is missing and writes results/CONFIG_VARIANT.csv."""
    parser = argparse.ArgumentParser(prog="python -m experiments.inverted_scaling.run", description=__doc__)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--config", default="quickstart", help="name of a file in configs/")
    parser.add_argument("--variant", default="described", choices=sorted(VARIANTS))
    parser.add_argument("--runs", type=Path, default=Path("runs/inverted_scaling"))
    parser.add_argument("--dry_run", action="store_true", help="print the commands only")
    args = parser.parse_args(argv)
    return exit_code(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    rows = []
    for seed in (int(s) for s in args.seeds.split(",")):
        workdir = args.runs / f"{args.config}_{args.variant}_{seed}"
        flags = [f"--config=configs/{args.config}.py", f"--workdir={workdir}", f"--config.seed={seed}"]
        flags += variant_flags(args.config, args.variant)
        command = [sys.executable, "-m", "step_audio_r1", "train", *flags]
        print(" ".join(command), flush=True)
        if args.dry_run:
            continue
        if subprocess.run(command, check=False).returncode:
            raise WorkFailed(f"seed {seed}: training ended with an error; its messages stand above")
        rows += [{"config": args.config, "variant": args.variant, **row} for row in collect(workdir, seed)]
    if rows:
        text = io.StringIO()
        writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(RESULTS / f"{args.config}_{args.variant}.csv", text.getvalue())


def variant_flags(config: str, variant: str) -> list[str]:
    """Overrides that make the config's MGRD rounds those of the variant."""
    stages = importlib.import_module(f"configs.{config}").get_config().stages
    rounds = [name for name, stage in stages.items() if stage.kind == "distil"]
    return [f"--config.stages.{name}.mgrd.{k}={v}" for name in rounds for k, v in VARIANTS[variant].items()]


def collect(workdir: Path, seed: int) -> list[dict[str, object]]:
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
            rows.append({"seed": seed, "git": git, **found, **accuracy, **quality})
    return rows


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
