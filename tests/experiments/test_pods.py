"""Promise: the plan for a pod prints commands that work, configs that train, every source, and hours that add up."""

import dataclasses
import importlib
import json
import math
import os
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.tpu.table import RESULTS
from configs.ablations import ARMS, get_config
from experiments import pod_cost
from experiments.format_reward.sweep import SWEEP as FORMAT_REWARD
from experiments.grounding.sweep import SWEEP as GROUNDING
from experiments.inverted_scaling.sweep import SWEEP as INVERTED_SCALING
from experiments.pod_cost import Machine
from experiments.pod_measures import ANSWERED, TRAINED
from experiments.pod_records import needs, sources_of
from experiments.pod_runs import check, runs_of
from experiments.pod_text import two_digits
from experiments.pods import hours_of, pod_plan
from experiments.run import FOLDER
from experiments.run import names as experiments
from experiments.sweep import Sweep
from step_audio_r1.commands import evaluate, prepare
from step_audio_r1.commands.train import parse
from step_audio_r1.data.manifest import QUESTIONS, TARGETS
from step_audio_r1.errors import BadInput
from step_audio_r1.files import read_json

ROOT = Path(__file__).parents[2]
MODELS = {"8b": "step_audio_2_mini", "33b": "step_audio_r1"}


def sweep_of(name: str, *arms: str) -> Sweep:
    """One of which nothing is expected."""
    return Sweep(name, "a claim", "its evidence", arms, {}, ())


STEM, EVERY = [sweep_of("one_arm", "stem")], [sweep_of("all_arms", *ARMS)]
SOME = [
    sweep_of("loop", "full", "knowledge", "structured"),
    sweep_of("reward", "rl_format"),
    sweep_of("grounding", "full"),
]
SOME_ARMS = ("full", "knowledge", "structured", "rl_format")


@pytest.mark.parametrize("scale", MODELS)
@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_trains_on_the_machine_of_its_plan(arm, scale):
    for run in runs_of([arm], scale):
        check(run, Machine.of(MODELS[scale]))
    given = [f"--config={ROOT}/configs/ablations.py:{arm},{scale}", "--workdir=w"]
    assert parse(given)[0] == get_config(arm, scale).to_dict()


def test_a_machine_that_rows_do_not_divide_over_is_refused():
    with pytest.raises(BadInput, match=r"stem on v5p:3x3x3: config.stages.cold_start.batch.rows=64 does not divide"):
        pod_plan(STEM, None, [0], "33b", dataclasses.replace(Machine.of("step_audio_r1"), topology="v5p:3x3x3"))


@pytest.mark.parametrize(
    ("arms", "seeds", "scale", "said"),
    [
        (["fuller"], [0], "33b", r"--arms: no 'fuller'; there are full, knowledge, structured, rl_format$"),
        (["full"], [0], "miniature", r"--scale: no 'miniature'; there are 8b, 33b"),
        (["full"], [], "33b", "at least one"),
        ([], [0], "33b", "at least one"),
    ],
)
def test_what_cannot_be_planned_is_told(arms, seeds, scale, said):
    with pytest.raises(BadInput, match=said):
        pod_plan(SOME, arms, seeds, scale)


def called(plan: str, folder: Path) -> list[tuple[str, list[str]]]:
    """Runs the commands of a plan, with scripts that note what they are given and call the real ones with --dry_run."""
    commands, measures = plan.split("\n4. COMMANDS")[1].split("\n5. MEASURE")
    commands = commands[commands.index("\nexport ") : commands.index("\nA run that failed")]
    commands += measures[measures.index("\nevaluate() {") : measures.index("\n- ")]
    log = folder / "calls"
    note = f'#!/usr/bin/env bash\npython3 -c "import json, sys; print(json.dumps(sys.argv[1:]))" NAME "$@" >> {log}\n'
    (folder / "tpu_scripts").mkdir()
    (folder / "bin").mkdir()
    scripts = {f"tpu_scripts/{script.name}": script for script in (ROOT / "tpu_scripts").glob("*.sh")}
    for name, real in scripts.items():
        # setup.sh wants a git checkout.
        call = "" if real.stem == "setup" else f'exec bash {real} --dry_run "$@"\n'
        (folder / name).write_text(note.replace("NAME", real.stem) + call)
        (folder / name).chmod(0o755)
    (folder / "bin" / "step-audio-r1").write_text(note.replace("NAME", "step-audio-r1"))
    (folder / "bin" / "step-audio-r1").chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-eu", "-c", commands], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [(call[0], call[1:]) for call in map(json.loads, log.read_text().splitlines())]


