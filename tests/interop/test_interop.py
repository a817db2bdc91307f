"""Promise: a checkpoint written in the public layout has the public names, and comes back byte for byte."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from safetensors.numpy import load_file, save_file

from step_audio_r1.errors import BadInput, WorkFailed
from step_audio_r1.interop import export_params, import_params
from step_audio_r1.model import DecoderConfig, EncoderConfig, ModelConfig, init_params
from step_audio_r1.parallel import TRAINING, MeshConfig, make_mesh, shardings

CONFIG = ModelConfig(
    name="small",
    encoder=EncoderConfig(mel_bins=6, d_model=8, layers=2, heads=2, ffn=32, max_positions=10),
    decoder=DecoderConfig(vocab=16, d_model=12, layers=2, heads=4, kv_heads=2, head_dim=4, ffn=20),
    adaptor_hidden=14,
    compute_dtype="float32",
)

I = (0, 1)
# Written out by hand from the public module tree, so that the table is not compared with itself.
ENCODER = {
    "encoder.conv1.weight": (8, 6, 3),
    "encoder.conv1.bias": (8,),
    "encoder.conv2.weight": (8, 8, 3),
    "encoder.conv2.bias": (8,),
    "encoder.positional_embedding.weight": (10, 8),
    **{f"encoder.blocks.{i}.attn.{n}.weight": (8, 8) for i in I for n in ("query", "key", "value", "out")},
    **{f"encoder.blocks.{i}.attn.{n}.bias": (8,) for i in I for n in ("query", "value", "out")},
    **{f"encoder.blocks.{i}.{n}.weight": (8,) for i in I for n in ("attn_ln", "mlp_ln")},
    **{f"encoder.blocks.{i}.{n}.bias": (8,) for i in I for n in ("attn_ln", "mlp_ln")},
    **{f"encoder.blocks.{i}.mlp.0.weight": (32, 8) for i in I},
    **{f"encoder.blocks.{i}.mlp.0.bias": (32,) for i in I},
    **{f"encoder.blocks.{i}.mlp.2.weight": (8, 32) for i in I},
    **{f"encoder.blocks.{i}.mlp.2.bias": (8,) for i in I},
    "encoder.after_norm.weight": (8,),
    "encoder.after_norm.bias": (8,),
}
ADAPTOR = {
    "adapter.conv.weight": (8, 8, 3),
    "adapter.conv.bias": (8,),
    "adapter.linear1.weight": (14, 8),
    "adapter.linear1.bias": (14,),
    "adapter.linear2.weight": (12, 14),
    "adapter.linear2.bias": (12,),
}
DECODER = {
    "model.embed_tokens.weight": (16, 12),
    **{f"model.layers.{i}.self_attn.q_proj.weight": (16, 12) for i in I},
    **{f"model.layers.{i}.self_attn.q_proj.bias": (16,) for i in I},
    **{f"model.layers.{i}.self_attn.{n}_proj.weight": (8, 12) for i in I for n in "kv"},
    **{f"model.layers.{i}.self_attn.{n}_proj.bias": (8,) for i in I for n in "kv"},
    **{f"model.layers.{i}.self_attn.o_proj.weight": (12, 16) for i in I},
    **{f"model.layers.{i}.mlp.{n}_proj.weight": (20, 12) for i in I for n in ("gate", "up")},
    **{f"model.layers.{i}.mlp.down_proj.weight": (12, 20) for i in I},
    **{f"model.layers.{i}.{n}_layernorm.weight": (12,) for i in I for n in ("input", "post_attention")},
    "model.norm.weight": (12,),
    "lm_head.weight": (16, 12),
}


@pytest.fixture(scope="module")
def params():
    """Random values everywhere, biases included."""
    shapes = nn.unbox(jax.eval_shape(lambda: init_params(CONFIG, jax.random.key(0))))
    random = np.random.default_rng(0)
    return jax.tree.map(lambda x: random.normal(size=x.shape).astype(np.float32), shapes)


@pytest.fixture(scope="module")
def checkpoint(params, tmp_path_factory):
    """A float32 checkpoint in one file; tests copy what they damage."""
    directory = tmp_path_factory.mktemp("public") / "model"
    export_params(params, CONFIG, directory, dtype="float32")
    return directory


def _assert_equal(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), b), got, want)


def test_names_and_shapes_are_the_public_ones(checkpoint):
    stored = load_file(checkpoint / "model.safetensors")
    assert {name: x.shape for name, x in stored.items()} == {**ENCODER, **ADAPTOR, **DECODER}


def test_every_parameter_has_a_name(params):
    parts = {"encoder": ENCODER, "adaptor": ADAPTOR, "decoder": DECODER}
    for part, names in parts.items():
        assert sum(x.size for x in jax.tree.leaves(params[part])) == sum(np.prod(s) for s in names.values())


def test_axes_are_those_of_pytorch(params, checkpoint):
    stored = load_file(checkpoint / "model.safetensors")
    x = np.arange(12, dtype=np.float32)
    for i in (0, 1):  # a public Linear computes weight @ x
        ours = x @ params["decoder"]["layers"]["q"]["kernel"][i]
        np.testing.assert_allclose(stored[f"model.layers.{i}.self_attn.q_proj.weight"] @ x, ours, rtol=1e-5)
    conv = stored["encoder.conv1.weight"]
    assert conv[5, 4, 2] == params["encoder"]["conv1"]["kernel"][2, 4, 5]
    np.testing.assert_array_equal(stored["model.embed_tokens.weight"], params["decoder"]["embedding"])


@pytest.mark.parametrize("limit", [2**30, 3000])
def test_round_trip_is_exact(params, tmp_path, limit):
    export_params(params, CONFIG, tmp_path / "out", dtype="float32", max_shard_bytes=limit)
    files = sorted(f.name for f in (tmp_path / "out").iterdir())
    if limit == 3000:
        index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
        assert set(index["weight_map"]) == {**ENCODER, **ADAPTOR, **DECODER}.keys()
        assert sorted({*index["weight_map"].values(), "model.safetensors.index.json", "config.json"}) == files
        assert index["metadata"]["total_size"] == 4 * sum(x.size for x in jax.tree.leaves(params))
    else:
        assert files == ["config.json", "model.safetensors"]
    _assert_equal(import_params(tmp_path / "out", CONFIG), params)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_second_round_trip_changes_no_byte(params, tmp_path, dtype):
    export_params(params, CONFIG, tmp_path / "a", dtype=dtype)
    export_params(import_params(tmp_path / "a", CONFIG), CONFIG, tmp_path / "b", dtype=dtype)
    first, second = (tmp_path / name / "model.safetensors" for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_each_device_gets_its_slice(params, checkpoint):
    mesh = make_mesh(MeshConfig(data=1, fsdp=4, tensor=2))
    abstract = jax.eval_shape(lambda: init_params(CONFIG, jax.random.key(0)))
    where = shardings(abstract, mesh, TRAINING)
    got = import_params(checkpoint, CONFIG, shardings=where)
    assert got["decoder"]["layers"]["gate"]["kernel"].sharding == where["decoder"]["layers"]["gate"]["kernel"]
    _assert_equal(got, params)


def test_sharded_parameters_export_like_whole_ones(params, checkpoint, tmp_path):
    mesh = make_mesh(MeshConfig(data=1, fsdp=4, tensor=2))
    where = shardings(jax.eval_shape(lambda: init_params(CONFIG, jax.random.key(0))), mesh, TRAINING)
    export_params(jax.device_put(params, where), CONFIG, tmp_path / "out", dtype="float32")
    want = (checkpoint / "model.safetensors").read_bytes()
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == want


def test_an_encoder_alone_fits_in_one_file(params, tmp_path):
    file = tmp_path / "encoder.safetensors"
    export_params(params, CONFIG, file, parts=("encoder",), dtype="float16")
    assert list(tmp_path.iterdir()) == [file]
    # its decoder may be of any size: only the encoder is looked at
    other = dataclasses.replace(CONFIG, decoder=dataclasses.replace(CONFIG.decoder, vocab=99, layers=5))
    got = import_params(file, other, parts=("encoder",))
    assert got.keys() == {"encoder"} and got["encoder"]["conv1"]["kernel"].dtype == jnp.float32
    half = jax.tree.map(lambda x: x.astype(np.float16).astype(np.float32), params["encoder"])
    _assert_equal(got["encoder"], half)
    with pytest.raises(BadInput, match=r"adapter.conv.weight .* is missing \(and \d+ more\)"):
        import_params(file, CONFIG)


def test_the_serving_prefix_is_understood(params, checkpoint, tmp_path):
    stored = load_file(checkpoint / "model.safetensors")
    prefix = {n: f"language_model.{n}" for n in DECODER}
    save_file({prefix.get(n, n): x for n, x in stored.items()}, tmp_path / "x.safetensors")
    _assert_equal(import_params(tmp_path / "x.safetensors", CONFIG), params)


def _damaged(name, stored):
    """The tensors of a checkpoint with one fault, and what the message must say."""
    if name == "missing":
        del stored["model.layers.1.mlp.up_proj.weight"]
        return r"model.layers.1.mlp.up_proj.weight of shape \[20, 12\] is missing"
    if name == "shape":
        stored["encoder.blocks.1.mlp.0.weight"] = np.zeros((8, 32), np.float32)
        return r"encoder.blocks.1.mlp.0.weight has shape \[8, 32\], expected \[32, 8\]"
    if name == "extra layer":
        stored["model.layers.2.mlp.up_proj.weight"] = np.zeros((20, 12), np.float32)
        return "model.layers.2.mlp.up_proj.weight is unknown"
    if name == "unknown":
        stored["vision.patch.weight"] = np.zeros((2,), np.float32)
        return "vision.patch.weight is unknown"
    if name == "quantised":
        stored["model.norm.weight"] = np.zeros((12,), np.int8)
        return "model.norm.weight is stored as I8"
    stored["language_model.lm_head.weight"] = stored["lm_head.weight"]
    return "lm_head.weight is also in"


@pytest.mark.parametrize("fault", ["missing", "shape", "extra layer", "unknown", "quantised", "double"])
def test_wrong_tensors_are_named(checkpoint, tmp_path, fault):
    stored = load_file(checkpoint / "model.safetensors")
    message = _damaged(fault, stored)
    save_file(stored, tmp_path / "x.safetensors")
    with pytest.raises(BadInput, match=message) as error:
        import_params(tmp_path / "x.safetensors", CONFIG)
    assert "\n" not in str(error.value)


def test_damaged_files_are_one_line(checkpoint, tmp_path):
    whole = (checkpoint / "model.safetensors").read_bytes()
    (tmp_path / "short.safetensors").write_bytes(whole[:-7])
    (tmp_path / "empty.safetensors").write_bytes(b"")
    (tmp_path / "text.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    for name in ("short", "empty", "text"):
        with pytest.raises(BadInput, match=f"{name}.safetensors: .*(truncated|cannot be read|git lfs pull)") as error:
            import_params(tmp_path / f"{name}.safetensors", CONFIG)
        assert "\n" not in str(error.value)
    with pytest.raises(BadInput, match="no such file"):
        import_params(tmp_path / "none", CONFIG)
    with pytest.raises(BadInput, match="has neither"):
        import_params(tmp_path, CONFIG)


def test_a_lost_shard_is_named(params, tmp_path):
    export_params(params, CONFIG, tmp_path / "out", dtype="float32", max_shard_bytes=3000)
    shard = sorted((tmp_path / "out").glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(BadInput, match=shard.name):
        import_params(tmp_path / "out", CONFIG)
    index = tmp_path / "out" / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"lm_head.weight": "../x.safetensors"}}')
    with pytest.raises(BadInput, match="not the name of a file beside it"):
        import_params(tmp_path / "out", CONFIG)


def test_export_overwrites_nothing_and_writes_no_infinity(params, tmp_path):
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(BadInput, match="not an empty directory"):
        export_params(params, CONFIG, tmp_path)
    huge = jax.tree.map(lambda x: x * 1e6, params)
    with pytest.raises(WorkFailed, match="not finite in float16"):
        export_params(huge, CONFIG, tmp_path / "out", dtype="float16")
    assert [f.name for f in tmp_path.iterdir()] == ["kept.txt"]
