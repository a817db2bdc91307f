"""The whole recipe in 5 to 7 minutes on two idle CPU cores: pre-training, cold start, RLVR, one MGRD round, evaluation.

make quickstart
step-audio-r1 train --config=configs/quickstart.py --workdir=runs/quickstart
"""

from ml_collections import ConfigDict

from configs.models import miniature
from configs.recipe import cold_start, distil, mgrd_sft, pretrain, rlvr, text_rlvr


def get_config() -> ConfigDict:
    """The recipe of configs/miniature.py with fewer clips and steps, one round, and less measured."""
    return ConfigDict(
        {
            "name": "quickstart",
            "seed": 0,
            "model": miniature(vocab=142),
            "encoder": "shipped",  # frozen, as in the public models; configs/miniature_encoder.py makes it
            # Choices are made with --config.evaluation.split=validation; the test clips are for the report.
            "world": {"train": 4000, "validation": 600, "test": 600, "probe": 8},
            "order": ("pretrain", "cold_start", "text_rlvr", "distil_1", "mgrd_1_sft", "mgrd_1_rlvr"),
            "stages": {
                "pretrain": pretrain(steps=350),
                "cold_start": cold_start(steps=500),
                "text_rlvr": text_rlvr(iterations=4),
                "distil_1": distil(1, questions=1200),
                "mgrd_1_sft": mgrd_sft(1, steps=220),
                "mgrd_1_rlvr": rlvr(1, iterations=6),
            },
            "evaluation": {
                "split": "test",
                "questions": 600,
                "describe": 150,
                "arms": ("direct", "thinking"),
                "budgets": (None, 0, 4, 8, 16),
                "conditions": ("real", "silence", "swapped"),
                "max_new_tokens": 48,
            },
            "mesh": {"data": -1, "fsdp": 1, "tensor": 1},
            "checkpoint_every": 50,
            "log_every": 10,
            "profile": {"start": 0, "steps": 5},  # trace 5 steps from this one on; 0: none
        }
    )
