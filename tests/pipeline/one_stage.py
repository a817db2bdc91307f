"""One stage of a run, alone and in this process, which can be made to end in any call of any function."""

import contextlib
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import pytest

from step_audio_r1.pipeline.stages import Resume, StageContext
from step_audio_r1.train import Checkpoints, Goodput, MetricWriter, Preemption, ProfileConfig, Profiler, Supervisor
from tests.train.small_model import fresh, host


class Killed(Exception):
    """Stands for the end of the process."""


def dies(patch: pytest.MonkeyPatch, owner: Any, name: str, call: int) -> None:
    """The process ends in the given call, from 1, of the owner's function of that name."""
    original, calls = getattr(owner, name), []

    @functools.wraps(original)
    def dying(*args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            raise Killed
        return original(*args, **kwargs)

    patch.setattr(owner, name, dying)


def run_stage(
    workdir: Path, name: str, run: Any, abstract: Callable[[], Any], stage: Callable[[StageContext, Any], Any]
) -> dict:
    """Runs a stage from the newest checkpoint of `workdir` if there is one.

    Args:
      name: the stage's.
      run: what the stage reads of a run's resources.
      abstract: shapes of the state that a checkpoint holds.
      stage: from the context and the first parameters, None when resumed, to the last.

    Returns:
      The bytes of the last parameters, and the rows of metrics but for the times.
    """
    checkpoints, resume, step = Checkpoints(workdir, 3), None, 0
    if checkpoints.steps():
        step = checkpoints.steps()[0]
        meta = checkpoints.meta(step)
        resume = Resume(meta["stage_step"], checkpoints.restore(step, abstract()), meta["data"])
    with Preemption() as preemption, Goodput(workdir) as goodput, contextlib.ExitStack() as stack:
        stack.callback(checkpoints.close)
        writer = MetricWriter(workdir, step)
        stack.callback(writer.close)
        supervisor = Supervisor(checkpoints, writer, goodput, Profiler(workdir, ProfileConfig()), preemption)
        params = stage(StageContext(run, name, 0, supervisor, resume), None if resume else fresh())
    rows = [json.loads(row) for row in (workdir / "metrics.jsonl").read_text().splitlines()]
    clocks = ("time/", "perf/", "goodput/")
    return {
        "params": [x.tobytes() for x in jax.tree.leaves(host(params))],
        "metrics": [{name: x for name, x in row.items() if not name.startswith(clocks)} for row in rows],
    }
