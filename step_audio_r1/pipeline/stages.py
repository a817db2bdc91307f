"""The kinds of stages, each a function from parameters to parameters that can be killed and called again."""

import dataclasses
import zlib
from typing import Any

import jax
from jax.sharding import Mesh

from step_audio_r1.data.batches import batches
from step_audio_r1.errors import BadInput
from step_audio_r1.parallel import TRAINING, batch_rows_divide, shards_of_process
from step_audio_r1.pipeline.resources import Resources
from step_audio_r1.pipeline.stage_config import DPOStage, KnowledgeStage, RLVRStage, SFTStage, Stage
from step_audio_r1.rl import PPO
from step_audio_r1.train import (
    TRAINED,
    LoopPlan,
    Supervisor,
    Throughput,
    abstract_train_state,
    abstract_trained,
    fit,
    init_sharded,
    make_sft_step,
    micro_batches_divide,
    optimiser,
    schedule,
    train_state,
)


@dataclasses.dataclass(frozen=True)
class Resume:
    """A checkpoint from inside a stage: steps done, the state's arrays, the data iterator's state."""

    stage_step: int
    state: Any
    data: Any


@dataclasses.dataclass
class StageContext:
    """What a stage is given.

    Attributes:
      run: the shared parts.
      name, global_start: the stage's name and the steps of the run before it.
      seed: the run's seed and the stage's name in one number.
      supervisor: saves, logs, keeps the time.
      resume: what a checkpoint inside this stage held, to continue from; None at the beginning.
    """

    run: Resources
    name: str
    global_start: int
    supervisor: Supervisor
    resume: "Resume | None" = None

    @property
    def seed(self) -> int:
        """Seed of this stage."""
        return self._hash(f"{self.run.config.seed}/{self.name}")

    def seed_for(self, purpose: str) -> int:
        """Another seed of this stage, for draws that must not repeat those of `seed`."""
        return self._hash(f"{self.run.config.seed}/{self.name}/{purpose}")

    @staticmethod
    def _hash(text: str) -> int:
        return zlib.crc32(text.encode()) % 2**31

    @property
    def first_step(self) -> int:
        """Steps of the stage that are done."""
        return self.resume.stage_step if self.resume else 0

    def plan(self, steps: int) -> LoopPlan:
        """A loop of that many steps of this stage, from where it stands."""
        config = self.run.config
        start = self.first_step, self.global_start
        return LoopPlan(self.name, steps, *start, config.checkpoint_every, config.log_every)


def initial_params(run: Resources) -> Any:
    """Fresh adaptor and decoder."""
    params = init_sharded(run.config.model, run.mesh, TRAINING, jax.random.key(run.config.seed))
    return {name: params[name] for name in TRAINED}


def abstract_state(stage: Stage, run: Resources) -> Any:
    """What a checkpoint inside the stage holds, as shapes and places."""
    match stage:
        case SFTStage() | DPOStage() | KnowledgeStage():
            return abstract_train_state(
                abstract_trained(run.config.model, run.mesh, TRAINING),
                optimiser(stage.optimiser, stage.steps),
                run.mesh,
                stage.optimiser.offload,
            )
        case RLVRStage():
            return PPO(run.model, run.mesh, stage.ppo, stage.iterations).abstract(
                abstract_trained(run.config.model, run.mesh, TRAINING)
            )
        case _:
            raise BadInput(f"a {stage.kind} stage has no checkpoints inside")


def shards_here(stage: SFTStage | KnowledgeStage, name: str, mesh: Mesh) -> list[int]:
    """Shards of the stage's batches that this process reads. Raises BadInput where processes cannot share them."""
    batch, path = stage.batch, f"config.stages.{name}.batch"
    batch_rows_divide(mesh, batch.rows, f"{path}.rows")
    micro_batches_divide(mesh, batch.rows, stage.micro_batches, f"config.stages.{name}.micro_batches")
    return shards_of_process(mesh, batch.rows, batch.shard_count, f"{path}.shards")


def run_sft(stage: SFTStage, context: StageContext, params: Any) -> Any:
    """Supervised fine-tuning (also pre-training: the sources tell); returns the new parameters."""
    run = context.run
    tx = optimiser(stage.optimiser, stage.steps)
    sources = {name: (run.source(name), weight) for name, weight in stage.sources.items()}
    shards = shards_here(stage, context.name, run.mesh)
    iterator = batches(sources, run.tokenizer, run.store, stage.batch, context.seed, run.config.format, shards)
    if context.resume:
        state = context.resume.state
        iterator.set_state(context.resume.data)
    else:
        state = train_state(params, tx, run.mesh, stage.optimiser.offload)
    rates = schedule(stage.optimiser, stage.steps)
    step_fn = make_sft_step(run.model, tx, rates, run.mesh, state, stage.micro_batches)
    throughput = Throughput(run.config.model, run.mesh)
    return fit(
        context.plan(stage.steps), state, step_fn, iterator, run.mesh, context.supervisor, throughput=throughput
    ).params
