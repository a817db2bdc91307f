"""One round of MGRD distillation: select questions, sample K chains, filter them, write chain records.

  OUT/summary.json                      what came of it; written last: where it is, the round is done
  OUT/dataset.json, kept-*.arrayrecord  the kept chains as an ordinary source "kept" of examples
  OUT/chains-*.arrayrecord              every chain with the verdicts of its filters (`chain.read_chains`)
  OUT/pass_at_k.jsonl                   how often each question was solved
  OUT/sample.jsonl                      a dozen chains for people to read
  OUT/parts/                            finished chunks of sampling, there only until the summary is written

Sampling depends on (seed, prompt, sample index) alone, so a round that was killed and called again writes the
same bytes as one that was not.
"""

import dataclasses
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from step_audio_r1.data.features import FeatureStore, fingerprint
from step_audio_r1.data.records import Example
from step_audio_r1.errors import BadInput
from step_audio_r1.files import read_json, read_jsonl, write_json, write_text
from step_audio_r1.mgrd.chain import Chain, FilterVerdict, make_chain
from step_audio_r1.mgrd.filters import DEFAULT_FILTERS, FILTERS, FilterLimits, run_filters
from step_audio_r1.mgrd.results import summary_of, write_dataset, write_pass_rates, write_sample
from step_audio_r1.mgrd.selection import select_questions
from step_audio_r1.progress import Progress
from step_audio_r1.rollout.prompts import completion_text, make_prompt
from step_audio_r1.rollout.types import Prompt, Rollout, SamplingConfig
from step_audio_r1.text import Tokenizer

# generate(prompts, samples, sampling, seed) -> samples of each prompt, prompt by prompt
Generate = Callable[[Sequence[Prompt], int, SamplingConfig, int], Rollout]

# What happens to chains that pass all filters is recorded as two more verdicts.
DISTINCT, CAP = "distinct", "cap"
SUMMARY = "summary.json"


