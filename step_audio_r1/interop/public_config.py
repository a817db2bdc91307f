"""Public `config.json` <-> ModelConfig. Reads the flat (33B) and the nested `text_config` (8B) shape."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from step_audio_r1.errors import BadInput
from step_audio_r1.files import read_json
from step_audio_r1.model import DecoderConfig, EncoderConfig, ModelConfig

# What the public keys cannot say is kept under this key of ours; public readers ignore it.
OURS = "step_audio_r1"
_OURS = ("name", "adaptor_hidden", "token_count", "compute_dtype", "remat", "head_chunk")

# Field of ours -> public keys, the first one that is there wins; all are written.
_DECODER = {
    "vocab": ("vocab_size",),
    "d_model": ("hidden_size",),
    "layers": ("num_hidden_layers",),
    "heads": ("num_attention_heads",),
    "kv_heads": ("num_attention_groups", "num_key_value_heads"),
    "ffn": ("intermediate_size",),
    "rms_eps": ("rms_norm_eps",),
    "rope_theta": ("rope_theta",),
}
_ENCODER = {
    "mel_bins": ("n_mels",),
    "max_positions": ("n_audio_ctx",),
    "d_model": ("n_audio_state",),
    "heads": ("n_audio_head",),
    "layers": ("n_audio_layer",),
}
# What the network has built in; a config that says otherwise is of another network.
_FIXED_TEXT = {"hidden_act": "silu", "rope_scaling": None, "use_sliding_window": False}
_FIXED_AUDIO = {"kernel_size": 3, "adapter_stride": 2}

# The public tables have this many rows, of which the last ones are unused.
_PUBLIC_ROWS, _PUBLIC_REAL_ROWS = 158_720, 158_258
_MAX_POSITIONS = {"step_audio_r1": 65_536}
_MAX_POSITIONS_DEFAULT = 16_384  # Step-Audio-2-mini


def to_public(config: ModelConfig, dtype: str) -> dict[str, Any]:
    """The flat public config of a model whose weights are stored as `dtype`."""
    public: dict[str, Any] = {"architectures": ["StepAudio2ForCausalLM"], "model_type": "step_audio_2"}
    for field, keys in _DECODER.items():
        public.update({key: getattr(config.decoder, field) for key in keys})
    public["head_dim"] = config.decoder.head_dim
    public["max_position_embeddings"] = _MAX_POSITIONS.get(config.name, _MAX_POSITIONS_DEFAULT)
    if config.decoder.vocab == _PUBLIC_ROWS:
        public.update(eos_token_id=[151643, 151645, 151665], pad_token_id=151643)
    public.update(_FIXED_TEXT, tie_word_embeddings=False, torch_dtype=dtype)
    audio = {key: getattr(config.encoder, field) for field, keys in _ENCODER.items() for key in keys}
    public["audio_encoder_config"] = {**audio, "llm_dim": config.decoder.d_model, **_FIXED_AUDIO}
    ours = {field: getattr(config, field) for field in _OURS}
    public[OURS] = {**ours, "real_vocab": config.decoder.real_vocab, "encoder_ffn": config.encoder.ffn}
    return public


def from_public(path: Path | str) -> ModelConfig:
    """Reads a public `config.json` (or one of ours); what it leaves open gets the public models' values.

    Raises:
      BadInput: the file is missing, not JSON, lacks a size, or describes another network.
    """
    path = Path(path)
    public = read_json(path)
    if not isinstance(public, dict):
        raise BadInput(f"{path}: expected a JSON object")
    text = public.get("text_config") or public
    audio = public.get("audio_encoder_config")
    ours = public.get(OURS) or {}
    for name, part in (("text_config", text), ("audio_encoder_config", audio), (OURS, ours)):
        if not isinstance(part, dict):
            raise BadInput(f"{path}: {name} is missing or no object; is it a Step-Audio checkpoint?")
    for part, fixed in ((text, _FIXED_TEXT), (audio, _FIXED_AUDIO)):
        for key, value in fixed.items():
            if part.get(key, value) != value:
                raise BadInput(f"{path}: {key}={part[key]!r} is not supported; the network has {value!r}")
    decoder = _sizes(path, text, _DECODER)
    encoder = _sizes(path, audio, _ENCODER)
    known = {field: ours[field] for field in _OURS if field in ours}
    real_rows = _PUBLIC_REAL_ROWS if decoder["vocab"] == _PUBLIC_ROWS else None
    try:
        config = ModelConfig(
            encoder=EncoderConfig(**encoder, ffn=ours.get("encoder_ffn", 4 * encoder["d_model"])),
            decoder=DecoderConfig(
                **decoder,
                head_dim=text.get("head_dim") or decoder["d_model"] // decoder["heads"],
                real_vocab=ours.get("real_vocab", real_rows),
            ),
            **{"name": path.absolute().parent.name, **known},
        )
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error
    if audio.get("llm_dim", config.decoder.d_model) != config.decoder.d_model:
        raise BadInput(f"{path}: llm_dim={audio['llm_dim']} is not hidden_size={config.decoder.d_model}")
    return config


def _sizes(path: Path, part: Mapping[str, Any], table: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    fields = (*dataclasses.fields(EncoderConfig), *dataclasses.fields(DecoderConfig))
    kinds = {field.name: field.type for field in fields}
    out = {}
    for field, keys in table.items():
        values = [part[key] for key in keys if part.get(key) is not None]
        if not values:
            raise BadInput(f"{path}: {keys[0]} is missing; is it a Step-Audio config.json?")
        value = values[0]
        allowed = (int, float) if kinds[field] is float else (int,)
        if isinstance(value, bool) or not isinstance(value, allowed) or value <= 0:
            raise BadInput(f"{path}: {keys[0]}={value!r}: expected a positive number")
        out[field] = float(value) if kinds[field] is float else value
    return out
