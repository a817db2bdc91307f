"""Promise: the sweeps of RLVR on sound read what a run has written, and their contrasts name what is there."""

import csv
import json
from pathlib import Path

import pytest

from configs.ablations import ARMS, lineage
from experiments.audio_rlvr import COLD_START, FIRST_ROUND, STAGE
from experiments.critic.sweep import SWEEP as CRITIC
from experiments.data_selection.pools import pools
from experiments.data_selection.sweep import SWEEP as DATA_SELECTION
from experiments.format_reward.sweep import SWEEP as FORMAT_REWARD
from experiments.iterations import UPDATES, iterations, summary
from experiments.sweep import judge
from step_audio_r1.data.records import Example
from step_audio_r1.data.store import DatasetWriter
from step_audio_r1.errors import BadInput
from step_audio_r1.files import write_json, write_jsonl
from step_audio_r1.text import Message, Text

SWEEPS = (FORMAT_REWARD, DATA_SELECTION, CRITIC)
CURVES = Path(__file__).parents[2] / "experiments" / "paper" / "curves.csv"
ITERATIONS = 25
# How often each question of a family was solved of 8, and which were kept.
SOLVED = {"feel": [3, 6, 8], "peak": [0, 4]}
KEPT = {"feel": [3], "peak": [4]}


def metrics(iteration: int) -> dict:
    """A row as `train` writes it; the actor rests in the first two iterations."""
    row = {"step": 100 + iteration, "stage": STAGE, "stage_step": iteration, "reward/total": 0.5}
    row |= {f"reward/{name}_{kind}": 0.01 * iteration for name in ("total", "correct") for kind in ("audio", "text")}
    row |= {"reward/format_audio": 1 / 3, "reward/format_text": 1.0, "ppo/entropy": float("nan")}
    row |= {
        "rollout/think_tokens_audio": 30.0 - iteration,
        "rollout/think_tokens_text": 12.0,
        "rollout/new_tokens": 20.0,
    }
    row |= dict.fromkeys(UPDATES.values(), 0.25) | {"time/update_s": 60.0 if iteration == 1 else 2.0}
    if iteration <= 2:
        del row["ppo/grad_norm"]
    return row


def answer(stage: str, asked: str, family: str, perceptual: bool) -> dict:
    """A row of eval/items."""
    about = {"stage": stage, "round": 0, "arm": asked, "budget": None, "condition": "real", "family": family}
    about |= {"example_id": f"{family}-1", "domain": "speech", "kind": "factual", "perceptual": perceptual}
    think = "" if asked == "direct" else "hear high"
    shares = {"grounded": 0.0, "claim_precision": 1.0, "surrogate": 0.0, "self_cognition": False}
    return about | shares | {"correct": float(perceptual), "think": think, "think_tokens": len(think.split())}


def example(family: str, number: int, solved: int) -> Example:
    said = (Message("user", (Text("what ?"),)),)
    about = {"family": family, "perceptual": True, "provenance": {"solved": solved, "of": 8}}
    return Example(f"{family}-{number}", said, None, None, "yes", ("yes", "no"), "factual", "audio", "speech", **about)


def write_selection(folder: Path) -> None:
    """The records of what was tried and kept."""
    histograms = {name: [solved.count(n) for n in range(9)] for name, solved in SOLVED.items()}
    about = {"source": "world:questions", "strategy": "moderate", "pass_range": [3, 6], "k": 8, "families": histograms}
    write_json(folder / "pass_at_k-world-questions.json", about)
    writer = DatasetWriter(folder / "selected-world-questions")
    kept = [example(name, i, n) for name, solved in KEPT.items() for i, n in enumerate(solved)]
    writer.write_examples("selected", kept)
    writer.finish()


@pytest.fixture
def workdir(tmp_path) -> Path:
    """A finished run's records, of a run that went through the first round as well."""
    rows = [{"step": 9, "stage": "pretrain", "stage_step": 9, "train/loss": 1.0}]
    write_jsonl_with_nan(tmp_path / "metrics.jsonl", rows + [metrics(i) for i in range(1, ITERATIONS + 1)])
    (tmp_path / "rollouts" / STAGE).mkdir(parents=True)
    write_selection(tmp_path / "rollouts" / STAGE)
    (tmp_path / "eval" / "items").mkdir(parents=True)
    for stage in (COLD_START, FIRST_ROUND, STAGE):
        asked = ("direct", "thinking", "free")
        rows = [answer(stage, how, *what) for how in asked for what in (("feel", True), ("nth", False))]
        write_jsonl(tmp_path / "eval" / "items" / f"{stage}.jsonl", rows)
    return tmp_path


