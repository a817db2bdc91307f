"""Makes, converts, loads and exports a large synthetic checkpoint; prints the peak of the process's memory.

python memory_worker.py make|convert|load|export FOLDER
"""

import json
import sys
from pathlib import Path

import numpy as np
from ml_dtypes import bfloat16

GIB = 2**30
ROWS, D, LAYERS, HEADS, KV, HEAD_DIM, FFN = 158_720, 2048, 13, 16, 2, 128, 11_008
E = 64


def shapes() -> dict[str, tuple[int, ...]]:
    """The public tensor shapes: 13 layers of Qwen2.5-3B's width with both token tables, and a small encoder."""
    out: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (ROWS, D), "lm_head.weight": (ROWS, D)}
    for i in range(LAYERS):
        at = f"model.layers.{i}"
        out |= {
            f"{at}.self_attn.q_proj.weight": (HEADS * HEAD_DIM, D),
            f"{at}.self_attn.q_proj.bias": (HEADS * HEAD_DIM,),
        }
        for n in "kv":
            out |= {
                f"{at}.self_attn.{n}_proj.weight": (KV * HEAD_DIM, D),
                f"{at}.self_attn.{n}_proj.bias": (KV * HEAD_DIM,),
            }
        out |= {f"{at}.self_attn.o_proj.weight": (D, HEADS * HEAD_DIM), f"{at}.mlp.down_proj.weight": (D, FFN)}
        out |= {f"{at}.mlp.{n}_proj.weight": (FFN, D) for n in ("gate", "up")}
        out |= {f"{at}.{n}_layernorm.weight": (D,) for n in ("input", "post_attention")}
    out |= {"model.norm.weight": (D,), "encoder.conv1.weight": (E, 128, 3), "encoder.conv1.bias": (E,)}
    out |= {
        "encoder.conv2.weight": (E, E, 3),
        "encoder.conv2.bias": (E,),
        "encoder.positional_embedding.weight": (1500, E),
    }
    at = "encoder.blocks.0"
    out |= {f"{at}.attn.{n}.weight": (E, E) for n in ("query", "key", "value", "out")}
    out |= {f"{at}.attn.{n}.bias": (E,) for n in ("query", "value", "out")}
    out |= {f"{at}.{n}.{leaf}": (E,) for n in ("attn_ln", "mlp_ln") for leaf in ("weight", "bias")}
    out |= {f"{at}.mlp.0.weight": (4 * E, E), f"{at}.mlp.0.bias": (4 * E,), f"{at}.mlp.2.weight": (E, 4 * E)}
    out |= {f"{at}.mlp.2.bias": (E,), "encoder.after_norm.weight": (E,), "encoder.after_norm.bias": (E,)}
    out |= {"adapter.conv.weight": (E, E, 3), "adapter.conv.bias": (E,), "adapter.linear1.weight": (2048, E)}
    out |= {"adapter.linear1.bias": (2048,), "adapter.linear2.weight": (D, 2048), "adapter.linear2.bias": (D,)}
    return out


CONFIG = {
    "model_type": "step_audio_2",
    "vocab_size": ROWS,
    "hidden_size": D,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_attention_groups": KV,
    "intermediate_size": FFN,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "max_position_embeddings": 4096,
    "torch_dtype": "bfloat16",
    "audio_encoder_config": {
        "n_mels": 128,
        "n_audio_ctx": 1500,
        "n_audio_state": E,
        "n_audio_head": 2,
        "n_audio_layer": 1,
        "llm_dim": D,
    },
}


def make(folder: Path) -> None:
    """Writes the checkpoint with the safetensors library, a shard a layer."""
    from public_tokenizer import public_tokenizer
    from safetensors.numpy import save_file

    folder.mkdir()
    random = np.random.default_rng(0)
    piece = random.standard_normal(1 << 20, np.float32).astype(bfloat16)
    shards: dict[str, list[str]] = {}
    for name in shapes():
        words = name.split(".")
        shards.setdefault(words[2] if words[:2] == ["model", "layers"] else words[0] + words[1], []).append(name)
    weight_map = {}
    for number, names in enumerate(shards.values(), 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        tensors = {name: np.resize(piece, shapes()[name]) for name in names}
        save_file(tensors, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(names, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    public_tokenizer().save(folder / "tokenizer.json")


def main(task: str, folder: Path) -> None:
    """Does one task and prints {"peak": bytes, "arrays": bytes of parameters held} as the last line."""
    arrays = 0
    if task == "make":
        make(folder / "public")
    if task == "convert":
        from step_audio_r1.pipeline.conversion import import_workdir

        import_workdir(folder / "public", folder / "run")
    if task in ("load", "export"):
        import jax

        jax.config.update("jax_num_cpu_devices", 4)
        from step_audio_r1.interop import import_params
        from step_audio_r1.parallel import TRAINING, MeshConfig, make_mesh
        from step_audio_r1.pipeline.workdir import Workdir
        from step_audio_r1.train import TRAINED, param_shardings

        model = Workdir(folder / "run").config().model
        where = param_shardings(model, make_mesh(MeshConfig(data=1, fsdp=2, tensor=2)), TRAINING)
        params = import_params(folder / "run" / "imported", model, TRAINED, where)
        arrays = sum(x.nbytes for x in jax.tree.leaves(params))
        if task == "export":
            from step_audio_r1.interop import outgoing_params, write_shards

            (folder / "out").mkdir()
            write_shards(folder / "out", outgoing_params(params, model, TRAINED, lambda _: "bfloat16"))
    status = Path("/proc/self/status").read_text()
    peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024
    print(json.dumps({"peak": peak, "arrays": arrays}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
