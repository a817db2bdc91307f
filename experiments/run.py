"""Runs experiments: trains what is missing of their arms over seeds, reads it, writes their results and pages.

  python -m experiments.run format_reward                 # its arms over seeds 0 to 4, its CSV files, its page
  python -m experiments.run all --seeds=2 --dry_run       # what would be trained, in order, and how long it takes
  python -m experiments.run critic --scale=33b --dry_run  # the plan for pods

NAME is a folder here with a sweep.py, or `all`. What several arms or experiments share is trained once. A run is not
trained again if its workdir RUNS/ARM_SEED has ended, or if results/ has it already, of the config that the arm has
now: further seeds are added to those that are there. Each run's output is in RUNS/ARM_SEED.log.

A run that fails is told and left out with all that begin with it; the others go on. Ctrl-C or SIGTERM saves and ends;
the same command goes on.

Exit codes: 0 done, 1 a run failed, 2 bad input, 75 stopped (give the same command again).
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from step_audio_r1.errors import BadInput, exit_code

FOLDER = Path(__file__).parent
MINIATURE = "miniature"
SCALES = (MINIATURE, "8b", "33b")
_WORKERS = ("1", "2")


def main(argv: Sequence[str], folder: Path = FOLDER) -> int:
    """Reads the flags and runs the experiments of the folder."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.run",
        usage="%(prog)s NAME [flags]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", help=", ".join([*names(folder), "all"]))
    parser.add_argument("--scale", default=MINIATURE, help=f"{', '.join(SCALES)} (default: %(default)s)")
    parser.add_argument(
        "--seeds", default="5", help="how many, or a list: 5 is 0,1,2,3,4, and 3, is seed 3 alone (default: 5)"
    )
    parser.add_argument("--arms", metavar="A,B", help="only these arms (default: all of the experiment)")
    parser.add_argument("--runs", type=Path, metavar="DIR", default=Path("runs/experiments"), help="%(default)s")
    parser.add_argument("--workers", default="2", metavar="N", help="runs at once, 1 or 2 (default: %(default)s)")
    parser.add_argument("--again", action="store_true", help="train also what results/ has, unless a workdir has it")
    parser.add_argument("--dry_run", action="store_true", help="print the commands and how long they take")
    args = parser.parse_args(argv)
    return exit_code(lambda: _run(args, folder))


def _run(args: argparse.Namespace, folder: Path) -> None:
    known = names(folder)
    if args.name not in (*known, "all"):
        raise BadInput(f"{args.name}: no experiment; there are {', '.join([*known, 'all'])}")
    if args.scale not in SCALES:
        raise BadInput(f"--scale={args.scale}: no such scale; there are {', '.join(SCALES)}")
    if args.workers not in _WORKERS:
        raise BadInput(f"--workers={args.workers}: give 1 or 2")
    seeds = parse_seeds(args.seeds)
    if args.scale != MINIATURE and not args.dry_run:
        raise BadInput(f"--scale={args.scale}: needs a pod; print its commands with --dry_run and give them there")
    # Imported late: bad flags should be told in a moment, not after JAX has loaded.
    from experiments.campaign import Campaign, load

    sweeps = load(folder, known)
    asked = known if args.name == "all" else [args.name]
    arms = args.arms.split(",") if args.arms else None
    campaign = Campaign(folder, sweeps, asked, arms, seeds, args.scale, args.runs)
    if args.scale != MINIATURE:
        print(campaign.pods())
    elif args.dry_run:
        print(campaign.told(int(args.workers), args.again))
    else:
        campaign.run(int(args.workers), args.again)


def names(folder: Path) -> list[str]:
    """The experiments of a folder."""
    return sorted(path.parent.name for path in folder.glob("*/sweep.py"))


def parse_seeds(text: str) -> list[int]:
    """Seeds of a flag: "5" stands for the seeds 0 to 4, "0,3,7" for these, and "3," for seed 3 alone.

    Raises:
      BadInput: it says neither.
    """
    listed = "," in text
    parts = text.removesuffix(",").split(",")
    if not all(part.isdecimal() and part.isascii() and int(part) < 2**31 for part in parts) or text == "0":
        raise BadInput(f"--seeds={text}: give how many there are (5: seeds 0 to 4), or list them with commas (0,3,7)")
    numbers = sorted({int(part) for part in parts})
    return numbers if listed else list(range(numbers[0]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
