"""The stage of knowledge distillation: an earlier stage, which reads text in the sound's place, teaches a listener."""

import functools
from typing import Any

from step_audio_r1.data.taught import TaughtBatch, taught_batches
from step_audio_r1.pipeline.kept import kept_params
from step_audio_r1.pipeline.stage_config import KnowledgeStage
from step_audio_r1.pipeline.stages import StageContext, shards_here
from step_audio_r1.train import (
    Throughput,
    fit,
    make_knowledge_step,
    optimiser,
    schedule,
    teacher_params,
    to_device,
    train_state,
)


def run_knowledge(stage: KnowledgeStage, context: StageContext, params: Any) -> Any:
    """Learns the teacher's distributions over the sources' targets; returns the new parameters.

    Rows of metrics have the student's tokens as theirs (perf/): the teacher's come on top.
    """
    run = context.run
    tx = optimiser(stage.optimiser, stage.steps)
    sources = {name: (run.source(name), weight) for name, weight in stage.sources.items()}
    shards = shards_here(stage, context.name, run.mesh)
    iterator = taught_batches(sources, run.tokenizer, run.store, stage.batch, context.seed, run.config.format, shards)
    teacher = teacher_params(kept_params(run, stage.teacher), run.config.model.compute_dtype)
    if context.resume:
        state = context.resume.state
        iterator.set_state(context.resume.data)
    else:
        state = train_state(params, tx, run.mesh, stage.optimiser.offload)
    rates = schedule(stage.optimiser, stage.steps)
    step = make_knowledge_step(run.model, tx, rates, run.mesh, state, stage.knowledge, stage.micro_batches)
    place = functools.partial(to_device, mesh=run.mesh, kind=TaughtBatch)
    throughput = Throughput(run.config.model, run.mesh)

    def step_fn(state: Any, batch: TaughtBatch) -> Any:
        return step(state, teacher, batch)

    return fit(
        context.plan(stage.steps), state, step_fn, iterator, run.mesh, context.supervisor, place, throughput
    ).params
