"""Promise: a public checkpoint can be asked, trained on and written back; a broken one is refused in one line."""

import json
import math
import os
import re

import jax
import numpy as np
import pytest
import soundfile
from ml_dtypes import bfloat16
from public_checkpoints import (
    DECODER_SIZES,
    ENCODER_SIZES,
    ROWS,
    D,
    adaptor_shapes,
    decoder_shapes,
    encoder_shapes,
    random_tensors,
    write_qwen2_5,
    write_qwen2_audio,
    write_step_audio,
)
from public_tokenizer import public_tokenizer
from safetensors.numpy import load_file, save_file
from tiny_runs import write_config, write_jsonl

from configs import models
from step_audio_r1.commands import ask, convert, prepare, train
from step_audio_r1.files import read_json
from step_audio_r1.interop import from_public, read_header
from step_audio_r1.model import model_config
from step_audio_r1.parallel import make_mesh
from step_audio_r1.pipeline import newest_params
from step_audio_r1.pipeline.config import to_json
from step_audio_r1.pipeline.conversion import _config
from step_audio_r1.pipeline.workdir import Workdir
from step_audio_r1.rollout import abstract_weights
from step_audio_r1.text import Tokenizer


def stored(folder):
    """Every tensor of a checkpoint directory."""
    out = {}
    for file in folder.glob("*.safetensors"):
        out.update(load_file(file))
    return out


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert value.dtype == b[name].dtype and value.tobytes() == b[name].tobytes(), name


@pytest.fixture(scope="module")
def public(tmp_path_factory):
    return write_step_audio(tmp_path_factory.mktemp("public") / "step-audio")


