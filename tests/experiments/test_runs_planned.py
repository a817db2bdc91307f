"""Promise: what experiments share is trained once, parents first, and nothing is trained whose results are there."""

import pytest

from experiments.plan import Run, arm_config, arm_flags, config_fingerprint, expected_minutes, make_plan
from experiments.run import parse_seeds
from step_audio_r1.errors import BadInput
from step_audio_r1.files import read_json, write_json
from tests.experiments.fake_experiments import finish


def plan(runs, *wanted, recorded=()):
    found = make_plan([Run(*one) for one in wanted], runs, "miniature", [Run(*one) for one in recorded].__contains__)
    return [run.name for run in found.train], [run.name for run in found.read], [run.name for run in found.recorded]


def test_parents_come_first_and_once_and_few_seeds_before_more(tmp_path):
    wanted = [("rl1_format", 1), ("rl_format", 0), ("rl1_format", 0), ("full", 0), ("rl_format", 0)]
    train, read, recorded = plan(tmp_path, *wanted)
    assert train == [
        "stem_0",
        "round_1_0",
        "rl_format_0",
        "full_0",
        "rl1_format_0",
        "stem_1",
        "round_1_1",
        "rl1_format_1",
    ]
    assert read == recorded == []


def test_finished_runs_are_only_read(tmp_path):
    finish(tmp_path, "stem", 0)
    finish(tmp_path, "rl_format", 0)
    assert plan(tmp_path, ("rl_format", 0), ("rl1_format", 0)) == (["round_1_0", "rl1_format_0"], ["rl_format_0"], [])


def test_runs_in_the_results_need_neither_training_nor_parents(tmp_path):
    have = [("rl1_format", 0), ("rl_format", 0)]
    assert plan(tmp_path, *have, recorded=have) == ([], [], ["rl_format_0", "rl1_format_0"])
    train, _, recorded = plan(tmp_path, *have, ("rl_format", 1), recorded=have)
    assert (train, recorded) == (["stem_1", "rl_format_1"], ["rl_format_0", "rl1_format_0"])


def test_a_parent_is_trained_for_a_child_though_its_results_are_there(tmp_path):
    train, read, recorded = plan(tmp_path, ("round_1", 0), ("full", 0), recorded=[("round_1", 0)])
    assert (train, read, recorded) == (["stem_0", "round_1_0", "full_0"], [], [])


def test_a_run_past_its_beginning_needs_no_parent(tmp_path):
    workdir = finish(tmp_path, "full", 0)
    for name in ("eval/summary.json", "stages.json"):  # not measured to the end; killed before its first own stage
        (workdir / name).unlink()
        assert plan(tmp_path, ("full", 0))[0] == ["full_0"]


def test_an_unfinished_stage_is_not_finished(tmp_path):
    workdir = finish(tmp_path, "stem", 0)
    stages = read_json(workdir / "stages.json")
    write_json(workdir / "stages.json", {name: row for name, row in stages.items() if name != "text_rlvr"})
    assert plan(tmp_path, ("stem", 0))[0] == ["stem_0"]


@pytest.mark.parametrize("wanted", ["stem", "rl_format"])
def test_a_finished_run_of_another_config_is_refused(tmp_path, wanted):
    finish(tmp_path, "stem", 0, checkpoint_every=7)
    with pytest.raises(BadInput, match=r"stem_0: .* another config"):
        plan(tmp_path, (wanted, 0))


def test_fingerprints_are_of_what_makes_the_run():
    config = arm_config("stem", "miniature")
    same = config_fingerprint(config)
    assert same == config_fingerprint({**config, "seed": 4, "name": "other", "profile": None})
    assert same == config_fingerprint(dict(reversed(config.items())))
    assert same != config_fingerprint({**config, "checkpoint_every": 7})
    assert config_fingerprint(arm_config("rl_format", "miniature")) != config_fingerprint(
        arm_config("rl_no_format", "miniature")
    )


def test_commands_begin_where_parents_end(tmp_path):
    folder = tmp_path / "runs"
    assert arm_flags(Run("stem", 2), folder, "miniature") == (
        "train",
        "--config=configs/ablations.py:stem",
        f"--workdir={folder}/stem_2",
        "--config.seed=2",
    )
    assert arm_flags(Run("full", 2), folder, "33b")[1:] == (
        "--config=configs/ablations.py:full,33b",
        f"--workdir={folder}/full_2",
        "--config.seed=2",
        f"--branch_from={folder}/round_1_2",
    )


def test_minutes_are_those_of_the_arm_or_else_of_any():
    expected = expected_minutes({Run("stem", 0): 4.0, Run("stem", 1): 6.0, Run("full", 0): 20.0})
    assert (expected("stem"), expected("full"), expected("restart")) == (5.0, 20.0, 10.0)
    assert expected_minutes({})("stem") is None


@pytest.mark.parametrize(
    ("text", "seeds"), [("3", [0, 1, 2]), ("1", [0]), ("3,", [3]), ("7,0,3,0", [0, 3, 7]), ("0,", [0])]
)
def test_seeds_are_a_number_or_a_list(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["0", "-1", "five", "", ",", "1,,2", "0,-1", "1.5", "0,2147483648", "²"])
def test_other_seeds_are_refused(text):
    with pytest.raises(BadInput, match="--seeds="):
        parse_seeds(text)
