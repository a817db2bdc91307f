"""What PyTorch and transformers compute for the cases, from the same weights.

Imported only where both are installed (`pip install -e ".[parity]"`).
"""

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

# The frequencies of the rotary embedding: PyTorch's vectorised power is off by a bit here and there, and where depends
# on the machine's vectors. Its scalar one rounds correctly everywhere.
os.environ["ATEN_CPU_CAPABILITY"] = "default"

import torch
from torch import nn
from transformers import (
    Qwen2AudioEncoder,
    Qwen2AudioEncoderConfig,
    Qwen2Config,
    Qwen2ForCausalLM,
    WhisperFeatureExtractor,
)
from transformers.models.qwen2.modeling_qwen2 import Qwen2RotaryEmbedding

from step_audio_r1.audio import TokenCount, mel_frames
from step_audio_r1.model import ModelConfig
from tests.golden import weights
from tests.golden.cases import NEW_TOKENS, Conversation, Rows

DType = Literal["float32", "bfloat16"]

torch.set_num_threads(1)  # sums in one order: the same bits at every run

# Step-Audio's names and those of transformers' Qwen2AudioEncoder.
_ENCODER_NAMES = {
    "encoder.": "",
    "positional_embedding": "embed_positions",
    "after_norm": "layer_norm",
    "blocks.": "layers.",
    "attn_ln": "self_attn_layer_norm",
    "attn.query": "self_attn.q_proj",
    "attn.key": "self_attn.k_proj",
    "attn.value": "self_attn.v_proj",
    "attn.out": "self_attn.out_proj",
    "mlp_ln": "final_layer_norm",
    "mlp.0": "fc1",
    "mlp.2": "fc2",
}


def _load(module: nn.Module, tensors: Mapping[str, np.ndarray]) -> nn.Module:
    module.load_state_dict({name: torch.from_numpy(x) for name, x in tensors.items()}, strict=True)
    return module.eval()


@functools.cache
def decoder(config: ModelConfig, dtype: DType = "float32", stored: DType = "float32") -> Qwen2ForCausalLM:
    """transformers' Qwen2 with its plainest attention, its weights rounded to `stored`, then computing in `dtype`."""
    cfg = config.decoder
    sizes = Qwen2Config(
        vocab_size=cfg.vocab,
        hidden_size=cfg.d_model,
        intermediate_size=cfg.ffn,
        num_hidden_layers=cfg.layers,
        num_attention_heads=cfg.heads,
        num_key_value_heads=cfg.kv_heads,
        head_dim=cfg.head_dim,
        max_position_embeddings=65_536,
        rms_norm_eps=cfg.rms_eps,
        rope_parameters={"rope_type": "default", "rope_theta": cfg.rope_theta},
        tie_word_embeddings=cfg.tied,
        attn_implementation="eager",
    )
    found = {name: x for name, x in weights.tensors(config).items() if name.startswith(("model.", "lm_head."))}
    if cfg.tied:
        found["lm_head.weight"] = found["model.embed_tokens.weight"]
    model = _load(Qwen2ForCausalLM(sizes), found)
    # Not `model.to`: that would round the frequencies too, which a model loaded in bfloat16 keeps in float32.
    for parameter in model.parameters():
        parameter.data = parameter.data.to(getattr(torch, stored)).to(getattr(torch, dtype))
    return model


@torch.no_grad()
def decoder_logits(config: ModelConfig, rows: Rows, dtype: DType = "float32", stored: DType = "float32") -> np.ndarray:
    """float32 logits [B, T, V]; see `decoder`."""
    tokens, positions, segments = (torch.from_numpy(x).long() for x in rows)
    # Without a mask, transformers reads packed rows off the positions.
    mask = None if rows.segments.max() > 1 else segments
    out = decoder(config, dtype, stored)(input_ids=tokens, position_ids=positions, attention_mask=mask, use_cache=False)
    return out.logits.float().numpy()


def frequencies(head_dim: int, theta: float) -> np.ndarray:
    """f32[C/2], as transformers computes them for Qwen2."""
    rope = {"rope_type": "default", "rope_theta": theta}
    found, _ = Qwen2RotaryEmbedding.compute_default_rope_parameters(
        Qwen2Config(head_dim=head_dim, rope_parameters=rope)
    )
    return found.numpy()


def _encoder_name(name: str) -> str:
    for ours, theirs in _ENCODER_NAMES.items():
        name = name.replace(ours, theirs)
    return name


@functools.cache
def encoder(config: ModelConfig, positions: int) -> Qwen2AudioEncoder:
    """transformers' Qwen2-Audio encoder for chunks of exactly 2 * `positions` mel frames, the only length it takes."""
    cfg = config.encoder
    sizes = Qwen2AudioEncoderConfig(
        num_mel_bins=cfg.mel_bins,
        encoder_layers=cfg.layers,
        encoder_attention_heads=cfg.heads,
        encoder_ffn_dim=cfg.ffn,
        d_model=cfg.d_model,
        max_source_positions=positions,
        attn_implementation="eager",
    )
    found = weights.tensors(config)
    found = {_encoder_name(name): x for name, x in found.items() if name.startswith("encoder.")}
    found["embed_positions.weight"] = found["embed_positions.weight"][:positions]
    return _load(Qwen2AudioEncoder(sizes), found)


