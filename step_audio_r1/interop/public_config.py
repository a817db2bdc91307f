"""Public `config.json` <-> our sizes: Step-Audio (flat or with a nested `text_config`), Qwen2.5, Qwen2-Audio."""

import dataclasses
import math
import typing
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
    "max_positions": ("max_position_embeddings",),
}
_OPTIONAL = {"max_position_embeddings": 32_768}
_ENCODER = {
    "mel_bins": ("n_mels",),
    "max_positions": ("n_audio_ctx",),
    "d_model": ("n_audio_state",),
    "heads": ("n_audio_head",),
    "layers": ("n_audio_layer",),
}
# Qwen2-Audio's `audio_config`: the same encoder in the words of transformers (configuration_qwen2_audio.py).
_TOWER = {
    "mel_bins": ("num_mel_bins",),
    "max_positions": ("max_source_positions",),
    "d_model": ("d_model",),
    "heads": ("encoder_attention_heads",),
    "layers": ("encoder_layers",),
    "ffn": ("encoder_ffn_dim",),
}
# What the network has built in; a config that says otherwise is of another network.
_FIXED_TEXT = {"hidden_act": "silu", "rope_scaling": None, "use_sliding_window": False}
_FIXED_AUDIO = {"kernel_size": 3, "adapter_stride": 2}
_FIXED_TOWER = {"activation_function": "gelu", "scale_embedding": False}

_STEP_AUDIO = ("step_audio_2", "step_audio_qwen2", "step_audio")
_QWEN2 = ("qwen2",)
_QWEN2_AUDIO = ("qwen2_audio", "qwen2_audio_encoder")

# The public tables have this many rows, of which the last ones are unused.
PUBLIC_ROWS, PUBLIC_REAL_ROWS = 158_720, 158_258
_PUBLIC_IDS = {"eos_token_id": [151643, 151645, 151665], "pad_token_id": 151643}


def to_public(config: ModelConfig, dtype: str) -> dict[str, Any]:
    """The flat public config of a model whose weights are stored as `dtype`."""
    public: dict[str, Any] = {"architectures": ["StepAudio2ForCausalLM"], "model_type": _STEP_AUDIO[0]}
    for field, keys in _DECODER.items():
        public.update({key: getattr(config.decoder, field) for key in keys})
    public["head_dim"] = config.decoder.head_dim
    if config.decoder.vocab == PUBLIC_ROWS:
        public.update(_PUBLIC_IDS)
    public.update(_FIXED_TEXT, tie_word_embeddings=config.decoder.tied, torch_dtype=dtype)
    audio = {key: getattr(config.encoder, field) for field, keys in _ENCODER.items() for key in keys}
    public["audio_encoder_config"] = {**audio, "llm_dim": config.decoder.d_model, **_FIXED_AUDIO}
    ours = {field: getattr(config, field) for field in _OURS}
    extra = {"real_vocab": config.decoder.real_vocab, "tied": config.decoder.tied, "encoder_ffn": config.encoder.ffn}
    public[OURS] = {**ours, **extra}
    return public


