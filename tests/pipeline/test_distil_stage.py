"""Promise: a round that cannot go on says why before hours are spent, and one that keeps too few shows the reasons."""

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest

from configs.ablations import get_config
from step_audio_r1.audio import AudioClip
from step_audio_r1.data.store import ClipReader, DatasetWriter
from step_audio_r1.errors import BadInput
from step_audio_r1.pipeline import distil, run_config
from step_audio_r1.pipeline.distil import check_distil, run_distil

SUMMARY = {
    "sampled": 96,
    "kept": 7,
    "filters": [
        {"name": "form", "seen": 96, "kept": 40, "reasons": {"truncated": 50, "looping": 6}},
        {"name": "claims", "seen": 40, "kept": 7, "reasons": {"false percept": 33}},
    ],
}
ENDPOINT = {"base_url": "http://localhost:1/v1", "model": "judge", "api_key_env": "KEY_THAT_IS_NOT_SET"}


def _config(**changes):
    values = get_config().to_dict()
    stage = values["stages"]["distil_1"]
    for path, value in changes.items():
        place, *names = stage, *path.split("__")
        for name in names[:-1]:
            place = place[name]
        place[names[-1]] = value
    return run_config(values).stages["distil_1"]


def test_too_few_chains_end_the_run_with_the_table_of_reasons(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(distil, "run_round", lambda *_, **__: SUMMARY)
    engine = SimpleNamespace(decode_params=lambda params: params)
    run = SimpleNamespace(engine=engine, tokenizer=None, store=None, clips=None, source=lambda _: [])
    run.workdir = SimpleNamespace(chains=lambda number: tmp_path, acoustics=tmp_path)
    run.config = SimpleNamespace(format="think", stages={})
    run.encode_clip = None
    goodput = SimpleNamespace(spending=lambda _: contextlib.nullcontext())
    context = SimpleNamespace(
        run=run, name="distil_1", seed=0, global_start=0, supervisor=SimpleNamespace(goodput=goodput)
    )
    context.seed_for = lambda purpose: 0
    stage = _config(mgrd__min_kept=8, mgrd__filters=("form", "claims"))
    with pytest.raises(BadInput, match=r"^config\.stages\.distil_1\.mgrd\.min_kept=8: 7 of 96 chains passed"):
        run_distil(stage, context, {})
    header, form, claims = capsys.readouterr().err.splitlines()
    assert header.split() == ["filter", "seen", "kept", "dropped", "for"]
    assert form.split(maxsplit=3) == ["form", "96", "40", "truncated 50, looping 6"]
    assert claims.split(maxsplit=3) == ["claims", "40", "7", "false percept 33"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mgrd__filters": ("form", "judge")}, r"stages\.distil_1: judge: mgrd\.filters names the judge"),
        ({"contribution__by": "endpoint"}, r"stages\.distil_1: text_model: contribution\.by='endpoint'"),
        ({"contribution__max_right_without": 2.0}, r"stages\.distil_1\.contribution\.max_right_without=2\.0"),
        ({"mgrd__min_judge_points": 6}, r"stages\.distil_1\.mgrd\.min_judge_points=6"),
    ],
)
def test_settings_that_cannot_work_are_named(changes, message):
    with pytest.raises(BadInput, match=message):
        _config(**changes)


def test_a_missing_prompt_or_key_is_told_before_anything_runs(tmp_path):
    files = {"mgrd__prompt_files": {"en": str(tmp_path / "none.txt")}, "mgrd__listen": (), "mgrd__prompt": "{question}"}
    with pytest.raises(BadInput, match=r"config\.stages\.distil_1\.mgrd\.prompt_files\.en: .*none\.txt cannot be read"):
        check_distil(_config(**files), "distil_1")
    judged = _config(judge={"endpoint": ENDPOINT}, mgrd__filters=("form", "judge"))
    with pytest.raises(BadInput, match=r"config\.stages\.distil_1\.judge: .*KEY_THAT_IS_NOT_SET"):
        check_distil(judged, "distil_1")
    with pytest.raises(BadInput, match=r"config\.stages\.distil_1\.reward\.judge: .*KEY_THAT_IS_NOT_SET"):
        check_distil(_config(reward={"judge": ENDPOINT}), "distil_1")
    check_distil(_config(), "distil_1")


def test_clips_are_read_by_name_from_whatever_dataset_has_them(tmp_path):
    for name in ("one", "two"):
        writer = DatasetWriter(tmp_path / name)
        writer.write_clips([AudioClip(np.full(800, 0.25, np.float32), 16000, f"{name}-{i}") for i in range(3)])
        writer.finish()
    read = ClipReader((tmp_path / "one", tmp_path / "two"))
    assert read("two-1").id == "two-1" and read("one-2").id == "one-2"
    with pytest.raises(LookupError, match="no dataset has the clip 'three-0'"):
        read("three-0")
