"""Promise: a public config.json of any known shape is read to the exact sizes, and one of another model is refused."""

import dataclasses
import json

import pytest

from configs import models
from step_audio_r1.errors import BadInput
from step_audio_r1.interop import decoder_from_public, encoder_from_public, from_public, to_public, with_dtype
from step_audio_r1.model import EncoderConfig, model_config

TEXT = {
    "vocab_size": 158720,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_attention_groups": 4,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "max_position_embeddings": 16384,
}
AUDIO = {"n_mels": 128, "n_audio_ctx": 1500, "n_audio_state": 1280, "n_audio_head": 20, "n_audio_layer": 32}
QWEN = {
    "model_type": "qwen2",
    "vocab_size": 151936,
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": True,
    "sliding_window": 32768,
    "use_sliding_window": False,
}
# As Qwen2-Audio-7B-Instruct has it: what equals the library's defaults is left out or not, depending on its version.
TOWER = {"model_type": "qwen2_audio_encoder", "num_mel_bins": 128, "d_model": 1280, "encoder_layers": 32}


def written(tmp_path, public):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(public))
    return file


@pytest.mark.parametrize("shape", ["flat", "nested"])
@pytest.mark.parametrize("flag", [{}, {"tie_word_embeddings": True}])
def test_step_audio_of_both_shapes(tmp_path, shape, flag):
    text = {**TEXT, **flag} if shape == "flat" else {"text_config": {**TEXT, **flag}, **flag}
    file = written(tmp_path, {"model_type": "step_audio_2", **text, "audio_encoder_config": AUDIO})
    want = model_config(models.step_audio_2_mini().to_dict())
    # Its head is never tied, whatever a library that rewrote the config has set.
    assert dataclasses.replace(from_public(file), name=want.name) == want
    public = to_public(want, "bfloat16")
    assert TEXT.items() <= public.items() and AUDIO.items() <= public["audio_encoder_config"].items()
    assert public["num_key_value_heads"] == 4 and public["eos_token_id"] == [151643, 151645, 151665]
    assert from_public(written(tmp_path, public)) == want


def test_our_own_export_says_everything_again(tmp_path):
    for config in (models.step_audio_r1(), models.miniature(300), models.from_parts("1.5b"), models.from_parts("7b")):
        want = model_config(config.to_dict())
        assert from_public(written(tmp_path, to_public(want, "float32"))) == want


@pytest.mark.parametrize(
    "theta", [{"rope_theta": 1e6}, {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}]
)
def test_qwen2_5_old_and_new(tmp_path, theta):
    decoder = decoder_from_public(written(tmp_path, {**QWEN, **theta}))
    want = model_config(models.from_parts("0.5b").to_dict()).decoder
    assert decoder == dataclasses.replace(want, vocab=151936, real_vocab=None)


def test_qwen2_audio_and_its_encoder_alone(tmp_path):
    assert (
        encoder_from_public(written(tmp_path, {"model_type": "qwen2_audio", "audio_config": TOWER})) == EncoderConfig()
    )
    small = {**TOWER, "encoder_layers": 3, "encoder_ffn_dim": 1024, "encoder_attention_heads": 8}
    assert encoder_from_public(written(tmp_path, small)) == EncoderConfig(layers=3, ffn=1024, heads=8)
    step_audio = {**TEXT, "audio_encoder_config": {**AUDIO, "n_audio_layer": 4}}
    assert encoder_from_public(written(tmp_path, step_audio)) == EncoderConfig(layers=4)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"model_type": "llama"}, "model_type='llama' is another model; expected step_audio_2"),
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"num_hidden_layers": "28"}, "num_hidden_layers='28': expected a positive number"),
        ({"rope_scaling": {"type": "yarn"}}, "rope_scaling=.* is not supported"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "only rope_type 'default'"),
        ({"quantization_config": {"bits": 4}}, "quantised weights are not supported"),
        ({"num_attention_groups": 5}, "kv_heads=5 must divide"),
        ({"audio_encoder_config": None}, "audio_encoder_config is missing"),
        ({"audio_encoder_config": {**AUDIO, "llm_dim": 4096}}, "llm_dim=4096 is not hidden_size=3584"),
        ({"audio_encoder_config": {**AUDIO, "adapter_stride": 4}}, "adapter_stride=4 is not supported"),
        ({"audio_encoder_config": {**AUDIO, "n_audio_head": 7}}, "heads=7 must divide"),
        ({"audio_encoder_config": {**AUDIO, "n_audio_state": 15, "n_audio_head": 3}}, "d_model=15 is odd"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps=nan: expected a positive number"),
        ({"rope_theta": float("inf")}, "rope_theta=inf: expected a positive number"),
        ({"head_dim": "128"}, "head_dim='128': expected a positive number"),
        ({"head_dim": 7}, "head_dim=7: is odd"),
        ({"step_audio_r1": {"compute_dtype": 3}}, r"step_audio_r1\.compute_dtype=3: expected one of float32"),
        ({"step_audio_r1": {"remat": "some"}}, r"step_audio_r1\.remat='some': expected one of"),
        ({"step_audio_r1": {"head_chunk": 0}}, r"step_audio_r1\.head_chunk=0: expected a positive number"),
        ({"step_audio_r1": {"encoder_ffn": "64"}}, "encoder_ffn='64': expected a positive number"),
        ({"step_audio_r1": {"name": 1}}, r"step_audio_r1\.name=1: expected text"),
    ],
)
def test_foreign_configs_are_refused_in_one_line(tmp_path, change, message):
    file = written(tmp_path, {**TEXT, "audio_encoder_config": AUDIO, **change})
    with pytest.raises(BadInput, match=message) as error:
        from_public(file)
    assert "\n" not in str(error.value) and str(file) in str(error.value)


def test_the_stored_type_is_told_where_the_config_tells_it():
    assert with_dtype({"a": 1}, "float32") == {"torch_dtype": "float32", "a": 1}
    nested = {"text_config": {"torch_dtype": "bfloat16", "b": 2}, "dtype": "bfloat16"}
    assert with_dtype(nested, "float32") == {"text_config": {"torch_dtype": "float32", "b": 2}, "dtype": "float32"}


def test_the_other_readers_refuse_too(tmp_path):
    with pytest.raises(BadInput, match="another model; expected qwen2"):
        decoder_from_public(written(tmp_path, {**QWEN, "model_type": "gemma3"}))
    with pytest.raises(BadInput, match="tie_word_embeddings='yes'"):
        decoder_from_public(written(tmp_path, {**QWEN, "rope_theta": 1e6, "tie_word_embeddings": "yes"}))
    with pytest.raises(BadInput, match="activation_function='relu' is not supported"):
        encoder_from_public(written(tmp_path, {**TOWER, "activation_function": "relu"}))
    deep = tmp_path / "deep.json"
    deep.write_text("[" * 100_000)
    with pytest.raises(BadInput, match="not valid JSON"):
        from_public(deep)
    with pytest.raises(BadInput, match="expected a JSON object"):
        encoder_from_public(written(tmp_path, [1]))
