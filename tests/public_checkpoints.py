"""Small checkpoints in the public layouts, made with NumPy and safetensors alone."""

import json
from pathlib import Path

import numpy as np
from ml_dtypes import bfloat16
from public_tokenizer import public_tokenizer
from safetensors.numpy import save_file

ROWS, D, LAYERS, HEADS, KV, FFN = 512, 32, 2, 4, 2, 48
E = 16  # encoder width, with 2 heads

# The same in our words, for overrides of a config.
DECODER_SIZES = {"vocab": ROWS, "d_model": D, "layers": LAYERS, "heads": HEADS, "kv_heads": KV, "head_dim": D // HEADS}
DECODER_SIZES |= {"ffn": FFN, "max_positions": 4096}
ENCODER_SIZES = {"d_model": E, "layers": 1, "heads": 2, "ffn": 4 * E}

TEXT_CONFIG = {
    "vocab_size": ROWS,
    "hidden_size": D,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": FFN,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "max_position_embeddings": 4096,
}
STEP_AUDIO_CONFIG = {
    "architectures": ["StepAudio2ForCausalLM"],
    "model_type": "step_audio_2",
    "auto_map": {"AutoModelForCausalLM": "modeling_step_audio_2.StepAudio2ForCausalLM"},
    **TEXT_CONFIG,
    "num_attention_groups": KV,
    "num_key_value_heads": KV,
    "torch_dtype": "bfloat16",
    "audio_encoder_config": {
        "n_mels": 128,
        "n_audio_ctx": 1500,
        "n_audio_state": E,
        "n_audio_head": 2,
        "n_audio_layer": 1,
        "llm_dim": D,
        "kernel_size": 3,
        "adapter_stride": 2,
    },
}


def decoder_shapes(rows: int = ROWS, tied: bool = False) -> dict[str, tuple[int, ...]]:
    """Qwen2.5's tensors."""
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (rows, D), "model.norm.weight": (D,)}
    for i in range(LAYERS):
        at, width = f"model.layers.{i}", D // HEADS
        for name, heads in (("q", HEADS), ("k", KV), ("v", KV)):
            shapes[f"{at}.self_attn.{name}_proj.weight"] = (heads * width, D)
            shapes[f"{at}.self_attn.{name}_proj.bias"] = (heads * width,)
        shapes[f"{at}.self_attn.o_proj.weight"] = (D, D)
        shapes |= {f"{at}.mlp.{name}_proj.weight": (FFN, D) for name in ("gate", "up")}
        shapes[f"{at}.mlp.down_proj.weight"] = (D, FFN)
        shapes |= {f"{at}.{name}_layernorm.weight": (D,) for name in ("input", "post_attention")}
    return shapes if tied else {**shapes, "lm_head.weight": (rows, D)}


def encoder_shapes() -> dict[str, tuple[int, ...]]:
    """Step-Audio's encoder."""
    shapes: dict[str, tuple[int, ...]] = {
        "encoder.conv1.weight": (E, 128, 3),
        "encoder.conv1.bias": (E,),
        "encoder.conv2.weight": (E, E, 3),
        "encoder.conv2.bias": (E,),
        "encoder.positional_embedding.weight": (1500, E),
        "encoder.after_norm.weight": (E,),
        "encoder.after_norm.bias": (E,),
    }
    at = "encoder.blocks.0"
    shapes |= {f"{at}.attn.{name}.weight": (E, E) for name in ("query", "key", "value", "out")}
    shapes |= {f"{at}.attn.{name}.bias": (E,) for name in ("query", "value", "out")}
    shapes |= {f"{at}.{name}.{leaf}": (E,) for name in ("attn_ln", "mlp_ln") for leaf in ("weight", "bias")}
    shapes |= {f"{at}.mlp.0.weight": (4 * E, E), f"{at}.mlp.0.bias": (4 * E,)}
    return shapes | {f"{at}.mlp.2.weight": (E, 4 * E), f"{at}.mlp.2.bias": (E,)}


def adaptor_shapes() -> dict[str, tuple[int, ...]]:
    """Step-Audio's adaptor; its inner width is the public one."""
    shapes: dict[str, tuple[int, ...]] = {"adapter.conv.weight": (E, E, 3), "adapter.conv.bias": (E,)}
    shapes |= {"adapter.linear1.weight": (2048, E), "adapter.linear1.bias": (2048,)}
    return shapes | {"adapter.linear2.weight": (D, 2048), "adapter.linear2.bias": (D,)}


