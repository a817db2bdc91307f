"""Promise: a workdir belongs to one config and is the same on all hosts; what may still change in it, may."""

import copy
import threading

import pytest

from configs.ablations import get_config as arm_config
from configs.tiny import get_config
from step_audio_r1.errors import BadInput
from step_audio_r1.pipeline import run_config
from step_audio_r1.pipeline.workdir import Workdir


def _be_process_1(monkeypatch):
    """What process 0 does is done elsewhere."""
    monkeypatch.setattr("step_audio_r1.pipeline.workdir.leads", lambda: False)
    monkeypatch.setattr("step_audio_r1.pipeline.workdir.once", lambda name, work: None)


def test_a_workdir_that_only_process_0_sees_is_refused(tmp_path, monkeypatch):
    _be_process_1(monkeypatch)
    monkeypatch.setattr("step_audio_r1.pipeline.workdir._SHOWN_S", 0.1)
    with pytest.raises(BadInput, match="does not see it; use a folder that all hosts share"):
        Workdir(tmp_path / "run").claim(run_config(get_config().to_dict()))
    assert not (tmp_path / "run").exists()


def test_a_workdir_that_shows_up_late_is_waited_for(tmp_path, monkeypatch):
    config = run_config(get_config().to_dict())
    Workdir(tmp_path / "made").claim(config)
    _be_process_1(monkeypatch)
    threading.Timer(0.5, (tmp_path / "made").rename, (tmp_path / "run",)).start()
    Workdir(tmp_path / "run").claim(config)


def test_a_round_that_has_not_ended_may_be_filtered_otherwise_and_nothing_else_may_change(tmp_path):
    values = get_config().to_dict()
    workdir = Workdir(tmp_path / "run")
    workdir.claim(run_config(values))
    looser, other = copy.deepcopy(values), copy.deepcopy(values)
    looser["stages"]["distil_1"]["mgrd"]["questions"] = 99
    other["stages"]["mgrd_1_sft"]["steps"] = 99
    workdir.claim(run_config(looser))
    assert workdir.config().stages["distil_1"].mgrd.questions == 99
    with pytest.raises(BadInput, match=r"config\.stages\.mgrd_1_sft\.steps: there 6, here 99"):
        workdir.claim(run_config(other))
    workdir.stage_done("distil_1", 1.0, 1)
    with pytest.raises(BadInput, match=r"config\.stages\.distil_1\.mgrd\.questions: there 99, here 12"):
        workdir.claim(run_config(values))


def test_dpo_may_be_set_otherwise_until_its_pairs_are_made(tmp_path):
    values = arm_config("dpo").to_dict()
    workdir = Workdir(tmp_path / "run")
    workdir.claim(run_config(values))
    more = copy.deepcopy(values)
    more["stages"]["dpo"]["questions"] = 999
    workdir.claim(run_config(more))
    workdir.pairs("dpo").mkdir(parents=True)
    (workdir.pairs("dpo") / "pairs.jsonl").write_text("")
    with pytest.raises(BadInput, match=r"config\.stages\.dpo\.questions: there 999, here 480"):
        workdir.claim(run_config(values))
