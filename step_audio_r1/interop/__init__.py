"""Public checkpoints <-> ours: tensor names, safetensors files, config.json, tokenizer files."""

from step_audio_r1.interop.hf_config import from_public, to_public
from step_audio_r1.interop.names import PARTS
from step_audio_r1.interop.safetensors_io import export_params, import_params, public_tensors
from step_audio_r1.interop.workdir import params_from_hf, params_to_hf, tokenizer_files

__all__ = [
    "PARTS",
    "export_params",
    "from_public",
    "import_params",
    "params_from_hf",
    "params_to_hf",
    "public_tensors",
    "to_public",
    "tokenizer_files",
]