def random_tensors(shapes: dict[str, tuple[int, ...]], seed: int, dtype=bfloat16) -> dict[str, np.ndarray]:
    """Values of a size that keeps activations near one."""
    random = np.random.default_rng(seed)
    out = {}
    for name, shape in shapes.items():
        values = random.standard_normal(shape) * (np.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.1)
        out[name] = (values + (1 if "norm.weight" in name or "ln.weight" in name else 0)).astype(dtype)
    return out


def write_step_audio(folder: Path, *, nested: bool = False, shards: int = 2, tensors=None) -> Path:
    """A Step-Audio checkpoint: config.json flat or nested, `shards` files and their index (1: a single file)."""
    folder.mkdir(parents=True)
    if tensors is None:
        tensors = random_tensors({**encoder_shapes(), **adaptor_shapes(), **decoder_shapes()}, 0)
    write_weights(folder, tensors, shards)
    config = dict(STEP_AUDIO_CONFIG)
    if nested:
        config["text_config"] = {key: config.pop(key) for key in [*TEXT_CONFIG, "num_attention_groups"]}
        del config["num_key_value_heads"]
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    public_tokenizer().save(folder / "tokenizer.json")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "Qwen2TokenizerFast"}')
    (folder / "modeling_step_audio_2.py").write_text("raise RuntimeError('code of a checkpoint was run')\n")
    return folder


def write_weights(folder: Path, tensors: dict[str, np.ndarray], shards: int) -> None:
    """model.safetensors, or shards with an index."""
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    weight_map = {}
    for i in range(shards):
        file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: tensors[name] for name in list(tensors)[i::shards]}
        save_file(part, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": sum(x.nbytes for x in tensors.values())}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def write_qwen2_5(folder: Path, *, tied: bool, rows: int = 320) -> Path:
    """A Qwen2.5 checkpoint, with a tokenizer that lacks what Step-Audio adds."""
    folder.mkdir(parents=True)
    write_weights(folder, random_tensors(decoder_shapes(rows, tied), 1), 1)
    config = {"model_type": "qwen2", **TEXT_CONFIG, "vocab_size": rows, "num_key_value_heads": KV}
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": tied}))
    plain_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "generation_config.json").write_text('{"eos_token_id": [151645]}')
    return folder


def plain_tokenizer():
    """A byte-level tokenizer with Qwen2.5's own special tokens only."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    inner.train_from_iterator(["the voice is low and slow, so the speaker is sad"] * 20, trainer)
    return inner


def write_qwen2_audio(folder: Path) -> Path:
    """A Qwen2-Audio checkpoint: the encoder under its names there, with a decoder that nobody asks for."""
    folder.mkdir(parents=True)
    modules = {"attn.query": "self_attn.q_proj", "attn.key": "self_attn.k_proj", "attn.value": "self_attn.v_proj"}
    modules |= {"attn.out": "self_attn.out_proj", "attn_ln": "self_attn_layer_norm", "mlp.0": "fc1", "mlp.2": "fc2"}
    modules |= {"mlp_ln": "final_layer_norm", "after_norm": "layer_norm", "positional_embedding": "embed_positions"}
    tensors = {}
    for name, values in random_tensors(encoder_shapes(), 2).items():
        path, leaf = name.rsplit(".", 1)
        path = path.replace("encoder.", "audio_tower.", 1).replace("blocks.", "layers.", 1)
        for ours, theirs in modules.items():
            if path.endswith(f".{ours}"):
                path = f"{path.removesuffix(ours)}{theirs}"
                break
        tensors[f"{path}.{leaf}"] = values
    tensors["multi_modal_projector.linear.weight"] = np.zeros((64, E), bfloat16)
    tensors["language_model.model.norm.weight"] = np.zeros(64, bfloat16)
    write_weights(folder, tensors, 1)
    tower = {"num_mel_bins": 128, "d_model": E, "encoder_layers": 1, "encoder_attention_heads": 2}
    tower |= {"encoder_ffn_dim": 4 * E, "max_source_positions": 1500}
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2_audio", "audio_config": tower}))
    return folder
