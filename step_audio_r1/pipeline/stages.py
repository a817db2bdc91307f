"""The kinds of stages, each a function from parameters to parameters that can be killed and called again."""

import dataclasses
import zlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from step_audio_r1.data.batches import batches
from step_audio_r1.data.records import Example
from step_audio_r1.errors import BadInput
from step_audio_r1.files import read_jsonl
from step_audio_r1.mgrd import moderate, run_round
from step_audio_r1.parallel import TRAINING, batch_rows_divide, shardings
from step_audio_r1.pipeline.config import DistilStage, RLVRStage, SFTStage, Stage
from step_audio_r1.pipeline.resources import TRAINED, Resources
from step_audio_r1.progress import Progress
from step_audio_r1.rewards import score_response
from step_audio_r1.rl import PPO, rollout_batch
from step_audio_r1.rollout import Prompt, Rollout, completion_text, make_prompt
from step_audio_r1.text import Text, parse
from step_audio_r1.train import (
    Checkpoints,
    LoopPlan,
    Mean,
    MetricWriter,
    abstract_params,
    abstract_train_state,
    fit,
    init_sharded,
    make_sft_step,
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
      checkpoints, writer: where it saves and logs.
      resume: what a checkpoint inside this stage held, to continue from; None at the beginning.
    """

    run: Resources
    name: str
    global_start: int
    checkpoints: Checkpoints
    writer: MetricWriter
    resume: "Resume | None" = None

    @property
    def seed(self) -> int:
        """Seed of this stage."""
        return zlib.crc32(f"{self.run.config.seed}/{self.name}".encode()) % 2**31

    @property
    def first_step(self) -> int:
        """Steps of the stage that are done."""
        return self.resume.stage_step if self.resume else 0


def steps_of(stage: Stage) -> int:
    """Steps a stage adds to the run's global count."""
    match stage:
        case RLVRStage():
            return stage.iterations
        case DistilStage():
            return 1
        case _:
            return stage.steps


def initial_params(run: Resources) -> Any:
    """Fresh adaptor and decoder."""
    params = init_sharded(run.config.model, run.mesh, TRAINING, jax.random.key(run.config.seed))
    return {name: params[name] for name in TRAINED}


def abstract_trained(run: Resources) -> Any:
    """Shapes and places of adaptor and decoder, for restoring without any init."""
    boxed = {name: tree for name, tree in abstract_params(run.config.model).items() if name in TRAINED}
    where = shardings(boxed, run.mesh, TRAINING)
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), nn.unbox(boxed), where)


def abstract_state(stage: Stage, run: Resources) -> Any:
    """What a checkpoint inside the stage holds, as shapes and places."""
    match stage:
        case SFTStage():
            return abstract_train_state(abstract_trained(run), optimiser(stage.optimiser, stage.steps), run.mesh)
        case RLVRStage():
            return PPO(run.model, run.mesh, stage.ppo, stage.iterations).abstract(abstract_trained(run))
        case _:
            raise BadInput(f"a {stage.kind} stage has no checkpoints inside")


def run_sft(stage: SFTStage, context: StageContext, params: Any) -> Any:
    """Supervised fine-tuning (also pre-training: the sources tell); returns the new parameters."""
    run = context.run
    batch_rows_divide(run.mesh, stage.batch.rows, f"config.stages.{context.name}.batch.rows")
    tx = optimiser(stage.optimiser, stage.steps)
    sources = {name: (run.source(name), weight) for name, weight in stage.sources.items()}
    process = (jax.process_index(), jax.process_count())
    iterator = batches(sources, run.tokenizer, run.store, stage.batch, context.seed, run.config.format, process)
    if context.resume:
        state = context.resume.state
        iterator.set_state(context.resume.data)
    else:
        state = train_state(params, tx, run.mesh)
    step_fn = make_sft_step(run.model, tx, schedule(stage.optimiser, stage.steps), run.mesh, state)
    plan = LoopPlan(
        context.name,
        stage.steps,
        context.first_step,
        context.global_start,
        run.config.checkpoint_every,
        run.config.log_every,
    )
    return fit(plan, state, step_fn, iterator, run.mesh, context.checkpoints, context.writer).params


def run_distil(stage: DistilStage, context: StageContext, params: Any) -> Any:
    """An MGRD round's sampling and filtering; parameters pass through unchanged."""
    run = context.run
    weights = run.engine.decode_params(params)

    def generate(prompts: Sequence[Prompt], samples: int, sampling, seed: int) -> Rollout:
        return run.engine.generate(weights, prompts, samples, sampling, seed)

    summary = run_round(
        generate,
        run.source(stage.source),
        run.tokenizer,
        run.store,
        stage.mgrd,
        run.workdir.chains(stage.round),
        round=stage.round,
        seed=context.seed,
        model_step=context.global_start,
        format=run.config.format,
    )
    if not summary["examples_written"]:
        raise BadInput(
            f"config.stages.{context.name}: no chain of {summary['sampled']} passed the filters; "
            "sample more questions or loosen mgrd.filters"
        )
    counts = {"distil/sampled": float(summary["sampled"]), "distil/kept": float(summary["kept"])}
    context.writer.write(context.global_start + 1, context.name, 1, counts)
    return params


