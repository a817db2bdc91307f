"""Promise: every comparison arm of MGRD runs through, and its rounds train on what its name says."""

import json
from pathlib import Path

import pytest

from step_audio_r1.data.store import Dataset
from tests.pipeline.tiny_run import finish

CONFIG = Path(__file__).with_name("tiny_arms.py")


def _kept(workdir: Path, number: int) -> list:
    return list(Dataset(workdir / "chains" / f"round_{number:02d}").examples("kept"))


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["cross_modal", "knowledge"])
def test_a_text_teacher_writes_the_chains_from_captions(arm, tmp_path):
    finish(tmp_path / "run", f"{CONFIG}:{arm}")
    for number in (1, 2):
        kept = _kept(tmp_path / "run", number)
        assert kept and all(example.clips for example in kept)
        for example in kept:
            assert example.provenance["replaces_sound"]
            assert example.provenance["prompt"].startswith(f"caption : {example.caption} . ")
    losses = [json.loads(row) for row in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert any("knowledge/kl" in row for row in losses) == (arm == "knowledge")


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["direct_sft", "structured"])
def test_arms_without_distillation_write_no_chains(arm, tmp_path):
    finish(tmp_path / "run", f"{CONFIG}:{arm}")
    assert not (tmp_path / "run" / "chains").exists()
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    sources = config["stages"]["mgrd_2_sft"]["sources"]
    assert ("world:audio_structured" in sources) == (arm == "structured")
    assert not any(name.startswith("chains:") for name in sources)


@pytest.mark.slow
def test_self_distillation_asks_about_the_model_and_trains_on_what_it_kept(tmp_path):
    finish(tmp_path / "run", f"{CONFIG}:self_distilled")
    kept = _kept(tmp_path / "run", 4)
    assert kept and {example.domain for example in kept} == {"identity"}
    for example in kept:
        assert example.clips
        assert example.provenance["prompt"] == example.messages[-1].parts[-1].text
    rows = [json.loads(row) for row in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["stage"] == "self_sft"