def with_dtype(public: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """A public config that says that the weights are stored as `dtype`, wherever it says so."""
    out = {"torch_dtype": dtype} if not {"dtype", "torch_dtype"} & public.keys() else {}
    for key, value in public.items():
        if key in ("dtype", "torch_dtype"):  # transformers 5 says it shorter
            value = dtype
        elif key == "text_config" and isinstance(value, dict) and {"dtype", "torch_dtype"} & value.keys():
            value = with_dtype(value, dtype)
        out[key] = value
    return out


def from_public(path: Path | str) -> ModelConfig:
    """Reads the `config.json` of a Step-Audio model (or one of ours); what it leaves open is as in the public models.

    Raises:
      BadInput: the file is missing, not JSON, lacks a size, or describes another network.
    """
    path = Path(path)
    public = _read(path, _STEP_AUDIO)
    text = _part(path, public, "text_config") if public.get("text_config") else public
    audio = _part(path, public, "audio_encoder_config")
    ours = _part(path, public, OURS) if public.get(OURS) else {}
    _check_fixed(path, audio, _FIXED_AUDIO)
    encoder = _sizes(path, audio, _ENCODER, EncoderConfig)
    decoder = _decoder(path, text)
    real_rows = ours.get("real_vocab", PUBLIC_REAL_ROWS if decoder.vocab == PUBLIC_ROWS else None)
    if real_rows is not None:
        _positive(path, f"{OURS}.real_vocab", real_rows)
    # Step-Audio's head is never the token table; a library that rewrote the config may have set the flag by mistake.
    decoder = dataclasses.replace(decoder, tied=ours.get("tied", False) is True, real_vocab=real_rows)
    known = _ours(path, ours)
    if audio.get("llm_dim", decoder.d_model) != decoder.d_model:
        raise BadInput(f"{path}: llm_dim={audio['llm_dim']} is not hidden_size={decoder.d_model}")
    wide = 4 * encoder["d_model"]
    try:
        return ModelConfig(
            encoder=EncoderConfig(**encoder, ffn=_positive(path, "encoder_ffn", ours.get("encoder_ffn", wide))),
            decoder=decoder,
            **{"name": path.absolute().parent.name, **known},
        )
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error


def decoder_from_public(path: Path | str) -> DecoderConfig:
    """Reads the `config.json` of a Qwen2.5 model.

    Raises:
      BadInput: see `from_public`.
    """
    path = Path(path)
    return _decoder(path, _read(path, _QWEN2))


def encoder_from_public(path: Path | str) -> EncoderConfig:
    """Reads the encoder's sizes from the `config.json` of a Qwen2-Audio or a Step-Audio model.

    Raises:
      BadInput: see `from_public`.
    """
    path = Path(path)
    public = _read(path, (*_QWEN2_AUDIO, *_STEP_AUDIO))
    if public.get("model_type") in _STEP_AUDIO or "audio_encoder_config" in public:
        return from_public(path).encoder
    audio = _part(path, public, "audio_config") if "audio_config" in public else public
    # Their configs leave out what equals the library's defaults, and those are the public encoder's.
    _check_fixed(path, audio, _FIXED_TOWER)
    defaults = {_TOWER[field][0]: value for field, value in dataclasses.asdict(EncoderConfig()).items()}
    try:
        return EncoderConfig(**_sizes(path, {**defaults, **audio}, _TOWER, EncoderConfig))
    except BadInput as error:
        raise BadInput(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error


def _read(path: Path, kinds: tuple[str, ...]) -> dict[str, Any]:
    public = read_json(path)
    if not isinstance(public, dict):
        raise BadInput(f"{path}: expected a JSON object")
    kind = public.get("model_type", kinds[0])
    if kind not in kinds:
        raise BadInput(f"{path}: model_type={kind!r} is another model; expected {' or '.join(kinds)}")
    if public.get("quantization_config"):
        raise BadInput(f"{path}: quantization_config: quantised weights are not supported; use the original ones")
    return public


def _part(path: Path, public: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = public.get(key)
    if not isinstance(part, dict):
        raise BadInput(
            f"{path}: {key} is missing or no object; is it a {public.get('model_type', 'public')} checkpoint?"
        )
    return part


def _decoder(path: Path, text: Mapping[str, Any]) -> DecoderConfig:
    rope = text.get("rope_parameters")
    if rope is not None:  # transformers 5 moved the base in here
        if not isinstance(rope, dict) or rope.get("rope_type", "default") != "default":
            raise BadInput(f"{path}: rope_parameters={rope!r}: only rope_type 'default' is supported")
        text = {"rope_theta": rope.get("rope_theta"), **text}
    _check_fixed(path, text, _FIXED_TEXT)
    sizes = _sizes(path, text, _DECODER, DecoderConfig)
    tied = text.get("tie_word_embeddings", False)
    if not isinstance(tied, bool):
        raise BadInput(f"{path}: tie_word_embeddings={tied!r}: expected true or false")
    head_dim = _positive(path, "head_dim", text.get("head_dim") or sizes["d_model"] // sizes["heads"])
    if head_dim % 2:
        raise BadInput(f"{path}: head_dim={head_dim}: is odd; rotary positions need pairs")
    try:
        return DecoderConfig(**sizes, head_dim=head_dim, tied=tied)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error


def _check_fixed(path: Path, part: Mapping[str, Any], fixed: Mapping[str, Any]) -> None:
    for key, value in fixed.items():
        if part.get(key, value) != value:
            raise BadInput(f"{path}: {key}={part[key]!r} is not supported; the network has {value!r}")


def _sizes(path: Path, part: Mapping[str, Any], table: Mapping[str, tuple[str, ...]], kind: type) -> dict[str, Any]:
    kinds = {field.name: field.type for field in dataclasses.fields(kind)}
    out = {}
    for field, keys in table.items():
        values = [part[key] for key in keys if part.get(key) is not None]
        values += [_OPTIONAL[key] for key in keys if key in _OPTIONAL]
        if not values:
            raise BadInput(f"{path}: {keys[0]} is missing; is it the config.json of such a model?")
        value = values[0]
        allowed = (int, float) if kinds[field] is float else (int,)
        out[field] = (float if kinds[field] is float else int)(_positive(path, keys[0], value, allowed))
    return out


def _positive(path: Path, key: str, value: Any, kinds: tuple[type, ...] = (int,)) -> Any:
    if isinstance(value, bool) or not isinstance(value, kinds) or not 0 < value < math.inf:
        raise BadInput(f"{path}: {key}={value!r}: expected a positive number")
    return value


def _ours(path: Path, ours: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of ModelConfig that only our own exports state, each of its type."""
    hints = typing.get_type_hints(ModelConfig)
    out = {}
    for field in _OURS:
        if field not in ours:
            continue
        value, options = ours[field], typing.get_args(hints[field])
        if options and value not in options:
            raise BadInput(f"{path}: {OURS}.{field}={value!r}: expected one of {', '.join(options)}")
        if not options and hints[field] is int:
            _positive(path, f"{OURS}.{field}", value)
        if hints[field] is str and not isinstance(value, str):
            raise BadInput(f"{path}: {OURS}.{field}={value!r}: expected text")
        out[field] = value
    return out
