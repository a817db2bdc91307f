"""Promise: the plan for a pod prints commands that work, configs that train, every source, and hours that add up."""

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
from experiments.pod_cost import Machine, stage_seconds
from experiments.pod_records import needs, sources_of
from experiments.pods import check, hours_of, pod_plan, runs_of, two_digits
from experiments.sweep import Sweep
from step_audio_r1.commands.train import parse
from step_audio_r1.errors import BadInput
from step_audio_r1.files import read_json
from step_audio_r1.mgrd import contribution
from step_audio_r1.pipeline import pairs, selection

ROOT = Path(__file__).parents[2]
SWEEP = Sweep("some_arms", "a claim", "its evidence", ("full",), {}, ())
SOME = ("full", "knowledge", "structured", "rl_format")
MODELS = {"8b": "step_audio_2_mini", "33b": "step_audio_r1"}
# `train` refuses it on 64 chips: a quarter of 16 rows a chip does not divide into 16 micro-batches.
UNFIT = {"rl_updates"}


def some_machine(topology: str = "v5p:4x4x4") -> Machine:
    """Every step takes a second; a row of encode a chunk."""
    sizes = {"sft": (64, 8192), "encode": (512, None), "prefill": (64, 2048), "decode": (512, 10_240)}
    sizes |= {f"ppo_{step}": (64, 10_240) for step in ("score", "actor", "critic")}
    row = {"estimated_step_s": 1.0, "fits": True, "peak_gib": 1.0, "resident_gib": 0.0, "hbm_gib": 2.0, "mesh": {}}
    rows = {step: {**row, "rows": rows, "tokens": tokens} for step, (rows, tokens) in sizes.items()}
    return Machine("step_audio_r1", topology, rows)


def stage_of(arm: str, name: str):
    (run,) = [run for run in runs_of([arm], "33b") if run.arm == arm]
    return run.config.stages[name], run.config


@pytest.mark.parametrize("scale", MODELS)
@pytest.mark.parametrize(
    "arm", [pytest.param(a, marks=pytest.mark.xfail(a in UNFIT, strict=True, reason="see UNFIT")) for a in ARMS]
)
def test_every_arm_trains_on_the_machine_of_its_plan(arm, scale):
    for run in runs_of([arm], scale):
        check(run, Machine.of(MODELS[scale]))
    given = [f"--config={ROOT}/configs/ablations.py:{arm},{scale}", "--workdir=w"]
    assert parse(given)[0] == get_config(arm, scale).to_dict()


def test_a_machine_that_rows_do_not_divide_over_is_refused():
    with pytest.raises(BadInput, match=r"stem on v5p:3x3x3: config.stages.cold_start.batch.rows=64 does not divide"):
        pod_plan(SWEEP, ["stem"], [0], "33b", some_machine("v5p:3x3x3"))


@pytest.mark.parametrize(
    ("arms", "seeds", "scale", "said"),
    [
        (["fuller"], [0], "33b", r"--arms: no 'fuller'; there are stem, "),
        (["full"], [0], "miniature", r"--scale: no 'miniature'; there are 8b, 33b"),
        (["full"], [], "33b", "at least one"),
        ([], [0], "33b", "at least one"),
    ],
)
def test_what_cannot_be_planned_is_told(arms, seeds, scale, said):
    with pytest.raises(BadInput, match=said):
        pod_plan(SWEEP, arms, seeds, scale)


def called(plan: str, folder: Path) -> list[tuple[str, list[str]]]:
    """Runs the commands of a plan, with scripts that note what they are given and call the real ones with --dry_run."""
    commands = plan.split("\n3. COMMANDS")[1].split("\nA run that failed")[0]
    commands = commands[commands.index("\nexport ") :]
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


def test_the_commands_train_each_run_after_its_parent(tmp_path):
    seeds = [3, 5]
    calls = called(pod_plan(SWEEP, SOME, seeds, "33b"), tmp_path)
    names = [name for name, _ in calls]
    kinds = list(dict.fromkeys(names))
    assert kinds == ["step-audio-r1", "create", "watch", "setup", "launch", "logs", "delete"]
    runs = runs_of(SOME, "33b")
    assert Counter(names)["launch"] == len(seeds) * len(runs) and Counter(names)["watch"] == 1 + len(seeds) * len(runs)

    trained = {}
    for _, (verb, *flags) in [call for call in calls if call[0] == "step-audio-r1"]:
        assert verb == "convert" and flags.pop(0) == "--from_hf=/mnt/runs/Step-Audio-R1"
        config, workdir, _ = parse([flag.replace("configs/", f"{ROOT}/configs/") for flag in flags])
        assert config["order"] == runs[0].config.order
        trained[workdir] = (), config["seed"]
    assert [workdir.name for workdir in trained] == ["stem_3", "stem_5"]
    for flags in [flags for name, flags in calls if name == "launch"]:
        config, workdir, branch = parse([flag.replace("configs/", f"{ROOT}/configs/") for flag in flags])
        assert config["datasets"] == {"text": "/mnt/runs/data/text", "sound": "/mnt/runs/data/sound"}
        begun, seed = trained[branch or workdir]
        assert seed == config["seed"] and config["order"][: len(begun)] == begun
        assert workdir.parent == Path("/mnt/runs/experiments") and workdir.name.endswith(f"_{seed}")
        trained[workdir] = config["order"], seed
    assert {workdir.name for workdir in trained} == {f"{run.arm}_{seed}" for run in runs for seed in seeds}