@dataclasses.dataclass(frozen=True)
class MGRDConfig:
    """A round of distillation.

    Attributes:
      questions: how many questions are asked.
      samples: K, chains a question.
      think_prefix: words every chain begins with, the distillation prompt of models that follow no instructions ("hear"
        for the miniature); the kept chains are trained without it being given.
      sampling: how they are drawn; min_think_tokens >= 1 bans the empty think block.
      filters: names in `FILTERS`, in the order in which they run.
      min_claim_precision: least share of true claims among the checkable ones of a kept chain.
      min_acoustic_share: least share of acoustic words in a kept chain; one is always needed.
      max_words: longest chain kept.
      keep_per_question: most chains kept of one question.
      perceptual_share: share of questions that a caption does not answer.
      chunk: questions sampled between two writes to disk.
    """

    questions: int = 480
    samples: int = 8
    think_prefix: str = ""
    sampling: SamplingConfig = dataclasses.field(default_factory=lambda: SamplingConfig(min_think_tokens=1))
    filters: tuple[str, ...] = DEFAULT_FILTERS
    min_claim_precision: float = 1.0
    min_acoustic_share: float = 0.0
    max_words: int = 2048
    keep_per_question: int = 2
    perceptual_share: float = 0.8
    chunk: int = 64

    def __post_init__(self):
        for name in ("questions", "samples", "keep_per_question", "max_words", "chunk"):
            if getattr(self, name) < 1:
                raise BadInput(f"mgrd.{name}={getattr(self, name)}: at least 1")
        for name in ("perceptual_share", "min_claim_precision", "min_acoustic_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise BadInput(f"mgrd.{name}={getattr(self, name)}: a share between 0 and 1")
        unknown = [name for name in self.filters if name not in FILTERS]
        if unknown:
            raise BadInput(f"mgrd.filters: unknown {unknown[0]!r}; known are {', '.join(FILTERS)}")

    @property
    def limits(self) -> FilterLimits:
        """Thresholds of the filters."""
        return FilterLimits(self.min_claim_precision, self.min_acoustic_share, self.max_words)


def run_round(
    generate: Generate,
    examples: Sequence[Example],
    tokenizer: Tokenizer,
    store: FeatureStore,
    config: MGRDConfig,
    out: Path,
    *,
    round: int,
    seed: int,
    model_step: int,
    format: str = "think",
) -> dict[str, Any]:
    """Runs a round, or what is left of it, and returns its summary.

    Args:
      generate: draws samples with the weights of the round.
      examples: the questions to choose from, with unique ids.
      tokenizer: of the model.
      store: features of the questions' clips.
      config: see `MGRDConfig`.
      out: directory of the round; if it holds a summary, that is returned at once.
      round: number of the round, part of the records.
      seed: of question selection and sampling.
      model_step: step of the sampling model, part of the records.
      format: output format.

    Raises:
      BadInput: there are no questions.
      WorkFailed: the disk refuses a write.
    """
    out = Path(out)
    if not (out / SUMMARY).exists():
        questions = select_questions(examples, config.questions, seed, config.perceptual_share)
        if not questions:
            raise BadInput(f"{out}: no questions to sample from; prepare a source of questions")
        about = {"round": round, "model_step": model_step}
        sampler = _Sampler(generate, tokenizer, store, config, seed, format, about)
        chains = choose(_judged(sampler.sample(questions, out / "parts"), questions, config), config)
        by_id = {question.id: question for question in questions}
        write_dataset(out, chains, by_id, about)
        write_pass_rates(out / "pass_at_k.jsonl", chains, by_id)
        write_sample(out / "sample.jsonl", chains)
        write_json(out / SUMMARY, about | summary_of(chains, by_id, (*config.filters, DISTINCT, CAP)))
    shutil.rmtree(out / "parts", ignore_errors=True)
    return read_json(out / SUMMARY)


@dataclasses.dataclass(frozen=True)
class _Sampler:
    """Draws chains chunk by chunk; each finished chunk is a file."""

    generate: Generate
    tokenizer: Tokenizer
    store: FeatureStore
    config: MGRDConfig
    seed: int
    format: str
    about: dict[str, int]

    def sample(self, questions: Sequence[Example], parts: Path) -> list[Chain]:
        """All chains, unfiltered, in the order of questions and samples."""
        chains: list[Chain] = []
        with Progress(f"round {self.about['round']}: sample", len(questions), "question") as progress:
            for number, at in enumerate(range(0, len(questions), self.config.chunk)):
                group = questions[at : at + self.config.chunk]
                rows = self._part(group, parts / f"part-{number:05d}.jsonl")
                samples = [i for _ in group for i in range(self.config.samples)]
                owners = [question for question in group for _ in range(self.config.samples)]
                for question, sample, row in zip(owners, samples, rows, strict=True):
                    chains.append(
                        make_chain(
                            question,
                            row["output"],
                            row["finish_reason"],
                            sample=sample,
                            seed=self.seed,
                            **self.about,
                        )
                    )
                progress.advance(len(group))
        return chains

    def _part(self, group: Sequence[Example], path: Path) -> list[dict[str, str]]:
        """Outputs of a chunk, question by question: read if the file is of this run, sampled otherwise."""
        sampling = dataclasses.asdict(self.config.sampling)
        prefix = self.config.think_prefix
        settings = [self.seed, self.config.samples, prefix, self.format, self.about, sampling, [q.id for q in group]]
        name = fingerprint(json.dumps(settings))
        if path.exists():
            header, *rows = read_jsonl(path)
            if header == {"run": name}:
                return rows
        options = {"format": self.format, "think_prefix": prefix}
        prompts = [make_prompt(q, self.tokenizer, self.store, **options) for q in group]
        rollout = self.generate(prompts, self.config.samples, self.config.sampling, self.seed)
        rows = [
            {
                "output": completion_text(rollout, i, self.tokenizer, **options),
                "finish_reason": reason,
            }
            for i, reason in enumerate(rollout.finish_reasons)
        ]
        # All in ASCII: a text may hold characters that end a line for some readers (U+2028, U+0085).
        write_text(path, "".join(json.dumps(row) + "\n" for row in [{"run": name}, *rows]))
        return rows


def _judged(chains: Sequence[Chain], questions: Sequence[Example], config: MGRDConfig) -> list[Chain]:
    owners = [question for question in questions for _ in range(config.samples)]
    return [run_filters(chain, q, config.filters, config.limits) for chain, q in zip(chains, owners, strict=True)]


def choose(chains: Sequence[Chain], config: MGRDConfig) -> list[Chain]:
    """Drops copies and what is over the cap, among the chains of each question that all filters kept.

    Of identical reasoning with an identical response the first sample stays. Of more than `keep_per_question`
    those stay that state most true claims, the shorter first among equals, then the earlier sample. Length
    alone would prefer lucky guesses to worked answers, so without labels the samples' order decides.
    """
    passed: dict[str, list[Chain]] = {}
    seen = set()
    for chain in chains:
        text = (chain.example_id, chain.think, chain.response)
        if chain.kept and text not in seen:
            seen.add(text)
            passed.setdefault(chain.example_id, []).append(chain)
    distinct = {(c.example_id, c.sample) for group in passed.values() for c in group}
    best = set()
    for group in passed.values():
        best |= {(c.example_id, c.sample) for c in sorted(group, key=_rank)[: config.keep_per_question]}
    return [_chosen(c, (c.example_id, c.sample) in distinct, (c.example_id, c.sample) in best) for c in chains]


def _rank(chain: Chain) -> tuple[int, int, int]:
    supported = sum(claim["status"] == "supported" for claim in chain.claims)
    return -supported, len(chain.think) if supported else 0, chain.sample


def _chosen(chain: Chain, distinct: bool, best: bool) -> Chain:
    if not chain.kept:
        return chain
    verdicts = [FilterVerdict(DISTINCT, distinct, "ok" if distinct else "copy of an earlier sample")]
    if distinct:
        verdicts.append(FilterVerdict(CAP, best, "ok" if best else "over the question's share"))
    return dataclasses.replace(chain, verdicts=(*chain.verdicts, *verdicts), kept=best)
