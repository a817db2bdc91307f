"""A whole run: stage after stage, measured where the config says so; the same call resumes it."""

import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

import jax

from step_audio_r1.errors import BadInput
from step_audio_r1.eval import evaluate, measures_table, write_summary
from step_audio_r1.files import read_json
from step_audio_r1.parallel import leads
from step_audio_r1.pipeline.branch import begins, branch
from step_audio_r1.pipeline.config import RunConfig, with_real_vocab
from step_audio_r1.pipeline.distil import check_distil, run_distil
from step_audio_r1.pipeline.dpo import check_dpo, run_dpo
from step_audio_r1.pipeline.kept import keep_params, kept_params
from step_audio_r1.pipeline.knowledge import run_knowledge
from step_audio_r1.pipeline.position import find_position
from step_audio_r1.pipeline.resources import Resources, encoder_source
from step_audio_r1.pipeline.rlvr import check_rlvr, run_rlvr
from step_audio_r1.pipeline.selection import check_sandbox
from step_audio_r1.pipeline.stage_config import (
    DistilStage,
    DPOStage,
    KnowledgeStage,
    RLVRStage,
    SFTStage,
    Stage,
    steps_of,
)
from step_audio_r1.pipeline.stages import (
    StageContext,
    initial_params,
    run_sft,
    shards_here,
)
from step_audio_r1.pipeline.workdir import IMPORTED, Workdir
from step_audio_r1.train import (
    Checkpoints,
    Goodput,
    MetricWriter,
    Preemption,
    Profiler,
    Supervisor,
    abstract_params,
)

_RUNNERS = {"sft": run_sft, "rlvr": run_rlvr, "distil": run_distil, "dpo": run_dpo, "knowledge": run_knowledge}


def train(
    config: RunConfig, workdir_path: Path | str, began: float | None = None, branch_from: Path | str | None = None
) -> None:
    """Runs the stages of `config` in `workdir_path`, from wherever an earlier call was stopped.

    Args:
      config, workdir_path: the run.
      began: when its process did (`time.monotonic`), so that its imports count as time of the run.
      branch_from: the workdir of a finished run whose stages are the first of this one's; a new workdir begins after
        them (see `branch.py`).

    Raises:
      BadInput: the config, the workdir or the other run cannot be used.
      WorkFailed: a file could not be written.
      Preempted: SIGTERM came.
    """
    # 1. the workdir is this config's
    workdir = Workdir(workdir_path)
    branches = branch_from is not None and begins(branch_from, workdir, config)
    origin = Workdir(branch_from) if branches else workdir
    if origin.imported.exists():  # which rows of the token table are real, the imported tokenizer has said
        config = with_real_vocab(config, origin.config().model.decoder.real_vocab)
    elif config.order[0] == IMPORTED:
        raise BadInput(
            f"{workdir.path}: holds no imported model; make it by `convert --from_hf=DIR` with this --config"
        )
    elif not origin.encoder.exists():
        encoder_source(config)  # told before anything is written
    check_sandbox(config)
    run = Resources(config, workdir)  # a mesh that the devices do not make is told here
    for name in config.order:
        stage = config.stages[name]
        if isinstance(stage, SFTStage | KnowledgeStage) and stage.steps:
            shards_here(stage, name, run.mesh)
        elif isinstance(stage, RLVRStage):
            check_rlvr(stage, name, run)
        elif isinstance(stage, DistilStage):
            check_distil(stage, name)
        elif isinstance(stage, DPOStage):
            check_dpo(stage, name, run)
    if branches:
        branch(branch_from, workdir, config)
    workdir.claim(config)
    if workdir.finished(config):
        if leads():
            print(
                f"{workdir.path}: this run is done ({len(config.order)} stages); nothing left to do",
                file=sys.stderr,
            )
        return
    workdir.keep_programs()
    _welcome(config, run)
    with Preemption() as preemption, Goodput(workdir.path, began) as goodput:
        _run_stages(config, run, preemption, goodput)
        if leads():
            print(goodput.line(), file=sys.stderr)