def flags_of(given: list[str]) -> dict[str, str]:
    return dict(flag.removeprefix("--").split("=", 1) for flag in given)


def test_the_commands_train_and_ask_each_run_after_its_parent(tmp_path):
    seeds = [3, 5]
    calls = called(pod_plan(SOME, None, seeds, "33b"), tmp_path)
    kinds = list(dict.fromkeys(flags[0] if name == "step-audio-r1" else name for name, flags in calls))
    expected = ["prepare", "convert", "create", "watch", "setup", "launch", "logs", "delete", "evaluate"]
    assert kinds == expected
    runs, names = runs_of(SOME_ARMS, "33b"), Counter(name for name, _ in calls)
    assert names["launch"] == len(seeds) * len(runs) and names["watch"] == 1 + len(seeds) * len(runs)

    prepared = [flags_of(flags[1:]) for name, flags in calls if flags[:1] == ["prepare"]]
    data = {flags["source"].removesuffix(".jsonl"): flags["out"] for flags in prepared}
    assert data == {name: f"/mnt/runs/data/{name}" for name in ("text", "sound", "structured")}
    trained = {}
    for flags in [flags[1:] for _, flags in calls if flags[:1] == ["convert"]]:
        assert flags.pop(0) == "--from_hf=/mnt/runs/Step-Audio-R1"
        config, workdir, _ = parse([flag.replace("configs/", f"{ROOT}/configs/") for flag in flags])
        assert config["order"] == runs[0].config.order
        trained[workdir] = (), config["seed"]
    assert [workdir.name for workdir in trained] == ["stem_3", "stem_5"]
    for flags in [flags for name, flags in calls if name == "launch"]:
        config, workdir, branch = parse([flag.replace("configs/", f"{ROOT}/configs/") for flag in flags])
        also = {"structured"} if workdir.name.startswith("structured") else set()
        assert config["datasets"] == {name: data[name] for name in {"text", "sound"} | also}
        begun, seed = trained[branch or workdir]
        assert seed == config["seed"] and config["order"][: len(begun)] == begun
        assert workdir.parent == Path("/mnt/runs/experiments") and workdir.name.endswith(f"_{seed}")
        trained[workdir] = config["order"], seed
    assert {workdir.name for workdir in trained} == {f"{run.arm}_{seed}" for run in runs for seed in seeds}
    asked = [flags_of(flags[1:])["workdir"] for _, flags in calls if flags[:1] == ["evaluate"]]
    assert len(asked) == len(trained) and set(map(Path, asked)) == set(trained)


def test_the_other_commands_take_the_flags_of_the_plan(tmp_path, capsys):
    calls = called(pod_plan([GROUNDING], None, [0], "33b"), tmp_path)
    mains = {"prepare": prepare.main, "evaluate": evaluate.main}
    for verb, *flags in [flags for name, flags in calls if name == "step-audio-r1" and flags[0] in mains]:
        # Nothing is there to be read: all flags are good if that is what is complained of.
        assert mains[verb](flags) == 2
        file = flags_of(flags)["source" if verb == "prepare" else "data"]
        assert f"{file}: No such file" in capsys.readouterr().err


def sweeps_there() -> dict[str, Sweep]:
    return {name: importlib.import_module(f"experiments.{name}.sweep").SWEEP for name in experiments(FOLDER)}


