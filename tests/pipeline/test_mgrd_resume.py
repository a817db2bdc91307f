"""Promise: killed in any phase of any round of MGRD, the same command ends with the same bits."""

from pathlib import Path

import pytest

from tests.pipeline.tiny_run import ended, exists, finish, kill_at, logged, results

# In the order in which a run meets them; each stays true.
MOMENTS = {
    "the cold start is kept for the second round": exists("kept/text_rlvr"),
    "questions are tried without their sound": exists("chains/round_01/parts/contribution-*"),
    "chains are being sampled": exists("chains/round_01/parts/part-*"),
    "likelihoods without the sound": exists("chains/round_01/parts/counterfactual-*"),
    "the round is written": exists("chains/round_01/summary.json"),
    "SFT on its chains": logged("mgrd_1_sft", 1),
    "its RLVR": logged("mgrd_1_rlvr", 1),
    "the second round": exists("chains/round_02/parts/part-*"),
    "SFT from the cold start again": logged("mgrd_2_sft", 1),
    "the last evaluation": ended("mgrd_2_rlvr"),
}

CONFIG = Path(__file__).with_name("tiny_arms.py")


@pytest.mark.slow
def test_killed_in_every_phase_of_the_loop_equals_uninterrupted(tmp_path):
    finish(tmp_path / "whole", CONFIG)
    expected = results(tmp_path / "whole")
    killed = tmp_path / "killed"
    missed = [name for name, reached in MOMENTS.items() if not kill_at(killed, reached, CONFIG)]
    assert not missed, f"the run ended before it could be killed at: {missed}"
    finish(killed, CONFIG)
    found = results(killed)
    assert not list(killed.rglob(".*.tmp")), "a kill left half a file behind"
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == value, f"{name} differs after {len(MOMENTS)} kills"
