"""What has to be prepared for a run of one's own data: how many records of which source, and what each must hold."""

import dataclasses
import math
from collections.abc import Iterable, Sequence

from experiments.pod_cost import tried_sources
from step_audio_r1.pipeline.stage_config import DistilStage, DPOStage, KnowledgeStage, RLVRStage, SFTStage, Stage

# Datasets: what the runs write themselves, what has no sound, and what a text teacher has written of sound.
CHAINS, TEXT, STRUCTURED = "chains", "text", "structured"
GOLD = '"answer" (with "choices" where there are any) or "verifier": how answers are checked'


@dataclasses.dataclass(frozen=True)
class Need:
    """Records of a source, "DATASET:SOURCE".

    Attributes:
      stages: that read them.
      least: how many the stage that wants most asks for.
      why: which stage that is, and how the number comes about.
      holds: what a record has, a line each.
    """

    source: str
    stages: tuple[str, ...]
    least: int
    why: str
    holds: tuple[str, ...]

    @property
    def dataset(self) -> str:
        """That the source is of."""
        return self.source.partition(":")[0]


def needs(stages: Iterable[tuple[str, Stage]]) -> list[Need]:
    """Of stages by name, the sources that somebody has to prepare; chains of MGRD the runs write themselves."""
    found: dict[str, list[tuple[str, Stage]]] = {}
    for name, stage in stages:
        for source in sources_of(stage):
            if not source.startswith(f"{CHAINS}:"):
                found.setdefault(source, []).append((name, stage))
    return [_need(source, readers) for source, readers in sorted(found.items())]


def sources_of(stage: Stage) -> list[str]:
    """Those from which a stage takes anything."""
    if isinstance(stage, DistilStage):
        return [stage.source]
    if not getattr(stage, "steps", 1):
        return []
    return [source for source, weight in stage.sources.items() if weight]


def _need(source: str, readers: Sequence[tuple[str, Stage]]) -> Need:
    counts = [(*_least(stage, source), name) for name, stage in readers]
    least, why, name = max(counts, key=lambda count: count[0])
    sound = '"audio": []' if source.startswith(f"{TEXT}:") else '"audio": a path, or several'
    holds = dict.fromkeys([sound, *(line for _, stage in readers for line in _holds(stage))])
    if source.startswith(f"{STRUCTURED}:"):
        holds['"think": plan, caption, reasons and summary, by a teacher that reads (Audio-Reasoner)'] = None
    return Need(source, tuple(dict.fromkeys(name for name, _ in readers)), least, f"{name}: {why}", tuple(holds))


def _least(stage: Stage, source: str) -> tuple[int, str]:
    """(records, how that comes about)."""
    if isinstance(stage, DistilStage):
        tried = stage.contribution and stage.contribution.candidates
        return (tried, "candidates") if tried else (stage.mgrd.questions, "questions")
    share = stage.sources[source] / sum(stage.sources.values())
    match stage:
        case RLVRStage() if source in tried_sources(stage):
            return stage.candidates, "candidates"
        case RLVRStage():
            return math.ceil(stage.iterations * stage.prompts * share), "a new one for every prompt"
        case DPOStage():
            return math.ceil(stage.questions * share), "questions"
    return math.ceil(stage.steps * stage.batch.rows * share), "one in every row; short ones share rows"


def _holds(stage: Stage) -> list[str]:
    match stage:
        case SFTStage() | KnowledgeStage():
            batch = stage.batch
            return [
                '"response", and "think" where a chain is to be learnt; without, a direct answer is',
                f"no more than {batch.tokens} tokens and {batch.chunks} chunks of 25 s",
            ]
        case RLVRStage():
            room = stage.max_tokens - stage.sampling.max_new_tokens
            return [GOLD, f"a prompt of no more than {room} tokens, 12.5 for a second of sound"]
        case DistilStage():
            prompts = stage.mgrd.prompting().by_language.values()
            caption = ['"caption", in every row: a teacher reads it in the sound\'s place']
            return [
                GOLD,
                f'"perceptual" where it is known; {stage.mgrd.perceptual_share:.0%} of the questions are to need sound',
                *(caption if any("{caption}" in prompt for prompt in prompts) else []),
            ]
        case DPOStage():
            return []
    raise ValueError(f"a stage of kind {stage.kind} reads no prepared records")
