"""Hours on a pod: the TPU compiler's estimate of a step, times how often a stage takes it. Nothing of it was measured.

The estimates are the rows of benchmarks/tpu/results.json. What no config says, such as how long a model thinks, is a
constant here, and `assumptions` tells all of them.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from benchmarks.tpu.table import RESULTS
from step_audio_r1.errors import BadInput
from step_audio_r1.files import read_json
from step_audio_r1.parallel import MeshConfig
from step_audio_r1.pipeline import RunConfig
from step_audio_r1.pipeline.stage_config import DistilStage, DPOStage, KnowledgeStage, RLVRStage, SFTStage, Stage
from step_audio_r1.rl import row_counts
from step_audio_r1.rollout import SamplingConfig

STEPS = ("sft", "encode", "prefill", "decode", "ppo_score", "ppo_actor", "ppo_critic")

# The report's curves of RLVR, whose samples are of sound and text together, run from 3100 tokens down to 2500.
THINKING = 3000
PROMPT = 512  # 25 s of sound are 313
ANSWER, LONGEST_ANSWER = 64, 512
# Share of a round's chains that come to its dearest filter.
REACHING = 0.25
# Questions that go to the decoder in one call where they are tried for RLVR, without their sound, or for DPO.
AT_ONCE = 64

# Seconds by the step that takes them; nan where nothing is known of it.
Seconds = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Machine:
    """A topology, and what the compiler says of a model's steps on it.

    Attributes:
      model: a name of configs/models.py.
      topology: of one slice, "v5p:4x4x4".
      rows: of results.json by step; those that were never compiled, or do not fit, are not there.
    """

    model: str
    topology: str
    rows: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(
        cls, model: str, topology: str | None = None, results: Mapping[str, Mapping[str, Any]] | None = None
    ) -> "Machine":
        """The rows of a topology; without one, of the one with the fewest chips on which every step fits.

        `results` stands for results.json. Raises BadInput where no topology is named and none has all the steps.
        """
        results = read_json(RESULTS) if results is None else results
        if topology is None:
            named = dict.fromkeys(row["topology"] for row in results.values() if row["case"]["model"] == model)
            found = [machine for name in named if not (machine := cls.of(model, name, results)).missing]
            if not found:
                raise BadInput(f"{RESULTS.name}: no topology has all steps of {model}; python -m benchmarks.tpu.table")
            return min(found, key=lambda machine: machine.chips)
        rows = {step: results.get(f"{model}/{step}/{topology}") for step in STEPS}
        return cls(
            model,
            topology,
            {step: row for step, row in rows.items() if row and row["fits"] and row["estimated_step_s"]},
        )

    @property
    def chips(self) -> int:
        """Of the slice."""
        return math.prod(map(int, self.topology.partition(":")[2].split("x")))

    @property
    def missing(self) -> list[str]:
        """Steps of which nothing is known."""
        return [step for step in STEPS if step not in self.rows]

    def per_token(self, step: str) -> float:
        """Seconds of a step over the tokens it was compiled for; nan where it is missing."""
        row = self.rows.get(step)
        return row["estimated_step_s"] / (row["rows"] * row["tokens"]) if row else math.nan

    def per_row(self, step: str, rows: int) -> float:
        """Seconds of a step of so many rows, and no less than one of as many as it was compiled for takes."""
        row = self.rows.get(step)
        return row["estimated_step_s"] * max(1, rows / row["rows"]) if row else math.nan

    def axes(self, mesh: MeshConfig) -> dict[str, int]:
        """The sizes of a mesh's axes on all chips."""
        sizes = dataclasses.asdict(mesh)
        rest = self.chips // math.prod(size for size in sizes.values() if size != -1)
        return {axis: rest if size == -1 else size for axis, size in sizes.items()}


def assumptions(machine: Machine, decode_rows: int) -> list[str]:
    """What the hours rest on, a line each."""
    slots = machine.rows.get("decode", {}).get("tokens", "unknown")
    return [
        "A step takes what the compiler estimates; benchmarks/tpu/README.md says how that can err.",
        "It grows with rows x tokens from what was compiled (2); attention grows faster, so long rows cost more.",
        f"A thought with its answer has {THINKING} tokens on average; in the report 3100 at first, 2500 at last.",
        f"A prompt has {PROMPT} tokens; 25 s of sound are 313 of them.",
        f"An answer without thinking has {ANSWER} tokens, and the longest of a call {LONGEST_ANSWER}.",
        f"The decoder holds {decode_rows} rows; a row that is free takes the next sample of the call.",
        "A call takes at least max_new_tokens steps: one of its samples runs on to the limit.",
        f"Questions that are tried (for RLVR, without their sound, for DPO) come {AT_ONCE} a call.",
        f"A decoding step is that of {slots} slots, whatever they hold; samples share the reading of their prompt.",
        "A forward pass of one network is half of ppo_score, which was compiled for actor and critic.",
        "Samples of RLVR are packed into rows as far as chips x minibatches allow (PPOConfig.row_multiple).",
        f"Of a round's chains {REACHING:.0%} come to the counterfactual filter, which reads each three times.",
        "DPO asks every question twice: with its sound, and without it to provoke errors.",
        "Not counted: compiling, loading, checkpoints, verifiers, evaluation, preemption, waiting for chips.",
    ]


def features(clips: int, machine: Machine) -> Seconds:
    """Of encoding a dataset's clips once, one chunk of 25 s each."""
    row = machine.rows.get("encode")
    return {"encode": clips * row["estimated_step_s"] / row["rows"] if row else math.nan}


