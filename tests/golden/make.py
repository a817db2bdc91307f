"""Writes outputs.safetensors: what PyTorch and transformers compute for some of the cases.

    pip install -e ".[test,parity]"
    python -m tests.golden.make

Run it from the root of the repository, and only when the cases change: tests/model/test_golden.py holds the package to
these numbers where PyTorch is missing. On one machine the file comes out the same to the byte. On another the last bits
of its floats may differ, by less than the limits in compare.py; tests/parity checks that what is stored still stands.
"""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from tests.golden import reference
from tests.golden.cases import (
    FREQUENCIES,
    FULL_CHUNK,
    GOLDEN_ROWS,
    GOLDEN_SOUND,
    MEL_LENGTHS,
    MODELS,
    PUBLIC,
    ROWS,
    THINNED,
    conversation,
    features,
    mel,
    prompts,
    sound,
)

FILE = Path(__file__).with_name("outputs.safetensors")


def outputs() -> dict[str, np.ndarray]:
    """All of the file's contents, by name."""
    out = {f"frequencies/{theta:g}/{dim}": reference.frequencies(dim, theta) for dim, theta in FREQUENCIES}
    for name, config in MODELS.items():
        for rows in GOLDEN_ROWS:
            out[f"decoder/{name}/{rows}"] = reference.decoder_logits(config, ROWS[rows])[ROWS[rows].segments > 0]
    for count in ("hf", "vllm"):
        for n in MEL_LENGTHS:
            out[f"encoder/{count}/{n}"] = reference.encode(PUBLIC, mel(n), count)
    out["encoder/full chunk"] = reference.encode(PUBLIC, mel(FULL_CHUNK))[::THINNED]
    out["adaptor"] = reference.adapt(PUBLIC, features())
    out["log-mel"] = reference.log_mel(sound(GOLDEN_SOUND))
    out["answer"] = reference.answer_logits(PUBLIC, conversation())
    out["greedy"] = reference.greedy(PUBLIC, prompts()).tokens
    out["greedy answer"] = reference.greedy_answer(PUBLIC, conversation()).tokens
    return out


if __name__ == "__main__":
    save_file({name: np.ascontiguousarray(x) for name, x in outputs().items()}, FILE)
