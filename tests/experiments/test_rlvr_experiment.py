"""Promise: what RLVR gains is read off held-out answers, question by question, and carries both of its intervals."""

import json
import sys
from pathlib import Path

import pytest

from configs import rlvr
from experiments import workers
from experiments.rlvr import run
from experiments.rlvr.run import collect, table
from step_audio_r1.files import read_json, write_json, write_jsonl
from step_audio_r1.pipeline import train
from step_audio_r1.pipeline.config import run_config


def _row(stage, number, correct, **changes):
    about = {"stage": stage, "arm": "thinking", "condition": "real", "budget": None, "example_id": f"q{number}"}
    of_text = {"clip": None, "domain": "maths", "kind": "procedural", "perceptual": None}
    return {**about, **of_text, "correct": correct, **changes}


def _run(path, before, after):
    """A finished run with these scores of text questions before and after, and rows that do not count."""
    write_json(path / "provenance.json", {"git": "abc"})
    write_json(path / "stages.json", {"pretrain": {}, "cold_start": {}, "rlvr": {}})
    for stage, scores in (("cold_start", before), ("rlvr", after)):
        rows = [_row(stage, number, score) for number, score in enumerate(scores)]
        rows += [_row(stage, 90, 1.0, condition="silence"), _row(stage, 91, 1.0, budget=4), _row(stage, 92, None)]
        rows += [_row(stage, 93, 1.0, kind="describe"), _row(stage, 94, 1.0, clip="c", domain="music", perceptual=True)]
        write_jsonl(path / "eval" / "items" / f"{stage}.jsonl", rows)
    return path


def test_gains_are_paired_by_question_within_and_over_seeds(tmp_path):
    runs = {
        0: _run(tmp_path / "0", [0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]),
        1: _run(tmp_path / "1", [0.0, 0.0, 1.0, 1.0], [1.0, 0.0, 1.0, 1.0]),
    }
    rows, gains = collect(runs)
    after = {(row["seed"], row["group"]): row for row in rows if row["stage"] == "rlvr"}
    assert (after[0, "text"]["accuracy"], after[1, "text"]["accuracy"]) == (1.0, 0.75)
    assert after[0, "text"]["gain"] == 0.5 and after[0, "text"]["n"] == 4 and after[0, "all"]["n"] == 5
    assert after[0, "text"]["gain_low"] <= 0.5 <= after[0, "text"]["gain_high"]
    assert all(row["gain"] is None for row in rows if row["stage"] == "cold_start")
    gain = next(row for row in gains if row["group"] == "text")
    assert gain["gain"] == 0.375 and gain["seeds"] == 2 and gain["n"] == 4
    # t(1, .975) = 12.706; the two gains are .125 from their mean.
    assert gain["seeds_high"] - gain["gain"] == pytest.approx(12.706 * 0.125, abs=1e-3)
    assert "| rlvr | thinking | text | 4 | +37.5 |" in table(gains)
    assert next(row["gain"] for row in gains if row["group"] == "sound, perceptual") == 0.0


def test_one_seed_has_no_interval_over_seeds(tmp_path):
    _, gains = collect({3: _run(tmp_path, [0.0], [1.0])})
    assert gains[0]["seeds_low"] is None and "|  |" in table(gains)


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """Flags of the command for two finished runs, whose training is a program that ends well."""
    for seed in (0, 1):
        _run(tmp_path / f"rlvr_{seed}", [0.0, 1.0], [1.0, 1.0])
    monkeypatch.setattr(run, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(workers, "COMMAND", (sys.executable, "-c", ""))
    return ["--seeds=2", f"--runs={tmp_path}"]


def test_one_command_writes_all_results(finished, capsys):
    assert run.main(finished) == 0
    for name, last in (("rlvr", "gain_high"), ("rlvr_gains", "seeds_high")):
        committed = Path(run.__file__).parent / "results" / f"{name}.csv"
        ours, theirs = (path.read_text().splitlines()[0] for path in (run.RESULTS / f"{name}.csv", committed))
        assert ours == theirs and ours.endswith(f",{last}")
    assert "| rlvr | thinking | text | 2 | +50.0 |" in capsys.readouterr().out


def test_a_dry_run_prints_the_commands(finished, capsys):
    assert run.main([*finished, "--dry_run"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("step-audio-r1 train --config=configs/rlvr.py --workdir=") and second.endswith("seed=1")
    assert not run.RESULTS.exists()


def test_a_failing_run_is_named(finished, monkeypatch, capsys):
    program = "import sys; sys.exit('rlvr_1' in str(sys.argv))"
    monkeypatch.setattr(workers, "COMMAND", (sys.executable, "-c", program))
    assert run.main(finished) == 1
    assert "failed: rlvr_1: " in capsys.readouterr().err and not run.RESULTS.exists()
    assert run.main(["--seeds=none"]) == 2


@pytest.mark.slow
def test_the_config_runs_through_all_its_stages(tmp_path):
    config = rlvr.get_config()
    config.model.decoder.update({"d_model": 32, "layers": 1, "heads": 2, "kv_heads": 1, "head_dim": 16, "ffn": 48})
    config.model.adaptor_hidden = 32
    config.world.update({"train": 60, "test": 30, "validation": 0, "tasks": 100})
    config.evaluation.update({"questions": 42, "describe": 4, "max_new_tokens": 12})
    for stage in config.stages.values():
        if stage.kind == "sft":
            stage.update({"steps": 4})
            stage.batch.update({"rows": 8})
        else:
            stage.update({"iterations": 3, "prompts": 6, "samples": 4, "sampling": {"max_new_tokens": 12}})
    config.stages.pretrain.evaluate = config.stages.text_rlvr.evaluate = "nothing"
    config.stages.rlvr.update({"candidates": 10, "strategy": "failed"})
    train(run_config(config.to_dict()), tmp_path / "run")
    counts = read_json(tmp_path / "run" / "rollouts" / "rlvr" / "pass_at_k-world-logic.json")
    assert counts["tried"] == 10 and counts["kept"] == counts["solved"][0]
    rows, _ = collect({0: tmp_path / "run"})
    assert {row["group"] for row in rows} >= {"all", "text", "sound", "maths", "logic", "code", "dialogue"}
    assert json.dumps(rows)
