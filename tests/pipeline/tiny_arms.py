"""configs/ablations.py in seconds, in any of its arms, with two rounds and without DPO."""

from ml_collections import ConfigDict

from configs import ablations


def get_config(arm: str = "restart") -> ConfigDict:
    """An arm with a decoder of one layer. What it samples is noise: no filter runs that drops noise, and no DPO."""
    config = ablations.get_config(arm)
    config.name = f"tiny {arm}"
    config.order = tuple(name for name in config.order if name != "dpo" and "_3" not in name)
    config.stages = {name: config.stages[name] for name in config.order}
    config.model.decoder.update({"d_model": 32, "layers": 1, "heads": 2, "kv_heads": 1, "head_dim": 16, "ffn": 48})
    config.model.adaptor_hidden = 32
    config.world.update({"train": 60, "validation": 0, "test": 30, "probe": 0, "identity": 40})
    for stage in config.stages.values():
        if stage.kind in ("sft", "knowledge"):
            stage.sources = {name: weight for name, weight in stage.sources.items() if name != "chains:3"}
            stage.update({"steps": 4})
            stage.batch.update({"rows": 8})
        elif stage.kind == "rlvr":
            stage.update({"iterations": 2, "prompts": 4, "samples": 4, "checkpoint_every": 1})
            if stage.get("candidates"):
                stage.update({"candidates": 8, "pass_range": (0, 8)})
        elif stage.kind == "distil":
            if "contribution" in stage:
                stage.contribution.update({"samples": 2, "max_right_without": 1.0, "candidates": 130})
            stage.mgrd.update(
                {"questions": 12, "samples": 2, "chunk": 4, "filters": ("self_cognition", "counterfactual")}
            )
            stage.mgrd.min_audio_gain = -1e9
    config.evaluation.update({"questions": 10, "describe": 4, "attention": 4, "max_new_tokens": 12})
    config.evaluation.update({"budgets": (None, 4), "votes": (1, 2)})
    config.checkpoint_every = 2
    return config
