"""`evaluate --benchmark=world --data=DIR (--workdir=DIR | --predictions=FILE)`: runs and scores, or only scores."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from step_audio_r1.commands.flags import positive
from step_audio_r1.errors import BadInput, exit_code

BENCHMARKS = ("world",)
ITEMS, RESULT = "items.jsonl", "result.json"


def main(argv: list[str]) -> int:
    """Parses flags and evaluates."""
    parser = argparse.ArgumentParser(prog="step-audio-r1 evaluate", description=__doc__)
    parser.add_argument("--benchmark", required=True, help=f"one of {', '.join(BENCHMARKS)}")
    parser.add_argument("--data", required=True, type=Path, help="a prepared dataset with the source `questions`")
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--workdir", type=Path, help="a run; its newest parameters answer")
    who.add_argument("--predictions", type=Path, help='JSONL rows {"id", "output"} to score')
    parser.add_argument("--arm", choices=("thinking", "direct"), default="thinking", help="with --workdir")
    parser.add_argument("--max_new_tokens", type=positive, help="with --workdir: longest output (default: the run's)")
    parser.add_argument("--out", type=Path, help=f"where {ITEMS} and {RESULT} go (default: beside what was evaluated)")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    args = parser.parse_args(argv)
    return exit_code(lambda: _evaluate(args))


def _evaluate(args: argparse.Namespace) -> None:
    if args.benchmark not in BENCHMARKS:
        raise BadInput(f"--benchmark={args.benchmark}: no such benchmark; there are {', '.join(BENCHMARKS)}")
    # Imported late: a wrong name should be told in a moment, not after JAX has loaded.
    from step_audio_r1.files import write_json, write_jsonl
    from step_audio_r1.pipeline import benchmark

    dataset, items = benchmark.read_items(args.data)
    if args.workdir is not None:
        from step_audio_r1.pipeline import newest_params

        run, params = newest_params(args.workdir)
        outputs = benchmark.answer_items(run, params, dataset, items, args.arm, args.max_new_tokens)
        _tell_cut(outputs)
        out = args.out or args.workdir / "eval" / args.benchmark / args.arm
    else:
        outputs, unknown = benchmark.read_predictions(args.predictions, items)
        _tell_gaps(args.predictions, len(items) - len(outputs), unknown)
        out = args.out or args.predictions.parent / f"{args.predictions.stem}.{args.benchmark}"
    rows = benchmark.score_items(items, outputs)
    result = benchmark.result(args.benchmark, benchmark.version_of(items), rows)
    write_jsonl(out / ITEMS, rows)
    write_json(out / RESULT, result)
    print(json.dumps(result) if args.json else _table(result, out))


def _tell_cut(outputs: "dict[str, benchmark.Output]") -> None:
    cut = sum(output.finish_reason == "length" for output in outputs.values())
    if 20 * cut > len(outputs):
        print(f"note: {cut} of {len(outputs)} outputs were cut off; raise --max_new_tokens", file=sys.stderr)


def _tell_gaps(path: Path, missing: int, unknown: list[str]) -> None:
    if unknown:
        print(f"note: {path}: {len(unknown)} ids are of no item, {unknown[0]!r} the first; left out", file=sys.stderr)
    if missing:
        print(f"note: {path}: {missing} items have no prediction; they count as wrong", file=sys.stderr)


def _table(result: dict[str, Any], out: Path) -> str:
    """The result for a reader."""

    def percent(share: float | None) -> str:
        return "-" if share is None else f"{100 * share:.1f} %"

    low, high = result["ci95"]
    lines = [
        f"{result['benchmark']} (version {result['version']}), {result['n']} items",
        f"  robust    {percent(result['robust'])}  (95 % interval {percent(low)} to {percent(high)})",
        f"  official  {percent(result['official'])} of the {percent(result['coverage'])} that have a reply",
        f"  strict    {percent(result['strict'])}  (official, no reply counts as wrong)",
    ]
    width = max(map(len, result["groups"]), default=0)
    for name, group in result["groups"].items():
        lines.append(f"  {name:{width}}  {percent(group['accuracy']):>7}  of {group['n']}")
    return "\n".join([*lines, f"items and result are in {out}"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
