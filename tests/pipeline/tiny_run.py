"""The tiny run as a process, moments in its life, and all that it is judged by."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
FLAGS = ["--config.log_every=1", "--config.evaluation.conditions=('real',)"]
# Metrics that tell of the clock.
CLOCKS = ("time/", "perf/", "goodput/")

Moment = Callable[[Path], bool]


def start(
    workdir: Path, config: Path | str = "configs/tiny.py", more: Sequence[str] = (), **environment: str
) -> subprocess.Popen:
    """`train` in a process group of its own, with `more` flags."""
    flags = [f"--config={config}", f"--workdir={workdir}", *FLAGS, *more]
    return subprocess.Popen(
        [sys.executable, "-m", "step_audio_r1", "train", *flags],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(workdir: Path, config: Path | str = "configs/tiny.py", more: Sequence[str] = (), **environment: str) -> str:
    """Runs to the end; returns what was said."""
    process = start(workdir, config, more, **environment)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors[-3000:]
    return errors


def kill_at(
    workdir: Path, reached: Moment, config: Path | str = "configs/tiny.py", more: Sequence[str] = (), **environment: str
) -> bool:
    """Runs until the moment, then SIGKILL to the whole process group. False if the run ended first."""
    process = start(workdir, config, more, **environment)
    try:
        while process.poll() is None:
            if reached(workdir):
                os.killpg(process.pid, signal.SIGKILL)
                return True
            time.sleep(0.005)
        return False
    finally:
        process.communicate()


def logged(stage: str, step: int) -> Moment:
    """The stage has logged this step."""

    def reached(workdir: Path) -> bool:
        path = workdir / "metrics.jsonl"
        rows = path.read_text().splitlines() if path.exists() else []
        return any(f'"stage": "{stage}", "stage_step": {step},' in row for row in rows)

    return reached


def exists(pattern: str) -> Moment:
    """A file of this pattern is there."""
    return lambda workdir: any(workdir.glob(pattern))


def ended(stage: str) -> Moment:
    """The stage's training has ended; its evaluation begins."""

    def reached(workdir: Path) -> bool:
        path = workdir / "stages.json"
        return path.exists() and f'"{stage}"' in path.read_text()

    return reached


def results(workdir: Path) -> dict[str, object]:
    """All that a run is judged by: metrics without clock times, checksums of the last parameters, records, answers."""
    metrics = [json.loads(row) for row in (workdir / "metrics.jsonl").read_text().splitlines()]
    last = max((p for p in (workdir / "checkpoints").iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
    found = {
        "metrics": [{k: v for k, v in row.items() if not k.startswith(CLOCKS)} for row in metrics],
        "parameters": json.loads((last / "meta" / "metadata").read_text())["checksums"],
    }
    for path in [*workdir.glob("eval/**/*.json*"), *workdir.glob("chains/**/*"), *workdir.glob("rollouts/**/*")]:
        if path.is_file() and path.suffix in (".json", ".jsonl", ".arrayrecord"):
            found[str(path.relative_to(workdir))] = path.read_bytes()
    return found
