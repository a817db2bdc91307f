"""`convert --from_hf=DIR --workdir=DIR`: a public checkpoint in; `convert --workdir=DIR --to_hf=DIR`: a run out."""

import argparse
import sys
from pathlib import Path

from step_audio_r1.errors import BadInput, exit_code


def main(argv: list[str]) -> int:
    """Parses flags and converts."""
    parser = argparse.ArgumentParser(prog="step-audio-r1 convert", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--from_hf", type=Path, help="a checkpoint in the public layout, made into a new workdir")
    which.add_argument("--to_hf", type=Path, help="a new directory for the workdir's newest parameters")
    parser.add_argument("--workdir", required=True, type=Path, help="a run's directory")
    parser.add_argument(
        "--config",
        help="with --from_hf: config of the run that goes on from there; its first stage is `imported`, an sft "
        "stage of 0 steps. Without it the workdir can only be asked and evaluated",
    )
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), default="bfloat16", help="with --to_hf: of the weights"
    )
    args = parser.parse_args(argv)
    # Imported late, so that --help does not wait for JAX.
    if args.from_hf is not None:
        return exit_code(lambda: _import(args))
    return exit_code(lambda: _export(args))


def _import(args: argparse.Namespace) -> None:
    from step_audio_r1.commands.train import parse
    from step_audio_r1.pipeline.conversion import import_workdir

    if args.workdir.exists() and (not args.workdir.is_dir() or any(args.workdir.iterdir())):
        raise BadInput(f"--workdir={args.workdir}: exists and is not empty; give a new directory")
    values = parse([f"--config={args.config}", f"--workdir={args.workdir}"])[0] if args.config else None
    import_workdir(args.from_hf, args.workdir, values)
    print(args.workdir)


def _export(args: argparse.Namespace) -> None:
    from step_audio_r1.pipeline.conversion import export_workdir

    export_workdir(args.workdir, args.to_hf, args.dtype)
    print(args.to_hf)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
