"""Public checkpoints <-> ours: tensor names, safetensors files, config.json, what lies beside them."""

from step_audio_r1.interop.directory import CONFIG, companions, copy_companions
from step_audio_r1.interop.exporting import (
    export_params,
    new_directory,
    outgoing_file,
    outgoing_params,
    write_shards,
)
from step_audio_r1.interop.from_parts import parts_config, parts_tensors
from step_audio_r1.interop.importing import import_params
from step_audio_r1.interop.names import PARTS
from step_audio_r1.interop.public_config import (
    decoder_from_public,
    encoder_from_public,
    from_public,
    to_public,
    with_dtype,
)
from step_audio_r1.interop.source import read_tensors
from step_audio_r1.interop.tensor_files import FileTensor, Outgoing, read_header, write_file

__all__ = [
    "CONFIG",
    "PARTS",
    "FileTensor",
    "Outgoing",
    "companions",
    "copy_companions",
    "decoder_from_public",
    "encoder_from_public",
    "export_params",
    "from_public",
    "import_params",
    "new_directory",
    "outgoing_file",
    "outgoing_params",
    "parts_config",
    "parts_tensors",
    "read_header",
    "read_tensors",
    "to_public",
    "with_dtype",
    "write_file",
    "write_shards",
]
