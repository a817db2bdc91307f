"""Promise: arms of the experiments that begin where their parents end come to the same bits as their whole runs."""

from pathlib import Path

import pytest

from step_audio_r1.files import read_json
from tests.pipeline.tiny_run import exists, finish, kill_at, logged, results
from tests.several_processes import ends, start

CONFIG = Path(__file__).with_name("tiny_arms.py")
# Of "restart" as a branch of "stem", in the order in which it meets them.
MOMENTS = {
    "the folder has just come to be": exists("config.json"),
    "the last shared stage is kept": exists("kept/text_rlvr"),
    "SFT from the cold start again": logged("mgrd_1_sft", 1),
}


def _same(found: Path, expected: Path) -> None:
    ours, theirs = results(found), results(expected)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert ours[name] == value, f"{name} differs in {found.name}"


@pytest.mark.slow
def test_branches_and_branches_of_branches_are_the_whole_runs(tmp_path):
    programs = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "programs")}  # the runs have most of them in common
    for arm in ("stem", "full", "restart"):
        finish(tmp_path / f"whole_{arm}", f"{CONFIG}:{arm}", **programs)
    stem = tmp_path / "whole_stem"
    before = results(stem)
    finish(tmp_path / "round_1", f"{CONFIG}:round_1", [f"--branch_from={stem}"], **programs)
    finish(tmp_path / "full", f"{CONFIG}:full", [f"--branch_from={tmp_path / 'round_1'}"], **programs)
    _same(tmp_path / "full", tmp_path / "whole_full")

    killed, flags = tmp_path / "restart", [f"--branch_from={stem}"]
    missed = [name for name, at in MOMENTS.items() if not kill_at(killed, at, f"{CONFIG}:restart", flags, **programs)]
    assert not missed, f"the run ended before it could be killed at: {missed}"
    finish(killed, f"{CONFIG}:restart", flags, **programs)
    _same(killed, tmp_path / "whole_restart")
    assert not list(tmp_path.rglob(".*.tmp")), "a kill left half a file behind"
    assert results(stem) == before


@pytest.mark.slow
def test_two_processes_branch_as_one_does(tmp_path):
    def train(name: str, stages: str, *flags: str) -> None:
        config = ["--config=configs/tiny.py", f"--config.order=({stages})", "--config.checkpoint_every=4", *flags]
        for stage in ("pretrain", "cold_start"):
            config += [f"--config.stages.{stage}.batch.shards=2", f"--config.stages.{stage}.evaluate=nothing"]
        command = ["-m", "step_audio_r1", "train", *config, f"--workdir={tmp_path / name}"]
        for code, errors in ends(start(command, 2, 1), 600):
            assert code == 0, errors[-3000:]

    train("whole", "'pretrain','cold_start'")
    train("short", "'pretrain',")
    train("branch", "'pretrain','cold_start'", f"--branch_from={tmp_path / 'short'}")
    _same(tmp_path / "branch", tmp_path / "whole")
    assert read_json(tmp_path / "branch" / "stages.json")["cold_start"]["done"]
