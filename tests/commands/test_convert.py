"""Promise: a run comes back from the public layout byte for byte, and can be asked, exported and trained on."""

import json

import jax
import numpy as np
from tiny_runs import tiny_config, write_config

from step_audio_r1.commands import convert, train
from step_audio_r1.files import read_json
from step_audio_r1.pipeline import newest_params


def leaves(workdir):
    run, params = newest_params(workdir)
    tree = {"encoder": run.encoder_params, **params}
    return {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(tree)}


def exported(workdir, out):
    assert convert.main([f"--workdir={workdir}", f"--to_hf={out}", "--dtype=float32"]) == 0
    return out


def test_out_and_in_again_gives_the_same_parameters_byte_for_byte(tiny_run, tmp_path):
    public = exported(tiny_run[1], tmp_path / "public")
    assert convert.main([f"--from_hf={public}", f"--workdir={tmp_path / 'run'}"]) == 0
    ours, back = leaves(tiny_run[1]), leaves(tmp_path / "run")
    assert ours.keys() == back.keys()
    for name, value in ours.items():
        assert value.dtype == back[name].dtype and value.tobytes() == back[name].tobytes(), name
    twice = exported(tmp_path / "run", tmp_path / "twice")
    assert (twice / "model.safetensors").read_bytes() == (public / "model.safetensors").read_bytes()
    assert (twice / "tokenizer.json").read_bytes() == (tiny_run[1] / "tokenizer.json").read_bytes()


def test_a_config_trains_on_from_the_imported_parameters(tiny_run, tmp_path, capsys):
    public = exported(tiny_run[1], tmp_path / "public")
    config = tiny_config(tiny_run[0].parent / "encoder.safetensors")
    sft = config["stages"]["pretrain"]
    stages = {"imported": {**sft, "steps": 0}, "sft": {**sft, "steps": 1}}
    file = write_config(tmp_path / "more.py", {**config, "order": ("imported", "sft"), "stages": stages})
    workdir = tmp_path / "run"
    assert convert.main([f"--from_hf={public}", f"--workdir={workdir}", f"--config={file}"]) == 0
    before = leaves(workdir)
    assert train.main([f"--config={file}", f"--workdir={workdir}"]) == 0
    assert read_json(workdir / "stages.json")["sft"]["done"]
    assert any(not np.array_equal(x, before[name]) for name, x in leaves(workdir).items())


def test_bad_checkpoints_and_places_are_refused_in_one_line(tiny_run, tmp_path, refused):
    public = exported(tiny_run[1], tmp_path / "public")
    workdir = tmp_path / "new"
    assert "not empty" in refused(convert.main, f"--from_hf={public}", f"--workdir={tiny_run[1]}")
    assert str(public) in refused(convert.main, f"--workdir={tiny_run[1]}", f"--to_hf={public}")
    assert "not a workdir" in refused(convert.main, f"--workdir={tmp_path}", f"--to_hf={workdir}")
    wrong = refused(convert.main, f"--from_hf={public}", f"--workdir={workdir}", f"--config={tiny_run[0]}")
    assert "config.order" in wrong and "'imported'" in wrong
    sizes = json.loads((public / "config.json").read_text())
    (public / "config.json").write_text(json.dumps({**sizes, "intermediate_size": 48}))
    assert "shape" in refused(convert.main, f"--from_hf={public}", f"--workdir={workdir}")
    (public / "config.json").write_text(json.dumps(sizes))
    weights = public / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "model.safetensors" in refused(convert.main, f"--from_hf={public}", f"--workdir={workdir}")
    (public / "tokenizer.json").unlink()
    assert "tokenizer" in refused(convert.main, f"--from_hf={public}", f"--workdir={workdir}")
    assert not workdir.exists() and sorted(p.name for p in tmp_path.iterdir()) == ["public"]