def test_each_source_of_each_stage_is_named():
    plan = pod_plan(SWEEP, [arm for arm in ARMS if arm not in UNFIT], [0], "33b")
    records = plan.split("\n2. RECORDS")[1].split("\n3. COMMANDS")[0]
    blocks = {block.split()[0]: " ".join(block.split()) for block in records.split("\n\n")[1:]}
    read = {
        source: found[1].split(", ")
        for source, block in blocks.items()
        if (found := re.search(r"read by (.*?) - ", block))
    }
    wanted: dict[str, set[str]] = {}
    for run in runs_of(set(ARMS) - UNFIT, "33b"):
        for name, stage in run.stages:
            for source in sources_of(stage):
                if not source.startswith("chains:"):
                    wanted.setdefault(source, set()).add(name)
    assert {source: set(stages) for source, stages in read.items()} == wanted
    assert set(wanted) == {"text:examples", "sound:examples", "sound:questions", "sound:structured"}
    for name in ("text", "sound"):
        assert f"--source={name}.jsonl --prompts=step_audio --out=$SHARED/data/{name}" in records


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
    assert not found("structured")["sound:structured"].is_prepared and full["sound:questions"].is_prepared


def test_hours_of_sft_and_knowledge_are_their_steps():
    stage, run = stage_of("stem", "cold_start")
    assert stage_seconds(stage, run, some_machine()) == pytest.approx({"sft": 2000})
    stage, run = stage_of("knowledge", "mgrd_1_sft")
    # The teacher reads 64 rows of 8192 tokens: half of ppo_score, which has 10,240.
    assert stage_seconds(stage, run, some_machine()) == pytest.approx({"sft": 200, "ppo_score": 200 * 0.5 * 0.8})


def test_hours_of_rlvr_are_those_of_its_iterations_and_its_tries():
    stage, run = stage_of("stem", "text_rlvr")
    found = stage_seconds(stage, run, some_machine())
    # 1024 samples of 3000 tokens in 512 rows would be 6000 steps, but one runs to the limit. Each of 16 minibatches of
    # the critic has a row a chip, so nothing is packed; two iterations teach the critic alone and rate the actor.
    assert found == pytest.approx(
        {
            "decode": 60 * 8192,
            "prefill": 60 * 64 * 512 / (64 * 2048),
            "ppo_score": 62 * 16 * 0.5,
            "ppo_actor": 58 * 16,
            "ppo_critic": 60 * 16,
        }
    )
    stage, run = stage_of("rl_format", "audio_rlvr")
    tried = stage_seconds(stage, run, some_machine())["decode"] - found["decode"]
    assert tried == 2 * math.ceil(stage.candidates / 64) * 8192


def test_hours_of_rlvr_without_a_critic_are_those_of_packed_rows():
    stage, run = stage_of("rl_no_critic", "audio_rlvr")
    found = stage_seconds(stage, run, some_machine())
    assert pod_cost.rows_of_update(stage, run, some_machine()) == 384
    assert found["ppo_actor"] == 60 * 384 / 64 and found["ppo_score"] == 0 and "ppo_critic" not in found


def test_hours_of_a_round_are_those_of_its_filters_too():
    stage, run = stage_of("full", "distil_1")
    plain, _ = stage_of("no_filter", "distil_1")
    # Of 20,000 questions 39 calls have 512, each of 4096 samples in 512 rows, and the last 32. Of 40,000 that are tried
    # with their sound and without it 1250 calls have 64; their longest answer is 512 tokens.
    chains, answers = 39 * 8 * 3000 + 8192, 1250 * 512
    assert stage_seconds(plain, run, some_machine())["decode"] == chains + answers
    more = stage_seconds(stage, run, some_machine())["decode"] - stage_seconds(plain, run, some_machine())["decode"]
    assert more == math.ceil(3 * 20_000 / 512) * 512


def test_hours_of_dpo_are_those_of_pairs_and_longer_rows():
    stage, run = stage_of("full", "dpo")
    found = stage_seconds(stage, run, some_machine())
    assert found["sft"] == pytest.approx(125 * 2) and found["ppo_score"] == pytest.approx(125 * 0.5 * 1.6)
    assert found["decode"] == 2 * 125 * 8192


