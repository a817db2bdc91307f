"""Promise: hours on a pod are the compiler's time of each step, times as often as a stage takes it."""

import math

import pytest

from benchmarks.tpu.table import RESULTS
from experiments import pod_cost
from experiments.pod_cost import Machine, stage_seconds
from experiments.pod_runs import runs_of
from step_audio_r1.errors import BadInput
from step_audio_r1.files import read_json
from step_audio_r1.mgrd import contribution
from step_audio_r1.pipeline import pairs, selection


def some_machine() -> Machine:
    """Every step takes a second; a row of encode a chunk."""
    sizes = {"sft": (64, 8192), "encode": (512, None), "prefill": (64, 2048), "decode": (512, 10_240)}
    sizes |= {f"ppo_{step}": (64, 10_240) for step in ("score", "actor", "critic")}
    row = {"estimated_step_s": 1.0, "fits": True, "peak_gib": 1.0, "resident_gib": 0.0, "hbm_gib": 2.0, "mesh": {}}
    rows = {step: {**row, "rows": rows, "tokens": tokens} for step, (rows, tokens) in sizes.items()}
    return Machine("step_audio_r1", "v5p:4x4x4", rows)


def stage_of(arm: str, name: str):
    (run,) = [run for run in runs_of([arm], "33b") if run.arm == arm]
    return run.config.stages[name], run.config


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
    assert stage.select_from == ("sound:questions",) and tried == math.ceil(15_000 / 64) * 8192
    stage, run = stage_of("full", "mgrd_1_rlvr")
    tried = stage_seconds(stage, run, some_machine())["decode"] - found["decode"]
    assert tried == 2 * math.ceil(5000 / 64) * 8192


def test_several_updates_a_rollout_rate_the_old_policy_each_time():
    one, several = (stage_seconds(*stage_of(arm, "audio_rlvr"), some_machine()) for arm in ("rl_format", "rl_updates"))
    assert several["ppo_score"] - one["ppo_score"] == pytest.approx(58 * 16 * 0.5)
    assert several["ppo_actor"] == one["ppo_actor"] and several["decode"] == one["decode"]


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
    stage, run = stage_of("dpo", "dpo")
    found = stage_seconds(stage, run, some_machine())
    assert found["sft"] == pytest.approx(125 * 2) and found["ppo_score"] == pytest.approx(125 * 0.5 * 1.6)
    assert found["decode"] == 2 * 125 * 8192


def test_the_machine_is_the_smallest_on_which_all_fits():
    results = read_json(RESULTS)
    assert Machine.of("step_audio_r1").topology == "v5p:4x4x4"
    unfit = {key: {**row, "fits": row["fits"] and "4x4x4" not in key} for key, row in results.items()}
    assert Machine.of("step_audio_r1", None, unfit).topology == "v6e:8x8"
    with pytest.raises(BadInput, match=r"no topology has all steps of step_audio_r1; python -m benchmarks.tpu.table"):
        Machine.of("step_audio_r1", None, {})


def test_questions_come_to_the_decoder_as_the_stages_send_them():
    assert {selection._CHUNK, pairs._CHUNK, contribution._CHUNK} == {pod_cost.AT_ONCE}
