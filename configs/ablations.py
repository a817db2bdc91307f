"""Every arm of the experiments, at every scale. What arms share is trained once: an arm begins where its parent ends.

step-audio-r1 train --config=configs/ablations.py:stem --workdir=runs/stem_0
step-audio-r1 train --config=configs/ablations.py:round_1 --workdir=runs/round_1_0 --branch_from=runs/stem_0
step-audio-r1 train --config=configs/ablations.py:full,33b --workdir=...                # the same arm for the 33B model
python -m experiments.run --help                                     # all arms of an experiment, over seeds, in order

The loop of MGRD and what is taken out of it or put in its place, three rounds each, of the same steps:
  full            stem, round_1, then rounds 2 and 3
  restart         each round's SFT from the cold start again
  no_lexical, no_claims, no_correctness    without that filter
  outcome_only    without the filters that ask for grounding: the answer is right and follows
  no_filter       every chain that is one
  direct_sft      SFT on chains of text only, no distillation
  cross_modal     a text teacher that sees only a caption of the clip writes the chains (SightSound-R1, with a caption)
  structured      chains of plan, caption, reason and summary by a text teacher (Audio-Reasoner)
  knowledge       the student matches the token distribution of that teacher, instead of learning its chains

After the loop, on self-cognition:
  dpo             full, then DPO
  self_distilled  full, then a round of self-distillation on outputs that are right and do not deny hearing; questions
                  ask in miniature whether the model hears, at public scale they are those of all rounds
  self_distilled_dpo    and then DPO

RLVR on sound and text, 60 iterations, from the cold start (`rl_*`) or from the first round's SFT (`rl1_*`):
  rl_format, rl_no_format, rl1_format, rl1_no_format     reward 0.8 / 0.2 against 1 / 0
  rl_failed, rl_easy, rl_all                             which questions; rl_format has the moderate ones
  rl1_failed, rl1_all, rl1_all_large                     the same where thinking pays; rl1_format has the moderate ones
  rl_moderate_small, rl_all_small, rl_all_large          how many of them
  rl_shared, rl_no_critic, rl_updates                    the critic on the actor's trunk, none, four updates a rollout
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

from ml_collections import ConfigDict

from configs import recipe as small
from configs import step_audio_r1 as public
from configs.models import miniature

ROUNDS = 3
COLD = "text_rlvr"
# Cheap ones first; "judge" is offered as well, where an endpoint is named, and "follows".
FILTERS = ("form", "self_cognition", "lexical", "claims", "coherence", "correctness", "counterfactual")
GROUNDING = ("lexical", "claims", "counterfactual")
# What a text teacher writes speaks of a caption, and no claim of its chains is about the sound.
TEACHER = {"filters": tuple(name for name in FILTERS if name not in GROUNDING), "listen": (), "prompt_files": {}}
# Of an answer about the one who answers no claim is about the sound, and none follows.
SELF = {"filters": ("form", "self_cognition", "correctness"), "listen": (), "prompt": "{question}", "prompt_files": {}}

Stages = dict[str, Any]


def without(*names: str) -> dict[str, Any]:
    """Settings of a distil stage that runs all filters but these."""
    return {"filters": tuple(name for name in FILTERS if name not in names)}


class Miniature:
    """The recipe of configs/recipe.py on the audio world, some 24 minutes of one CPU core for the full loop."""

    # Questions about sound that the studied RLVR has: as a rule, where there shall be few, where all that were tried.
    pools: ClassVar = {"usual": 120, "small": 30, "large": None}
    # Questions that are tried for it, of which far fewer are never solved than sometimes.
    candidates: ClassVar = {"moderate": 1200, "all": 1200, "easy": 1200, "failed": 3000}
    # Four of the actor a rollout.
    updates: ClassVar = {"policy_minibatches": 4}

    def stem(self) -> Stages:
        """Perception first, the cold start, RLVR on text."""
        cold = small.cold_start(steps=500)
        # Conversations in which a text model rightly says that it cannot hear, and a few about clips, where it can:
        # what it has learnt of itself in text it then says of clips as well, by itself.
        cold.sources.update({"world:identity_text": 0.12, "world:identity_audio": 0.02})
        cold.evaluate = "arms"
        text = small.text_rlvr(iterations=4)
        text.evaluate = "everything"
        return {"pretrain": small.pretrain(steps=350), "cold_start": cold, COLD: text}

    def distil(self, number: int, captions: bool = False, **mgrd: Any) -> ConfigDict:
        """A round's sampling; with `captions` by a teacher that reads a caption in the sound's place."""
        if captions:
            mgrd |= TEACHER | {"prompt": "caption : {caption} . {question}"}
        stage = small.distil(number, questions=700, **{"filters": FILTERS, **mgrd})
        stage.contribution = ConfigDict({"samples": 4, "max_right_without": 0.5, "candidates": 1400})
        return stage

    def sft(self, number: int, kind: str = "chains", **more: str) -> ConfigDict:
        """A round's training: on its chains, on text, on structured chains, or on a teacher's distributions."""
        if kind == "knowledge":
            stage = small.knowledge(number, steps=150, teacher=COLD)
        else:
            make = {"chains": small.mgrd_sft, "text": small.text_sft, "structured": small.structured}[kind]
            stage = make(number, steps=150, **more)
        stage.evaluate = "nothing"
        return stage

    def rlvr(self, number: int, evaluate: str = "arms") -> ConfigDict:
        """A round's RLVR."""
        stage = small.rlvr(number, iterations=6, evaluate=evaluate)
        stage.candidates = 300
        return stage

    def dpo(self) -> ConfigDict:
        """Self-cognition."""
        return ConfigDict({**small.self_cognition_dpo(steps=60), "evaluate": "everything"})

    def self_distil(self) -> Stages:
        """A round on questions whether it hears, which are asked as they are: in a text's place "no" would be right."""
        number = ROUNDS + 1
        sampling = {"max_new_tokens": small.MAX_NEW, "min_think_tokens": 1}
        asked = small.distil(number, questions=700, sampling=sampling, **SELF)
        asked.source = "world:identity"
        train = self.sft(number)
        train.evaluate = "everything"
        return {"self_distil": asked, "self_sft": train}

    def audio_rlvr(self) -> ConfigDict:
        """The RLVR that is studied: longer than a round's, sound to text as 3 to 2, as in the report."""
        stage = small.rlvr(0, iterations=60, prompts=12, evaluate="arms")
        stage.update(
            {
                "samples": 16,
                "sources": {"world:questions": 0.6, "world:text_percepts": 0.4},
                "ppo": small.ppo(1e-4),
                "checkpoint_every": 20,
            }
        )
        return stage

    def config(self, name: str, stages: Stages) -> ConfigDict:
        """The run."""
        return ConfigDict(
            {
                "name": name,
                "seed": 0,
                "model": miniature(vocab=155),
                "encoder": "shipped",  # frozen, as in the public models; configs/miniature_encoder.py makes it
                # Choices are made with --config.evaluation.split=validation; the test clips are for the report.
                "world": {"train": 4000, "validation": 600, "test": 600, "probe": 8, "identity": 1500},
                "order": tuple(stages),
                "stages": stages,
                "evaluation": {
                    "split": "test",
                    "questions": 600,
                    "describe": 150,
                    "arms": ("direct", "thinking", "free"),
                    "budgets": (None, 0, 2, 4, 6, 8, 12, 16, 24),
                    "conditions": ("real", "silence", "noise", "swapped"),
                    "votes": (1, 4, 8),
                    "attention": 60,
                    "max_new_tokens": small.MAX_NEW,
                },
                "mesh": {"data": -1, "fsdp": 1, "tensor": 1},
                "checkpoint_every": 100,
                "log_every": 10,
                "profile": {"start": 0, "steps": 5},  # trace 5 steps from this one on; 0: none
            }
        )


