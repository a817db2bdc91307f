"""Promise: a run begun where another ended is, to the bit, the whole run; the other run is never changed by it."""

import copy
import dataclasses
import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from configs import ablations
from step_audio_r1.commands import convert, train
from step_audio_r1.errors import BadInput, WorkFailed
from step_audio_r1.files import read_json, write_json
from step_audio_r1.pipeline import run, run_config
from step_audio_r1.pipeline.branch import begins, branch
from step_audio_r1.pipeline.config import RunConfig, with_real_vocab
from step_audio_r1.pipeline.workdir import Workdir
from tests.commands.tiny_runs import tiny_config, write_config
from tests.pipeline.tiny_run import results

MEASURED = {"max_new_tokens": 6, "questions": 4, "describe": 2, "arms": ("thinking", "free"), "votes": (1, 2)}


def _values(encoder: Path, *more: str, **changes) -> dict:
    """The config of the stages "pretrain" and `more`, of which "again" goes back to the first."""
    values = tiny_config(encoder, order=("pretrain", *more), evaluation=MEASURED, log_every=1, **changes)
    first = values["stages"]["pretrain"] | {"evaluate": "everything"}
    again = {"again": {"start_from": "pretrain"}}
    values["stages"] = {name: first | again.get(name, {}) for name in values["order"]}
    return values


@pytest.fixture(scope="module")
def encoder(tiny_run) -> Path:
    return tiny_run[1] / "encoder.safetensors"


@pytest.fixture
def configs(encoder, tmp_path):
    """Writes a config file of `_values`, and returns its flag."""

    def write(name: str, *more: str, **changes) -> str:
        return f"--config={write_config(tmp_path / 'configs' / f'{name}.py', _values(encoder, *more, **changes))}"

    return write


def _train(config: str, workdir: Path, *flags: str) -> None:
    assert train.main([config, f"--workdir={workdir}", *flags]) == 0


