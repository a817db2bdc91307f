"""The training loop: one screen, the same for every kind of step."""

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grain
import jax
import numpy as np
from jax.sharding import Mesh

from step_audio_r1.data.batches import Batch
from step_audio_r1.parallel import batch_sharding
from step_audio_r1.progress import Progress
from step_audio_r1.train.checkpoints import Checkpoints
from step_audio_r1.train.metrics import Mean, MetricWriter


@dataclass(frozen=True)
class LoopPlan:
    """Where a stage stands in the run.

    Attributes:
      stage: its name.
      steps: how many it has.
      first_step: stage step to begin with (more than 0 when resumed).
      global_start: steps of the whole run before this stage.
      checkpoint_every: steps between checkpoints.
      log_every: steps between rows of metrics.
    """

    stage: str
    steps: int
    first_step: int
    global_start: int
    checkpoint_every: int
    log_every: int


def to_device(batch: dict[str, np.ndarray], mesh: Mesh) -> Batch:
    """This process's rows of a batch as global arrays, rows over data and fsdp."""
    sharding = batch_sharding(mesh)
    return Batch(**{k: jax.make_array_from_process_local_data(sharding, v) for k, v in batch.items()})


def fit(
    plan: LoopPlan,
    state: Any,
    step_fn: Callable[[Any, Batch], tuple[Any, dict[str, Mean]]],
    batches: Iterator[dict[str, np.ndarray]] | grain.DatasetIterator,
    mesh: Mesh,
    checkpoints: Checkpoints,
    writer: MetricWriter,
    place: Callable[[dict[str, np.ndarray]], Any] | None = None,
) -> Any:
    """Runs the stage from `plan.first_step` to its end and returns the last state.

    Metrics of step n are read while step n + 1 runs, so that nothing waits for the device. A checkpoint is written
    every `checkpoint_every` steps with the iterator's state; the end of the stage is saved by the caller. `place` puts
    a host batch on the devices, `to_device` if it is None.
    """
    place = place or functools.partial(to_device, mesh=mesh)
    pending: tuple[int, dict[str, Mean]] | None = None

    def log(progress: Progress) -> None:
        if pending is None:
            return
        at, metrics = pending
        values = {name: m.value() for name, m in jax.device_get(metrics).items()}
        if at % plan.log_every == 0 or at == plan.steps:
            seconds = (time.monotonic() - began) / max(at - plan.first_step, 1)
            writer.write(plan.global_start + at, plan.stage, at, {**values, "time/step_s": seconds})
        progress.advance(1, " ".join(f"{k.split('/')[-1]} {values[k]:.3f}" for k in list(values)[:2]))

    began = time.monotonic()
    with Progress(plan.stage, plan.steps, "step", plan.first_step) as progress:
        for at in range(plan.first_step + 1, plan.steps + 1):
            with jax.profiler.StepTraceAnnotation("train", step_num=plan.global_start + at):
                state, metrics = step_fn(state, place(next(batches)))
            log(progress)
            pending = (at, metrics)
            if at % plan.checkpoint_every == 0 and at < plan.steps:
                # Its row first: a run that is killed after the save begins after this step.
                log(progress)
                pending = None
                meta = {"stage": plan.stage, "stage_step": at, "done": False}
                checkpoints.save(plan.global_start + at, state, meta, batches.get_state())
        log(progress)
    return state
