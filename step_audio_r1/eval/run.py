"""Runs a model over the items of an evaluation: one row an output, in `items/STAGE.jsonl`.

Outputs depend on model, prompt and seed alone (most are decoded greedily), so a run that was killed and called again
writes the same bytes as one that was not; it goes on after the last job that was finished. Of several processes all
decode and score, and process 0 looks and writes.
"""

import contextlib
import dataclasses
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from step_audio_r1.data.conditions import Conditions, EncodeClip
from step_audio_r1.data.features import FeatureStore, fingerprint
from step_audio_r1.data.records import Example
from step_audio_r1.errors import BadInput
from step_audio_r1.eval.config import EvalConfig, Job, jobs_of
from step_audio_r1.eval.scoring import PERCEPTION_KINDS, score
from step_audio_r1.files import begins_with, read_jsonl, write_text
from step_audio_r1.mgrd import family_of, select_questions
from step_audio_r1.parallel import gather, leads, once
from step_audio_r1.progress import Progress
from step_audio_r1.rewards import HEAVY_KINDS, RewardConfig, kind_of, score_responses
from step_audio_r1.rewards import Job as Answered
from step_audio_r1.rollout import Attend, Generate, Prompt, Rollout, SamplingConfig, completion_text, make_prompt
from step_audio_r1.text import Tokenizer

Rows = list[dict[str, Any]]


def evaluate(
    generate: Generate,
    examples: Sequence[Example],
    tokenizer: Tokenizer,
    store: FeatureStore,
    config: EvalConfig,
    out: Path,
    *,
    stage: str,
    round: int,
    encode_clip: EncodeClip,
    attend: Attend | None = None,
    format: str = "think",
) -> Rows:
    """Evaluates a model, or what is left of it, and returns the rows.

    A row is what `scoring.score` makes, and `audio_attention`: for the items of `config.attention` the share of
    attention on the sound at each decoding step, mean over layers and heads, rounded to 4 decimals; None for others.

    Args:
      generate: decodes with the weights of the stage.
      examples: to choose the items from, with unique ids; may mix questions and perception items. Their clips
        are also those that can be swapped in for one another.
      tokenizer: of the model.
      store: features of the examples' clips.
      config: what is measured.
      out: the file of rows, `eval/items/STAGE.jsonl`; if it exists, it is read and nothing is run.
      stage, round: names of the model, part of the rows.
      encode_clip: features of a clip made here (silence, noise).
      attend: where the weights of the stage look; needed for `config.attention`.
      format: output format.

    Raises:
      BadInput: there is nothing to ask, or `config.attention` asks for what `attend` does not give.
      WorkFailed: the disk refuses a write.
    """
    out = Path(out)
    if config.attention and attend is None:
        raise BadInput(f"evaluation.attention={config.attention}: this model shows no attention; use 0")
    parts = out.parent / ".parts" / stage
    if not once(f"evaluation of {stage}", out.exists):
        pool = list(examples)
        items = select_items(pool, config)
        if not items:
            raise BadInput(f"{out}: no items to evaluate on; prepare questions, or set evaluation.questions")
        conditions = Conditions(pool, store, encode_clip, config.seed)
        run = _Run(generate, attend, tokenizer, store, config, conditions, stage, round, format)
        rows = [row for job in jobs_of(config) for row in run.job(job, items, parts / f"{job.name}.jsonl")]
        once(f"rows of {stage}", lambda: _write_rows(out, rows))
    gather(f"parts of {stage}, read", None)
    if leads():
        shutil.rmtree(parts, ignore_errors=True)
        with contextlib.suppress(OSError):  # other stages may still have parts there
            parts.parent.rmdir()
    return read_jsonl(out)


def select_items(examples: Iterable[Example], config: EvalConfig) -> list[Example]:
    """The items of an evaluation: questions, then perception items, each balanced over their families.

    They depend on config and examples alone, not on the order of these; selecting twice changes nothing.
    """
    examples = list(examples)
    questions = [e for e in examples if e.kind not in PERCEPTION_KINDS]
    perception = [e for e in examples if e.kind in PERCEPTION_KINDS]
    chosen = ((questions, config.questions), (perception, config.describe))
    return [item for pool, count in chosen for item in _balanced(pool, count, config.seed)]


def _balanced(examples: Sequence[Example], count: int, seed: int) -> list[Example]:
    families = {(family_of(e), e.perceptual is not False) for e in examples}
    # `select_questions` balances the perceptual and the other families apart; this share makes them all even.
    share = sum(perceptual for _, perceptual in families) / max(1, len(families))
    return sorted(select_questions(examples, count, seed, share), key=lambda e: e.id)


