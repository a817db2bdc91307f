"""Random weights under public names, the same bits on every machine: only a reference's outputs need storing."""

import functools
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from step_audio_r1.interop import PARTS, import_params
from step_audio_r1.model import ModelConfig

SEED = 18  # none of the first 24 leaves a wider gap between the best and the second token in greedy decoding


def tensors(config: ModelConfig) -> dict[str, np.ndarray]:
    """Every tensor of a model of these sizes, float32, by its public Step-Audio name."""
    shapes = {**_encoder(config), **_adaptor(config), **_decoder(config)}
    return {name: _random(name, shape) for name, shape in shapes.items()}


def params(config: ModelConfig, parts: Sequence[str] = PARTS) -> dict:
    """The same weights as our parameters, by way of a file; each part is read once."""
    return {part: _imported(config, part)[part] for part in parts}


@functools.cache
def _imported(config: ModelConfig, part: str) -> dict:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "model.safetensors"
        save_file(tensors(config), file)
        return import_params(file, config, (part,))


def _random(name: str, shape: tuple[int, ...]) -> np.ndarray:
    # The frozen generator, and uniform draws: these neither change with NumPy's version nor round with the machine.
    uniform = np.random.RandomState([SEED, zlib.crc32(name.encode())]).random_sample(shape)
    noise = np.sqrt(3) * (2 * uniform - 1)  # of unit variance
    if name.endswith("bias"):
        noise = 0.1 * noise
    elif len(shape) == 1:  # the scale of a norm
        noise = 1 + 0.1 * noise
    elif "embed" in name:
        noise = 0.1 * noise  # small enough that the first norm's epsilon shows
    else:
        noise = noise / np.sqrt(np.prod(shape[1:]))
    if name.endswith((".q_proj.weight", ".k_proj.weight")):
        noise = 2 * noise  # attention that picks tokens out: decoding would run in short circles without
    return noise.astype(np.float32)


def _linear(name: str, out: int, into: int, bias: bool = True) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, into)} | ({f"{name}.bias": (out,)} if bias else {})


def _conv(name: str, out: int, into: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, into, 3), f"{name}.bias": (out,)}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _encoder(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    cfg = config.encoder
    E = cfg.d_model
    shapes = {
        **_conv("encoder.conv1", E, cfg.mel_bins),
        **_conv("encoder.conv2", E, E),
        "encoder.positional_embedding.weight": (cfg.max_positions, E),
        **_norm("encoder.after_norm", E),
    }
    for block in (f"encoder.blocks.{i}" for i in range(cfg.layers)):
        shapes |= {
            **_norm(f"{block}.attn_ln", E),
            **_linear(f"{block}.attn.query", E, E),
            **_linear(f"{block}.attn.key", E, E, bias=False),
            **_linear(f"{block}.attn.value", E, E),
            **_linear(f"{block}.attn.out", E, E),
            **_norm(f"{block}.mlp_ln", E),
            **_linear(f"{block}.mlp.0", cfg.ffn, E),
            **_linear(f"{block}.mlp.2", E, cfg.ffn),
        }
    return shapes


def _adaptor(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    E, hidden = config.encoder.d_model, config.adaptor_hidden
    return {
        **_conv("adapter.conv", E, E),
        **_linear("adapter.linear1", hidden, E),
        **_linear("adapter.linear2", config.decoder.d_model, hidden),
    }


def _decoder(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    cfg = config.decoder
    D = cfg.d_model
    shapes = {"model.embed_tokens.weight": (cfg.vocab, D), "model.norm.weight": (D,)}
    if not cfg.tied:
        shapes["lm_head.weight"] = (cfg.vocab, D)
    for layer in (f"model.layers.{i}" for i in range(cfg.layers)):
        shapes |= {
            f"{layer}.input_layernorm.weight": (D,),
            **_linear(f"{layer}.self_attn.q_proj", cfg.heads * cfg.head_dim, D),
            **_linear(f"{layer}.self_attn.k_proj", cfg.kv_heads * cfg.head_dim, D),
            **_linear(f"{layer}.self_attn.v_proj", cfg.kv_heads * cfg.head_dim, D),
            **_linear(f"{layer}.self_attn.o_proj", D, cfg.heads * cfg.head_dim, bias=False),
            f"{layer}.post_attention_layernorm.weight": (D,),
            **_linear(f"{layer}.mlp.gate_proj", cfg.ffn, D, bias=False),
            **_linear(f"{layer}.mlp.up_proj", cfg.ffn, D, bias=False),
            **_linear(f"{layer}.mlp.down_proj", D, cfg.ffn, bias=False),
        }
    return shapes
