"""Promise: the report shows every arm that was measured, and says of a branch and of a pool what they are."""

import re

import pytest
from fixture import put, put_lines, result
from test_report_page import rendered

from step_audio_r1.report.tables import accuracy_table, conditions_table
from step_audio_r1.report.workdir import read_workdir


@pytest.fixture
def workdir(tmp_path):
    put(tmp_path / "config.json", {"name": "tiny", "seed": 3, "order": ["rl"], "stages": {"rl": {"kind": "rlvr"}}})
    rows = []
    for arm, score in (("majority_12", 0.8), ("thinking", 0.6), ("majority_4", 0.7), ("free", 0.65), ("direct", 0.5)):
        chains = {} if arm == "direct" else {"grounded_share": 0.4, "mean_think_tokens": 9.0}
        rows.append(result("rl", 1, arm, "all", 600, score, **chains))
        if not arm.startswith("majority"):
            rows.append(result("rl", 1, arm, "all", 600, score / 2, condition="silence"))
    put(tmp_path / "eval" / "summary.json", rows)
    return tmp_path


def test_every_arm_has_its_row_and_votes_stand_in_their_order(workdir):
    table = accuracy_table(read_workdir(workdir))
    assert [cells[1] for cells in table.rows] == ["direct", "thinking", "free", "majority of 4", "majority of 12"]
    assert [cells[4].split()[0] for cells in table.rows] == ["50.0", "60.0", "65.0", "70.0", "80.0"]
    assert "an answer at once is no chain" in table.note and "the length is that of all N" in table.note
    silenced = conditions_table(read_workdir(workdir))
    assert [cells[1] for cells in silenced.rows] == ["direct", "thinking", "free"]
    assert [cells[3].split()[0] for cells in silenced.rows] == ["25.0", "30.0", "32.5"]
    page = rendered(workdir)
    assert "majority of 12" in page.text and page.open == []


def test_what_is_said_of_chains_is_of_one_group_of_questions(workdir):
    """A model that is free to think may do so about content alone: its perceptual answers then have no chains."""
    about = {"claim_precision": 0.9, "surrogate_share": 0.1, "grounded_share": 0.8, "mean_think_tokens": 3.0}
    rows = [result("rl", 1, "free", "perceptual", 60, 0.5, mean_think_tokens=0.0)]
    put(workdir / "eval" / "summary.json", [*rows, result("rl", 1, "free", "all", 90, 0.6, **about)])
    (cells,) = accuracy_table(read_workdir(workdir)).rows
    assert cells[-4:] == ["–", "–", "–", "0.0"]


def test_arms_that_were_not_measured_are_not_spoken_of(workdir):
    put(workdir / "eval" / "summary.json", [result("rl", 1, arm, "all", 9, 0.5) for arm in ("thinking", "direct")])
    table = accuracy_table(read_workdir(workdir))
    assert [cells[1] for cells in table.rows] == ["direct", "thinking"]
    assert "ree:" not in table.note and "ajority" not in table.note


def test_odd_names_of_arms_do_not_break_the_page(workdir):
    rows = [result("rl", 1, arm, "all", 9, 0.5) for arm in ("majority_", "majority_" + "9" * 5000, "<b>", None, 7)]
    put(workdir / "eval" / "summary.json", rows)
    assert rendered(workdir).open == []


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (3, "9 questions tried, 5 suitable (moderate: filled bars), 3 of them kept."),
        (5, "9 questions tried, 5 kept (moderate: filled bars)."),
    ],
)
def test_a_pool_smaller_than_what_suits_is_told(workdir, kept, said):
    name = "rollouts/rl/pass_at_k-world-questions"
    put_lines(workdir / f"{name}.jsonl", [{"example_id": f"q{n}", "correct": n, "k": 8} for n in range(9)])
    about = {"source": "world:questions", "strategy": "moderate", "pass_range": [2, 6], "k": 8, "kept": kept}
    put(workdir / f"{name}.json", about)
    assert said in re.sub(r"\s+", " ", rendered(workdir).text)


def test_a_branch_tells_what_it_begins_after(workdir):
    command = ["step-audio-r1", "train", "--config=configs/ablations.py:stem", "--workdir=runs/stem_0"]
    put(workdir / "provenance.json", {"branched_from": {"git": "a", "command": command, "stages": ["pretrain"]}})
    text = rendered(workdir).text
    assert "begun after" in text and "configs/ablations.py:stem" in text
    put(workdir / "provenance.json", {"branched_from": "odd"})
    assert "begun after" not in rendered(workdir).text