def test_the_plan_of_all_experiments_has_each_run_once():
    sweeps, seeds = list(sweeps_there().values()), [0, 1]
    plan = pod_plan(sweeps, None, seeds, "33b")
    arms = {arm for sweep in sweeps for arm in sweep.arms}
    runs = runs_of(arms, "33b")
    for verb in ("train", "evaluate"):
        assert Counter(re.findall(rf"^  {verb} (\w+) ", plan, re.M)) == Counter(run.arm for run in runs)
    machine = Machine.of("step_audio_r1")
    wanted = needs(stage for run in runs for stage in run.stages)
    total = sum(sum(s.values()) for run in runs for s in hours_of(run, machine, wanted).values()) / 3600
    assert f"\n{two_digits(len(seeds) * total)} hours (" in plan and plan.count("PLAN: ") == 1
    rows = {row[0]: row[1:] for row in map(str.split, plan.splitlines()) if row}
    assert set(rows) > {sweep.name for sweep in sweeps}
    assert rows["grounding"] == rows["inverted_scaling"] and rows["grounding"][1:] == ["full"]


def test_arms_narrow_the_plan_and_leave_out_experiments_without_them():
    plan = pod_plan(SOME, ["rl_format"], [0], "33b")
    assert plan.startswith("PLAN: reward, 33b") and re.findall(r"^  train (\w+) ", plan, re.M) == ["stem", "rl_format"]


def test_the_first_lines_tell_the_total_and_what_it_is_worth():
    title, *head = pod_plan([FORMAT_REWARD], None, [0, 1], "33b").splitlines()[:6]
    assert title == "PLAN: format_reward, 33b (step_audio_r1), seeds 0, 1"
    assert re.match(r"[\d,]+ hours \([\d.]+ days\) of 64 chips, [\d,]+ chip hours\.$", head[0])
    said = " ".join(head)
    for word in ("12 runs (6 a seed)", "TB", "estimates, never measured", "compiler", "assumed lengths"):
        assert word in said
    assert "measure nothing while they train; `evaluate` asks each afterwards, for the table answers" in said


def test_what_is_asked_of_a_run_is_what_is_expected_of_its_end():
    """The table that `evaluate` fills stands behind each command."""
    plan = pod_plan([FORMAT_REWARD, GROUNDING], None, [0], "33b")
    asked = dict(re.findall(r"^  evaluate (\w+) (.*)$", plan, re.M))
    assert asked["rl1_format"] == "|| break # answers" and asked["round_1"] == "|| break # no expectation looks at it"
    # What is heard instead is compared at the cold start.
    assert asked["stem"] == "--conditions=real,noise,swapped || break # gains"
    said = " ".join(plan.split("\n5. MEASURE")[1].split())
    assert "the run goes on" not in said
    assert "asked as free stay open" in said
    assert "What fills the tables iterations, summary, `train` leaves in the workdir." in said
    assert "What fills the tables attention, measures, no command finds." in said


def test_rounds_before_the_last_cannot_be_asked_afterwards():
    plan = pod_plan([INVERTED_SCALING], None, [0], "33b")
    said = " ".join(plan.split("\n5. MEASURE")[1].split())
    assert "about `full` after mgrd_1_rlvr, mgrd_2_rlvr: the run goes on" in said


def test_tables_that_answers_fill_are_those_that_read_answers():
    for sweep in sweeps_there().values():
        for table, reader in sweep.tables.items():
            kind = reader.__qualname__.partition(".")[0]
            # Of families MMAU has none.
            assert (table in ANSWERED) == (kind in ("accuracies", "gains") and table != "families")
            assert (table in TRAINED) == (kind in ("filters", "iterations", "pools", "summary"))


def test_each_source_of_each_stage_is_named_and_can_be_prepared():
    plan = pod_plan(EVERY, None, [0], "33b")
    records = plan.split("\n3. RECORDS")[1].split("\n4. COMMANDS")[0]
    blocks = {block.split()[0]: " ".join(block.split()) for block in records.split("\n\n")[1:]}
    read = {
        source: found[1].split(", ")
        for source, block in blocks.items()
        if (found := re.search(r"read by (.*?) - ", block))
    }
    wanted: dict[str, set[str]] = {}
    for run in runs_of(ARMS, "33b"):
        for name, stage in run.stages:
            for source in sources_of(stage):
                if not source.startswith("chains:"):
                    wanted.setdefault(source, set()).add(name)
    assert {source: set(stages) for source, stages in read.items()} == wanted
    assert set(wanted) == {"text:examples", "sound:examples", "sound:questions", "structured:examples"}
    for source in wanted:
        dataset, _, part = source.partition(":")
        assert part in (TARGETS, QUESTIONS)
        assert f"prepare --source={dataset}.jsonl --prompts=step_audio --out=$SHARED/data/{dataset}\n" in plan


