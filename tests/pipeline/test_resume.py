"""Promise: killed at any moment of any stage, the same command ends with the same bits as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLAGS = ["--config.log_every=1", "--config.evaluation.conditions=('real',)"]


def _start(workdir: Path) -> subprocess.Popen:
    flags = ["--config=configs/tiny.py", f"--workdir={workdir}", *FLAGS]
    return subprocess.Popen(
        [sys.executable, "-m", "step_audio_r1", "train", *flags],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _logged(stage: str, step: int):
    """The stage has logged this step."""

    def reached(workdir: Path) -> bool:
        path = workdir / "metrics.jsonl"
        rows = path.read_text().splitlines() if path.exists() else []
        return any(f'"stage": "{stage}", "stage_step": {step},' in row for row in rows)

    return reached


def _exists(pattern: str):
    """A file of this pattern is there."""
    return lambda workdir: any(workdir.glob(pattern))


def _ended(stage: str):
    """The stage's training has ended; its evaluation begins."""

    def reached(workdir: Path) -> bool:
        path = workdir / "stages.json"
        return path.exists() and f'"{stage}"' in path.read_text()

    return reached


# Moments, in the order in which a run meets them. All stay true once they are, so that none can be missed by a
# look that comes too late.
MOMENTS = {
    "clips are being made": _exists("data/world/train/*clips-*"),
    "features are being encoded": _exists("cache/features/*world*"),
    "pre-training": _logged("pretrain", 3),
    "pre-training is being evaluated": _ended("pretrain"),
    "cold start, first step": _logged("cold_start", 1),
    "cold start, late": _logged("cold_start", 5),
    "text RLVR": _logged("text_rlvr", 2),
    "chains are being sampled": _exists("chains/round_01/*"),
    "MGRD's SFT": _logged("mgrd_1_sft", 2),
    "MGRD's SFT, between checkpoint and end": _logged("mgrd_1_sft", 5),
    "questions for RLVR were tried": _exists("rollouts/*/*"),
    "MGRD's RLVR, first iteration": _logged("mgrd_1_rlvr", 1),
    "the last evaluation": _ended("mgrd_1_rlvr"),
}


def _kill_at(workdir: Path, reached) -> bool:
    """Runs until the moment, then SIGKILL to the whole process group. False if the run ended first."""
    process = _start(workdir)
    try:
        while process.poll() is None:
            if reached(workdir):
                os.killpg(process.pid, signal.SIGKILL)
                return True
            time.sleep(0.005)
        return False
    finally:
        process.communicate()


def _finish(workdir: Path) -> None:
    process = _start(workdir)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors[-3000:]


def _results(workdir: Path) -> dict[str, object]:
    """All that a run is judged by: metrics without clock times, checksums of the last parameters, records, answers."""
    metrics = [json.loads(row) for row in (workdir / "metrics.jsonl").read_text().splitlines()]
    last = max((p for p in (workdir / "checkpoints").iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
    found = {
        "metrics": [{k: v for k, v in row.items() if not k.startswith("time/")} for row in metrics],
        "parameters": json.loads((last / "meta" / "metadata").read_text())["checksums"],
    }
    for path in [*workdir.glob("eval/**/*.json*"), *workdir.glob("chains/**/*"), *workdir.glob("rollouts/**/*")]:
        if path.is_file() and path.suffix in (".json", ".jsonl", ".arrayrecord"):
            found[str(path.relative_to(workdir))] = path.read_bytes()
    return found


@pytest.mark.slow
def test_killed_at_thirteen_moments_equals_uninterrupted(tmp_path):
    _finish(tmp_path / "whole")
    expected = _results(tmp_path / "whole")
    killed = tmp_path / "killed"
    missed = [name for name, reached in MOMENTS.items() if not _kill_at(killed, reached)]
    assert not missed, f"the run ended before it could be killed at: {missed}"
    _finish(killed)
    found = _results(killed)
    assert not list(killed.rglob(".*.tmp")), "a kill left half a file behind"
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == value, f"{name} differs after thirteen kills"
