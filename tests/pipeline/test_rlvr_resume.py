"""Promise: an RLVR stage killed in any phase of an iteration, or preempted, ends with an undisturbed one's bits."""

import functools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from step_audio_r1.errors import Preempted
from step_audio_r1.parallel import TRAINING
from step_audio_r1.pipeline import rlvr
from step_audio_r1.pipeline.stage_config import RLVRStage
from step_audio_r1.pipeline.stages import StageContext
from step_audio_r1.rewards import RewardConfig
from step_audio_r1.rl import PPO, PPOConfig
from step_audio_r1.rollout import LocalEngine, SamplingConfig
from step_audio_r1.train import (
    Checkpoints,
    Goodput,
    Mean,
    MetricWriter,
    OptimiserConfig,
    Preemption,
    abstract_trained,
)
from tests.pipeline.one_stage import Killed, dies, run_stage
from tests.train.small_model import CONFIG, EXAMPLES, MODEL, ONE, REAL, STORE, TOKENIZER, quick_compilation

__all__ = ["quick_compilation"]  # compiles without optimising
pytestmark = pytest.mark.slow

RATE = OptimiserConfig(1e-3, final_fraction=1.0)
STAGE = RLVRStage(
    kind="rlvr",
    iterations=5,
    prompts=2,
    samples=4,
    sources={"small:text": 1.0},
    sampling=SamplingConfig(max_new_tokens=4),
    ppo=PPOConfig(critic_minibatches=2, critic_warmup=1, packing=True, kl_metric_every=2, actor=RATE, critic=RATE),
    reward=RewardConfig(),
    max_tokens=64,
    checkpoint_every=2,
)
TEXTS = [e for e in EXAMPLES if e.modality == "text"]


@functools.cache
def _algorithm() -> PPO:
    return PPO(MODEL, ONE, STAGE.ppo, STAGE.iterations)


@functools.cache
def _engine() -> LocalEngine:
    return LocalEngine(MODEL, ONE, (REAL + 1,))


def _reward(*arguments):
    """Words of the first half of the vocabulary pay; one sample in the middle could not be verified."""
    (rollout,) = (x for x in arguments if hasattr(x, "finish_reasons"))
    rewards = (rollout.tokens < REAL // 2).mean(1).astype(np.float32)
    usable = np.arange(len(rewards)) != 5
    return rewards, usable, {"reward/total": Mean.of(rewards, usable.astype(np.float32))}


def _run(workdir: Path) -> dict:
    """The stage, from the newest checkpoint of `workdir` if there is one; what the run is judged by."""
    run = SimpleNamespace(
        mesh=ONE,
        model=MODEL,
        engine=_engine(),
        tokenizer=TOKENIZER,
        store=STORE,
        config=SimpleNamespace(format="think", seed=3, model=CONFIG),
        source=lambda _: TEXTS,
        workdir=SimpleNamespace(rollouts=lambda stage: workdir / "rollouts" / stage),
    )

    def reinforce(context: StageContext, params: Any) -> Any:
        return rlvr.run_rlvr(STAGE, context, params)

    return run_stage(
        workdir, "rl", run, lambda: _algorithm().abstract(abstract_trained(CONFIG, ONE, TRAINING)), reinforce
    )


@pytest.fixture
def small(monkeypatch):
    """One PPO for all runs, so that its programs are compiled once."""
    monkeypatch.setattr(rlvr, "PPO", lambda *_: _algorithm())
    monkeypatch.setattr(rlvr, "reward_rollout", _reward)
    return monkeypatch


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rlvr, "PPO", lambda *_: _algorithm())
        patch.setattr(rlvr, "reward_rollout", _reward)
        return _run(tmp_path_factory.mktemp("whole"))


# Phase -> (whose method it is, its name, in which of its calls the process ends).
PHASES = {
    "choice of questions": (rlvr, "prompt_pools", 1),
    "first iteration": (rlvr, "rollout_batch", 1),
    "drawing prompts": (rlvr, "draw_prompts", 4),
    "weights": (_engine(), "decode_params", 4),
    "generation": (_engine(), "generate", 3),
    "rewards": (rlvr, "reward_rollout", 4),
    "packing": (rlvr, "rollout_batch", 4),
    "scoring": (_algorithm, "score", 4),
    "critic's update": (_algorithm, "critic_step", 6),
    "actor's update": (_algorithm, "actor_step", 3),
    "report": (MetricWriter, "write", 4),
    "before saving": (Checkpoints, "save", 2),
    "after saving": (Goodput, "mark", 2),
}


@pytest.mark.parametrize("phase", PHASES)
def test_killed_in_any_phase_ends_with_the_same_bits(phase, small, undisturbed, tmp_path):
    with small.context() as patch:
        owner, name, call = PHASES[phase]
        dies(patch, owner() if owner is _algorithm else owner, name, call)
        with pytest.raises(Killed):
            _run(tmp_path)
    assert _run(tmp_path) == undisturbed


def test_preempted_ends_with_the_same_bits(small, undisturbed, tmp_path):
    with small.context() as patch:
        asked = []
        patch.setattr(Preemption, "due", lambda _: asked.append(1) or len(asked) == 3)
        with pytest.raises(Preempted, match="saved step 3"):
            _run(tmp_path)
    assert _run(tmp_path) == undisturbed


def test_the_stage_logs_what_it_promises(undisturbed):
    first, second, third = undisturbed["metrics"][:3]
    always = "reward/total ppo/equal_groups ppo/value ppo/value_std ppo/advantage ppo/advantage_std ppo/entropy"
    always += " ppo/explained_variance ppo/sampler_logp_difference ppo/sampler_logp_difference_max"
    always += " critic/loss critic/grad_norm critic/clip_fraction"
    assert all(set(always.split()) <= row.keys() for row in undisturbed["metrics"])
    of_actor = "ppo/loss ppo/ratio ppo/ratio_std ppo/ratio_min ppo/ratio_max ppo/clip_fraction ppo/approx_kl"
    assert not set(of_actor.split()) & first.keys()  # the critic warms up
    assert {*of_actor.split(), "ppo/grad_norm"} <= second.keys()
    # The actor of the start, scored by two programs: their log probabilities differ by 1e-7, KL by the square of it.
    assert abs(first["ppo/kl_to_start"]) < 1e-13 and "ppo/kl_to_start" not in second
    assert third["ppo/kl_to_start"] > 1e-7
    assert second["ppo/sampler_logp_difference_max"] < 1e-4
