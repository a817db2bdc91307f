"""Configs and files that the tests of the commands are made of."""

import json
from pathlib import Path

from step_audio_r1.data.world.examples import vocabulary
from step_audio_r1.text import word_level_tokenizer

ENCODER = {"mel_bins": 128, "d_model": 16, "layers": 1, "heads": 2, "ffn": 32, "max_positions": 1500}
DECODER = {"d_model": 16, "layers": 1, "heads": 2, "kv_heads": 1, "head_dim": 8, "ffn": 32, "rope_theta": 1e4}


def tiny_config(encoder: Path, **changes) -> dict:
    """A config of one sft stage; `changes` replace fields at the top."""
    vocab = word_level_tokenizer(vocabulary()).vocab_size
    model = {
        "name": "tiny",
        "encoder": ENCODER,
        "decoder": {"vocab": vocab, **DECODER},
        "adaptor_hidden": 16,
        "compute_dtype": "float32",
        "remat": "none",
    }
    stage = {
        "kind": "sft",
        "steps": 2,
        "batch": {"rows": 8, "tokens": 288, "chunks": 5},
        "optimiser": {"learning_rate": 1e-3},
        "sources": {"world_test:describe": 1.0},
    }
    return {
        "name": "tiny",
        "seed": 0,
        "model": model,
        "encoder": str(encoder),
        "world": {"test": 30},
        "order": ("pretrain",),
        "stages": {"pretrain": stage},
        "evaluation": {"max_new_tokens": 6},
        "checkpoint_every": 1,
        "format": "think",
        **changes,
    }


def write_config(path: Path, config: dict) -> Path:
    """The config as a file for --config."""
    path.parent.mkdir(exist_ok=True)
    text = f"from ml_collections import ConfigDict\n\n\ndef get_config():\n    return ConfigDict({config!r})\n"
    path.write_text(text)
    return path


def write_jsonl(path: Path, rows: list) -> Path:
    """One JSON value a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
