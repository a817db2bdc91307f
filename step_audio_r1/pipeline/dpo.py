"""The DPO stage: the model learns from pairs of its own outputs that it hears."""

import functools
from typing import Any

from step_audio_r1.parallel import batch_rows_divide
from step_audio_r1.pipeline.pairs import Layout, PairStream, stage_pairs
from step_audio_r1.pipeline.resources import Resources
from step_audio_r1.pipeline.stage_config import DPOStage
from step_audio_r1.pipeline.stages import StageContext
from step_audio_r1.train import (
    Throughput,
    fit,
    make_dpo_step,
    micro_batches_divide,
    optimiser,
    pairs_to_device,
    schedule,
    train_state,
)


def check_dpo(stage: DPOStage, name: str, run: Resources) -> None:
    """Raises BadInput where a batch does not divide over devices and micro-batches."""
    path = f"config.stages.{name}"
    batch_rows_divide(run.mesh, stage.rows, f"{path}.rows")
    micro_batches_divide(run.mesh, stage.rows, stage.micro_batches, f"{path}.micro_batches")


def run_dpo(stage: DPOStage, context: StageContext, params: Any) -> Any:
    """Makes the pairs, then fits them; returns the new parameters."""
    run = context.run
    check_dpo(stage, context.name, run)
    with context.supervisor.goodput.spending("sampling"):
        pairs = stage_pairs(stage, context, params)
    tx = optimiser(stage.optimiser, stage.steps)
    stream = PairStream(Layout(run, stage, pairs), len(pairs), stage.rows, context.seed)
    if context.resume:
        state = context.resume.state
        stream.set_state(context.resume.data)
    else:
        state = train_state(params, tx, run.mesh, stage.optimiser.offload)
    rates = schedule(stage.optimiser, stage.steps)
    step_fn = make_dpo_step(run.model, tx, rates, run.mesh, state, stage.dpo, stage.micro_batches)
    place = functools.partial(pairs_to_device, mesh=run.mesh)
    throughput = Throughput(run.config.model, run.mesh)
    return fit(
        context.plan(stage.steps), state, step_fn, stream, run.mesh, context.supervisor, place, throughput
    ).params
