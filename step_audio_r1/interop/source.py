"""A public checkpoint on disk: which files it is made of, and whether its tensors are those of the model."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from step_audio_r1.errors import BadInput
from step_audio_r1.files import read_json
from step_audio_r1.interop.names import PARTS, Entry, entries, part_of, plain_name
from step_audio_r1.interop.tensor_files import DTYPES, FileTensor, read_header
from step_audio_r1.model import ModelConfig

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

# Parts of Qwen2-Audio that Step-Audio does not have, and a buffer that old exports of Qwen2 wrote.
_FOREIGN = ("multi_modal_projector.", "model.multi_modal_projector.")
_BUFFER = ".rotary_emb.inv_freq"


def read_tensors(source: Path | str, config: ModelConfig, parts: Sequence[str] = PARTS) -> dict[str, FileTensor]:
    """Finds the tensors of `parts` in a checkpoint and holds them to what the model needs; reads no values.

    Names of Step-Audio, of its serving fork, of Qwen2.5 (the decoder) and of Qwen2-Audio (the encoder) are understood.

    Args:
      source: a .safetensors file, or a directory with model.safetensors or an index and its shards.
      config: the sizes that are expected.
      parts: some of encoder, adaptor, decoder; tensors of other known parts are left alone.

    Returns:
      The tensors by their Step-Audio names.

    Raises:
      BadInput: a file is missing, damaged, cut short or not safetensors; the index does not fit its shards; a tensor is
        missing, mis-shaped, unknown, doubled, or of a type that is not float32, bfloat16 or float16.
    """
    source = Path(source)
    tensors = _open(source)
    expected = {name: entry.public_shape for entry in chosen_entries(config, parts) for name in entry.names}
    _check_missing(source, tensors, expected)
    for name, tensor in tensors.items():
        if name in expected:
            _check_tensor(tensor, expected[name])
        elif name == "lm_head.weight" and config.decoder.tied:
            if "decoder" in parts:
                _check_tied(tensor, tensors["model.embed_tokens.weight"])
        elif part_of(name) in (None, *parts):
            raise BadInput(f"{tensor.file}: tensor {tensor.name} is unknown; is the config right?")
    return {name: tensors[name] for name in expected}


def chosen_entries(config: ModelConfig, parts: Sequence[str]) -> list[Entry]:
    """Rows of the table of names for these parts. Raises BadInput for an unknown part."""
    for part in parts:
        if part not in PARTS:
            raise BadInput(f"parts: {part!r} is unknown; expected some of {', '.join(PARTS)}")
    return [entry for entry in entries(config) if entry.part in parts]


def _open(source: Path) -> dict[str, FileTensor]:
    """Every tensor of the checkpoint by its Step-Audio name."""
    files, index = _files(source)
    tensors: dict[str, FileTensor] = {}
    for file in files:
        for name, tensor in read_header(file).items():
            if index is not None and index.get(name) != file.name:
                there = f"says it is in {index[name]}" if name in index else "has no entry for it"
                raise BadInput(f"{file}: tensor {name} is here, but {INDEX} {there}; use the index of these shards")
            plain = plain_name(name)
            if name.startswith(_FOREIGN) or name.endswith(_BUFFER):
                continue
            if plain in tensors:
                raise BadInput(f"{file}: tensor {plain} is also in {tensors[plain].file}; keep one of them")
            tensors[plain] = tensor
    if index is not None:
        for name, file in index.items():
            if plain_name(name) not in tensors and not name.startswith(_FOREIGN) and not name.endswith(_BUFFER):
                raise BadInput(f"{source / file}: tensor {name}, which {INDEX} puts here, is missing; copy it again")
    return tensors


def _files(source: Path) -> tuple[list[Path], dict[str, str] | None]:
    """The safetensors files that make up `source`, and the index {tensor: file name} if there is one."""
    if not source.exists():
        raise BadInput(f"{source}: no such file or directory; give a .safetensors file or its directory")
    if not source.is_dir():
        return [source], None
    if not (source / INDEX).exists():
        if not (source / SINGLE).exists():
            if any(source.glob("*.bin")):
                raise BadInput(f"{source}: its weights are pickled (*.bin); get the checkpoint as safetensors")
            raise BadInput(f"{source}: has neither {SINGLE} nor {INDEX}; is it a checkpoint directory?")
        return [source / SINGLE], None
    index = read_json(source / INDEX)
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise BadInput(f"{source / INDEX}: has no weight_map; the file is damaged or of another kind")
    for name in weight_map.values():
        if not isinstance(name, str) or Path(name).name != name:
            raise BadInput(f"{source / INDEX}: {name!r} is not the name of a file beside it")
    return [source / name for name in sorted(set(weight_map.values()))], weight_map


def _check_missing(source: Path, tensors: Mapping[str, FileTensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    missing = [name for name in expected if name not in tensors]
    if missing:
        name, shape = missing[0], list(expected[missing[0]])
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise BadInput(f"{source}: tensor {name} of shape {shape} is missing{more}; is the config right?")


def _check_tensor(tensor: FileTensor, expected: tuple[int, ...]) -> None:
    where = f"{tensor.file}: tensor {tensor.name}"
    if tensor.shape != expected:
        raise BadInput(f"{where} has shape {list(tensor.shape)}, expected {list(expected)}; is the config right?")
    if tensor.code not in DTYPES:
        raise BadInput(f"{where} is stored as {tensor.code}; expected {', '.join(DTYPES)}: use the unquantised weights")


def _check_tied(head: FileTensor, table: FileTensor) -> None:
    """A tied model may carry its head twice, but then both are the same."""
    same = (head.shape, head.code) == (table.shape, table.code)
    if not same or not all(np.array_equal(_bits(a), _bits(b)) for a, b in zip(head.blocks(), table.blocks())):
        raise BadInput(
            f"{head.file}: tensor {head.name} is not the token table, but config.json says tie_word_embeddings; "
            "set that to false"
        )


def _bits(block: np.ndarray) -> np.ndarray:
    return block.reshape(-1).view(np.uint8)
