"""Stands for `step-audio-r1` in tests of the runner: writes a finished workdir, or does what a file tells it to.

In the folder FAKE: ARM.json is the config of an arm; `fail_NAME` makes the run NAME fail; `wait_NAME` makes it wait
for SIGTERM the first time; with `together` the first run ends when a second one has started, and else never. What is
done is told in `told.jsonl`.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

FAKE = Path(os.environ.get("FAKE", ""))


def tell(**what) -> None:
    with open(FAKE / "told.jsonl", "a") as file:
        file.write(json.dumps(what) + "\n")


def main() -> int:
    flags = dict(flag.split("=", 1) for flag in sys.argv[2:])
    workdir, seed = Path(flags["--workdir"]), int(flags["--config.seed"])
    arm = flags["--config"].removeprefix("configs/ablations.py:")
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    tell(run=workdir.name, event="start", programs=os.environ["JAX_COMPILATION_CACHE_DIR"], cores=cores)
    print("begins", workdir.name)
    if (FAKE / f"fail_{workdir.name}").exists():
        print("something went wrong", file=sys.stderr)
        return 1
    config = json.loads((FAKE / f"{arm}.json").read_text()) | {"seed": seed}
    begun = (workdir / "config.json").exists()
    if not begun and (parent := flags.get("--branch_from")) and not (Path(parent) / "stages.json").exists():
        return 2
    workdir.mkdir(parents=True, exist_ok=True)
    (workdir / "config.json").write_text(json.dumps(config))
    if (FAKE / f"wait_{workdir.name}").exists() and not begun:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
        tell(run=workdir.name, event="waits")
        while True:
            time.sleep(0.05)
    while (FAKE / "together").exists() and (FAKE / "told.jsonl").read_text().count('"start"') < 2:
        time.sleep(0.05)
    finish(workdir, config, ["__main__.py", *sys.argv[1:]], arm, seed)
    tell(run=workdir.name, event="end")
    return 0


def finish(workdir: Path, config: dict, command: list[str], arm: str, seed: int, commit: str | None = "c0ffee") -> None:
    """Writes what the runner looks at in a finished workdir."""
    (workdir / "eval").mkdir(parents=True, exist_ok=True)
    accuracy = 0.5 + 0.01 * seed + (0.1 + 0.02 * seed if arm == "rl_format" else 0.0)
    files = {
        "config.json": config,
        "provenance.json": {"git": commit, "command": command},
        "stages.json": {name: {"done": True, "seconds": 30.0} for name in config["order"]},
        "goodput.json": {"seconds": {"steps": 60.0, "evaluation": 30.0}},
        "numbers.json": [{"group": "all", "accuracy": accuracy}, {"group": "few", "accuracy": None}],
        "eval/summary.json": [],
    }
    for name, value in files.items():
        (workdir / name).write_text(json.dumps(value))


if __name__ == "__main__":
    sys.exit(main())