def _contents(folder: Path) -> dict[str, tuple[int, str]]:
    """Every file with its inode and the sum of its bytes; without programs, which JAX keeps where it did at first."""
    files = [path for path in folder.rglob("*") if path.is_file() and "programs" not in path.parts]
    return {
        str(path.relative_to(folder)): (path.stat().st_ino, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in files
    }


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.slow
def test_a_branch_is_the_whole_run_to_the_bit_wherever_it_is_killed(configs, tmp_path, monkeypatch):
    short, long = configs("short"), configs("long", "more", "again")
    _train(long, tmp_path / "whole")
    _train(short, tmp_path / "source")
    before = _contents(tmp_path / "source")
    expected = results(tmp_path / "whole")
    assert "eval/summary.json" in expected and "eval/items/pretrain.jsonl" in expected
    asked = {json.loads(row)["arm"] for row in expected["eval/items/again.jsonl"].splitlines()}
    assert asked == {"thinking", "free", "majority_1", "majority_2", "direct"}

    flag = f"--branch_from={tmp_path / 'source'}"
    _train(long, tmp_path / "branch", flag)
    # The first time it is killed as files are copied, then before the first stage, then in the last evaluation.
    for module, name in ((shutil, "copy2"), (run, "find_position"), (run, "write_summary")):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(module, name, _die)
            _train(long, tmp_path / "killed", flag)
        (tmp_path / ".killed.x.step_audio_r1.tmp" / "killed").mkdir(parents=True, exist_ok=True)  # as SIGKILL leaves it
        if name == "copy2":
            assert not (tmp_path / "killed").exists()
    _train(long, tmp_path / "killed", flag)

    for folder in ("branch", "killed"):
        found = results(tmp_path / folder)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert found[name] == value, f"{name} differs in {folder}"
    assert _contents(tmp_path / "source") == before


def _die(*_, **__):
    raise Killed


def test_a_branch_shares_what_never_changes_and_leaves_the_source_as_it_was(tiny_run, tmp_path):
    source = tiny_run[1]
    before = _contents(source)
    values = tiny_config(tiny_run[0].parent / "encoder.safetensors", order=("pretrain", "again"))
    values["stages"]["again"] = values["stages"]["pretrain"] | {"start_from": "pretrain"}
    config = f"--config={write_config(tmp_path / 'again.py', values)}"
    _train(config, tmp_path / "run", f"--branch_from={source}")
    assert _contents(source) == before

    after = _contents(tmp_path / "run")
    steps = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert steps == {"2", "3", "4"} and (source / "checkpoints" / "1").is_dir()  # here the policy has deleted it
    shared = {name for name in after.keys() & before.keys() if after[name][0] == before[name][0]}
    assert {name.split("/")[0] for name in shared} == {"checkpoints", "data", "cache", "encoder.safetensors"}
    assert not (tmp_path / "run" / "cache" / "programs").exists()
    assert (tmp_path / "run" / "kept" / "pretrain" / "checkpoints").is_dir() and not (source / "kept").exists()
    about, theirs = (read_json(folder / "provenance.json") for folder in (tmp_path / "run", source))
    assert about["branched_from"] == {"git": theirs["git"], "command": theirs["command"], "stages": ["pretrain"]}
    # The same command, given again, needs the source no more.
    _train(config, tmp_path / "run", f"--branch_from={tmp_path / 'gone'}")


@pytest.mark.slow
def test_a_run_of_an_imported_model_is_branched_from(tiny_run, encoder, tmp_path):
    assert convert.main([f"--workdir={tiny_run[1]}", f"--to_hf={tmp_path / 'public'}", "--dtype=float32"]) == 0
    values = _values(encoder, "more", "again")
    first = values["stages"]["pretrain"] | {"steps": 0, "evaluate": "nothing"}
    values["stages"] = {
        "imported": first,
        "more": values["stages"]["more"],
        "again": values["stages"]["again"] | {"start_from": "imported"},
    }
    long = write_config(tmp_path / "configs" / "long.py", {**values, "order": ("imported", "more", "again")})
    del values["stages"]["again"]
    short = write_config(tmp_path / "configs" / "short.py", {**values, "order": ("imported", "more")})
    for name, config in (("whole", long), ("source", short)):
        workdir = f"--workdir={tmp_path / name}"
        assert convert.main([f"--from_hf={tmp_path / 'public'}", workdir, f"--config={config}"]) == 0
        _train(f"--config={config}", tmp_path / name)
    _train(f"--config={long}", tmp_path / "branch", f"--branch_from={tmp_path / 'source'}")
    assert results(tmp_path / "branch") == results(tmp_path / "whole")
    assert Workdir(tmp_path / "branch").config() == Workdir(tmp_path / "whole").config()
    assert not (tmp_path / "branch" / "kept").exists()  # it is in the folder "imported"


def _ended(path: Path, values: dict | RunConfig) -> Workdir:
    """A workdir as the finished run of a config leaves it, as far as branching looks at it before it copies."""
    workdir, config = Workdir(path), run_config(values) if isinstance(values, dict) else values
    workdir.claim(config)
    for name in config.order:
        workdir.stage_done(name, 1.0, 1)
    write_json(path / "eval" / "summary.json", [])
    return workdir


def _one_line(capsys, *flags: str) -> str:
    """The one line with which `train` refuses these flags."""
    capsys.readouterr()
    assert train.main(list(flags)) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


# What is said of a source whose config differs so, or to which this is done.
REFUSED = {
    "not there": ({}, lambda source: shutil.rmtree(source.path), "not a workdir (no config.json)"),
    "no workdir": ({}, lambda source: (source / "config.json").unlink(), "not a workdir (no config.json)"),
    "no provenance": ({}, lambda source: (source / "provenance.json").unlink(), "provenance.json: No such file"),
    "not ended": ({}, lambda source: (source / "stages.json").unlink(), "has not ended; give its own command again"),
    "not measured": ({}, lambda source: (source / "eval" / "summary.json").unlink(), "has not ended; give its own"),
    "another seed": ({"seed": 1}, None, "(config.seed: there 1, here 0)"),
    "other clips": ({"world": {"test": 31}}, None, "(config.world.test: there 31, here 30)"),
    "another stage": ({"steps": 3}, None, "(config.stages.pretrain.steps: there 3, here 2)"),
    "other stages": ({"order": ("more", "pretrain")}, None, "its stages (more, pretrain) are not the first"),
    "no more stages": ({"order": ("pretrain", "more", "again")}, None, "use the run of a config that ends earlier"),
    "not kept": ({"order": ("pretrain", "more")}, None, "goes back to 'pretrain', whose parameters that run has not"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_beginning_of_the_run_is_refused_in_one_line(case, encoder, configs, tmp_path, capsys):
    changes, damage, said = REFUSED[case]
    values = _values(encoder, "more", "again")
    theirs = {**copy.deepcopy(values), "order": ("pretrain",), **changes}
    theirs["stages"]["pretrain"]["steps"] = theirs.pop("steps", 2)
    if "again" not in theirs["order"]:
        del theirs["stages"]["again"]
    source = _ended(tmp_path / "source", theirs)
    if damage:
        damage(source)
    config = configs("long", "more", "again")
    line = _one_line(capsys, config, f"--workdir={tmp_path / 'run'}", f"--branch_from={source.path}")
    assert str(source.path) in line and said in line
    assert not (tmp_path / "run").exists()


def _fill(path: Path) -> None:
    path.mkdir()
    (path / "thesis.txt").write_text("years of work")


@pytest.mark.parametrize(
    ("place", "make", "said"),
    [
        ("run", _fill, "not empty and not a workdir"),
        ("run", lambda path: path.write_text("years of work"), "is a file"),
        ("source/run", lambda path: None, "lies in it; use a directory of its own"),
    ],
)
def test_a_place_that_cannot_be_the_workdir_is_left_as_it_is(place, make, said, encoder, configs, tmp_path, capsys):
    source, config = _ended(tmp_path / "source", _values(encoder)), configs("long", "more")
    make(tmp_path / place)
    before = _contents(tmp_path)
    line = _one_line(capsys, config, f"--workdir={tmp_path / place}", f"--branch_from={source.path}")
    assert said in line and _contents(tmp_path) == before


@pytest.mark.parametrize(
    ("value", "said"),
    [("", "--branch_from: is empty"), ("gs://bucket/run", "--branch_from=gs://bucket/run: is no local")],
)
def test_a_source_that_is_no_folder_is_refused(value, said, configs, tmp_path, capsys):
    assert said in _one_line(capsys, configs("long"), f"--workdir={tmp_path / 'run'}", f"--branch_from={value}")


def test_what_begins_with_nothing_refuses_a_source(tmp_path, capsys):
    flags = f"--workdir={tmp_path / 'run'}", f"--branch_from={tmp_path}"
    assert "an encoder's training" in _one_line(capsys, "--config=configs/miniature_encoder.py", *flags)
    with pytest.raises(SystemExit) as end:
        convert.main([f"--from_hf={tmp_path}", "--config=configs/tiny.py", *flags])
    assert end.value.code == 2 and "unrecognized argument: --branch_from" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_config_that_cannot_run_is_told_before_anything_is_copied(encoder, tmp_path, capsys):
    source, values = _ended(tmp_path / "source", _values(encoder)), _values(encoder, "more")
    values["stages"]["more"] = copy.deepcopy(values["stages"]["more"])
    values["stages"]["more"]["batch"]["rows"] = 9
    config = write_config(tmp_path / "configs" / "odd.py", values)
    line = _one_line(capsys, f"--config={config}", f"--workdir={tmp_path / 'run'}", f"--branch_from={source.path}")
    assert "config.stages.more.batch.rows" in line and not (tmp_path / "run").exists()


def test_tasks_that_a_later_stage_brings_would_have_been_asked_before(encoder, tmp_path):
    world = {"test": 30, "train": 30, "tasks": 10}
    source = _ended(tmp_path / "source", _values(encoder, world=world))
    values = _values(encoder, "more", world=world)
    assert begins(source.path, Workdir(tmp_path / "run"), run_config(values))
    values["stages"]["more"] = values["stages"]["more"] | {"sources": {"world:logic": 1.0}}
    with pytest.raises(BadInput, match="a later stage trains on logic, which that run's stages were not asked; run"):
        begins(source.path, Workdir(tmp_path / "run"), run_config(values))


def test_a_branch_is_not_finished_before_its_own_stages_are_measured(encoder, tmp_path):
    source, config = _ended(tmp_path / "source", _values(encoder)), run_config(_values(encoder, "more"))
    write_json(source / "eval" / "benchmarks" / "x.json", {})
    workdir = Workdir(tmp_path / "run")
    branch(source.path, workdir, config)
    workdir.stage_done("more", 1.0, 1)
    assert not workdir.has_ended(config) and not list((workdir / "eval").iterdir())
    write_json(workdir / "eval" / "summary.json", [])
    assert workdir.has_ended(config) and not begins(source.path, workdir, config)


def test_a_branch_of_a_branch_tells_of_both(encoder, tmp_path):
    _ended(tmp_path / "a", _values(encoder))
    for place, after, more in (("b", "a", ("more",)), ("c", "b", ("more", "again"))):
        config = run_config(_values(encoder, *more))
        if place == "c":  # it goes back to a stage that "b" had no need of, and the first run had as its last
            with pytest.raises(BadInput, match="goes back to 'pretrain'"):
                begins(tmp_path / after, Workdir(tmp_path / place), config)
            stages = {**config.stages, "again": dataclasses.replace(config.stages["again"], start_from="more")}
            config = dataclasses.replace(config, stages=stages)
        assert begins(tmp_path / after, Workdir(tmp_path / place), config)
        branch(tmp_path / after, Workdir(tmp_path / place), config)
        Workdir(tmp_path / place).stage_done("more", 1.0, 1)
        write_json(tmp_path / place / "eval" / "summary.json", [])
    found = read_json(tmp_path / "c" / "provenance.json")["branched_from"]
    assert found["stages"] == ["pretrain", "more"] and found["branched_from"]["stages"] == ["pretrain"]


def test_what_a_disk_refuses_leaves_nothing_and_says_so_once(encoder, tmp_path, monkeypatch):
    source, workdir = _ended(tmp_path / "source", _values(encoder)), Workdir(tmp_path / "run")
    monkeypatch.setattr(shutil, "copy2", _full)
    with pytest.raises(WorkFailed, match=r"could not be copied to .*: No space left on device$"):
        branch(source.path, workdir, run_config(_values(encoder, "more")))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def _full(source, target):
    raise OSError(28, os.strerror(28), target)


def test_linked_files_are_those_that_a_link_points_to(encoder, tmp_path):
    source = _ended(tmp_path / "source", _values(encoder))
    (tmp_path / "there").write_bytes(b"weights")
    source.encoder.symlink_to("../there")
    branch(source.path, Workdir(tmp_path / "a" / "run"), run_config(_values(encoder, "more")))
    copied = tmp_path / "a" / "run" / "encoder.safetensors"
    assert copied.read_bytes() == b"weights" and not copied.is_symlink()


def test_process_0_looks_and_copies_alone(encoder, tmp_path, monkeypatch):
    """What the others would wait for inside would never come: they wait for the whole."""
    source, workdir = _ended(tmp_path / "source", _values(encoder)), Workdir(tmp_path / "run")
    monkeypatch.setattr("step_audio_r1.pipeline.workdir.once", lambda *_: pytest.fail("asks the other processes"))
    config = run_config(_values(encoder, "more"))
    assert begins(source.path, workdir, config)
    branch(source.path, workdir, config)
    assert workdir.config() == config


@pytest.mark.parametrize("scale", ablations.RECIPES)
def test_every_arm_begins_where_its_parent_ends(scale, tmp_path):
    arms = {name: run_config(ablations.get_config(name, scale).to_dict()) for name in ablations.ARMS}
    for parent in {arm.parent for arm in ablations.ARMS.values()} - {None}:
        imports = scale != "miniature"  # the tokenizer that was imported has said which rows are real
        workdir = _ended(tmp_path / parent, with_real_vocab(arms[parent], 999 if imports else None))
        if imports:
            workdir.imported.mkdir()
    for name, arm in ablations.ARMS.items():
        if arm.parent:
            assert begins(tmp_path / arm.parent, Workdir(tmp_path / "new"), arms[name]), name
    with pytest.raises(BadInput, match=r"config\.stages\.distil_1\.mgrd\.filters: there \['form', 'self_"):
        begins(tmp_path / "round_1", Workdir(tmp_path / "new"), arms["no_filter"])
