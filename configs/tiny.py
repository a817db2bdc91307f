"""Every stage in seconds, for tests and for trying things out; it learns nothing worth reporting.

step-audio-r1 train --config=configs/tiny.py --workdir=/tmp/tiny
"""

from ml_collections import ConfigDict

from configs import quickstart


def get_config() -> ConfigDict:
    """The quickstart with a decoder of one layer, a few clips and a few steps."""
    config = quickstart.get_config()
    config.name = "tiny"
    config.model.decoder.update({"d_model": 32, "layers": 1, "heads": 2, "kv_heads": 1, "head_dim": 16, "ffn": 48})
    config.model.adaptor_hidden = 32
    config.world.update({"train": 60, "validation": 0, "test": 30, "probe": 0})
    for stage in config.stages.values():
        if stage.kind == "sft":
            stage.update({"steps": 6})
            stage.batch.update({"rows": 8})
        elif stage.kind == "rlvr":
            stage.update({"iterations": 3, "prompts": 4, "samples": 4, "checkpoint_every": 2})
            if stage.get("candidates"):
                stage.update({"candidates": 8, "pass_range": (0, 8)})
        else:
            # Chains of an untrained model are noise: keep them all, so that the next stage has something to read.
            stage.mgrd.update({"questions": 12, "samples": 2, "chunk": 4, "filters": ()})
    config.evaluation.update({"questions": 10, "describe": 4, "budgets": (None, 4), "max_new_tokens": 12})
    config.checkpoint_every = 2
    return config