@dataclasses.dataclass(frozen=True)
class _Run:
    """Does jobs; each finished one is a file."""

    generate: Generate
    attend: Attend | None
    tokenizer: Tokenizer
    store: FeatureStore
    config: EvalConfig
    conditions: Conditions
    stage: str
    round: int
    format: str

    def job(self, job: Job, items: Sequence[Example], path: Path) -> Rows:
        """Rows of a job: read if the file is of this evaluation, made otherwise."""
        items = [item for item in items if (item.kind in PERCEPTION_KINDS) == job.perception]
        about = [self.stage, self.round, self.format, [item.id for item in items]]
        name = fingerprint(json.dumps([dataclasses.asdict(self.config), *about]))
        if once("part of an evaluation", lambda: begins_with(path, {"run": name})):
            return read_jsonl(path)[1:]
        rows = self._rows(job, items)
        if leads():
            _write_rows(path, [{"run": name}, *rows])
        return rows

    def _rows(self, job: Job, items: Sequence[Example]) -> Rows:
        heard = self.conditions.hear(job.condition, items)
        if not heard:
            return []
        with Progress(f"evaluate {self.stage}: {job.name}", len(heard), "item") as progress:
            prompts = [
                make_prompt(e, self.tokenizer, self.store, arm=job.arm, format=self.format, features=features)
                for e, features in heard
            ]
            rollout = self.generate(prompts, max(job.votes, default=1), sampling_of(job, self.config), self.config.seed)
            progress.advance(len(heard))
        examples = [example for example, _ in heard]
        if job.votes:
            return _with_programs_run(self._majorities(job, examples, rollout), examples * len(job.votes))
        rows = [self._row(job, example, rollout, i) for i, example in enumerate(examples)]
        for row, shares in zip(rows, self._shares(job, prompts, rollout), strict=True):
            row["audio_attention"] = shares
        return _with_programs_run(rows, examples)

    def _row(self, job: Job, example: Example, rollout: Rollout, i: int) -> dict[str, Any]:
        output = completion_text(rollout, i, self.tokenizer, job.arm, self.format)
        reason = rollout.finish_reasons[i]
        return score(example, output, reason, job, self.tokenizer, stage=self.stage, round=self.round)

    def _majorities(self, job: Job, examples: Sequence[Example], rollout: Rollout) -> Rows:
        """For each number of votes a row an example: its first output that says what most do, at the price of all."""
        n = rollout.samples
        drawn = [[self._row(job, e, rollout, i * n + k) for k in range(n)] for i, e in enumerate(examples)]
        return [_majority_of(some[:votes], f"majority_{votes}") for votes in job.votes for some in drawn]

    def _shares(self, job: Job, prompts: Sequence[Prompt], rollout: Rollout) -> list[list[float] | None]:
        """The attention on the sound at each step of the outputs that are looked at, None for the others."""
        shares: list[list[float] | None] = [None] * len(prompts)
        if looks_at_attention(job, self.config):
            sounding = [i for i, prompt in enumerate(prompts) if len(prompt.features)]
            count = min(self.config.attention, len(sounding))
            chosen = [sounding[k * len(sounding) // count] for k in range(count)]
            found = self.attend([prompts[i] for i in chosen], [rollout.ids(i) for i in chosen])
            for i, shares_LT in zip(chosen, found, strict=True):
                shares[i] = [round(float(share), 4) for share in shares_LT.mean(0)]
        return shares


def majority(answers: Sequence[str | None]) -> int:
    """Where the answer that was given most often stands first; the earlier one of equals. None is no vote."""
    given = [None if answer is None else " ".join(answer.casefold().split()) for answer in answers]
    counts = Counter(answer for answer in given if answer)
    return given.index(counts.most_common(1)[0][0]) if counts else 0


def _majority_of(rows: Rows, arm: str) -> dict[str, Any]:
    best = rows[majority([None if row["finish_reason"] == "length" else row["answer"] for row in rows])]
    return best | {"arm": arm, "think_tokens": sum(row["think_tokens"] for row in rows), "audio_attention": None}


def looks_at_attention(job: Job, config: EvalConfig) -> bool:
    """Whether it is measured in this job where the model looks: as it thinks freely, or at the largest budget."""
    largest = None if None in config.budgets else max(config.budgets)
    asked = not job.votes and (job.arm, job.condition, job.budget) == ("thinking", "real", largest)
    return bool(config.attention) and asked


def _with_programs_run(rows: Rows, examples: Sequence[Example]) -> Rows:
    """The rows with `correct` of those whose answers worker processes check: programs, maths."""
    heavy = [i for i, e in enumerate(examples) if kind_of(e.verifier, e.answer, e.choices) in HEAVY_KINDS]
    config = RewardConfig()
    with config.pool() as pool:
        jobs = [
            Answered(
                rows[i]["output"],
                rows[i]["finish_reason"],
                gold=examples[i].answer,
                choices=examples[i].choices,
                verifier=examples[i].verifier,
                modality=examples[i].modality,
            )
            for i in heavy
        ]
        for i, parts in zip(heavy, score_responses(jobs, config, pool), strict=True):
            rows[i]["correct"] = None if parts.error else parts.correct
    return rows


def sampling_of(job: Job, config: EvalConfig) -> SamplingConfig:
    """How a job is decoded: greedily, if not for votes; thinking has to begin, except under a budget of nothing."""
    thinks = job.arm == "thinking" and job.budget != 0
    return SamplingConfig(
        max_new_tokens=config.max_new_tokens,
        temperature=1.0 if job.votes else 0.0,
        min_think_tokens=1 if thinks else 0,
        thinking_budget=job.budget,
    )


def _write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    # All in ASCII: an output may hold characters that end a line for some readers (U+2028, U+0085).
    write_text(path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))
