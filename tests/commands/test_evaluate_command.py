"""Promise: `evaluate` scores a run or a file of predictions alike, and counts what is missing as wrong."""

import json

import pytest
from tiny_runs import write_jsonl

from step_audio_r1.commands import evaluate
from step_audio_r1.data.store import Dataset
from step_audio_r1.files import read_json, read_jsonl

KEYS = ["benchmark", "version", "n", "official", "robust", "coverage", "strict", "ci95", "groups"]


@pytest.fixture(scope="module")
def data(tiny_run):
    return tiny_run[1] / "data" / "world" / "test"


@pytest.fixture(scope="module")
def questions(data):
    return list(Dataset(data).examples("questions"))


def scored(capsys, *flags):
    assert evaluate.main(["--benchmark=world", *flags, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_run_and_its_own_outputs_score_the_same(tiny_run, data, questions, tmp_path, capsys):
    run = scored(capsys, f"--data={data}", f"--workdir={tiny_run[1]}", "--arm=direct", f"--out={tmp_path / 'run'}")
    assert list(run) == KEYS and run["n"] == len(questions)
    items = tmp_path / "run" / "items.jsonl"
    again = scored(capsys, f"--data={data}", f"--predictions={items}")
    assert again == run == read_json(tmp_path / "run" / "items.world" / "result.json")
    assert [row["id"] for row in read_jsonl(items)] == [q.id for q in questions]


def test_perfect_predictions_are_perfect_in_every_way_of_writing_them(data, questions, tmp_path, capsys):
    forms = ["{}", "<think>\nhigh voice\n</think>\n{}", "high voice\n</think>\n{}"]
    rows = [{"id": q.id, "output": forms[i % 3].format(q.answer.upper())} for i, q in enumerate(questions)]
    found = scored(capsys, f"--data={data}", f"--predictions={write_jsonl(tmp_path / 'p.jsonl', rows)}")
    assert found["official"] == found["robust"] == found["coverage"] == found["strict"] == 1
    assert found["ci95"][0] < found["ci95"][1] == 1
    assert sum(g["n"] for name, g in found["groups"].items() if name.startswith("family/")) == len(questions)


def test_official_and_robust_part_at_a_sentence_and_strict_counts_what_is_missing(data, questions, tmp_path, capsys):
    first, second, third, *_ = questions
    rows = [
        {"id": first.id, "output": first.answer},
        {"id": second.id, "output": f"The answer is {second.answer}."},
        {"id": third.id, "output": f"<think>\nit is {third.answer}"},
        {"id": "nobody", "output": "yes"},
    ]
    predictions = write_jsonl(tmp_path / "p.jsonl", rows)
    assert evaluate.main(["--benchmark=world", f"--data={data}", f"--predictions={predictions}"]) == 0
    out = capsys.readouterr()
    assert "'nobody'" in out.err and f"{len(questions) - 3} items have no prediction" in out.err
    found = read_json(tmp_path / "p.world" / "result.json")
    n = len(questions)
    assert found["coverage"] == pytest.approx(2 / n)
    assert found["official"] == pytest.approx(1 / 2) and found["strict"] == pytest.approx(1 / n)
    assert found["robust"] == pytest.approx(2 / n)
    assert "robust" in out.out and "family/" in out.out


def test_an_output_cut_off_at_the_length_limit_holds_no_answer(data, questions, tmp_path, capsys):
    rows = [{"id": q.id, "output": q.answer, "finish_reason": "length"} for q in questions]
    found = scored(capsys, f"--data={data}", f"--predictions={write_jsonl(tmp_path / 'p.jsonl', rows)}")
    assert found["official"] is None and found["robust"] == found["coverage"] == found["strict"] == 0