def run_rlvr(stage: RLVRStage, context: StageContext, params: Any) -> Any:
    """KL-free PPO with verified rewards; returns the actor's parameters."""
    run = context.run
    rows, path = stage.prompts * stage.samples, f"config.stages.{context.name}"
    batch_rows_divide(run.mesh, rows, f"{path}.prompts x samples")
    for field in ("policy_minibatches", "critic_minibatches"):
        if rows % getattr(stage.ppo, field):
            raise BadInput(f"{path}.ppo.{field}={getattr(stage.ppo, field)} does not divide {rows} samples")
    ppo = PPO(run.model, run.mesh, stage.ppo, stage.iterations)
    state = context.resume.state if context.resume else ppo.init(params, jax.random.key(context.seed))
    pools = _pools(stage, run)
    with Progress(context.name, stage.iterations, "iteration", context.first_step) as progress:
        for at in range(context.first_step, stage.iterations):
            # 1. prompts of this iteration, drawn by (seed, iteration) alone
            examples = draw_prompts(pools, stage.prompts, context.seed, at)
            prompts = [make_prompt(e, run.tokenizer, run.store, format=run.config.format) for e in examples]
            # 2. rollout with the current actor
            weights = run.engine.decode_params(state.actor.params)
            rollout = run.engine.generate(weights, prompts, stage.samples, stage.sampling, context.seed + at)
            # 3. verified rewards
            rewards, usable, metrics = reward_rollout(stage, run, examples, rollout)
            # 4. one PPO iteration
            rows = rollout_batch(prompts, rollout, rewards, usable, stage.max_tokens)
            state, ppo_metrics = ppo.iterate(state, rows, at, context.seed)
            # 5. report and save
            values = {name: m.value() for name, m in jax.device_get({**metrics, **ppo_metrics}).items()}
            context.writer.write(context.global_start + at + 1, context.name, at + 1, values)
            progress.advance(1, f"reward {values['reward/total']:.3f}")
            if (at + 1) % run.config.checkpoint_every == 0 and at + 1 < stage.iterations:
                meta = {"stage": context.name, "stage_step": at + 1, "done": False}
                context.checkpoints.save(context.global_start + at + 1, state, meta)
    return state.actor.params


def _pools(stage: RLVRStage, run: Resources) -> list[tuple[Sequence[Example], np.ndarray, float]]:
    """Per source: its examples, the indices that may be drawn, its weight."""
    allowed = None
    if stage.moderate_round is not None:
        rows = read_jsonl(run.workdir.chains(stage.moderate_round) / "pass_at_k.jsonl")
        rates = {row["example_id"]: (row["correct"], row["k"]) for row in rows}
        allowed = set(moderate(rates, *stage.pass_range))
    pools = []
    for name, weight in stage.sources.items():
        examples = run.source(name)
        indices = np.arange(len(examples))
        if allowed is not None and run.source(name)[0].modality == "audio":
            indices = np.array([i for i in indices if examples[int(i)].id in allowed])
        if len(indices) == 0:
            raise BadInput(f"rlvr source {name}: no prompt passes pass_range={stage.pass_range}; widen it")
        pools.append((examples, indices, weight))
    return pools


def draw_prompts(pools, count: int, seed: int, iteration: int) -> list[Example]:
    """`count` examples, shared out to the pools by weight, each pool walked in a seeded order without repetition."""
    total = sum(weight for _, _, weight in pools)
    edges = np.floor(np.cumsum([0.0, *[w / total for _, _, w in pools]]) * count + 1e-9).astype(int)
    drawn = []
    for i, (examples, indices, _) in enumerate(pools):
        need = int(edges[i + 1] - edges[i])
        for k in range(iteration * need, (iteration + 1) * need):
            epoch, position = divmod(k, len(indices))
            order = np.random.default_rng([seed, i, epoch]).permutation(indices)
            drawn.append(examples[int(order[position])])
    return drawn


def reward_rollout(stage: RLVRStage, run: Resources, examples: list[Example], rollout: Rollout):
    """Rewards f32[R], usable bool[R], and metrics; audio and text apart where they mean different things."""
    R = len(rollout.lengths)
    parts, texts = [], []
    for r in range(R):
        example = examples[r // rollout.samples]
        texts.append(completion_text(rollout, r, run.tokenizer, format=run.config.format))
        question = " ".join(p.text for m in example.messages for p in m.parts if isinstance(p, Text))
        parts.append(
            score_response(
                texts[-1],
                rollout.finish_reasons[r],
                gold=example.answer,
                choices=example.choices,
                question=question,
                modality=example.modality,
                config=stage.reward,
            )
        )
    usable = np.array([not p.error for p in parts])
    audio = np.array([examples[r // rollout.samples].modality == "audio" for r in range(R)])
    think = np.array([len((parse(t).think or "").split()) for t in texts], np.float32)
    truncated = np.array([reason == "length" for reason in rollout.finish_reasons])

    def of(values, mask):
        return Mean.of(np.where(mask, np.asarray(values, np.float32), 0), mask.astype(np.float32))

    metrics = {
        "reward/total": of([p.total for p in parts], usable),
        "reward/correct": of([p.correct for p in parts], usable),
        "reward/format": of([p.format for p in parts], usable),
        "reward/failed": of(~usable, np.ones(R, bool)),
        "rollout/truncated": of(truncated, np.ones(R, bool)),
        "rollout/new_tokens": of(rollout.lengths, np.ones(R, bool)),
    }
    for name, mask in (("audio", audio), ("text", ~audio)):
        if mask.any():
            metrics[f"reward/correct_{name}"] = of([p.correct for p in parts], usable & mask)
            metrics[f"rollout/think_tokens_{name}"] = of(think, mask)
    return np.array([p.total for p in parts], np.float32), usable, metrics