def _run_stages(config: RunConfig, run: Resources, preemption: Preemption, goodput: Goodput) -> None:
    # 2. where the run stands
    workdir = run.workdir
    checkpoints = Checkpoints(workdir.path, config.keep_checkpoints)
    position = find_position(config, run, checkpoints)
    goodput.resume(position.step)
    writer = MetricWriter(workdir.path, position.step)
    supervisor = Supervisor(checkpoints, writer, goodput, Profiler(workdir.path, config.profile), preemption)
    params = initial_params(run) if position.params is None and position.resume is None else position.params
    last = config.order[position.stages_done - 1] if position.stages_done else ""
    # A branch: the other run had no need of them later. What was imported is kept as it is.
    if last in config.kept_stages - {IMPORTED} and position.resume is None:
        keep_params(run, last, params)

    # 3. the stages
    start = 0
    for i, name in enumerate(config.order):
        stage = config.stages[name]
        end = start + steps_of(stage)
        if i >= position.stages_done:
            began = time.monotonic()
            resume = position.resume if i == position.stages_done else None
            context = StageContext(run, name, start, supervisor, resume)
            if getattr(stage, "start_from", "") and resume is None:
                params = kept_params(run, stage.start_from)
            params = _RUNNERS[stage.kind](stage, context, params)
            with preemption.deferred():
                if name in config.kept_stages:
                    keep_params(run, name, params)
                supervisor.save(end, {"params": params}, {"stage": name, "stage_step": end - start, "done": True})
                supervisor.wait()
                workdir.stage_done(name, time.monotonic() - began, end - start)
                preemption.ask()
            if preemption.due():
                supervisor.stop(end)
        elif name not in workdir.stages():  # killed between the checkpoint and this note
            workdir.stage_done(name, 0.0, end - start)
        # 4. what the stage has taught; only the newest parameters are at hand, so a stage is measured as it ends
        just_ended = i == position.stages_done - 1 and position.resume is None
        if stage.evaluate != "nothing" and (i >= position.stages_done or just_ended):
            with goodput.spending("evaluation"):
                measure(run, params, name, stage)
        start = end
    writer.close()
    checkpoints.close()
    measured = [name for name in config.order if config.stages[name].evaluate != "nothing"]
    if measured and leads():
        write_summary(workdir / "eval", measured)
        if table := measures_table(read_json(workdir / "eval" / "measures.json")):
            print(table, file=sys.stderr)


def measure(run: Resources, params: Any, name: str, stage: Stage) -> None:
    """Evaluates parameters on the config's held-out split and writes `eval/items/STAGE.jsonl`."""
    config = run.config.evaluation
    if stage.evaluate == "perception":
        config = dataclasses.replace(config, questions=0)
    elif stage.evaluate == "arms":
        config = dataclasses.replace(config, budgets=(None,), conditions=("real",), votes=(), describe=0)
    weights = run.engine.decode_params(params)

    def generate(prompts, samples, sampling, seed):
        return run.engine.generate(weights, prompts, samples, sampling, seed)

    def attend(prompts, completions):
        return run.engine.audio_attention(weights, prompts, completions)

    identity = ("identity",) if run.config.world.identity else ()
    measured = ("questions", "describe", *identity, *run.config.trained_tasks)
    examples = [example for source in measured for example in run.source(f"world_{config.split}:{source}")]
    evaluate(
        generate,
        examples,
        run.tokenizer,
        run.store,
        config,
        run.workdir / "eval" / "items" / f"{name}.jsonl",
        stage=name,
        round=stage.round,
        encode_clip=run.encode_clip,
        attend=attend,
        format=run.config.format,
    )


def _welcome(config: RunConfig, run: Resources) -> None:
    """What runs where, in a few lines, before anything takes time."""
    counts = {k: sum(x.size for x in jax.tree.leaves(v)) for k, v in abstract_params(config.model).items()}
    sizes = ", ".join(f"{name} {n / 1e6:.2f} M" for name, n in counts.items())
    mesh = " x ".join(f"{axis} {n}" for axis, n in run.mesh.shape.items())
    if leads():
        print(f"{config.name}: {config.model.name} ({sizes}); stages {' -> '.join(config.order)}", file=sys.stderr)
    print(
        f"process {jax.process_index()} of {jax.process_count()}, {jax.local_device_count()} of {jax.device_count()} "
        f"{jax.devices()[0].platform} devices here; mesh {mesh}",
        file=sys.stderr,
    )