def write_jsonl_with_nan(path: Path, rows: list[dict]) -> None:
    """As metrics are written, which may be no numbers."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def as_read(rows: list[dict], **about: object) -> list[dict[str, str]]:
    """Rows as they come back from a CSV file."""
    return [{name: "" if value is None else str(value) for name, value in (about | row).items()} for row in rows]


def test_an_iteration_is_a_row_of_few_digits(workdir):
    rows = iterations(STAGE)(workdir)
    assert [row["iteration"] for row in rows] == list(range(1, ITERATIONS + 1))
    assert rows[2]["format_audio"] == 0.3333
    assert (rows[2]["think_tokens_audio"], rows[2]["think_tokens_text"]) == (27.0, 12.0)
    assert rows[2]["entropy"] is None, "what is no number is an empty cell"
    updates = iterations(STAGE, UPDATES)(workdir)
    assert [row["grad_norm"] for row in updates[:3]] == [None, None, 0.25]


def test_a_summary_has_the_means_of_both_ends(workdir):
    (row,) = summary(STAGE)(workdir)
    assert row["iterations"] == ITERATIONS
    assert row["think_tokens_audio_start"] == 29.0
    assert row["think_tokens_audio_first"] == pytest.approx(30 - 5.5)
    assert row["think_tokens_audio_last"] == pytest.approx(30 - 20.5)
    assert row["correct_audio_last"] == pytest.approx(0.205)
    assert row["grad_norm_first"] == 0.25, "iterations without the metric do not count"
    assert row["entropy_last"] is None
    assert row["update_s"] == 2.0, "the first iteration compiles"


@pytest.mark.parametrize("reader", [iterations("mgrd_1_rlvr"), summary("mgrd_1_rlvr"), pools("mgrd_1_rlvr")])
def test_a_stage_that_is_not_there_is_named(workdir, reader):
    with pytest.raises(BadInput, match="mgrd_1_rlvr"):
        reader(workdir)


def test_pools_tell_families_and_difficulty(workdir):
    rows = {row["family"]: row for row in pools(STAGE)(workdir)}
    assert list(rows) == ["all", "feel", "peak"]
    counts = {name: (row["tried"], row["suitable"], row["kept"]) for name, row in rows.items()}
    assert counts == {"all": (5, 3, 2), "feel": (3, 2, 1), "peak": (2, 1, 1)}
    assert rows["all"]["rate"] == pytest.approx(21 / 40)
    assert rows["all"]["kept_rate"] == pytest.approx(7 / 16)
    assert rows["peak"]["kept_rate"] == 0.5


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda sweep: sweep.name)
def test_every_cell_of_every_contrast_is_one_number_of_a_run(workdir, sweep):
    """One number of each seed: neither a column or value that is not there, nor several rows."""
    tables: dict[str, list] = {name: [] for name in sweep.tables}
    for arm in sweep.arms:
        after_round_1 = "round_1" in lineage(arm)
        for name, reader in sweep.tables.items():
            rows = [row for row in reader(workdir) if after_round_1 or row.get("stage") != FIRST_ROUND]
            for seed in (0, 1):
                tables[name] += as_read(rows, arm=arm, seed=seed)
    for contrast in sweep.contrasts:
        assert judge(contrast, tables).seeds == (0, 1), contrast.name


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda sweep: sweep.name)
def test_a_sweep_says_what_decides_and_names_arms_that_exist(sweep):
    names = [contrast.name for contrast in sweep.contrasts]
    assert len(set(names)) == len(names)
    assert set(sweep.arms) <= set(ARMS)
    assert set(sweep.labels) == set(sweep.arms)
    deciding = [contrast for contrast in sweep.contrasts if contrast.decides]
    assert deciding
    assert all(contrast.expected for contrast in deciding)
    assert {cell.where["arm"] for c in sweep.contrasts for cell in (*c.plus, *c.minus)} == set(sweep.arms)


def test_every_page_has_its_marks():
    for sweep in SWEEPS:
        page = (CURVES.parents[1] / sweep.name / "README.md").read_text()
        assert page.index("<!-- results -->") < page.index("<!-- /results -->") < page.index("## Verdict")


def test_the_papers_curves_have_the_means_of_the_digest():
    rows = list(csv.DictReader(CURVES.read_text().splitlines()))
    assert [int(row["iteration"]) for row in rows] == list(range(59))
    ends = {
        "fmt_reward": (0.595, 0.762),
        "nofmt_reward": (0.433, 0.797),
        "fail_reward": (0.477, 0.713),
        "fmt_tokens": (3121, 2483),
        "nofmt_tokens": (3009, 1649),
        "fail_tokens": (3052, 2064),
    }
    assert list(rows[0]) == ["iteration", *ends]
    for name, (first, last) in ends.items():
        values = [float(row[name]) for row in rows]
        off = 0.0006 if name.endswith("reward") else 0.6
        assert (sum(values[:10]) / 10, sum(values[-10:]) / 10) == pytest.approx((first, last), abs=off), name