class Public:
    """The recipe of configs/step_audio_r1.py on datasets "text" and "sound" of one's own."""

    pools: ClassVar = {"usual": 3000, "small": 300, "large": None}
    candidates: ClassVar = {"moderate": 15_000, "all": 15_000, "easy": 15_000, "failed": 40_000}
    updates: ClassVar = {"policy_minibatches": 4, "policy_micro_batches": 4}

    def __init__(self, model: str):
        self.model = model

    def stem(self) -> Stages:
        """What `convert` brought in, the cold start, RLVR on text."""
        return public.stem()

    def distil(self, number: int, captions: bool = False, **mgrd: Any) -> dict:
        """As in miniature; "sound" has captions of its clips."""
        stage = public.distil(number)
        if captions:
            mgrd |= TEACHER | {"prompt": "The recording is described as follows: {caption}\n\n{question}"}
        return stage | {"mgrd": stage["mgrd"] | mgrd}

    def sft(self, number: int, kind: str = "chains", **more: str) -> dict:
        """As in miniature; structured chains are a dataset of their own."""
        stage = public.mgrd_sft(number) | more
        if kind == "text":
            stage["sources"] = {"text:examples": 1.0}
        elif kind == "structured":
            stage["sources"] = {"structured:examples": 0.5, "text:examples": 0.5}
        elif kind == "knowledge":
            stage |= {"kind": "knowledge", "teacher": COLD}
            stage["batch"] = {**stage["batch"], "teacher_tokens": stage["batch"]["tokens"]}
        return stage

    def rlvr(self, number: int, evaluate: str = "nothing") -> dict:
        """A round's RLVR, which is the report's."""
        return public.mgrd_rlvr(number)

    def dpo(self) -> dict:
        """Self-cognition."""
        return public.dpo()

    def self_distil(self) -> Stages:
        """A round on the questions of all rounds; chains are kept that do not deny hearing and are right."""
        number = ROUNDS + 1
        asked = {name: value for name, value in public.distil(number).items() if name != "contribution"}
        return {"self_distil": asked | {"mgrd": asked["mgrd"] | SELF}, "self_sft": public.mgrd_sft(number)}

    def audio_rlvr(self) -> dict:
        """The report's RLVR; of text all questions are asked, in every arm."""
        return public.mgrd_rlvr(0) | {"select_from": ("sound:questions",)}

    def config(self, name: str, stages: Stages) -> ConfigDict:
        """The run."""
        run = public.run(name, self.model, stages)
        if any("structured:examples" in stage.get("sources", ()) for stage in stages.values()):
            run.datasets.structured = "data/structured"
        return run


