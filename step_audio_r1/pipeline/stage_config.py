"""What the kinds of stages are set to."""

import dataclasses
from typing import Literal

from step_audio_r1.data.batches import BatchConfig
from step_audio_r1.data.taught import TaughtConfig
from step_audio_r1.errors import BadInput
from step_audio_r1.fields import NotNegative, Positive
from step_audio_r1.mgrd import CoherenceJudgeConfig, ContributionConfig, MGRDConfig
from step_audio_r1.rewards import EndpointConfig, RewardConfig
from step_audio_r1.rl import PPOConfig, Strategy
from step_audio_r1.rollout import SamplingConfig
from step_audio_r1.train import DPOConfig, KnowledgeConfig, OptimiserConfig

# What is measured when a stage ends: how well clips are described; direct against thinking; every budget and condition.
Measure = Literal["nothing", "perception", "arms", "everything"]


@dataclasses.dataclass(frozen=True)
class EncoderStage:
    """Framewise supervised pre-training of an encoder on the audio world; the only stage that trains an encoder."""

    kind: Literal["encoder"]
    steps: Positive
    rows: Positive
    optimiser: OptimiserConfig
    evaluate: Measure = "nothing"
    round: int = 0


@dataclasses.dataclass(frozen=True)
class SFTStage:
    """Cross-entropy on targets. `sources` are weights by "DATASET:SOURCE", or "chains:N" for MGRD round N.

    A first stage of 0 steps stands for parameters that were imported (`convert --from_hf`). With `micro_batches` = N
    the rows of a batch go through the model in N parts whose gradients are added up: less memory, the same step.
    `start_from` names an earlier stage whose parameters it starts from again; "" goes on from the last stage's.
    """

    kind: Literal["sft"]
    steps: NotNegative
    batch: BatchConfig
    optimiser: OptimiserConfig
    sources: dict[str, float]
    micro_batches: Positive = 1
    start_from: str = ""
    evaluate: Measure = "nothing"
    round: int = 0


# Values of `SamplingConfig` with which tokens are drawn from the model's own distribution.
NEUTRAL_SAMPLING = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0, "min_think_tokens": 0}


@dataclasses.dataclass(frozen=True)
class RLVRStage:
    """KL-free PPO with verified rewards.

    `sources` are weights of prompts. With `candidates` = N, the stage's first weights try N questions of each source in
    `select_from` (None: of every source, sound or text) `pass_samples` times, and `strategy` says which are trained on:
    "moderate" those that are right `pass_range` times (the report: 3 to 6 of 8), "failed" never, "easy" more often than
    that, "all" each that could be verified. Of these at most `pool` a source are taken, as those that are tried: four
    in five need their sound, if so many do, and families have equal shares (`mgrd.select_questions`). Of other sources
    every question is trained on.

    An iteration takes longer than a step of SFT, so `checkpoint_every` is its own. The samples of the first, the last
    and every `dump_every`-th iteration are written to `rollouts/STAGE/`, for readers.

    The policy that learns must be the one that draws: temperature, top-k and the like are refused in `sampling`, unless
    `allow_off_policy_sampling` says that ratios may be wrong by them. `critic_from` is the workdir of a run of the same
    model, from whose newest checkpoint the critic is copied; None: from the stage's first actor.
    """

    kind: Literal["rlvr"]
    iterations: Positive
    prompts: Positive
    samples: Positive
    sources: dict[str, float]
    sampling: SamplingConfig
    ppo: PPOConfig
    reward: RewardConfig
    candidates: Positive | None = None
    select_from: tuple[str, ...] | None = None
    strategy: Strategy = "moderate"
    pass_samples: Positive = 8
    pass_range: tuple[NotNegative, NotNegative] = (3, 6)
    pool: Positive | None = None
    max_tokens: Positive = 128
    allow_off_policy_sampling: bool = False
    critic_from: str | None = None
    dump_every: Positive = 10
    checkpoint_every: Positive = 5
    evaluate: Measure = "nothing"
    round: int = 0

    def __post_init__(self):
        low, high = self.pass_range
        if not low <= high <= self.pass_samples:
            raise BadInput(f"pass_range={self.pass_range}: from low to high, at most pass_samples={self.pass_samples}")
        if self.strategy == "easy" and high == self.pass_samples:
            raise BadInput(f"strategy='easy': nothing lies above pass_range={self.pass_range}; lower its end")
        for source in self.select_from or ():
            if source not in self.sources:
                raise BadInput(f"select_from: {source!r} is none of the stage's sources ({', '.join(self.sources)})")
        for field in ("select_from", "pool"):
            if getattr(self, field) is not None and not self.candidates:
                raise BadInput(f"{field}: say how many questions are tried; set candidates")
        self._check_ppo()

    def _check_ppo(self) -> None:
        for name, neutral in NEUTRAL_SAMPLING.items():
            value = getattr(self.sampling, name)
            if value != neutral and not self.allow_off_policy_sampling:
                raise BadInput(
                    f"sampling.{name}={value}: what is drawn would not be what is trained; use {neutral}, "
                    "or set allow_off_policy_sampling"
                )
        if self.ppo.critic_weights == "none" and self.samples < 2:
            raise BadInput("samples=1: without a critic a sample is compared with its group; use at least 2")
        if self.ppo.critic_weights != "own" and self.critic_from is not None:
            raise BadInput(f"critic_from: there is no critic with ppo.critic_weights={self.ppo.critic_weights!r}")


