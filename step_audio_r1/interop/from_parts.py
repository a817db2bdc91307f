"""A model of Step-Audio's shape from public parts: Qwen2-Audio's encoder, any Qwen2.5, a fresh adaptor.

For those who start without StepFun's weights. The token table (and the head, where the decoder has one of its own)
keeps the rows that Qwen2.5's tokenizer uses, and gets new ones for the tokens that Step-Audio adds.
"""

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from step_audio_r1.errors import BadInput
from step_audio_r1.interop.directory import CONFIG
from step_audio_r1.interop.exporting import outgoing_file, outgoing_params
from step_audio_r1.interop.public_config import PUBLIC_ROWS, decoder_from_public, encoder_from_public
from step_audio_r1.interop.source import read_tensors
from step_audio_r1.interop.tensor_files import BLOCK_BYTES, FileTensor, Outgoing
from step_audio_r1.model import Adaptor, ModelConfig
from step_audio_r1.text import Tokenizer

TABLES = ("model.embed_tokens.weight", "lm_head.weight")


def parts_config(encoder: Path, decoder: Path, tokenizer: Tokenizer) -> ModelConfig:
    """Sizes of the model: those of its parts, the public number of rows, the tokenizer's entries real.

    Args:
      encoder: directory of a Qwen2-Audio or Step-Audio checkpoint.
      decoder: directory of a Qwen2.5 checkpoint.
      tokenizer: the new model's.

    Raises:
      BadInput: a config.json is missing, damaged or of another network.
    """
    sizes = decoder_from_public(decoder / CONFIG)
    rows = max(PUBLIC_ROWS, tokenizer.vocab_size)
    sizes = dataclasses.replace(sizes, vocab=rows, real_vocab=tokenizer.vocab_size)
    return ModelConfig(f"{decoder.absolute().name}-audio", encoder_from_public(encoder / CONFIG), sizes)


def parts_tensors(
    encoder: Path, decoder: Path, config: ModelConfig, tokenizer: Tokenizer, seed: int
) -> tuple[list[Outgoing], list[Outgoing]]:
    """The model's tensors under Step-Audio's names: the encoder's, and adaptor and decoder.

    Values that the parts have stay as they are stored, byte for byte. New rows are normal with standard deviation
    d^-0.5, the adaptor is initialised like any of ours; both in the decoder's type.

    Args:
      encoder, decoder: as in `parts_config`.
      config: what it returned.
      tokenizer: the new model's; on the ids of the decoder's own it must agree with that.
      seed: of the new values.

    Raises:
      BadInput: see `read_tensors`; or the tokenizers differ.
    """
    kept = _common_ids(Tokenizer.load(decoder), tokenizer, decoder)
    own_rows = decoder_from_public(decoder / CONFIG).vocab
    if own_rows < kept:
        raise BadInput(f"{decoder}: its tokenizer has {kept} entries, its token table {own_rows} rows")
    theirs = dataclasses.replace(config, decoder=dataclasses.replace(config.decoder, vocab=own_rows, real_vocab=None))
    heard = read_tensors(encoder, theirs, ("encoder",))
    read = read_tensors(decoder, theirs, ("decoder",))
    out = []
    for number, (name, tensor) in enumerate(read.items()):
        if name in TABLES:
            rows = functools.partial(_extended, tensor, kept, config.decoder.vocab, (seed, number))
            out.append(Outgoing(name, tensor.code, (config.decoder.vocab, *tensor.shape[1:]), rows))
        else:
            out.append(outgoing_file(tensor, name))
    dtype = read[TABLES[0]].dtype.name
    adaptor = outgoing_params({"adaptor": _fresh_adaptor(config, seed)}, config, ("adaptor",), lambda _: dtype)
    return [outgoing_file(tensor, name) for name, tensor in heard.items()], [*adaptor, *out]


def _common_ids(theirs: Tokenizer, ours: Tokenizer, decoder: Path) -> int:
    """Entries of the decoder's tokenizer. Raises BadInput if an id of it means another text in ours."""
    names = {number: name for name, number in ours.inner.get_vocab(with_added_tokens=True).items()}
    for name, number in theirs.inner.get_vocab(with_added_tokens=True).items():
        if names.get(number) != name:
            raise BadInput(
                f"{decoder}: its tokenizer has {name!r} as id {number}, the new model's has {names.get(number)!r}; "
                "use a tokenizer that extends it"
            )
    return theirs.vocab_size


def _extended(tensor: FileTensor, kept: int, rows: int, seed: tuple[int, int]) -> Iterator[np.ndarray]:
    """Rows [0, kept) of a table as they are, then new ones."""
    width = tensor.shape[1]
    step = max(1, BLOCK_BYTES // (4 * width))
    for first in range(0, kept, step):
        yield tensor.rows(first, min(first + step, kept))
    random = np.random.default_rng(seed)
    for first in range(kept, rows, step):
        count = min(step, rows - first)
        yield (random.standard_normal((count, width), np.float32) * width**-0.5).astype(tensor.dtype)


def _fresh_adaptor(config: ModelConfig, seed: int):
    adaptor = Adaptor(config.adaptor_hidden, config.decoder.d_model, jnp.float32)
    frames = jnp.zeros((1, 4, config.encoder.d_model))
    return nn.unbox(jax.jit(adaptor.init)(jax.random.key(seed), frames)["params"])