RECIPES = {
    "miniature": Miniature(),
    "8b": Public("step_audio_2_mini"),
    "33b": Public("step_audio_r1"),
}
Recipe = Miniature | Public


@dataclasses.dataclass(frozen=True)
class Arm:
    """What an arm adds to the stages of its parent."""

    parent: str | None
    stages: Callable[[Recipe], Stages]


def _rounds(recipe: Recipe, numbers: range, last: str = "arms", start_from: str = "", **mgrd: Any) -> Stages:
    """Rounds of MGRD; the last is measured as `last` says."""
    stages: Stages = {}
    for number in numbers:
        more = {"start_from": start_from} if start_from else {}
        stages[f"distil_{number}"] = recipe.distil(number, **mgrd)
        stages[f"mgrd_{number}_sft"] = recipe.sft(number, **more)
        stages[f"mgrd_{number}_rlvr"] = recipe.rlvr(number, last)
    return stages


def _first_round(recipe: Recipe) -> Stages:
    sft = recipe.sft(1)
    sft["evaluate"] = "arms" if recipe is RECIPES["miniature"] else "nothing"
    return {"distil_1": recipe.distil(1), "mgrd_1_sft": sft}


def _full(recipe: Recipe) -> Stages:
    rest = _rounds(recipe, range(2, ROUNDS + 1), last="everything")
    return {"mgrd_1_rlvr": recipe.rlvr(1, "everything"), **rest}


def _loop(**settings: Any) -> Arm:
    """All rounds with other settings."""
    return Arm("stem", lambda recipe: _rounds(recipe, range(1, ROUNDS + 1), **settings))


