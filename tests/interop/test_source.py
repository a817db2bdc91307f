"""Promise: tensors are found under every public name and kept byte for byte; one that is wrong is named in one line."""

import dataclasses
import json
import re

import jax
import ml_dtypes
import numpy as np
import pytest
from flax import linen as nn
from safetensors.numpy import load_file, save_file

from step_audio_r1.errors import BadInput
from step_audio_r1.interop import (
    export_params,
    import_params,
    outgoing_file,
    outgoing_params,
    read_header,
    read_tensors,
    write_file,
    write_shards,
)
from step_audio_r1.model import DecoderConfig, EncoderConfig, ModelConfig, init_params

CONFIG = ModelConfig(
    name="small",
    encoder=EncoderConfig(mel_bins=6, d_model=8, layers=2, heads=2, ffn=32, max_positions=10),
    decoder=DecoderConfig(vocab=16, d_model=12, layers=2, heads=4, kv_heads=2, head_dim=4, ffn=20),
    adaptor_hidden=14,
    compute_dtype="float32",
)
TYPES = (np.float32, np.float16, ml_dtypes.bfloat16)
# What rounding, flushing or a detour over another type would change: subnormals, the largest values, signed zeros.
EDGES = {
    np.float32: [0x00000001, 0x80000001, 0x007FFFFF, 0x7F7FFFFF, 0x80000000, 0x3F800001],
    np.float16: [0x0001, 0x8001, 0x03FF, 0x7BFF, 0x8000, 0x3C01],
    ml_dtypes.bfloat16: [0x0001, 0x8001, 0x007F, 0x7F7F, 0x8000, 0x3F81],
}


@pytest.fixture(scope="module")
def stored():
    """Tensors by public name, each in one of the three types, awkward values among them."""
    random = np.random.default_rng(0)
    out = {}
    for number, (name, shape) in enumerate(public_shapes().items()):
        kind = TYPES[number % 3]
        values = random.normal(size=shape).astype(kind)
        bits = np.array(EDGES[kind], np.uint32 if kind is np.float32 else np.uint16).view(kind)
        values.reshape(-1)[: len(bits)] = bits[: values.size]
        out[name] = values
    return out


def public_shapes():
    abstract = nn.unbox(jax.eval_shape(lambda: init_params(CONFIG, jax.random.key(0))))
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), abstract)
    return {
        t.name: t.shape for t in outgoing_params(zeros, CONFIG, ("encoder", "adaptor", "decoder"), lambda _: "float32")
    }


def bits(array):
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).tobytes()


def same(a, b):
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert value.dtype == b[name].dtype and value.shape == b[name].shape and bits(value) == bits(b[name]), name


def test_in_and_out_again_keeps_every_byte_of_every_type(stored, tmp_path):
    save_file(stored, tmp_path / "in.safetensors")
    params = import_params(tmp_path / "in.safetensors", CONFIG)
    kinds = {name: value.dtype.name for name, value in stored.items()}
    write_shards(tmp_path / "out", outgoing_params(params, CONFIG, ("encoder", "adaptor", "decoder"), kinds.get), 2000)
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    back = {}
    for file in set(index["weight_map"].values()):
        part = load_file(tmp_path / "out" / file)
        assert all(index["weight_map"][name] == file for name in part)
        back.update(part)
    same(back, stored)
    assert index["metadata"]["total_size"] == sum(value.nbytes for value in stored.values())


def test_copied_tensors_keep_every_byte(stored, tmp_path):
    save_file(stored, tmp_path / "in.safetensors")
    tensors = read_tensors(tmp_path / "in.safetensors", CONFIG)
    write_file(tmp_path / "out.safetensors", [outgoing_file(t, name) for name, t in tensors.items()])
    same(load_file(tmp_path / "out.safetensors"), stored)


def test_large_tensors_cross_block_borders(tmp_path, monkeypatch):
    import step_audio_r1.interop.tensor_files as tensor_files

    monkeypatch.setattr(tensor_files, "BLOCK_BYTES", 96)
    abstract = nn.unbox(jax.eval_shape(lambda: init_params(CONFIG, jax.random.key(0))))
    random = np.random.default_rng(1)
    params = jax.tree.map(lambda x: random.normal(size=x.shape).astype(np.float32), abstract)
    export_params(params, CONFIG, tmp_path / "out", dtype="float32")
    got = import_params(tmp_path / "out", CONFIG)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), b), got, params)


# Qwen2-Audio's names for the encoder, written out from transformers' modeling_qwen2_audio.py.
TOWER = [
    (r"encoder\.blocks\.(\d+)\.attn\.query\.", r"audio_tower.layers.\1.self_attn.q_proj."),
    (r"encoder\.blocks\.(\d+)\.attn\.key\.", r"audio_tower.layers.\1.self_attn.k_proj."),
    (r"encoder\.blocks\.(\d+)\.attn\.value\.", r"audio_tower.layers.\1.self_attn.v_proj."),
    (r"encoder\.blocks\.(\d+)\.attn\.out\.", r"audio_tower.layers.\1.self_attn.out_proj."),
    (r"encoder\.blocks\.(\d+)\.attn_ln\.", r"audio_tower.layers.\1.self_attn_layer_norm."),
    (r"encoder\.blocks\.(\d+)\.mlp\.0\.", r"audio_tower.layers.\1.fc1."),
    (r"encoder\.blocks\.(\d+)\.mlp\.2\.", r"audio_tower.layers.\1.fc2."),
    (r"encoder\.blocks\.(\d+)\.mlp_ln\.", r"audio_tower.layers.\1.final_layer_norm."),
    (r"encoder\.after_norm\.", "audio_tower.layer_norm."),
    (r"encoder\.positional_embedding\.", "audio_tower.embed_positions."),
    (r"encoder\.(conv\d)\.", r"audio_tower.\1."),
    (r"^(model\.|lm_head)", r"language_model.\1"),
]