@torch.no_grad()
def encode(config: ModelConfig, mel_FM: np.ndarray, count: TokenCount = "hf") -> np.ndarray:
    """Features [S, E] of one chunk alone."""
    frames = len(mel_FM)
    positions = (frames + 1) // 2
    model = encoder(config, positions)
    mask = torch.zeros(1, 1, positions, positions)
    unmasked = frames - 2 if count == "hf" else frames
    mask[..., (unmasked + 1) // 2 :] = -1e10

    def end(module: nn.Module, inputs: tuple, out: torch.Tensor) -> torch.Tensor:
        # A chunk of odd length is one frame longer here: the second convolution shall find the zeros of its own border.
        return torch.cat([out[..., :frames], torch.zeros_like(out[..., frames:])], -1)

    hook = model.conv1.register_forward_hook(end)
    even = np.pad(mel_FM, ((0, 2 * positions - frames), (0, 0)))
    out = model(torch.from_numpy(even.T[None]), attention_mask=mask).last_hidden_state
    hook.remove()
    return out[0].numpy()


class Adaptor(nn.Module):
    """The released adaptor: convolution, GELU, linear, ReLU, linear."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        width = config.encoder.d_model
        self.conv = nn.Conv1d(width, width, kernel_size=3, stride=2, padding=1)
        self.linear1 = nn.Linear(width, config.adaptor_hidden)
        self.linear2 = nn.Linear(config.adaptor_hidden, config.decoder.d_model)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, S, E] -> [N, A, D]."""
        x = nn.functional.gelu(self.conv(x.transpose(1, 2))).transpose(1, 2)
        return self.linear2(nn.functional.relu(self.linear1(x)))


@torch.no_grad()
def adapt(config: ModelConfig, features_NSE: np.ndarray) -> np.ndarray:
    """Audio embeddings [N, A, D]."""
    found = weights.tensors(config)
    found = {name.removeprefix("adapter."): x for name, x in found.items() if name.startswith("adapter.")}
    return _load(Adaptor(config), found)(torch.from_numpy(features_NSE)).numpy()


@functools.cache
def whisper() -> WhisperFeatureExtractor:
    """Whisper's front end with the bins of its third large version."""
    return WhisperFeatureExtractor(feature_size=128)


def log_mel(wave: np.ndarray) -> np.ndarray:
    """f32[F, 128]: the frames that we define of the 3000 that Whisper makes of any chunk."""
    found = whisper()(wave, sampling_rate=16_000, return_tensors="np")["input_features"][0]
    return found.T[: mel_frames(len(wave))]


def _heard(config: ModelConfig, talk: Conversation, stored: type = np.float32) -> torch.Tensor:
    """Embeddings [1, T, D]: tokens, and the sounds in their places; features pass through the type `stored`."""
    x_TD = decoder(config).get_input_embeddings()(torch.from_numpy(talk.tokens).long())
    for chunk, wave in enumerate(talk.sounds):
        features_SE = encode(config, log_mel(wave)).astype(stored).astype(np.float32)
        here = torch.from_numpy(talk.chunks == chunk)
        x_TD[here] = torch.from_numpy(adapt(config, features_SE[None])[0, : here.sum()])
    return x_TD[None]


@torch.no_grad()
def answer_logits(config: ModelConfig, talk: Conversation) -> np.ndarray:
    """float32 logits [T, V] of the parts one after another, from the waveforms on."""
    return decoder(config)(inputs_embeds=_heard(config, talk), use_cache=False).logits[0].numpy()


class Greedy(NamedTuple):
    """Greedy continuations."""

    tokens: np.ndarray  # int32[P, 64]
    lead: np.ndarray  # f32[P, 64]: of the best logit over the second, as a part of the largest of all


@torch.no_grad()
def _continue(config: ModelConfig, prompt: Mapping[str, torch.Tensor]) -> Greedy:
    out = decoder(config).generate(
        **prompt,
        do_sample=False,
        max_new_tokens=NEW_TOKENS,
        pad_token_id=0,
        output_logits=True,
        return_dict_in_generate=True,
    )
    logits_PTV = torch.stack(out.logits, 1)
    best = logits_PTV.topk(2).values
    tokens = out.sequences[:, -NEW_TOKENS:].numpy().astype(np.int32)
    return Greedy(tokens, ((best[..., 0] - best[..., 1]) / logits_PTV.abs().max()).numpy())


def greedy(config: ModelConfig, prompts: Sequence[np.ndarray]) -> Greedy:
    """By transformers' own decoding, prompts padded on the left."""
    width = max(map(len, prompts))
    rows = np.stack([np.pad(p, (width - len(p), 0)) for p in prompts])
    mask = np.arange(width) >= width - np.array([[len(p)] for p in prompts])
    return _continue(
        config, {"input_ids": torch.from_numpy(rows).long(), "attention_mask": torch.from_numpy(mask).long()}
    )


@torch.no_grad()
def greedy_answer(config: ModelConfig, talk: Conversation) -> Greedy:
    """The same for two recordings with text around them; features in float16, as our prompts carry them."""
    embeddings = _heard(config, talk, np.float16)
    return _continue(config, {"inputs_embeds": embeddings, "attention_mask": torch.ones(embeddings.shape[:2]).long()})
