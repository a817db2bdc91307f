"""Promise: one command trains what is missing, two runs at once, survives a failing run and a kill, and adds seeds."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments import plan, run, workers
from step_audio_r1.errors import PREEMPTED
from step_audio_r1.files import read_json
from tests.experiments.fake_experiments import finish, started, told, write_configs, write_experiments
from tests.pipeline import tiny_arms

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


class Command:
    """`python -m experiments.run` over two experiments whose runs are fake."""

    def __init__(self, tmp_path: Path):
        self.runs = tmp_path / "runs"
        self.fake = write_configs(tmp_path / "fake")
        self.folder = write_experiments(
            tmp_path / f"experiments_of_{tmp_path.name}",
            reward=("rl_format", "rl_no_format"),
            rounds=("rl1_format", "rl_format", "rl1_no_format"),
        )

    def __call__(self, *argv: str) -> int:
        return run.main([*argv, f"--runs={self.runs}"], self.folder)

    def process(self, *argv: str) -> subprocess.Popen:
        module = [sys.executable, "-m", "tests.experiments.runner", str(self.folder)]
        command = [*module, *argv, f"--runs={self.runs}"]
        environment = {**os.environ, "FAKE": str(self.fake), "JAX_PLATFORMS": "cpu"}
        return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)

    def csv(self, experiment: str, name: str) -> list[str]:
        path = self.folder / experiment / "results" / f"{name}.csv"
        return path.read_text().splitlines() if path.exists() else []

    def page(self, experiment: str = "") -> str:
        return (self.folder / experiment / "README.md").read_text()


@pytest.fixture
def command(tmp_path, monkeypatch) -> Command:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("FAKE", str(tmp_path / "fake"))
    monkeypatch.setattr(workers, "COMMAND", (sys.executable, str(HERE / "fake_train.py")))
    return Command(tmp_path)


def test_runs_are_trained_read_and_told_on_the_pages(command, capsys):
    assert command("reward", "--seeds=2") == 0
    arms = ("stem", "rl_format", "rl_no_format")
    assert sorted(started(command.fake)) == sorted(f"{arm}_{seed}" for arm in arms for seed in (0, 1))
    runs = ["rl_format,0,miniature", "rl_format,1,miniature", "rl_no_format,0,miniature", "rl_no_format,1,miniature"]
    assert [",".join(row.split(",")[:3]) for row in command.csv("reward", "runs")[1:]] == runs
    assert "rl_format,1,all,0.63" in command.csv("reward", "numbers")
    assert command.csv("reward", "contrasts")[1].startswith("first_wins,above,points,True,2,0.615,")
    page = command.page("reward")
    assert page.startswith("# Question\n\n<!-- results -->\nSeeds 0, 1; commit c0ffee; ") and page.endswith("end\n")
    assert "| The first arm wins. | 61.5 | 50.5 | +11.0 [-1.7, +23.7] | above 0 | open |" in page
    assert (
        "first wins +11.0 [-1.7, +23.7] points: open<br>2 seeds | undecided | [reward](reward/README.md)"
        in command.page()
    )
    assert "[rounds](rounds/README.md)" in command.page() and command.csv("rounds", "runs") == []
    told_of = capsys.readouterr()
    assert "reward: undecided" in told_of.out and "6 of 6 runs" in told_of.err

    assert command("reward", "--seeds=2") == 0  # again: nothing is left to do, and nothing changes
    assert len(started(command.fake)) == 6 and command.page("reward") == page


def test_two_runs_at_once_each_on_its_core_with_programs_of_its_own(command):
    (command.fake / "together").touch()
    assert command("all", "--seeds=2") == 0
    rows = told(command.fake)
    running = set()
    for row in rows:
        running ^= {row["run"]}
        assert len(running) <= 2
    starts = [row for row in rows if row["event"] == "start"]
    assert {Path(row["programs"]) for row in starts} == {command.runs / "programs" / number for number in "01"}
    if hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1:
        assert all(len(row["cores"]) == 1 for row in starts)
        assert len({row["cores"][0] for row in starts}) == 2
    order = [(row["run"], row["event"]) for row in rows]
    for child, parent in (("rl_format_0", "stem_0"), ("round_1_1", "stem_1"), ("rl1_format_1", "round_1_1")):
        assert order.index((child, "start")) > order.index((parent, "end"))
    # What both experiments have is trained once and read into both.
    assert started(command.fake).count("rl_format_0") == 1
    assert "rl_format,0,all,0.6" in command.csv("reward", "numbers")
    assert "rl_format,0,all,0.6" in command.csv("rounds", "numbers")


def test_one_worker_trains_one_at_a_time(command):
    assert command("reward", "--seeds=2", "--workers=1") == 0
    events = [row["event"] for row in told(command.fake)]
    assert events == ["start", "end"] * 6


def test_seeds_are_added_without_the_workdirs_of_earlier_ones(command):
    assert command("reward", "--seeds=1") == 0
    command.runs.rename(command.runs.with_name("elsewhere"))
    assert command("reward", "--seeds=2") == 0
    assert set(started(command.fake)[3:]) == {"stem_1", "rl_format_1", "rl_no_format_1"}
    assert len(command.csv("reward", "runs")) == 5 and "2 seeds" in command.page()
    assert command("reward", "--seeds=0,", "--arms=rl_format", "--again") == 0
    assert set(started(command.fake)[6:]) == {"stem_0", "rl_format_0"}
    assert command("rounds", "--seeds=1", "--arms=rl_format") == 0  # read from its workdir into the other experiment
    assert len(started(command.fake)) == 8 and len(command.csv("rounds", "runs")) == 2


def test_a_failing_run_is_named_and_what_begins_with_it_left_out(command, capsys):
    (command.fake / "fail_round_1_0").touch()
    assert command("all", "--seeds=1") == 1
    told_of = capsys.readouterr().err
    assert "failed: round_1_0: " in told_of.splitlines()[-1]
    assert "something went wrong" in told_of and "rl1_format_0: not trained" in told_of
    assert set(started(command.fake)) == {"stem_0", "round_1_0", "rl_format_0", "rl_no_format_0"}
    assert len(command.csv("reward", "runs")) == 3 and "0, 1" not in command.page("reward")
    (command.fake / "fail_round_1_0").unlink()
    assert command("all", "--seeds=1") == 0
    assert started(command.fake)[4:][0] == "round_1_0" and len(command.csv("rounds", "runs")) == 4
    log = (command.runs / "round_1_0.log").read_text()
    assert log.count("begins round_1_0") == 2  # what was said before is kept


def test_a_run_that_cannot_be_read_is_named(command, capsys):
    finish(command.runs, "rl_format", 0)
    finish(command.runs, "rl_no_format", 0)
    (command.runs / "rl_format_0" / "numbers.json").unlink()
    assert command("reward", "--seeds=1") == 1
    assert "rl_format_0: could not be read: " in capsys.readouterr().err
    assert [row.split(",")[0] for row in command.csv("reward", "runs")[1:]] == ["rl_no_format"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_and_the_same_command_goes_on(command, number):
    (command.fake / "wait_rl_format_0").touch()
    process = command.process("reward", "--seeds=1")
    try:
        waiting = {"run": "rl_format_0", "event": "waits"}
        until = time.monotonic() + 120
        while not (waiting in told(command.fake) and command.csv("reward", "runs")):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == PREEMPTED
    assert "rl_format_0: stopped" in errors and errors.splitlines()[-1].startswith("preempted: 2 of 3 runs are done")
    assert [row.split(",")[0] for row in command.csv("reward", "runs")[1:]] == ["rl_no_format"]
    assert command("reward", "--seeds=1") == 0
    assert started(command.fake).count("rl_format_0") == 2 and len(started(command.fake)) == 4
    assert len(command.csv("reward", "runs")) == 3


def test_two_commands_do_not_train_in_one_folder(command, capsys):
    with workers.Workers(command.runs, 1):
        assert command("reward", "--seeds=1") == 1
    assert "another command" in capsys.readouterr().err and started(command.fake) == []
    assert command("reward", "--seeds=1") == 0


def test_a_dry_run_prints_the_commands_in_order_and_changes_nothing(command, capsys):
    finish(command.runs, "rl_format", 0)  # ninety seconds
    assert command("all", "--seeds=2", "--dry_run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "# workdirs that are there: rl_format_0"
    commands = [line.split("  # ") for line in lines[1:-1]]
    names = [line.split("--workdir=")[1].split()[0].rsplit("/", 1)[1] for line, _ in commands]
    assert names == [
        *("stem_0", "round_1_0", "rl_no_format_0", "rl1_format_0", "rl1_no_format_0"),
        *("stem_1", "round_1_1", "rl_format_1", "rl_no_format_1", "rl1_format_1", "rl1_no_format_1"),
    ]
    assert commands[1][0] == (
        f"step-audio-r1 train --config=configs/ablations.py:round_1 --workdir={command.runs}/round_1_0 "
        f"--config.seed=0 --branch_from={command.runs}/stem_0"
    )
    assert {minutes for _, minutes in commands} == {"2 minutes"}
    assert lines[-1] == "# 11 runs to train, 16 core minutes: 8 minutes with --workers=2"
    assert not (command.folder / "reward" / "results").exists() and started(command.fake) == []


def test_without_earlier_runs_no_minutes_are_told(command, capsys):
    assert command("reward", "--seeds=1", "--dry_run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and lines[-1].startswith("# 3 runs to train; how long they take is not known")


def test_a_large_scale_is_planned_for_pods(monkeypatch, capsys):
    argv = ["format_reward", "--scale=33b", "--seeds=1", "--arms=rl_format"]
    assert run.main([*argv, "--dry_run"]) == 0
    assert "\n  train rl_format " in capsys.readouterr().out
    assert run.main(argv) == 2
    assert "--dry_run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["nothing"], "nothing: no experiment; there are reward, rounds, all"),
        (["reward", "--scale=9b"], "--scale=9b"),
        (["reward", "--seeds=0"], "--seeds=0"),
        (["reward", "--seeds=-2"], "--seeds=-2"),
        (["reward", "--seeds=one"], "--seeds=one"),
        (["reward", "--workers=3"], "--workers=3"),
        (["reward", "--workers=0"], "--workers=0"),
        (["reward", "--arms=rl_format,rl_easy"], "'rl_easy' is no arm of it; there are rl_format, rl_no_format"),
    ],
)
def test_bad_input_is_one_line_and_code_2(command, capsys, argv, said):
    assert command(*argv) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and not command.runs.exists()


def test_what_would_be_in_the_way_is_told_before_anything_is_trained(command, capsys):
    finish(command.runs, "stem", 0, checkpoint_every=7)
    assert command("reward", "--seeds=1") == 2
    assert "another config" in capsys.readouterr().err
    (command.folder / "reward" / "README.md").write_text("no marks")
    assert command("reward", "--seeds=1,") == 2
    assert "README.md" in capsys.readouterr().err and started(command.fake) == []


def test_help_tells_the_experiments(command, capsys):
    with pytest.raises(SystemExit) as end:
        command("--help")
    assert end.value.code == 0 and "reward, rounds, all" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        run.main([], command.folder)
    assert end.value.code == 2


_TINY = """
import sys
from step_audio_r1.commands import train
flags = [flag.replace("configs/ablations.py", "tests/pipeline/tiny_arms.py") for flag in sys.argv[2:]]
sys.exit(train.main(flags))
"""


@pytest.mark.slow
def test_an_arm_is_trained_where_its_parent_ended(command, monkeypatch):
    def tiny_config(arm, scale):
        return plan.to_json(plan.run_config(tiny_arms.get_config(arm).to_dict()))

    monkeypatch.setattr(plan, "arm_config", tiny_config)
    monkeypatch.setattr(workers, "COMMAND", (sys.executable, "-c", _TINY))
    assert command("reward", "--seeds=1", "--arms=rl_format") == 1  # trained, but the fake table needs numbers.json
    assert read_json(command.runs / "rl_format_0" / "provenance.json")["branched_from"]["stages"][-1] == "text_rlvr"
    (command.runs / "rl_format_0" / "numbers.json").write_text('[{"group": "all", "accuracy": 0.5}]')
    assert command("reward", "--seeds=1", "--arms=rl_format") == 0
    (row,) = command.csv("reward", "runs")[1:]
    assert "--config.seed=0 --branch_from=stem_0," in row and float(row.split(",")[-1]) > 0
