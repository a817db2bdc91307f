"""Promise: a stage of knowledge distillation learns from the stage it names; killed at any step it ends the same."""

import dataclasses
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from configs import tiny
from configs.recipe import knowledge as recipe
from step_audio_r1.data.taught import TaughtConfig
from step_audio_r1.errors import BadInput, Preempted
from step_audio_r1.mgrd import read_chains
from step_audio_r1.pipeline import knowledge, run_config
from step_audio_r1.pipeline.kept import keep_params
from step_audio_r1.pipeline.stage_config import KnowledgeStage
from step_audio_r1.pipeline.stages import StageContext, abstract_state
from step_audio_r1.pipeline.workdir import Workdir
from step_audio_r1.train import (
    Checkpoints,
    Goodput,
    KnowledgeConfig,
    MetricWriter,
    OptimiserConfig,
    Preemption,
)
from tests.pipeline.one_stage import Killed, dies, run_stage
from tests.pipeline.tiny_run import exists, finish, logged, results, start
from tests.train.small_model import CONFIG, EXAMPLES, MODEL, ONE, STORE, TOKENIZER, fresh, quick_compilation

__all__ = ["quick_compilation"]  # compiles without optimising

STAGE = KnowledgeStage(
    kind="knowledge",
    steps=6,
    batch=TaughtConfig(rows=4, tokens=112, chunks=4, packing_bins=4, teacher_tokens=96),
    optimiser=OptimiserConfig(1e-2, final_fraction=1.0),
    sources={"chains:1": 0.7, "small:replay": 0.3},
    teacher="cold",
    knowledge=KnowledgeConfig(temperature=1.5, ce_weight=0.2),
)
CHAINS = [
    dataclasses.replace(e, provenance={"prompt": "hear : a bell . which is loud ?", "replaces_sound": True})
    for e in EXAMPLES
]
SOURCES = {"chains:1": CHAINS, "small:replay": EXAMPLES}


def _run(workdir: Path, stage: KnowledgeStage = STAGE, teacher: int = 1) -> dict:
    """The stage, from the newest checkpoint of `workdir` if there is one; what the run is judged by."""
    run = SimpleNamespace(
        mesh=ONE,
        model=MODEL,
        tokenizer=TOKENIZER,
        store=STORE,
        config=SimpleNamespace(format="think", seed=3, model=CONFIG, checkpoint_every=2, log_every=1),
        source=SOURCES.get,
        workdir=Workdir(workdir),
    )
    keep_params(run, "cold", fresh(teacher))

    def learn(context: StageContext, params: Any) -> Any:
        return knowledge.run_knowledge(stage, context, params)

    return run_stage(workdir, "learn", run, lambda: abstract_state(stage, run), learn)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return _run(tmp_path_factory.mktemp("whole"))


def test_the_student_comes_nearer_to_its_teacher(undisturbed):
    first, *_, last = undisturbed["metrics"]
    assert len(undisturbed["metrics"]) == 6
    assert last["knowledge/kl"] < 0.8 * first["knowledge/kl"]
    expected = 1.5**2 * first["knowledge/kl"] + 0.2 * first["knowledge/cross_entropy"]
    np.testing.assert_allclose(first["knowledge/loss"], expected, rtol=1e-6)


@pytest.mark.slow
def test_what_teaches_is_what_the_named_stage_ended_with(undisturbed, tmp_path):
    """Of the plain question itself, the student's own first weights would have nothing to teach."""
    alone = dataclasses.replace(STAGE, sources={"small:replay": 1.0})
    itself, other = (_run(tmp_path / str(seed), alone, teacher=seed)["metrics"][0] for seed in (0, 1))
    assert abs(itself["knowledge/kl"]) < 1e-6 < 0.1 < other["knowledge/kl"]


