"""Promise: a checkpoint made by transformers goes in, answers, and comes out as one that transformers loads again."""

import json

import numpy as np
import pytest
import soundfile
from public_tokenizer import public_tokenizer

from step_audio_r1.commands import ask, convert

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity

ROWS, D, E = 512, 64, 32


def decoder() -> "transformers.Qwen2ForCausalLM":
    torch.manual_seed(0)
    config = transformers.Qwen2Config(
        vocab_size=ROWS,
        hidden_size=D,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=96,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        max_position_embeddings=8192,
        tie_word_embeddings=False,
        initializer_range=0.1,
    )
    return transformers.Qwen2ForCausalLM(config).eval()


def encoder() -> "torch.nn.Module":
    from transformers.models.qwen2_audio.modeling_qwen2_audio import Qwen2AudioEncoder

    sizes = {"d_model": E, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 4 * E}
    return Qwen2AudioEncoder(transformers.Qwen2AudioEncoderConfig(num_mel_bins=128, **sizes)).eval()


def step_audio_names(state: dict) -> dict:
    """The encoder's tensors as Step-Audio calls them."""
    table = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "out"}
    modules = {f"self_attn.{theirs}": f"attn.{ours}" for theirs, ours in table.items()}
    modules |= {"self_attn_layer_norm": "attn_ln", "fc1": "mlp.0", "fc2": "mlp.2", "final_layer_norm": "mlp_ln"}
    modules |= {"layer_norm": "after_norm", "embed_positions": "positional_embedding"}
    out = {}
    for name, value in state.items():
        path, leaf = name.rsplit(".", 1)
        head, number, module = path.split(".", 2) if path.startswith("layers.") else (None, None, path)
        where = f"encoder.blocks.{number}." if head else "encoder."
        out[f"{where}{modules.get(module, module)}.{leaf}"] = value
    return out


def adaptor() -> dict:
    parts = {
        "conv": torch.nn.Conv1d(E, E, 3, 2, 1),
        "linear1": torch.nn.Linear(E, 2048),
        "linear2": torch.nn.Linear(2048, D),
    }
    return {f"adapter.{name}.{leaf}": x for name, part in parts.items() for leaf, x in part.state_dict().items()}


@pytest.fixture(scope="module")
def public(tmp_path_factory):
    """A Step-Audio checkpoint in two bfloat16 shards with their index, and the decoder it was made of."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("public") / "step-audio"
    folder.mkdir()
    model = decoder()
    for parameter in model.parameters():  # values that bfloat16 holds; buffers stay as they are
        parameter.data = parameter.data.bfloat16().float()
    tensors = {**step_audio_names(encoder().state_dict()), **adaptor(), **model.state_dict()}
    tensors = {name: x.to(torch.bfloat16).contiguous() for name, x in tensors.items()}
    weight_map = {}
    for i in range(2):
        file = f"model-{i + 1:05d}-of-00002.safetensors"
        part = {name: tensors[name] for name in list(tensors)[i::2]}
        save_file(part, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    heads = {"n_audio_head": 2, "n_audio_layer": 2, "llm_dim": D, "kernel_size": 3, "adapter_stride": 2}
    audio = {"n_mels": 128, "n_audio_ctx": 1500, "n_audio_state": E, **heads}
    config = {**model.config.to_dict(), "model_type": "step_audio_2", "num_attention_groups": 2}
    (folder / "config.json").write_text(json.dumps({**config, "audio_encoder_config": audio}))
    public_tokenizer().save(folder / "tokenizer.json")
    return folder, model


@pytest.fixture(scope="module")
def workdir(public, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("imported") / "run"
    assert convert.main([f"--from_hf={public[0]}", f"--workdir={workdir}"]) == 0
    return workdir


@pytest.mark.parametrize(
    "file, seconds, rate, channels", [("a.mp3", 5, 44_100, 1), ("b.flac", 7, 48_000, 2), ("c.wav", 180, 16_000, 1)]
)
def test_it_answers_about_any_recording(workdir, tmp_path, capsys, file, seconds, rate, channels):
    t = np.arange(seconds * rate) / rate
    wave = np.stack([0.3 * np.sin(2 * np.pi * (220 + 110 * c) * t) for c in range(channels)], 1)
    soundfile.write(tmp_path / file, wave.astype(np.float32), rate)
    flags = [f"--workdir={workdir}", f"--audio={tmp_path / file}", "--question=What is heard?", "--max_new_tokens=16"]
    assert ask.main([*flags, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] in ("truncated", "no_answer", "complete")


def test_transformers_loads_what_comes_out(public, workdir, tmp_path):
    _, model = public
    assert convert.main([f"--workdir={workdir}", f"--to_hf={tmp_path / 'out'}"]) == 0
    loaded = transformers.Qwen2ForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    tokens = torch.from_numpy(np.random.default_rng(0).integers(0, ROWS, (2, 33)))
    with torch.inference_mode():
        ours, theirs = loaded(tokens).logits, model(tokens).logits
    assert loaded.config.rope_parameters["rope_theta"] == 1e6 and not loaded.config.tie_word_embeddings
    assert torch.equal(ours, theirs)
