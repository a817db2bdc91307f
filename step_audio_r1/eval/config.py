"""What an evaluation measures."""

import dataclasses
from typing import Literal, get_args

from step_audio_r1.data.conditions import Condition
from step_audio_r1.errors import BadInput

Arm = Literal["direct", "thinking", "free"]


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    """An evaluation; everything but `votes` is decoded greedily.

    Attributes:
      split: name of the data split that the caller takes the items from.
      questions: how many questions are asked, balanced over their families; all if there are fewer.
      arms: "direct" answers after the empty think block, "thinking" has to think for a token at least, "free" does as
        it likes.
      budgets: thinking budgets in tokens, None for no limit; 0 is the empty think block. Only thinking with
        the real sound is measured at every budget, the rest at None.
      conditions: what is heard, see `data/conditions.py`.
      max_new_tokens: longest output.
      votes: for each N an arm "majority_N" besides: what most of N chains answer, sampled at temperature 1 with the
        real sound and no budget (self-consistency, arXiv 2203.11171). The first chains are shared.
      describe: how many items of describing and transcribing are asked, directly and with the real sound.
      attention: of so many questions about sound, spread evenly over all, it is measured how much of the attention is
        on the sound as the model thinks and answers: with the real sound and the largest budget.
      seed: of the choice of items, of swapped clips and of noise.
    """

    split: str = "test"
    questions: int = 300
    arms: tuple[Arm, ...] = ("direct", "thinking")
    budgets: tuple[int | None, ...] = (None,)
    conditions: tuple[Condition, ...] = ("real",)
    max_new_tokens: int = 64
    votes: tuple[int, ...] = ()
    describe: int = 0
    attention: int = 0
    seed: int = 0

    def __post_init__(self):
        for name, least in (("questions", 0), ("describe", 0), ("attention", 0), ("seed", 0), ("max_new_tokens", 1)):
            if getattr(self, name) < least:
                raise BadInput(f"evaluation.{name}={getattr(self, name)}: at least {least}")
        for name, known in (("arms", get_args(Arm)), ("conditions", get_args(Condition))):
            unknown = [value for value in getattr(self, name) if value not in known]
            if unknown:
                raise BadInput(f"evaluation.{name}: unknown {unknown[0]!r}; known are {', '.join(known)}")
        for name in ("arms", "budgets", "conditions", "votes"):
            values = getattr(self, name)
            if (not values and name != "votes") or len(set(values)) < len(values):
                raise BadInput(f"evaluation.{name}={values}: name at least one, each once")
        if min(self.votes, default=1) < 1:
            raise BadInput(f"evaluation.votes={self.votes}: numbers of chains, each at least 1")
        for budget in self.budgets:
            if budget is not None and not 0 <= budget < self.max_new_tokens:
                raise BadInput(
                    f"evaluation.budgets: {budget} leaves no room for an answer; "
                    f"give 0 to max_new_tokens - 1 = {self.max_new_tokens - 1}, or null"
                )


@dataclasses.dataclass(frozen=True)
class Job:
    """One pass over items; `perception` asks the items of describing and transcribing, not the questions.

    With `votes` it gives the rows of several arms, of which `arm` is only how they were asked.
    """

    arm: str
    budget: int | None
    condition: Condition
    perception: bool = False
    votes: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """For files and progress, e.g. "thinking-24-real"."""
        if self.perception:
            return "perception"
        if self.votes:
            return "votes"
        return f"{self.arm}-{'full' if self.budget is None else self.budget}-{self.condition}"


def jobs_of(config: EvalConfig) -> list[Job]:
    """The jobs of an evaluation, in their order."""
    jobs = []
    for condition in config.conditions if config.questions else ():
        for arm in config.arms:
            curve = arm == "thinking" and condition == "real"
            jobs += [Job(arm, budget, condition) for budget in (config.budgets if curve else (None,))]
    if config.votes and config.questions:
        jobs.append(Job("thinking", None, "real", votes=config.votes))
    if config.describe:
        jobs.append(Job("direct", None, "real", perception=True))
    return jobs