# Moment -> (whose method it is, its name, in which of its calls the process ends).
MOMENTS = {
    "before the first step": (knowledge, "train_state", 1),
    "first step": (knowledge, "to_device", 1),
    "a step after a checkpoint": (knowledge, "to_device", 4),
    "report": (MetricWriter, "write", 4),
    "before saving": (Checkpoints, "save", 2),
    "after saving": (Goodput, "mark", 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_moment_ends_with_the_same_bits(moment, undisturbed, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        dies(patch, *MOMENTS[moment])
        with pytest.raises(Killed):
            _run(tmp_path)
    assert _run(tmp_path) == undisturbed


@pytest.mark.slow
def test_preempted_ends_with_the_same_bits(undisturbed, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        asked = []
        patch.setattr(Preemption, "due", lambda _: asked.append(1) or len(asked) == 3)
        with pytest.raises(Preempted, match="saved step 3"):
            _run(tmp_path)
    assert _run(tmp_path) == undisturbed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teacher": "mgrd_1_rlvr"}, r"config\.stages\.learn\.teacher='mgrd_1_rlvr': no stage before this one; name"),
        ({"teacher": ""}, r"config\.stages\.learn: teacher='': name the stage"),
        ({"sources": {"chains:2": 1.0}}, r"config\.stages\.learn\.sources: 'chains:2': no stage before this one"),
        ({"knowledge": {"temperature": 0.0}}, r"config\.stages\.learn\.knowledge\.temperature=0\.0: above 0"),
        ({"batch": {"teacher_tokens": 0}}, r"config\.stages\.learn\.batch\.teacher_tokens=0: expected at least 1"),
    ],
)
def test_a_mistake_is_told_by_the_fields_whole_name(change, message):
    values = tiny.get_config().to_dict()
    values["stages"]["learn"] = {**recipe(1, 6, "cold_start").to_dict(), **change}
    values["order"] = ("pretrain", "cold_start", "distil_1", "learn")
    with pytest.raises(BadInput, match=message):
        run_config(values)


def test_the_teacher_is_kept():
    values = tiny.get_config().to_dict()
    values["stages"]["learn"] = recipe(1, 6, "cold_start", start_from="pretrain").to_dict()
    values["order"] = ("pretrain", "cold_start", "distil_1", "learn")
    config = run_config(values)
    assert config.kept_stages == {"cold_start", "pretrain"}
    assert config.stages["learn"].batch == TaughtConfig(32, 128, 2, 32, 1, teacher_tokens=128)


TINY = """
from configs import tiny
from configs.recipe import knowledge


def get_config():
    config = tiny.get_config()
    stage = knowledge(1, steps=6, teacher="cold_start", start_from="pretrain")
    stage.batch.rows = 8
    config.stages.knowledge_1 = stage
    config.order = ("pretrain", "cold_start", "distil_1", "knowledge_1")
    return config
"""
# In the order in which a run meets them; all stay true once they are.
KILLS = {
    "the teacher is being kept": exists("kept/cold_start/*"),
    "first step": logged("knowledge_1", 1),
    "after a checkpoint": logged("knowledge_1", 3),
    "the last step": logged("knowledge_1", 6),
}


@pytest.mark.slow
def test_a_run_with_such_a_stage_goes_on_after_sigkill(tmp_path):
    config = tmp_path / "configs_of_test" / "tiny_knowledge.py"
    config.parent.mkdir()
    config.write_text(TINY)
    finish(tmp_path / "whole", config)
    expected = results(tmp_path / "whole")
    for name, reached in KILLS.items():
        process = start(tmp_path / "killed", config)
        while process.poll() is None and not reached(tmp_path / "killed"):
            time.sleep(0.005)
        assert process.poll() is None, f"ended before it could be killed: {name}"
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    finish(tmp_path / "killed", config)
    found = results(tmp_path / "killed")
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == value, f"{name} differs"
    # Chains whose teacher read text in the sound's place, as the round recorded it.
    chains = [chain for chain in read_chains(tmp_path / "whole" / "chains" / "round_01") if chain.kept]
    assert chains and all(chain.prompt.startswith("heard : ") for chain in chains)
