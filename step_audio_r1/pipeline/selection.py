"""Which questions an RLVR stage trains on, and which of them an iteration asks."""

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from step_audio_r1.data.records import Example
from step_audio_r1.data.store import INDEX, Dataset, DatasetWriter
from step_audio_r1.errors import BadInput
from step_audio_r1.files import read_jsonl, write_json, write_jsonl
from step_audio_r1.mgrd import family_of, select_questions
from step_audio_r1.parallel import once
from step_audio_r1.pipeline.config import RunConfig
from step_audio_r1.pipeline.rewarding import score_rollout
from step_audio_r1.pipeline.stage_config import RLVRStage
from step_audio_r1.pipeline.stages import StageContext
from step_audio_r1.progress import Progress
from step_audio_r1.rewards import sandbox_available
from step_audio_r1.rl import histogram, keeps, shares
from step_audio_r1.rollout import make_prompt

SELECTED = "selected"
# Questions that are tried at once.
_CHUNK = 64

Rows = list[dict[str, Any]]


class Pool(NamedTuple):
    """Questions that a stage draws from, and their share of its prompts."""

    examples: Sequence[Example]
    weight: float


def check_sandbox(config: RunConfig) -> None:
    """Refuses a run whose answers are programs where none can be run, before anything is made.

    Raises:
      BadInput: names the source, and says what is missing and how to get it.
    """
    for name in config.order:
        stage = config.stages[name]
        for source, weight in getattr(stage, "sources", {}).items():
            if not weight:
                continue
            dataset, _, part = source.partition(":")
            if dataset in config.datasets:
                rewarded = Dataset(config.datasets[dataset]).examples(part) if isinstance(stage, RLVRStage) else ()
                programs = any(example.verifier.get("kind") == "code" for example in rewarded)
            else:
                programs = part == "code_write"  # measured as well, whatever the stage
            if programs and (missing := sandbox_available()):
                raise BadInput(f"config.stages.{name}.sources: {source!r} has programs to run: {missing}")


def prompt_pools(stage: RLVRStage, context: StageContext, params: Any) -> list[Pool]:
    """The questions of each source of weight above 0: all of them, or those that `strategy` keeps of the tried.

    What was tried and chosen lies in `rollouts/STAGE/`, written before the first iteration and read by a resumed stage:

      pass_at_k-SOURCE.jsonl   a row for each candidate: {index, example_id, family, correct, k, errors}
      pass_at_k-SOURCE.json    {source, strategy, pass_range, k, tried, unverified, suitable, kept, solved, families}:
                               how many were what the strategy wants, and are in the pool; how many were solved 0, 1,
                               ... k times, in all and in each family
      selected-SOURCE/         the chosen questions as a dataset with the one source "selected"

    A question of which any sample could not be verified is left out and counted as `unverified`.

    Raises:
      BadInput: nothing is left of a source; or a resumed stage misses its records.
    """
    pools = []
    for name, weight in stage.sources.items():
        if not weight:
            continue
        tried = stage.candidates and (stage.select_from is None or name in stage.select_from)
        examples = _selected(stage, context, params, name) if tried else context.run.source(name)
        if len(examples) == 0:
            raise BadInput(f"config.stages.{context.name}.sources: {name} has no questions; prepare some")
        pools.append(Pool(examples, weight))
    return pools


def draw_prompts(pools: Sequence[Pool], count: int, seed: int, iteration: int) -> list[Example]:
    """`count` examples, shared out to the pools by weight (see `rl.shares`), those of a pool together.

    Each pool is walked in a seeded order, all of it before any question comes again.
    """
    drawn = []
    for i, (pool, numbers) in enumerate(zip(pools, shares([pool.weight for pool in pools], count, iteration))):
        for number in numbers:
            epoch, position = divmod(number, len(pool.examples))
            order = np.random.default_rng([seed, i, epoch]).permutation(len(pool.examples))
            drawn.append(pool.examples[int(order[position])])
    return drawn


