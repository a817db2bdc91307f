"""What a round of MGRD distillation is set to."""

import dataclasses
import string

from step_audio_r1.errors import BadInput
from step_audio_r1.mgrd.filters import DEFAULT_FILTERS, FILTERS, FilterLimits
from step_audio_r1.rollout import SamplingConfig


@dataclasses.dataclass(frozen=True)
class MGRDConfig:
    """A round of distillation.

    Attributes:
      questions: how many questions are asked.
      samples: K, chains a question.
      listen: what the model is asked about the clip before it thinks; it answers greedily and without thinking.
      prompt: the distillation prompt, which takes the question's place while sampling. {question} stands for it and
        {0}, {1}, ... for the answers to `listen`, which then take the audio's place. The kept chains are trained as
        chains of the plain question about the audio.
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
    listen: tuple[str, ...] = ()
    prompt: str = "{question}"
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
        fields = {"question", *map(str, range(len(self.listen)))}
        if _fields_of(self.prompt) != fields:
            wanted = ", ".join(f"{{{name}}}" for name in sorted(fields))
            raise BadInput(f"mgrd.prompt: must hold {wanted} and no other field, {len(self.listen)} in mgrd.listen")

    @property
    def limits(self) -> FilterLimits:
        """Thresholds of the filters."""
        return FilterLimits(self.min_claim_precision, self.min_acoustic_share, self.max_words)


def _fields_of(template: str) -> set[str]:
    """Names of the {fields} of a format string; one that is no format string has the name "?"."""
    try:
        return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    except ValueError:
        return {"?"}