def together(*parts: Seconds) -> Seconds:
    """Their sum, step by step."""
    return {
        step: sum(part.get(step, 0.0) for part in parts) for step in dict.fromkeys(s for part in parts for s in part)
    }


def stage_seconds(stage: Stage, run: RunConfig, machine: Machine) -> Seconds:
    """What a stage of a run takes."""
    match stage:
        case SFTStage():
            return _sft(stage.steps * stage.batch.rows * stage.batch.tokens, machine)
        case KnowledgeStage():
            taught = stage.steps * stage.batch.rows * stage.batch.teacher_tokens
            own = _sft(stage.steps * stage.batch.rows * stage.batch.tokens, machine)
            return together(own, _forward(taught, machine))
        case RLVRStage():
            return together(_tries(stage, run, machine), _iterations(stage, run, machine))
        case DistilStage():
            return _distil(stage, run, machine)
        case DPOStage():
            tokens = stage.rows * stage.max_tokens
            drawn = _thoughts(2 * stage.questions, stage.samples, AT_ONCE, stage.sampling, run, machine)
            reference = _forward(math.ceil(stage.pairs / stage.rows) * tokens, machine)
            return together(drawn, reference, _sft(stage.steps * tokens, machine))
    raise ValueError(f"a stage of kind {stage.kind} runs on no pod")


def tried_sources(stage: RLVRStage) -> list[str]:
    """Sources of which questions are tried before any is trained on."""
    used = [source for source, weight in stage.sources.items() if weight]
    return [s for s in used if stage.candidates and (stage.select_from is None or s in stage.select_from)]


def rows_of_update(stage: RLVRStage, run: RunConfig, machine: Machine) -> int:
    """Rows into which the samples of an iteration are packed, if they are of average length."""
    samples = stage.prompts * stage.samples
    if not stage.ppo.packing:
        return samples
    axes = machine.axes(run.mesh)
    tokens = samples * (PROMPT + _mean(stage.sampling))
    counts = row_counts(samples, stage.ppo.row_multiple(samples, axes["data"] * axes["fsdp"]))
    return next((count for count in counts if count * stage.max_tokens >= tokens), counts[-1])


def _sft(tokens: int, machine: Machine) -> Seconds:
    return {"sft": tokens * machine.per_token("sft")}


def _forward(tokens: float, machine: Machine) -> Seconds:
    """One network reads so many tokens."""
    return {"ppo_score": tokens * machine.per_token("ppo_score") / 2}


def _tries(stage: RLVRStage, run: RunConfig, machine: Machine) -> Seconds:
    """The samples by which questions are chosen; each source has as many candidates."""
    of_each = [
        _thoughts(stage.candidates, stage.pass_samples, AT_ONCE, stage.sampling, run, machine)
        for _ in tried_sources(stage)
    ]
    return together(*of_each)


def _iterations(stage: RLVRStage, run: RunConfig, machine: Machine) -> Seconds:
    ppo, count = stage.ppo, stage.iterations
    drawn = _thoughts(stage.prompts, stage.samples, stage.prompts, stage.sampling, run, machine)
    tokens = rows_of_update(stage, run, machine) * stage.max_tokens
    warm = ppo.critic_warmup if ppo.critic_weights == "own" else 0
    # An old policy is rated where several updates follow, and where none does.
    rated = count if ppo.policy_minibatches > 1 else warm
    passes = {"own": count + rated, "shared": count, "none": rated}[ppo.critic_weights]
    updates = {"ppo_actor": (count - warm) * tokens * machine.per_token("ppo_actor")}
    if ppo.critic_weights == "own":
        updates["ppo_critic"] = count * tokens * machine.per_token("ppo_critic")
    return together(*[drawn] * count, _forward(passes * tokens, machine), updates)


def _distil(stage: DistilStage, run: RunConfig, machine: Machine) -> Seconds:
    mgrd = stage.mgrd
    parts = [_thoughts(mgrd.questions, mgrd.samples, mgrd.chunk, mgrd.sampling, run, machine)]
    if stage.contribution:
        asked = stage.contribution.candidates or mgrd.questions
        conditions = 2 if stage.contribution.by == "model" else 1
        parts.append(_answers(conditions * asked, stage.contribution.samples, AT_ONCE, run, machine))
    if "counterfactual" in mgrd.filters:
        parts.append(_answers(3 * mgrd.questions, 1, mgrd.chunk, run, machine))
        read = 3 * REACHING * mgrd.questions * mgrd.samples * (PROMPT + _mean(mgrd.sampling))
        parts.append({"prefill": read * machine.per_token("prefill")})
    return together(*parts)


def _mean(sampling: SamplingConfig) -> int:
    return min(THINKING, sampling.max_new_tokens)


def _thoughts(
    questions: int, samples: int, at_once: int, sampling: SamplingConfig, run: RunConfig, machine: Machine
) -> Seconds:
    return _drawn(questions, samples, at_once, _mean(sampling), sampling.max_new_tokens, run, machine)


def _answers(questions: int, samples: int, at_once: int, run: RunConfig, machine: Machine) -> Seconds:
    return _drawn(questions, samples, at_once, ANSWER, LONGEST_ANSWER, run, machine)


def _drawn(
    questions: int, samples: int, at_once: int, mean: int, longest: int, run: RunConfig, machine: Machine
) -> Seconds:
    """Samples of questions, so many questions in a call of the decoder."""
    full, rest = divmod(questions, at_once)
    calls = [at_once] * full + [rest] * (rest > 0)
    steps = sum(max(asked * samples * mean / run.decode_rows, longest) for asked in calls)
    return {
        "decode": steps * machine.per_row("decode", run.decode_rows),
        "prefill": questions * PROMPT * machine.per_token("prefill"),
    }