def _selected(stage: RLVRStage, context: StageContext, params: Any, source: str) -> Sequence[Example]:
    """The chosen questions of a source as a dataset on disk, made if it is not there."""
    folder, name = context.run.workdir.rollouts(context.name), source.replace(":", "-")
    trials, chosen = folder / f"pass_at_k-{name}.jsonl", folder / f"{SELECTED}-{name}"
    if not once(f"{context.name}: questions of {source}", trials.exists):
        if context.resume:
            raise BadInput(f"{trials}: is gone, and a stage half done needs it; put it back, or start a new --workdir")
        rows = _try_questions(stage, context, params, source)
        once(f"{context.name}: rates of {source}", lambda: write_jsonl(trials, rows))
    once(f"{context.name}: choice of {source}", lambda: _choose(stage, context, source, trials, chosen))
    return Dataset(chosen).examples(SELECTED)


def _try_questions(stage: RLVRStage, context: StageContext, params: Any, source: str) -> Rows:
    """How many of its samples of each candidate the stage's first weights get right."""
    run = context.run
    by_id = {example.id: i for i, example in enumerate(run.source(source))}
    asked = select_questions(run.source(source), stage.candidates, context.seed)
    weights = run.engine.decode_params(params)
    # A seed of its own: the first iteration must not draw the very samples that chose its questions.
    rows, seed = [], context.seed_for("pass_at_k")
    with stage.reward.pool() as workers, Progress(f"{context.name}: try {source}", len(asked), "question") as progress:
        for at in range(0, len(asked), _CHUNK):
            group = asked[at : at + _CHUNK]
            prompts = [make_prompt(e, run.tokenizer, run.store, format=run.config.format) for e in group]
            rollout = run.engine.generate(weights, prompts, stage.pass_samples, stage.sampling, seed)
            parts = score_rollout(stage, run, group, rollout, workers)
            for i, example in enumerate(group):
                mine = parts[i * stage.pass_samples : (i + 1) * stage.pass_samples]
                about = {"index": by_id[example.id], "example_id": example.id, "family": family_of(example)}
                correct, errors = sum(part.correct == 1.0 for part in mine), sum(part.error for part in mine)
                rows.append({**about, "correct": correct, "k": len(mine), "errors": errors})
            progress.advance(len(group))
    return rows


def _choose(stage: RLVRStage, context: StageContext, source: str, trials: Path, chosen: Path) -> None:
    """Writes the counts of a source's trials and the dataset of what the strategy keeps of them."""
    if (chosen / INDEX).exists():
        return
    rows = read_jsonl(trials)
    verified = [row for row in rows if not row["errors"]]
    kept = [row for row in verified if keeps(stage.strategy, row["correct"], stage.pass_range)]
    suitable = len(kept)
    if stage.pool is not None:
        pool = context.run.source(source)
        among = select_questions([pool[row["index"]] for row in kept], stage.pool, context.seed_for("pool"))
        left = {example.id for example in among}
        kept = [row for row in kept if row["example_id"] in left]
    counts = {
        "source": source,
        "strategy": stage.strategy,
        "pass_range": list(stage.pass_range),
        "k": stage.pass_samples,
        "tried": len(rows),
        "unverified": len(rows) - len(verified),
        "suitable": suitable,
        "kept": len(kept),
        **_solved(verified, stage.pass_samples),
    }
    write_json(trials.with_suffix(".json"), counts)
    if not kept:
        raise BadInput(
            f"config.stages.{context.name}: strategy={stage.strategy!r} with pass_range={stage.pass_range} leaves none "
            f"of {len(rows)} questions of {source}; solved 0 to {stage.pass_samples} times of {stage.pass_samples} "
            f"were {' '.join(map(str, counts['solved']))}, not verifiable {counts['unverified']}; try more candidates, "
            "another strategy or pass_range"
        )
    pool, writer = context.run.source(source), DatasetWriter(chosen)
    writer.write_examples(SELECTED, [_marked(pool[row["index"]], context.name, row) for row in kept])
    writer.finish(origin={"stage": context.name, **counts})


def _solved(rows: Rows, k: int) -> dict[str, Any]:
    """Histograms of the trials: of all, and of each family by name."""
    families: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        families[row["family"]].append(row["correct"])
    return {
        "solved": histogram((row["correct"] for row in rows), k),
        "families": {name: histogram(families[name], k) for name in sorted(families)},
    }


def _marked(example: Example, stage: str, row: dict[str, Any]) -> Example:
    """The example, whose provenance says how it was chosen."""
    provenance = {**example.provenance, "selected_for": stage, "solved": row["correct"], "of": row["k"]}
    return dataclasses.replace(example, provenance=provenance)