def _instead(kind: str, distils: bool) -> Arm:
    """All rounds with another SFT, on a text teacher's chains or without any sampling."""

    def stages(recipe: Recipe) -> Stages:
        found: Stages = {}
        for number in range(1, ROUNDS + 1):
            if distils:
                found[f"distil_{number}"] = recipe.distil(number, captions=True)
            found[f"mgrd_{number}_sft"] = recipe.sft(number, kind)
            found[f"mgrd_{number}_rlvr"] = recipe.rlvr(number)
        return found

    return Arm("stem", stages)


def _rl(
    parent: str = "stem",
    strategy: str = "moderate",
    pool: str = "usual",
    reward: dict[str, float] | None = None,
    ppo: dict[str, Any] | None = None,
    several_updates: bool = False,
) -> Arm:
    """One stage of RLVR after the parent's."""

    def stages(recipe: Recipe) -> Stages:
        stage = recipe.audio_rlvr()
        stage["reward"] = {**stage["reward"], **(reward or {})}
        stage["ppo"] = {**stage["ppo"], **(ppo or {}), **(recipe.updates if several_updates else {})}
        chosen = {"strategy": strategy, "candidates": recipe.candidates[strategy], "pool": recipe.pools[pool]}
        return {"audio_rlvr": {**stage, **chosen}}

    return Arm(parent, stages)


NO_FORMAT = {"correct_weight": 1.0, "format_weight": 0.0}
ARMS: dict[str, Arm] = {
    "stem": Arm(None, lambda recipe: recipe.stem()),
    "round_1": Arm("stem", _first_round),
    "full": Arm("round_1", _full),
    "dpo": Arm("full", lambda recipe: {"dpo": recipe.dpo()}),
    "self_distilled": Arm("full", lambda recipe: recipe.self_distil()),
    "self_distilled_dpo": Arm("self_distilled", lambda recipe: {"dpo": recipe.dpo()}),
    "restart": _loop(start_from=COLD),
    "no_lexical": _loop(**without("lexical")),
    "no_claims": _loop(**without("claims")),
    "no_correctness": _loop(**without("correctness")),
    "outcome_only": _loop(**without(*GROUNDING)),
    "no_filter": _loop(filters=("form",)),
    "direct_sft": _instead("text", distils=False),
    "cross_modal": _instead("chains", distils=True),
    "structured": _instead("structured", distils=False),
    "knowledge": _instead("knowledge", distils=True),
    "rl_format": _rl(),
    "rl_no_format": _rl(reward=NO_FORMAT),
    "rl1_format": _rl("round_1"),
    "rl1_no_format": _rl("round_1", reward=NO_FORMAT),
    "rl_failed": _rl(strategy="failed"),
    "rl_easy": _rl(strategy="easy"),
    "rl_all": _rl(strategy="all"),
    "rl1_failed": _rl("round_1", strategy="failed"),
    "rl1_all": _rl("round_1", strategy="all"),
    "rl1_all_large": _rl("round_1", pool="large", strategy="all"),
    "rl_moderate_small": _rl(pool="small"),
    "rl_all_small": _rl(pool="small", strategy="all"),
    "rl_all_large": _rl(pool="large", strategy="all"),
    "rl_shared": _rl(ppo={"critic_weights": "shared"}),
    "rl_no_critic": _rl(ppo={"critic_weights": "none", "critic_warmup": 0}),
    "rl_updates": _rl(several_updates=True),
}


def lineage(arm: str) -> list[str]:
    """The arm and those before it, from the stem on."""
    parent = ARMS[arm].parent
    return [*(lineage(parent) if parent else []), arm]


def get_config(arm: str = "full", scale: str = "miniature") -> ConfigDict:
    """The whole run of an arm, its parents' stages first; a command line gives both as one text, "full,33b"."""
    arm, _, named = arm.partition(",")
    scale = named or scale
    for name, value, known in (("arm", arm, ARMS), ("scale", scale, RECIPES)):
        if value not in known:
            raise ValueError(f"no {name} {value!r}; there are {', '.join(known)}")
    recipe, stages = RECIPES[scale], {}
    for name in lineage(arm):
        stages |= ARMS[name].stages(recipe)
    return recipe.config(f"{arm}, {scale}", stages)