@dataclasses.dataclass(frozen=True)
class DistilStage:
    """One MGRD round up to its chain records: select, sample, filter, write `chains/round_NN`.

    `source` are the questions. With `contribution` those are left out that are answered without the sound, by the model
    or by the text model at `text_model`. `reward` says how answers are verified, as in RLVR; `judge` is the language
    model behind the filter "judge".
    """

    kind: Literal["distil"]
    source: str
    mgrd: MGRDConfig
    contribution: ContributionConfig | None = None
    reward: RewardConfig = RewardConfig()
    judge: CoherenceJudgeConfig | None = None
    text_model: EndpointConfig | None = None
    evaluate: Measure = "nothing"
    round: int = 1

    def __post_init__(self):
        if "judge" in self.mgrd.filters and self.judge is None:
            raise BadInput("judge: mgrd.filters names the judge; say at which endpoint it is, or leave the filter out")
        if self.contribution and self.contribution.by == "endpoint" and self.text_model is None:
            raise BadInput("text_model: contribution.by='endpoint' asks a text model; say at which endpoint it is")


@dataclasses.dataclass(frozen=True)
class DPOStage:
    """DPO on pairs of the model's own outputs, one that knows that it hears the clip beside one that denies it.

    Attributes:
      sources: weights of questions about clips, e.g. questions of identity and ordinary ones.
      questions: how many are asked, balanced over their families.
      samples: outputs sampled of each with the stage's first weights. Where these make fewer pairs than `pairs`,
        because the model errs too seldom, as many are provoked: sampled of the question without its sound.
      sampling: how they are drawn.
      pairs: most pairs, of each family as many as of the others where it has them.
      pairs_per_question: most pairs of one question.
      dpo: beta and the weight of cross-entropy.
      rows: pairs of a batch; fewer pairs than that are too few.
      max_tokens: longest pair, its prompt counted twice, and length of a row; longer ones are left out.
    """

    kind: Literal["dpo"]
    steps: Positive
    sources: dict[str, float]
    questions: Positive
    sampling: SamplingConfig
    rows: Positive
    optimiser: OptimiserConfig
    samples: Positive = 8
    pairs: Positive = 512
    pairs_per_question: Positive = 2
    dpo: DPOConfig = DPOConfig()
    max_tokens: Positive = 256
    micro_batches: Positive = 1
    evaluate: Measure = "nothing"
    round: int = 0


@dataclasses.dataclass(frozen=True)
class KnowledgeStage:
    """Knowledge distillation: a teacher's token distributions over the sources' targets, in place of the tokens alone.

    Attributes:
      sources: weights as in `SFTStage`. The teacher reads a kept chain of MGRD ("chains:N") after the prompt with which
        it was sampled, as a rule text in the sound's place; any other example as the student does.
      teacher: an earlier stage, whose parameters teach as it ended with them.
      knowledge: temperature, and the weight of cross-entropy.
      micro_batches, start_from: as in `SFTStage`.
    """

    kind: Literal["knowledge"]
    steps: Positive
    batch: TaughtConfig
    optimiser: OptimiserConfig
    sources: dict[str, float]
    teacher: str
    knowledge: KnowledgeConfig = KnowledgeConfig()
    micro_batches: Positive = 1
    start_from: str = ""
    evaluate: Measure = "nothing"
    round: int = 0

    def __post_init__(self):
        if not self.teacher:
            raise BadInput("teacher='': name the stage whose parameters teach")


def steps_of(stage: "Stage") -> int:
    """Steps a stage adds to the run's global count."""
    match stage:
        case RLVRStage():
            return stage.iterations
        case DistilStage():
            return 1
        case _:
            return stage.steps


Stage = EncoderStage | SFTStage | RLVRStage | DistilStage | DPOStage | KnowledgeStage


def goes_back(stage: Stage) -> list[tuple[str, str]]:
    """(field, earlier stage) of what a stage needs the parameters of."""
    named = {field: getattr(stage, field, "") for field in ("start_from", "teacher")}
    return [(field, name) for field, name in named.items() if name]