@pytest.mark.parametrize("scale", MODELS)
def test_totals_are_the_sums_of_what_stands_above_them(scale):
    machine, runs = Machine.of(MODELS[scale]), runs_of(SOME, scale)
    wanted = needs(stage for run in runs for stage in run.stages)
    hours = {run.arm: sum(sum(s.values()) for s in hours_of(run, machine, wanted).values()) / 3600 for run in runs}
    for seeds in ([0], [0, 1, 2, 3, 4]):
        plan = pod_plan(SWEEP, SOME, seeds, scale)
        total = len(seeds) * sum(hours.values())
        assert plan.count(f"{two_digits(total)} hours ({two_digits(total / 24)} days) of 64 chips") == 2
        assert plan.count(f"{two_digits(64 * total)} chip hours") == 2
        rows = [line.split() for line in plan.split("\n4. HOURS")[1].splitlines()]
        assert [row[2] for row in rows if row[:2] == ["a", "seed"]] == [two_digits(hours[run.arm]) for run in runs]
        assert [row[3] for row in rows if row[:1] == ["x"]] == [two_digits(total)]


def test_a_branch_does_not_pay_for_its_parent_again():
    machine, runs = Machine.of(MODELS["33b"]), runs_of(SOME, "33b")
    stages = [(run.arm, name) for run in runs for name in hours_of(run, machine, ())]
    assert [run.arm for run in runs] == ["stem", "round_1", "full", "knowledge", "structured", "rl_format"]
    assert ("stem", "cold_start") in stages and ("round_1", "distil_1") in stages
    assert ("full", "distil_1") not in stages and ("rl_format", "text_rlvr") not in stages
    assert [arm for arm, name in stages if name == "(clips encoded)"] == ["stem"]


def test_an_unknown_topology_has_no_hours_and_the_plan_says_how_to_make_them():
    plan = pod_plan(SWEEP, ["stem"], [0], "8b", Machine.of("step_audio_2_mini", "v5p:2x2x4"))
    assert "v5p:2x2x4: 16 chips, ACCELERATOR_TYPE=v5p-32" in plan
    assert "hours are unknown, for the table lacks sft, encode, prefill," in plan
    assert "python -m benchmarks.tpu.table --only='step_audio_2_mini/*/v5p:2x2x4'" in plan
    assert "nan" not in plan


def test_one_missing_row_leaves_the_other_hours():
    results = {key: row for key, row in read_json(RESULTS).items() if key != "step_audio_r1/decode/v5p:4x4x4"}
    plan = pod_plan(SWEEP, ["stem"], [0], "33b", Machine.of("step_audio_r1", "v5p:4x4x4", results))
    rows = {row[0]: row[1:] for row in map(str.split, plan.splitlines()) if row}
    assert rows["cold_start"][0] == "3.4" and rows["text_rlvr"][:2] == ["unknown", "unknown"]
    assert "hours are unknown, for the table lacks decode on v5p:4x4x4" in plan


def test_the_machine_is_the_smallest_on_which_all_fits():
    results = read_json(RESULTS)
    assert Machine.of("step_audio_r1").topology == "v5p:4x4x4"
    unfit = {key: {**row, "fits": row["fits"] and "4x4x4" not in key} for key, row in results.items()}
    assert Machine.of("step_audio_r1", None, unfit).topology == "v6e:8x8"
    with pytest.raises(BadInput, match=r"no topology has all steps of step_audio_r1; python -m benchmarks.tpu.table"):
        Machine.of("step_audio_r1", None, {})


def test_another_mesh_than_the_compiled_one_is_told():
    assert "decode: compiled for data 1 fsdp 64 tensor 1, run with data 1 fsdp 16 tensor 4" in pod_plan(
        SWEEP, ["stem"], [0], "8b"
    )
    assert "run with" not in pod_plan(SWEEP, ["stem"], [0], "33b")


@pytest.mark.parametrize("scale", MODELS)
def test_the_text_is_for_a_terminal_and_of_no_machine(scale):
    plan = pod_plan(SWEEP, [arm for arm in ARMS if arm not in UNFIT], [0, 1], scale)
    assert max(map(len, plan.splitlines())) <= 120 and plan.isascii()
    assert plan.count("never measured") >= 3
    for path in (ROOT, Path.home(), "/work", "/tmp", "/home"):
        assert f"{path}/" not in plan


def test_questions_come_to_the_decoder_as_the_stages_send_them():
    assert {selection._CHUNK, pairs._CHUNK, contribution._CHUNK} == {pod_cost.AT_ONCE}


def test_assumptions_are_told_with_their_numbers():
    said = " ".join(pod_cost.assumptions(Machine.of("step_audio_r1"), 512))
    for number in (pod_cost.THINKING, pod_cost.PROMPT, pod_cost.ANSWER, pod_cost.LONGEST_ANSWER, pod_cost.AT_ONCE, 512):
        assert f" {number}" in said
    assert f"{pod_cost.REACHING:.0%}" in said


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0"), (0.0123, "0.012"), (3.44, "3.4"), (9.96, "10"), (1550, "1,600"), (math.nan, "unknown")],
)
def test_numbers_have_two_digits(number, said):
    assert two_digits(number) == said
