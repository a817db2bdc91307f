"""Public checkpoints in and out.

convert --from_hf=DIR --workdir=DIR                takes a Step-Audio checkpoint in
convert --encoder=DIR --decoder=DIR --workdir=DIR  Qwen2-Audio's encoder, any Qwen2.5 and a fresh adaptor
convert --workdir=DIR --to_hf=DIR                  writes a run's newest parameters in the public layout
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from step_audio_r1.commands.flags import not_negative
from step_audio_r1.errors import BadInput, exit_code


def main(argv: list[str]) -> int:
    """Parses flags and converts."""
    parser = argparse.ArgumentParser(
        prog="step-audio-r1 convert", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--from_hf", type=Path, help="a Step-Audio checkpoint, made into a new workdir")
    which.add_argument("--decoder", type=Path, help="with --encoder: a Qwen2.5 checkpoint")
    which.add_argument("--to_hf", type=Path, help="a new directory for the workdir's newest parameters")
    parser.add_argument("--encoder", type=Path, help="with --decoder: a Qwen2-Audio (or Step-Audio) checkpoint")
    parser.add_argument(
        "--tokenizer",
        type=Path,
        help="with --decoder: a directory with Step-Audio's tokenizer; default extends Qwen2.5's",
    )
    parser.add_argument("--seed", type=not_negative, help="with --decoder: of the new values (default 0)")
    parser.add_argument("--workdir", required=True, type=Path, help="a run's directory")
    parser.add_argument(
        "--config",
        help="with a checkpoint: config of the run that goes on from there; its first stage is `imported`, an sft "
        "stage of 0 steps. --config.a.b=v overrides, as for `train`. Without it the workdir can only be asked and "
        "evaluated",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        help="with --to_hf: of all weights; default: each as it was imported, else bfloat16",
    )
    args, args.overrides = parser.parse_known_args(argv)
    _refuse_idle_flags(parser, args)
    # Imported late, so that --help does not wait for JAX.
    if args.to_hf is not None:
        return exit_code(lambda: _export(args))
    return exit_code(lambda: _import(args))


def _refuse_idle_flags(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """A flag that would do nothing is a misunderstanding."""
    if (args.decoder is None) != (args.encoder is None):
        parser.error("--encoder and --decoder go together")
    for other in args.overrides:
        if not (args.config and other.startswith("--config.")):
            parser.error(f"unrecognized argument: {other}")
    wanted = {"tokenizer": "decoder", "seed": "decoder", "dtype": "to_hf"}
    for flag, needed in wanted.items():
        if getattr(args, flag) is not None and getattr(args, needed) is None:
            parser.error(f"--{flag} is for --{needed}")
    if args.config and args.to_hf is not None:
        parser.error("--config is for an import")


def _import(args: argparse.Namespace) -> None:
    from step_audio_r1.pipeline.conversion import import_parts, import_workdir

    if args.workdir.exists() and (not args.workdir.is_dir() or any(args.workdir.iterdir())):
        raise BadInput(f"--workdir={args.workdir}: exists and is not empty; give a new directory")
    values = _values(args)
    if args.from_hf is not None:
        import_workdir(args.from_hf, args.workdir, values)
    else:
        import_parts(args.encoder, args.decoder, args.tokenizer, args.workdir, values, args.seed or 0)
    print(args.workdir)


def _values(args: argparse.Namespace) -> dict[str, Any] | None:
    from step_audio_r1.commands.train import parse

    if not args.config:
        return None
    return parse([f"--config={args.config}", f"--workdir={args.workdir}", *args.overrides])[0]


def _export(args: argparse.Namespace) -> None:
    from step_audio_r1.pipeline.conversion import export_workdir

    export_workdir(args.workdir, args.to_hf, args.dtype)
    print(args.to_hf)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
