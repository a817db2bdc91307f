"""`aot --config=X --topology=v5p:4x4x4 --step=sft`: compiles a step for a TPU pod with no TPU, and says if it fits."""

import argparse
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

from step_audio_r1.errors import BadInput, exit_code

# What libtpu asks of its host when it is loaded; set before JAX is imported, so imports below are inside functions.
_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",  # arrays, if any, live here; the topology alone is a TPU's
    "TPU_SKIP_MDS_QUERY": "1",  # no metadata server
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # two compilations may share a machine
    "JAX_ENABLE_COMPILATION_CACHE": "false",  # its entries cannot be read back without a TPU
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",  # any: keeps libtpu from guessing and complaining
    "TPU_WORKER_HOSTNAMES": "localhost",
}
_MODELS = Path(__file__).resolve().parents[2] / "configs" / "models.py"


def main(argv: list[str]) -> int:
    """Parses flags, compiles, prints a table or JSON. Exit codes: 0 compiled and fits, 1 does not fit, 2 bad input."""
    parser = argparse.ArgumentParser(prog="step-audio-r1 aot", description=__doc__)
    parser.add_argument("--config", required=True, help="a name in configs/models.py, or a config file with get_config")
    parser.add_argument("--topology", required=True, help="FAMILY:SHAPE, e.g. v5p:4x4x4, v6e:8x8, v5e:8x8")
    parser.add_argument("--step", required=True, help="sft, ppo_actor, ppo_critic, prefill or decode")
    parser.add_argument(
        "--rows", type=int, help="rows on the whole machine (default: one for each data-parallel device)"
    )
    parser.add_argument("--tokens", type=int, default=2048, help="tokens a row; decode: slots of the cache")
    parser.add_argument("--chunks", type=int, default=1, help="25 s chunks of audio a row")
    parser.add_argument(
        "--fsdp", type=int, help="devices along fsdp (default: all that tensor leaves); data gets the rest"
    )
    parser.add_argument("--tensor", type=int, default=1, help="devices along tensor")
    parser.add_argument("--hlo", type=Path, help="write the optimised program's text here")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(argv)
    return exit_code(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    for name in ("rows", "tokens", "fsdp", "tensor"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise BadInput(f"--{name}={value}: at least 1")
    if arguments.chunks < 0:
        raise BadInput(f"--chunks={arguments.chunks}: at least 0")
    os.environ.update(_ENVIRONMENT)
    from step_audio_r1.model import model_config
    from step_audio_r1.parallel import MeshConfig
    from step_audio_r1.pipeline.aot import Size, compile_for, device_count

    config = model_config(_model_fields(arguments.config))
    fsdp, tensor = arguments.fsdp, arguments.tensor
    mesh = MeshConfig(1, -1, tensor) if fsdp is None else MeshConfig(-1, fsdp, tensor)
    rows = arguments.rows or max(1, device_count(arguments.topology) // tensor)
    size = Size(rows, arguments.tokens, arguments.chunks)
    row = compile_for(config, arguments.topology, arguments.step, mesh, size, arguments.hlo)
    if arguments.json:
        print(json.dumps(row))
    else:
        print(_table(config.name, size.rows, size.tokens, row))
    return 0 if row["fits"] else 1


def _model_fields(name: str) -> dict[str, Any]:
    """The model part of a run's config file, or a model of configs/models.py, as nested dicts."""
    is_file = name.endswith(".py")
    path = Path(name) if is_file else _MODELS
    if not path.is_file():
        known = "no such file" if is_file else "configs/models.py is not here: give a file, or run from a checkout"
        raise BadInput(f"--config={name}: {known}")
    # Config files import their siblings as `configs.X`.
    sys.path.insert(0, os.fspath(path.resolve().parent.parent))
    spec = importlib.util.spec_from_file_location("aot_config", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the file is the user's: whatever it raises is about it
        raise BadInput(f"--config={name}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
    if not is_file:
        known = [n for n in vars(module) if not n.startswith("_") and n != "ConfigDict"]
        if name not in known:
            raise BadInput(f"--config={name}: not a model of configs/models.py, which has {', '.join(known)}")
        return getattr(module, name)().to_dict()
    config = module.get_config().to_dict() if hasattr(module, "get_config") else {}
    if "model" not in config:
        raise BadInput(f"--config={name}: its get_config() gives no `model`; give a run's config or a model's name")
    return config["model"]


def _table(name: str, rows: int, tokens: int, row: dict[str, Any]) -> str:
    """The row for people."""
    mesh = " x ".join(f"{axis} {n}" for axis, n in row["mesh"].items())
    lines = [
        f"{name}, {row['step']}, {rows} x {tokens} tokens on {row['topology']} ({row['chips']} chips; {mesh})",
        "Estimate of the compiler, not a measurement; memory is a device's.",
        "",
        f"  peak memory       {_number(row['peak_gib'])} of {row['hbm_gib']:.2f} GiB: "
        + ("fits" if row["fits"] else "DOES NOT FIT"),
        f"    arguments       {_number(row['argument_gib'])} GiB",
    ]
    if row["fused_cycles"] is not None:
        lines += [
            f"    temporary       {_number(row['temp_gib'])} GiB",
            f"  fused cycles      {_number(row['fused_cycles'], 1e-9)} G = {_number(row['fused_s'])} s "
            f"at {_number(row['clock_ghz'])} GHz (no kernels, no collectives)",
            f"  kernels           {row['kernel_calls']} calls, {_number(row['kernel_flops'], 1e-12)} Tflop",
            f"  step, overlapped  {_number(row['estimated_step_s'])} s, "
            f"{_number(row['tokens_per_s_per_chip'])} tokens/s a chip",
        ]
        lines += [f"  {c['kind']:<18}{c['count']} x, {c['bytes'] / 2**30:.3f} GiB" for c in row["collectives"]]
    return "\n".join([*lines, f"  compiled in       {row['compile_s']:.0f} s"])


def _number(value: float | None, scale: float = 1.0) -> str:
    return "-" if value is None else f"{value * scale:.4g}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
