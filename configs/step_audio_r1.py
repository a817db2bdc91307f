r"""The whole recipe on a public model and a pod: cold start, RLVR on text, rounds of MGRD, each with its own RLVR.

step-audio-r1 prepare --source=text.jsonl --prompts=step_audio --out=data/text      # and data/sound: your own manifests
step-audio-r1 convert --from_hf=Step-Audio-R1 --workdir=runs/r1 --config=configs/step_audio_r1.py
step-audio-r1 train --workdir=runs/r1 --config=configs/step_audio_r1.py
step-audio-r1 aot --config=configs/step_audio_r1.py --topology=v5p:4x4x4 --step=sft     # does it fit? No TPU needed

Sized for the 33B model on 64 chips (v5p 4x4x4); `:step_audio_2_mini` after the file name takes the 8B model. What the
report leaves open is set as in section 9 of its followers' recipes (Open-Reasoner-Zero, Step-Audio 2). The prompts of
distillation stand in step_audio_r1/mgrd/prompts; copy them, edit them, and name the copies in `prompt_files`.
"""

from ml_collections import ConfigDict

from configs import models

ROWS = 64  # one for each chip


def _adamw(learning_rate: float, final: float, **more: float) -> dict:
    return {
        "learning_rate": learning_rate,
        "warmup_steps": 0,
        "final_fraction": final,
        "b2": 0.95,
        "weight_decay": 0.0,
        "moments": "float32",
        "offload": False,
        **more,
    }


def _rlvr(sources: dict[str, float], reward: dict, **more: int) -> dict:
    """60 iterations of 64 prompts x 16 samples, 10,240 tokens at most; one actor update a rollout."""
    return {
        "kind": "rlvr",
        "iterations": 60,
        "prompts": 64,
        "samples": 16,
        "sources": sources,
        "sampling": {"max_new_tokens": 8192},
        "ppo": {
            "actor": _adamw(1e-6, 1.0),
            "critic": _adamw(2.5e-6, 1.0),
            "policy_minibatches": 1,
            "critic_minibatches": 16,
            # 16 rows a chip and update of the actor, 1 of the critic; one row at a time fits beside both states.
            "policy_micro_batches": 16,
            "critic_micro_batches": 1,
            "critic_warmup": 2,
        },
        "reward": reward,
        "max_tokens": 10_240,
        "checkpoint_every": 5,
        **more,
    }


def distil(number: int) -> dict:
    """Eq. 4: chains of questions that need their sound, filtered from the cheapest test to the dearest."""
    return {
        "kind": "distil",
        "round": number,
        "source": "sound:questions",
        "contribution": {"samples": 4, "max_right_without": 0.5, "candidates": 40_000},
        "mgrd": {
            "questions": 20_000,
            "samples": 8,
            "prompt_files": {"en": "acoustic.en.txt", "zh": "acoustic.zh.txt"},
            "sampling": {"max_new_tokens": 8192, "min_think_tokens": 1},
            # "judge" goes before "correctness" once `judge` names an endpoint: {"endpoint": {"base_url", "model"}}.
            "filters": (
                *("form", "self_cognition", "lexical", "claims"),
                *("coherence", "correctness", "counterfactual"),
            ),
            "min_claim_precision": 1.0,
            "min_audio_gain": 0.05,
            "min_kept": 1000,
            "chunk": 512,
        },
    }


def stem() -> dict[str, dict]:
    """What `convert` brought in, the cold start (Eq. 1), RLVR on text (Eqs. 2-3)."""
    return {
        # The first stage stands for what `convert` brought in.
        "imported": {**_cold_start(), "steps": 0},
        "cold_start": _cold_start(),
        "text_rlvr": _rlvr({"text:examples": 1.0}, {}),
    }


def _cold_start() -> dict:
    return {
        "kind": "sft",
        "steps": 2000,
        # 524 288 tokens a step. 25 s of sound are one chunk of 313 tokens.
        "batch": {"rows": ROWS, "tokens": 8192, "chunks": 16, "packing_bins": 16, "shards": 0},
        "micro_batches": 1,
        "optimiser": _adamw(1e-5, 0.1, warmup_steps=50),
        # The report's 1 B tokens of text to 4 B of audio.
        "sources": {"text:examples": 0.2, "sound:examples": 0.8},
    }


def mgrd_sft(number: int) -> dict:
    """Eq. 5: the round's chains and those of text, as much of each."""
    return {
        **_cold_start(),
        "round": number,
        "steps": 200,
        "start_from": "",  # "text_rlvr": each round from the cold start again
        "sources": {f"chains:{number}": 0.5, "text:examples": 0.5},
    }


def mgrd_rlvr(number: int) -> dict:
    """Eqs. 6-8: sound to text as 3 to 2; of 5000 each those that are right 3 to 6 times of 8."""
    sources = {"sound:questions": 0.6, "text:examples": 0.4}
    return _rlvr(sources, {"correct_weight": 0.8, "format_weight": 0.2}, round=number, candidates=5000)


def dpo() -> dict:
    """Self-cognition: 8000 pairs of the model's own outputs; a row holds a pair."""
    return {
        "kind": "dpo",
        "steps": 125,
        "sources": {"sound:questions": 1.0},
        "questions": 8000,
        "samples": 8,
        "pairs": 8000,
        "pairs_per_question": 2,
        "sampling": {"max_new_tokens": 8192, "min_think_tokens": 1},
        "dpo": {"beta": 0.1},
        "rows": ROWS,
        "max_tokens": 16_384,
        "optimiser": _adamw(5e-7, 0.1, warmup_steps=10),
    }


def get_config(model: str = "step_audio_r1", rounds: int = 3) -> ConfigDict:
    """Cold start (Eq. 1), text RLVR (Eqs. 2-3), `rounds` of MGRD (Eqs. 4-8), DPO; on datasets "text" and "sound"."""
    stages = stem()
    for number in range(1, rounds + 1):
        stages[f"distil_{number}"] = distil(number)
        stages[f"mgrd_{number}_sft"] = mgrd_sft(number)
        stages[f"mgrd_{number}_rlvr"] = mgrd_rlvr(number)
    stages["dpo"] = dpo()
    return run(f"{model}: cold start, RLVR, {rounds} rounds of MGRD", model, stages)


def run(name: str, model: str, stages: dict[str, dict]) -> ConfigDict:
    """The run of these stages for a function of configs/models.py."""
    return ConfigDict(
        {
            "name": name,
            "seed": 0,
            "model": getattr(models, model)(),
            "encoder": "",  # comes with the checkpoint
            "datasets": {"text": "data/text", "sound": "data/sound"},
            "mesh": {"data": 1, "fsdp": -1, "tensor": 1},
            # Decoding holds 61 GiB of weights over the tensor axis; 4 ways leave room for caches and both states.
            "decode_mesh": {"data": 1, "fsdp": -1, "tensor": 4},
            "order": tuple(stages),
            "stages": stages,
            "checkpoint_every": 100,
            "keep_checkpoints": 2,
            "log_every": 10,
            "profile": {"start": 0, "steps": 5},  # trace 5 steps from this one on; 0: none
            "decode_rows": 512,
            "prompts": "step_audio",
        }
    )