def test_records_are_as_many_as_the_stage_that_wants_most_asks_for():
    def found(*arms: str) -> dict:
        return {need.source: need for need in needs(stage for run in runs_of(arms, "33b") for stage in run.stages)}

    full, caption = found("full"), found("cross_modal")
    assert full["sound:questions"].least == 40_000 and full["sound:questions"].why == "distil_1: candidates"
    # 2000 batches of 64 rows, a fifth of them text.
    assert full["text:examples"].least == 25_600 and full["sound:examples"].least == 102_400
    assert found("stem")["text:examples"].stages == ("cold_start", "text_rlvr")
    assert any('"caption"' in line for line in caption["sound:questions"].holds)
    assert not any('"caption"' in line for line in full["sound:questions"].holds)
    assert any('"verifier"' in line for line in full["text:examples"].holds)
    structured = found("structured")["structured:examples"]
    # 200 batches, half of them; a chain has its parts, and its sound.
    assert structured.least == 6_400 and "structured:examples" not in full
    assert any("caption, reasons and summary" in line for line in structured.holds)
    assert '"audio": a path, or several' in structured.holds


def test_studied_rlvr_tries_questions_about_sound_and_asks_all_of_text():
    arms = ("rl_format", "rl_failed")
    found = [{need.source: need for need in needs(runs_of([arm], "33b")[-1].stages)} for arm in arms]
    assert [need["sound:questions"].least for need in found] == [15_000, 40_000]
    # 60 iterations of 64 prompts, two fifths of them text.
    assert found[0]["text:examples"].why == "audio_rlvr: a new one for every prompt"
    assert found[0]["text:examples"].least == 1536


@pytest.mark.parametrize("scale", MODELS)
def test_totals_are_the_sums_of_what_stands_above_them(scale):
    machine, runs = Machine.of(MODELS[scale]), runs_of(SOME_ARMS, scale)
    wanted = needs(stage for run in runs for stage in run.stages)
    hours = {run.arm: sum(sum(s.values()) for s in hours_of(run, machine, wanted).values()) / 3600 for run in runs}
    for seeds in ([0], [0, 1, 2, 3, 4]):
        plan = pod_plan(SOME, None, seeds, scale)
        total = len(seeds) * sum(hours.values())
        assert f"{two_digits(total)} hours ({two_digits(total / 24)} days) of 64 chips, " in plan
        assert f", {two_digits(64 * total)} chip hours." in plan
        rows = [line.split() for line in plan.split("\n1. HOURS")[1].split("\nAssumed:")[0].splitlines() if line]
        of_runs = {row[0]: row for row in rows if row[0] in hours}
        assert {arm: row[2] for arm, row in of_runs.items()} == {arm: two_digits(h) for arm, h in hours.items()}
        assert [row[2] for row in rows if row[0] == "x"] == [two_digits(total)]
        alone = {"loop": ("stem", "round_1", *SOME_ARMS[:3]), "reward": ("stem", "rl_format")}
        told = {row[0]: row[1] for row in map(str.split, plan.split("\n1. HOURS")[0].splitlines()) if row}
        for name, arms in alone.items():
            assert told[name] == two_digits(len(seeds) * sum(hours[arm] for arm in arms))