@pytest.fixture(scope="module")
def workdir(public, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("imported") / "run"
    assert convert.main([f"--from_hf={public}", f"--workdir={workdir}"]) == 0
    return workdir


def sound(seconds, rate, channels):
    t = np.arange(int(seconds * rate)) / rate
    wave = 0.3 * np.sin(2 * np.pi * (200 + 40 * np.sin(t)) * t)
    return np.stack([wave * (0.5**c) for c in range(channels)], 1).astype(np.float32)


@pytest.mark.parametrize(
    "file, seconds, rate, channels",
    [
        ("a.mp3", 3, 44_100, 1),
        pytest.param("b.flac", 4, 48_000, 2, marks=pytest.mark.slow),
        pytest.param("c.wav", 180, 16_000, 1, marks=pytest.mark.slow),
    ],
)
def test_any_recording_can_be_asked_about(workdir, tmp_path, capsys, file, seconds, rate, channels):
    soundfile.write(tmp_path / file, sound(seconds, rate, channels), rate)
    flags = [f"--workdir={workdir}", f"--audio={tmp_path / file}", "--question=How does the speaker feel?"]
    assert ask.main([*flags, "--max_new_tokens=12", "--json"]) == 0
    said = capsys.readouterr()
    first = json.loads(said.out)
    assert first.keys() == {"think", "response", "answer", "status"}
    assert ask.main([*flags, "--max_new_tokens=12", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == first
    assert ask.main([*flags, "--max_new_tokens=12", "--choices=sad|glad"]) == 0
    assert capsys.readouterr().out.startswith("<think>\n")


@pytest.mark.parametrize("seconds, message", [(360, "4507 audio tokens"), (320, r"the prompt has \d{4} tokens")])
def test_a_recording_beyond_the_models_positions_is_refused(workdir, tmp_path, refused, seconds, message):
    soundfile.write(tmp_path / "long.wav", sound(seconds, 8000, 1), 8000)
    flags = [f"--workdir={workdir}", f"--audio={tmp_path / 'long.wav'}", "--question=why", "--max_new_tokens=200"]
    line = refused(ask.main, *flags)  # nothing of an answer has been printed by then
    assert "4096" in line and re.search(message, line)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("shards", [1, 3])
def test_in_and_out_again_keeps_every_byte_and_file(tmp_path, nested, shards):
    public = write_step_audio(tmp_path / "public", nested=nested, shards=shards)
    assert convert.main([f"--from_hf={public}", f"--workdir={tmp_path / 'run'}"]) == 0
    assert convert.main([f"--workdir={tmp_path / 'run'}", f"--to_hf={tmp_path / 'out'}"]) == 0
    assert_same(stored(public), stored(tmp_path / "out"))
    assert read_json(tmp_path / "out" / "config.json") == read_json(public / "config.json")
    for name in ("tokenizer.json", "tokenizer_config.json", "modeling_step_audio_2.py"):
        assert (tmp_path / "out" / name).read_bytes() == (public / name).read_bytes()
    assert from_public(tmp_path / "out" / "config.json").decoder == from_public(public / "config.json").decoder


def test_another_type_is_written_on_demand(workdir, public, tmp_path):
    assert convert.main([f"--workdir={workdir}", f"--to_hf={tmp_path / 'out'}", "--dtype=float32"]) == 0
    wide = {name: value.astype(np.float32) for name, value in stored(public).items()}
    assert_same(wide, stored(tmp_path / "out"))
    assert read_json(tmp_path / "out" / "config.json")["torch_dtype"] == "float32"


def run_config_of(workdir, **changes):
    """The imported run's config, to be trained on."""
    config = to_json(Workdir(workdir).config())
    sft = {
        "kind": "sft",
        "steps": 2,
        "batch": {"rows": 8, "tokens": 1024, "chunks": 5},
        "optimiser": {"learning_rate": 1e-3},
        "sources": {"world_test:describe": 1.0},
    }
    stages = {"imported": {**sft, "steps": 0}, "sft": sft}
    more = {"order": ["imported", "sft"], "stages": stages, "world": {"test": 8}, "checkpoint_every": 1}
    return {**config, **more, **changes}


def test_training_goes_on_from_it_and_is_written_back(workdir, public, tmp_path):
    config = write_config(tmp_path / "more.py", run_config_of(workdir))
    more = tmp_path / "run"
    assert convert.main([f"--from_hf={public}", f"--workdir={more}", f"--config={config}"]) == 0
    assert train.main([f"--config={config}", f"--workdir={more}"]) == 0
    assert convert.main([f"--workdir={more}", f"--to_hf={tmp_path / 'out'}"]) == 0
    before, after = stored(public), stored(tmp_path / "out")
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert after[name].dtype == value.dtype  # each in the type it was imported in
        same = after[name].tobytes() == value.tobytes()
        assert same == name.startswith("encoder.") or value.ndim == 1, name  # biases may move less than bfloat16 shows
    assert convert.main([f"--from_hf={tmp_path / 'out'}", f"--workdir={tmp_path / 'again'}"]) == 0


def test_a_config_of_another_model_is_refused_by_field(workdir, public, tmp_path, refused):
    wrong = run_config_of(workdir)
    wrong["model"]["decoder"]["rms_eps"] = 1e-5
    config = write_config(tmp_path / "more.py", wrong)
    line = refused(convert.main, f"--from_hf={public}", f"--workdir={tmp_path / 'run'}", f"--config={config}")
    assert "config.model.decoder.rms_eps=1e-05: the checkpoint has 1e-06" in line
    assert not (tmp_path / "run").exists()


# The synthetic checkpoint's sizes over those of the public model.
SIZES = [
    *(f"--config.model.decoder.{field}={n}" for field, n in DECODER_SIZES.items()),
    *(f"--config.model.encoder.{field}={n}" for field, n in ENCODER_SIZES.items()),
    "--config.model.name=step-audio",
    "--config.model.head_chunk=64",
]


@pytest.mark.slow
def test_the_shipped_config_fine_tunes(public, tmp_path, capsys, monkeypatch):
    soundfile.write(tmp_path / "a.wav", sound(2, 16_000, 1), 16_000)
    rows = [{"id": "1", "audio": "a.wav", "question": "who?", "think": "low", "response": "a man"}]
    source, data = write_jsonl(tmp_path / "my.jsonl", rows), tmp_path / "mine"
    assert prepare.main([f"--source={source}", "--prompts=step_audio", f"--out={data}"]) == 0
    run = ["--config=configs/finetune.py:step_audio_2_mini", f"--workdir={tmp_path / 'run'}"]
    changes = ["--config.stages.sft.steps=1", "--config.stages.sft.batch.rows=8", *SIZES]
    changes += [f"--config.datasets.mine={data}", "--config.stages.sft.batch.tokens=256"]
    assert convert.main([f"--from_hf={public}", *run, *changes]) == 0
    # Rows without a token are the tokenizer's to know, whatever the config file says of the public table.
    stored_config = read_json(tmp_path / "run" / "config.json")
    assert stored_config["model"]["decoder"]["real_vocab"] == public_tokenizer().vocab_size
    assert read_json(tmp_path / "run" / "provenance.json")["encoder"] == "imported with the model"
    assert train.main([*run, *changes]) == 0
    assert read_json(tmp_path / "run" / "stages.json")["sft"]["done"]


def test_data_worded_for_another_model_are_refused(workdir, public, tmp_path, refused):
    soundfile.write(tmp_path / "a.wav", sound(1, 16_000, 1), 16_000)
    row = {"id": "1", "audio": "a.wav", "question": "who?", "response": "a man"}
    source = write_jsonl(tmp_path / "my.jsonl", [row])
    assert prepare.main([f"--source={source}", f"--out={tmp_path / 'mine'}"]) == 0
    values = run_config_of(workdir, datasets={"mine": str(tmp_path / "mine")}, world={})
    for stage in values["stages"].values():
        stage["sources"] = {"mine:examples": 1.0}
    config = write_config(tmp_path / "more.py", values)
    run = [f"--config={config}", f"--workdir={tmp_path / 'run'}"]
    assert convert.main([f"--from_hf={public}", *run]) == 0
    line = refused(train.main, *run)
    assert "config.datasets.mine" in line and "prepare it with --prompts=step_audio" in line


def test_places_and_flags_that_make_no_sense(workdir, public, tmp_path, refused, monkeypatch, capsys):
    config = write_config(tmp_path / "more.py", run_config_of(workdir))
    line = refused(train.main, f"--config={config}", f"--workdir={tmp_path / 'none'}")
    assert "holds no imported model" in line and "convert --from_hf" in line and not (tmp_path / "none").exists()
    monkeypatch.chdir(tmp_path / "here" if (tmp_path / "here").mkdir() is None else tmp_path)
    assert "is where this command runs" in refused(convert.main, f"--from_hf={public}", "--workdir=.")
    for flags in (["--dtype=float32"], ["--tokenizer=x"], ["--seed=1"], ["--config.a=1"], ["--nonsense"]):
        with pytest.raises(SystemExit) as stopped:
            convert.main([f"--from_hf={public}", "--workdir=run", *flags])
        assert stopped.value.code == 2
    # A link to an empty directory elsewhere means that directory.
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    assert convert.main([f"--from_hf={public}", f"--workdir={tmp_path / 'link'}"]) == 0
    assert (tmp_path / "link").is_symlink() and (tmp_path / "disk" / "config.json").exists()


def test_a_lost_encoder_is_not_replaced(public, tmp_path, refused):
    assert convert.main([f"--from_hf={public}", f"--workdir={tmp_path / 'run'}"]) == 0
    (tmp_path / "run" / "encoder.safetensors").unlink()
    line = refused(ask.main, f"--workdir={tmp_path / 'run'}", "--question=why", "--json")
    assert "encoder.safetensors: is missing; convert the model again" in line
    assert not (tmp_path / "run" / "encoder.safetensors").exists()


@pytest.mark.parametrize("temperature", ["nan", "inf", "-1"])
def test_a_temperature_is_a_number(workdir, refused, temperature):
    line = refused(ask.main, f"--workdir={workdir}", "--question=why", f"--temperature={temperature}", "--json")
    assert "temperature" in line


@pytest.mark.parametrize(
    "given, tied",
    [
        (True, True),
        (False, False),
        pytest.param(True, False, marks=pytest.mark.slow),
        pytest.param(False, True, marks=pytest.mark.slow),
    ],
)
def test_a_model_from_parts(tmp_path, capsys, tied, given):
    encoder, decoder = write_qwen2_audio(tmp_path / "qwen2-audio"), write_qwen2_5(tmp_path / "qwen2.5", tied=tied)
    flags = [f"--encoder={encoder}", f"--decoder={decoder}"]
    own = Tokenizer.load(decoder)
    if given:  # somebody's extension of the decoder's own
        (tmp_path / "words").mkdir()
        own.with_special_tokens().save(tmp_path / "words" / "tokenizer.json")
        flags.append(f"--tokenizer={tmp_path / 'words'}")
    workdir = tmp_path / "run"
    assert convert.main([*flags, f"--workdir={workdir}"]) == 0
    assert convert.main([f"--workdir={workdir}", f"--to_hf={tmp_path / 'out'}"]) == 0
    parts, out = stored(decoder), stored(tmp_path / "out")
    kept = own.vocab_size
    for name, value in parts.items():
        if name in ("model.embed_tokens.weight", "lm_head.weight"):
            assert out[name].shape == (158_720, D) and out[name].dtype == bfloat16
            assert out[name][:kept].tobytes() == value[:kept].tobytes()
            fresh = out[name][kept:].astype(np.float32)
            assert abs(fresh.std() * D**0.5 - 1) < 0.01 and abs(fresh.mean()) < 1e-3
        else:
            assert out[name].tobytes() == value.tobytes(), name
    assert ("lm_head.weight" in out) == (not tied)
    for name, value in random_tensors(encoder_shapes(), 2).items():
        assert out[name].tobytes() == value.tobytes(), name
    assert {name for name in out if name.startswith("adapter.")} == set(adaptor_shapes())
    config = from_public(tmp_path / "out" / "config.json")
    assert (config.decoder.tied, config.decoder.real_vocab) == (tied, kept + 5)
    # The same command makes the same bytes; another seed makes others.
    assert convert.main([*flags, f"--workdir={tmp_path / 'again'}"]) == 0
    assert convert.main([*flags, f"--workdir={tmp_path / 'other'}", "--seed=1"]) == 0
    weights = [(tmp_path / run / "imported" / "model.safetensors").read_bytes() for run in ("run", "again", "other")]
    assert weights[0] == weights[1] != weights[2]
    capsys.readouterr()
    assert ask.main([f"--workdir={workdir}", "--question=why", "--max_new_tokens=4", "--json"]) == 0
    json.loads(capsys.readouterr().out)


def test_parts_that_do_not_fit_are_refused(tmp_path, refused):
    encoder, decoder = write_qwen2_audio(tmp_path / "qwen2-audio"), write_qwen2_5(tmp_path / "qwen2.5", tied=True)
    (tmp_path / "words").mkdir()
    public_tokenizer().save(tmp_path / "words" / "tokenizer.json")
    flags = [f"--workdir={tmp_path / 'run'}", f"--encoder={encoder}", f"--decoder={decoder}"]
    assert "use a tokenizer that extends it" in refused(convert.main, *flags, f"--tokenizer={tmp_path / 'words'}")
    line = refused(convert.main, flags[0], f"--encoder={decoder}", f"--decoder={decoder}")
    assert "model_type='qwen2' is another model" in line
    line = refused(convert.main, flags[0], f"--encoder={encoder}", f"--decoder={encoder}")
    assert "model_type='qwen2_audio' is another model" in line or "tokenizer.json" in line
    assert not (tmp_path / "run").exists()


def broken(kind, folder):
    """Damages a checkpoint; returns what its one line must hold."""
    index, shard = folder / "model.safetensors.index.json", folder / "model-00002-of-00002.safetensors"
    tensors = stored(folder)
    if kind == "truncated shard":
        shard.write_bytes(shard.read_bytes()[:-1000])
        return r"model-00002-of-00002\.safetensors: truncated: tensor \S+ is expected to end at byte \d+, .* has \d+"
    if kind == "missing index entry":
        found = json.loads(index.read_text())
        del found["weight_map"]["model.norm.weight"]
        index.write_text(json.dumps(found))
        return r"tensor model\.norm\.weight is here, but model\.safetensors\.index\.json has no entry for it"
    if kind in ("wrong dtype", "wrong shape", "unknown tensor", "missing tensor"):
        name = "model.layers.1.mlp.up_proj.weight"
        if kind == "wrong dtype":
            tensors[name] = tensors[name].astype(np.int8)
        elif kind == "wrong shape":
            tensors[name] = np.ascontiguousarray(tensors[name].T)
        elif kind == "unknown tensor":
            tensors["model.layers.7.mlp.up_proj.weight"] = tensors[name]
        else:
            del tensors[name]
        index.unlink()
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return {
            "wrong dtype": r"up_proj\.weight is stored as I8; expected F32, BF16, F16",
            "wrong shape": r"up_proj\.weight has shape \[32, 48\], expected \[48, 32\]",
            "unknown tensor": r"tensor model\.layers\.7\.mlp\.up_proj\.weight is unknown",
            "missing tensor": r"tensor model\.layers\.1\.mlp\.up_proj\.weight of shape \[48, 32\] is missing",
        }[kind]
    if kind == "bad JSON":
        (folder / "config.json").write_text('{"hidden_size": 32,')
        return r"config\.json: not valid JSON"
    if kind == "missing tokenizer":
        (folder / "tokenizer.json").unlink()
        return r"tokenizer\.json"
    if kind == "config of another model":
        (folder / "config.json").write_text('{"model_type": "llama", "hidden_size": 32}')
        return r"model_type='llama' is another model"
    if kind == "tokenizer of another model":
        text = (folder / "tokenizer.json").read_text().replace("<audio_patch>", "<patch>")
        (folder / "tokenizer.json").write_text(text)
        return r"tokenizer\.json: has no token <audio_patch>"
    if kind == "empty folder":
        for path in folder.iterdir():
            path.unlink()
        return r"tokenizer\.json"
    assert kind == "unreadable file"
    shard.unlink()
    os.symlink(folder / "nowhere", shard)
    return r"model-00002-of-00002\.safetensors: cannot be read"


KINDS = (
    *("truncated shard", "missing index entry", "wrong dtype", "wrong shape", "unknown tensor", "missing tensor"),
    *("bad JSON", "missing tokenizer", "config of another model", "tokenizer of another model", "empty folder"),
    "unreadable file",
)


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_checkpoint_is_one_line_and_leaves_nothing(tmp_path, refused, kind):
    public = write_step_audio(tmp_path / "public")
    message = broken(kind, public)
    line = refused(convert.main, f"--from_hf={public}", f"--workdir={tmp_path / 'run'}")
    assert re.search(message, line), line
    assert str(public) in line
    assert [path.name for path in tmp_path.iterdir()] == ["public"]


def test_what_a_killed_import_left_goes_with_the_next(public, tmp_path):
    half = tmp_path / ".run.abc.step_audio_r1.tmp"
    (half / "run").mkdir(parents=True)
    assert convert.main([f"--from_hf={public}", f"--workdir={tmp_path / 'run'}"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_the_imported_parameters_are_the_files(workdir, public):
    run, params = newest_params(workdir)
    assert {x.dtype.name for x in jax.tree.leaves(params)} == {"bfloat16"}  # its compute dtype
    tensors = stored(public)
    embedding = np.asarray(params["decoder"]["embedding"])
    assert embedding.tobytes() == tensors["model.embed_tokens.weight"].tobytes() and embedding.shape == (ROWS, D)
    up = np.asarray(params["decoder"]["layers"]["up"]["kernel"])
    np.testing.assert_array_equal(up[1].T, tensors["model.layers.1.mlp.up_proj.weight"])
    assert run.config.model.decoder.real_vocab == public_tokenizer().vocab_size
    assert set(read_header(workdir / "encoder.safetensors")) == set(encoder_shapes())
    assert set(decoder_shapes()) <= set(read_header(workdir / "imported" / "model.safetensors"))


@pytest.mark.parametrize("name", ["step_audio_r1", "step_audio_2_mini"])
def test_decoding_splits_the_weights_over_all_devices(name):
    model = model_config(getattr(models, name)().to_dict())
    weights = jax.tree.leaves(abstract_weights(model, make_mesh(_config(model, public_tokenizer(), None).mesh)))
    whole = sum(x.size for x in weights)
    held = sum(math.prod(x.sharding.shard_shape(x.shape)) for x in weights)
    assert held < 1.01 * whole / jax.device_count()
