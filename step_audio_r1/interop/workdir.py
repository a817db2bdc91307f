"""Whole checkpoints in the public layout: weights, sizes and tokenizer together."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from step_audio_r1.errors import BadInput
from step_audio_r1.files import atomic_path
from step_audio_r1.interop.hf_config import from_public
from step_audio_r1.interop.safetensors_io import export_params, import_params
from step_audio_r1.model import ModelConfig

# A public tokenizer is some of these.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)


def params_to_hf(
    params: Mapping[str, Any],
    config: ModelConfig,
    tokenizer: Path | str | None,
    out: Path | str,
    dtype: str = "bfloat16",
) -> None:
    """Writes a checkpoint directory that `params_from_hf` and public loaders of Step-Audio read.

    Args:
      params: all parts; see `export_params`.
      config: their sizes.
      tokenizer: directory whose tokenizer files are copied along; None leaves them out.
      out: a new or empty directory.
      dtype: of the stored weights.

    Raises:
      BadInput: `out` has files already, or `tokenizer` holds no tokenizer file.
    """
    copied = [] if tokenizer is None else tokenizer_files(tokenizer)
    export_params(params, config, out, dtype=dtype)
    for file in copied:
        with atomic_path(Path(out) / file.name) as work:
            shutil.copyfile(file, work)


def params_from_hf(
    directory: Path | str, config: ModelConfig | None = None, shardings: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], ModelConfig]:
    """Reads a public checkpoint directory.

    Args:
      directory: with config.json and the weights.
      config: sizes; None reads them from config.json (flat or with a nested `text_config`).
      shardings: see `import_params`.

    Returns:
      float32 parameters of all parts, and the sizes.

    Raises:
      BadInput: see `import_params` and `from_public`.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise BadInput(f"{directory}: not a directory; give one with config.json and safetensors files")
    config = from_public(directory / "config.json") if config is None else config
    return import_params(directory, config, shardings=shardings), config


def tokenizer_files(directory: Path | str) -> list[Path]:
    """The tokenizer files of a checkpoint directory.

    Raises:
      BadInput: there is none.
    """
    found = [Path(directory) / name for name in TOKENIZER_FILES if (Path(directory) / name).is_file()]
    if not found:
        raise BadInput(f"{directory}: has no tokenizer file (looked for {', '.join(TOKENIZER_FILES)})")
    return found