@pytest.mark.parametrize("prefix", ["", "model."])
def test_qwen2_audio_names_are_understood(stored, tmp_path, prefix):
    renamed = {}
    for name, value in stored.items():
        for pattern, replacement in TOWER:
            name = re.sub(pattern, replacement, name)
        renamed[f"{prefix}{name}" if name.startswith("audio_tower") else name] = value
    renamed = {name: value for name, value in renamed.items() if not name.startswith("adapter.")}
    renamed["multi_modal_projector.linear.weight"] = np.zeros((4096, 8), np.float32)
    save_file(renamed, tmp_path / "x.safetensors")
    found = read_tensors(tmp_path / "x.safetensors", CONFIG, ("encoder", "decoder"))
    assert found.keys() == {name for name in stored if not name.startswith("adapter.")}
    for name, tensor in found.items():
        assert bits(np.concatenate(list(tensor.blocks()))) == bits(stored[name])


def test_a_tied_head_is_the_token_table_or_is_refused(stored, tmp_path):
    tied = dataclasses.replace(CONFIG, decoder=dataclasses.replace(CONFIG.decoder, tied=True))
    file = tmp_path / "x.safetensors"
    table = stored["model.embed_tokens.weight"]
    without = {name: value for name, value in stored.items() if name != "lm_head.weight"}
    save_file(without, file)
    assert "head" not in import_params(file, tied)["decoder"]
    save_file({**without, "lm_head.weight": table.copy()}, file)
    assert "lm_head.weight" not in read_tensors(file, tied)
    other = table.copy()
    other[3, 1] += 1
    save_file({**without, "lm_head.weight": other}, file)
    with pytest.raises(BadInput, match=r"lm_head\.weight is not the token table"):
        read_tensors(file, tied)
    with pytest.raises(BadInput, match=r"lm_head\.weight of shape .* is missing"):
        save_file(without, file)
        read_tensors(file, CONFIG)


def sharded(stored, folder):
    """Two shards and their index, as public tools write them."""
    folder.mkdir()
    names = list(stored)
    halves = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, members in halves.items():
        save_file({name: stored[name] for name in members}, folder / file, metadata={"format": "pt"})
    weight_map = {name: file for file, members in halves.items() for name in members}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder, weight_map


def test_two_shards_read_like_one_file(stored, tmp_path):
    folder, _ = sharded(stored, tmp_path / "two")
    found = read_tensors(folder, CONFIG)
    assert {name: bits(np.concatenate(list(t.blocks()))) for name, t in found.items()} == {
        name: bits(value) for name, value in stored.items()
    }


def refuses(source, message):
    with pytest.raises(BadInput, match=message) as error:
        read_tensors(source, CONFIG)
    assert "\n" not in str(error.value)


def test_an_index_that_does_not_fit_its_shards_is_refused(stored, tmp_path):
    folder, weight_map = sharded(stored, tmp_path / "two")
    index = folder / "model.safetensors.index.json"
    name, other = "model.norm.weight", "model-00001-of-00002.safetensors"

    def write(changed):
        index.write_text(json.dumps({"weight_map": changed}))

    write({n: f for n, f in weight_map.items() if n != name})
    refuses(folder, f"{name} is here, but .*index.json has no entry for it")
    write({**weight_map, name: next(f for f in weight_map.values() if f != weight_map[name])})
    refuses(folder, f"{name} is here, but .*index.json says it is in")
    write({**weight_map, "model.extra.weight": other})
    refuses(folder, f"{other}: tensor model.extra.weight, which .* puts here, is missing")
    write(dict.fromkeys(weight_map, 3))
    refuses(folder, "3 is not the name of a file")
    index.write_text('{"weight_map": ')
    refuses(folder, "index.json: not valid JSON")


def test_a_cut_file_names_the_tensor_that_is_cut(stored, tmp_path):
    file = tmp_path / "x.safetensors"
    save_file(stored, file)
    whole = file.read_bytes()
    header = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])
    last = max((n for n in header if n != "__metadata__"), key=lambda n: header[n]["data_offsets"][1])
    file.write_bytes(whole[:-7])
    refuses(
        file, f"truncated: tensor {last} is expected to end at byte {len(whole)}, but the file has {len(whole) - 7}"
    )
    file.write_bytes(whole[:100])
    refuses(file, "truncated, damaged or not a safetensors file")
    # Sound by its length, but two tensors lie on each other: the library's own check finds it.
    shifted = whole.replace(b'"data_offsets":[0,', b'"data_offsets":[2,', 1)
    file.write_bytes(shifted)
    refuses(file, "damaged or not a safetensors file")


def test_files_that_are_something_else_say_what_to_do(stored, tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    refuses(tmp_path, "git lfs pull")
    deep = b"[" * 100_000
    file.write_bytes(len(deep).to_bytes(8, "little") + deep)
    refuses(tmp_path, "not a safetensors file")
    file.unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    refuses(tmp_path, "pickled")
    index = tmp_path / "model.safetensors.index.json"
    for name in ("a\0b.safetensors", "\ud800.safetensors"):
        index.write_text(json.dumps({"weight_map": {"lm_head.weight": name}}))
        refuses(tmp_path, "cannot be read")


def test_values_are_read_where_the_header_says(stored, tmp_path):
    save_file(stored, tmp_path / "x.safetensors")
    for name, tensor in read_header(tmp_path / "x.safetensors").items():
        assert bits(tensor.rows(1, 2)) == bits(stored[name][1:2])