def test_each_run_names_the_kinds_of_its_stages():
    plan = pod_plan(SOME, None, [0], "33b")
    rows = [line.split() for line in plan.split("\n1. HOURS")[1].split("\nAssumed:")[0].splitlines() if line]
    kinds = {row[0]: row[1] for row in rows if row[0].isdecimal()}
    said = {row[0]: [kinds[number] for number in row[4:]] for row in rows if row[0] in ARMS}
    assert said["full"] == ["mgrd_rlvr", "distil", "mgrd_sft", "mgrd_rlvr", "distil", "mgrd_sft", "mgrd_rlvr"]
    assert said["stem"] == ["142,400", "cold_start", "text_rlvr"] and said["round_1"] == ["distil", "mgrd_sft"]
    assert said["rl_format"] == ["audio_rlvr"]


def test_a_branch_does_not_pay_for_its_parent_again():
    machine, runs = Machine.of(MODELS["33b"]), runs_of(SOME_ARMS, "33b")
    wanted = needs(stage for run in runs for stage in run.stages)
    stages = [(run.arm, name) for run in runs for name in hours_of(run, machine, wanted)]
    assert [run.arm for run in runs] == ["stem", "round_1", "full", "knowledge", "structured", "rl_format"]
    assert ("stem", "cold_start") in stages and ("round_1", "distil_1") in stages
    assert ("full", "distil_1") not in stages and ("rl_format", "text_rlvr") not in stages
    # The structured chains' clips are the one dataset that the stem has not.
    encoded = [(arm, name) for arm, name in stages if name.endswith("encoded")]
    assert encoded == [("stem", "142,400 clips encoded"), ("structured", "6,400 clips encoded")]


def test_an_unknown_topology_has_no_hours_and_the_plan_says_how_to_make_them():
    plan = pod_plan(STEM, None, [0], "8b", Machine.of("step_audio_2_mini", "v5p:2x2x4"))
    assert "v5p:2x2x4: 16 chips, ACCELERATOR_TYPE=v5p-32" in plan
    assert "hours are unknown, for the table lacks sft, encode, prefill," in plan
    assert "python -m benchmarks.tpu.table --only='step_audio_2_mini/*/v5p:2x2x4'" in plan
    assert "nan" not in plan


def test_one_missing_row_leaves_the_other_hours():
    results = {key: row for key, row in read_json(RESULTS).items() if key != "step_audio_r1/decode/v5p:4x4x4"}
    plan = pod_plan(STEM, None, [0], "33b", Machine.of("step_audio_r1", "v5p:4x4x4", results))
    rows = {row[1]: row[2:] for row in map(str.split, plan.splitlines()) if row[1:]}
    assert rows["cold_start"][0] == "3.4" and rows["text_rlvr"][:2] == ["unknown", "unknown"]
    assert "hours are unknown, for the table lacks decode on v5p:4x4x4" in plan


def test_another_mesh_than_the_compiled_one_is_told():
    plan = pod_plan(STEM, None, [0], "8b")
    assert "prefill, decode: compiled for data 1 fsdp 64 tensor 1, run with data 1 fsdp 16 tensor 4: memory" in plan
    assert "run with" not in pod_plan(STEM, None, [0], "33b")


@pytest.mark.parametrize("scale", MODELS)
def test_the_text_is_for_a_terminal_and_of_no_machine(scale):
    plan = pod_plan(list(sweeps_there().values()), None, [0, 1, 2, 3, 4], scale)
    assert max(map(len, plan.splitlines())) <= 120 and plan.isascii()
    for path in (ROOT, Path.home(), "/work", "/tmp", "/home"):
        assert f"{path}/" not in plan


def test_assumptions_are_told_with_their_numbers():
    lines = pod_cost.assumptions(Machine.of("step_audio_r1"), 512)
    said, plan = " ".join(lines), pod_plan(STEM, None, [0], "33b").splitlines()
    assert all(f"- {line}" in plan for line in lines)
    for number in (pod_cost.THINKING, pod_cost.PROMPT, pod_cost.ANSWER, pod_cost.LONGEST_ANSWER, pod_cost.AT_ONCE, 512):
        assert f" {number}" in said
    assert f"{pod_cost.REACHING:.0%}" in said


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0"), (0.0123, "0.012"), (3.44, "3.4"), (9.96, "10"), (1550, "1,600"), (math.nan, "unknown")],
)
def test_numbers_have_two_digits(number, said):
    assert two_digits(number) == said
