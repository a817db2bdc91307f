"""Compiles a training or decoding step for a named TPU topology, without a TPU, and reads what the compiler says.

All numbers are the compiler's estimates, not measurements: good for "does it fit" and for comparing versions of a
program on one chip generation.
"""

import dataclasses
import functools
import importlib.util
import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from step_audio_r1.data.batches import Batch
from step_audio_r1.errors import BadInput
from step_audio_r1.files import write_text
from step_audio_r1.model import AudioLM, KVCache, ModelConfig, padded_length
from step_audio_r1.parallel import (
    TRAINING,
    MeshConfig,
    batch_rows_divide,
    batch_sharding,
    make_mesh,
    program_cost,
    replicated,
)
from step_audio_r1.rl import PPO, PPOConfig, RolloutBatch, Scored
from step_audio_r1.rollout import abstract_weights
from step_audio_r1.train import (
    OptimiserConfig,
    abstract_train_state,
    abstract_trained,
    make_sft_step,
    optimiser,
    schedule,
)

GIB = 2**30
# Encoder frames (25 Hz) of the longest chunk of audio, 25 s.
CHUNK_FRAMES = 625
# A Pallas attention kernel reaches 0.4 to 0.6 of the peak.
KERNEL_EFFICIENCY = 0.5


@dataclasses.dataclass(frozen=True)
class Chip:
    """One device as the compiler sees it; clock, peak (bfloat16) and ICI (one way) where they are known.

    Sources: HBM is what the compiler of libtpu 0.0.42 allows; the clock follows from the published peak and the
    number of matrix units.
    """

    example: str
    hbm_gib: float
    clock_ghz: float | None = None
    peak_flops: float | None = None
    ici_bytes: float | None = None


CHIPS = {
    "v5e": Chip("v5e:8x8", 15.75, 1.5, 197e12, 0.2e12),
    "v5p": Chip("v5p:4x4x4", 95.74, 1.75, 459e12, 0.6e12),
    "v6e": Chip("v6e:8x8", 31.25, 1.75, 918e12, 0.4e12),
    "tpu7x": Chip("tpu7x:4x4x4", 94.75),
}


@dataclasses.dataclass(frozen=True)
class Size:
    """What a step is compiled for: rows of the whole machine, tokens a row (or cache slots), audio chunks a row."""

    rows: int
    tokens: int
    chunks: int = 1


# (function to lower, its abstract arguments, tokens that one execution works on)
Built = tuple[Callable[..., Any], tuple[Any, ...], int]


def compile_for(
    config: ModelConfig,
    topology: str,
    step: str,
    mesh: MeshConfig,
    size: Size,
    hlo: Path | str | None = None,
) -> dict[str, Any]:
    """Compiles `step` of a model and reports the compiler's view of it.

    Args:
      config: the model's sizes.
      topology: "FAMILY:SHAPE", e.g. "v5p:4x4x4".
      step: one of `STEPS`.
      mesh: how the devices are split.
      size: rows, tokens and audio chunks.
      hlo: a file for the optimised program's text.

    Returns:
      The row that `aot --json` prints. Memory is a device's; null is what is not known: everything about speed when
      the program does not fit, seconds on a family without a clock, kernel_flops when kernels do not tell theirs.
      estimated_step_s is the larger of computing (cycles, kernels at half of the peak) and communicating (collective
      bytes over ICI, all-reduce twice), that is, as if the two overlapped wholly.

    Raises:
      BadInput: an unknown step or topology, sizes that do not divide, or libtpu is not installed.
    """
    if step not in STEPS:
        raise BadInput(f"--step={step}: not supported; expected one of {', '.join(STEPS)}")
    chip, devices = _devices(topology)
    grid = make_mesh(mesh, devices)
    batch_rows_divide(grid, size.rows, "--rows")
    function, arguments, tokens = STEPS[step](config, grid, size)
    row: dict[str, Any] = {
        "step": step,
        "topology": topology,
        "chips": len({tuple(d.coords) for d in devices}),
        "mesh": dict(grid.shape),
        "argument_gib": _device_bytes(arguments) / GIB,
        "temp_gib": None,
        "peak_gib": None,
        "hbm_gib": chip.hbm_gib,
        "fits": False,
        "fused_cycles": None,
        "clock_ghz": chip.clock_ghz,
        "fused_s": None,
        "kernel_calls": None,
        "kernel_flops": None,
        "collectives": None,
        "estimated_step_s": None,
        "tokens_per_s_per_chip": None,
    }
    started = time.perf_counter()
    compiled, peak = _compile(function, arguments)
    row["compile_s"] = time.perf_counter() - started
    row["peak_gib"] = peak
    if compiled is None:
        return row
    text = compiled.as_text()
    if hlo is not None:
        write_text(hlo, text)
    memory = compiled.memory_analysis()
    row["argument_gib"] = memory.argument_size_in_bytes / GIB
    row["temp_gib"] = memory.temp_size_in_bytes / GIB
    row["fits"] = peak <= chip.hbm_gib
    row.update(_speed(text, chip, tokens, row["chips"]))
    return row


def device_count(topology: str) -> int:
    """Devices of a topology. Raises BadInput as `compile_for` does."""
    return len(_devices(topology)[1])


def _devices(topology: str) -> tuple[Chip, list[jax.Device]]:
    if importlib.util.find_spec("libtpu") is None:
        raise BadInput("aot needs the TPU compiler, which is not installed: pip install 'step_audio_r1[aot]'")
    examples = ", ".join(chip.example for chip in CHIPS.values())
    family = topology.partition(":")[0]
    if family not in CHIPS:
        raise BadInput(f"--topology={topology}: unknown family {family!r}; examples: {examples}")
    try:
        found = topologies.get_topology_desc(topology_name=topology, platform="tpu")
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise BadInput(f"--topology={topology}: no such slice ({reason}); examples: {examples}") from error
    return CHIPS[family], list(found.devices)


def _compile(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, float | None]:
    """(compiled program, peak GiB a device); the program is None where the compiler refuses it for its memory."""
    try:
        compiled = function.lower(*arguments).compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return None, _needed_gib(str(error))
    return compiled, compiled.memory_analysis().peak_memory_in_bytes / GIB


def _needed_gib(message: str) -> float | None:
    """What the compiler's refusal says the program needs; it has two ways of saying it."""
    match = re.search(r"\(([\d.]+)([MGT])\) exceeds available HBM|Used ([\d.]+)([MGT]) of \S+ hbm", message)
    if match is None:
        return None
    number, unit = (group for group in match.groups() if group)
    return float(number) * {"M": 1 / 1024, "G": 1, "T": 1024}[unit]


def _speed(text: str, chip: Chip, tokens: int, chips: int) -> dict[str, Any]:
    cost = program_cost(text)
    out: dict[str, Any] = {
        "fused_cycles": cost.cycles,
        "kernel_calls": cost.kernel_calls,
        "kernel_flops": cost.kernel_flops,
        "collectives": [dataclasses.asdict(c) for c in cost.collectives],
    }
    if chip.clock_ghz is None:
        return out
    out["fused_s"] = cost.cycles / (chip.clock_ghz * 1e9)
    if cost.kernel_flops is None:
        return out
    computing = out["fused_s"] + cost.kernel_flops / (KERNEL_EFFICIENCY * chip.peak_flops)
    moved = sum(c.bytes * (2 if c.kind == "all-reduce" else 1) for c in cost.collectives)
    out["estimated_step_s"] = max(computing, moved / chip.ici_bytes)
    out["tokens_per_s_per_chip"] = tokens / (out["estimated_step_s"] * chips)
    return out


def _device_bytes(arguments: Any) -> int:
    """Bytes of abstract arguments on one device."""
    return sum(
        jnp.dtype(x.dtype).itemsize * math.prod(x.sharding.shard_shape(x.shape)) for x in jax.tree.leaves(arguments)
    )


def _features(config: ModelConfig, size: Size) -> tuple[int, ...]:
    frames = min(CHUNK_FRAMES, config.encoder.max_positions // 2)
    return (size.rows, size.chunks, frames, config.encoder.d_model)


def _sft(config: ModelConfig, mesh: Mesh, size: Size) -> Built:
    """`train.make_sft_step` with AdamW, the state donated."""
    settings = OptimiserConfig()
    tx = optimiser(settings, 1000)
    state = abstract_train_state(abstract_trained(config, mesh, TRAINING), tx, mesh)
    step = make_sft_step(AudioLM(config, mesh), tx, schedule(settings, 1000), mesh, state)
    rows, integer = (size.rows, size.tokens), jnp.int32
    fields = {name: _row_array(mesh, rows, integer) for name in ("tokens", "positions", "segment_ids", "audio_slots")}
    weights = _row_array(mesh, rows, jnp.float32)
    features = _row_array(mesh, _features(config, size), jnp.float16)
    return step, (state, Batch(**fields, loss_weights=weights, features=features)), size.rows * size.tokens


def _ppo(config: ModelConfig, mesh: Mesh, size: Size, *, critic: bool) -> Built:
    """The actor's or the critic's update on a whole rollout of `rows` samples of `tokens` tokens."""
    ppo = PPO(AudioLM(config, mesh), mesh, PPOConfig(), iterations=60)
    state = ppo.abstract(abstract_trained(config, mesh, TRAINING))
    shape = (size.rows, size.tokens)
    integers = ("tokens", "positions", "segment_ids", "audio_slots")
    rows = RolloutBatch(
        **{name: _row_array(mesh, shape, jnp.int32) for name in integers},
        features=_row_array(mesh, _features(config, size), jnp.float16),
        mask=_row_array(mesh, shape, jnp.float32),
        sampler_logp=_row_array(mesh, shape, jnp.float32),
        rewards=_row_array(mesh, (size.rows,), jnp.float32),
    )
    scored = Scored(*(_row_array(mesh, shape, jnp.float32) for _ in Scored._fields))
    part = _row_array(mesh, (size.rows,), jnp.int32)
    step, trained = (ppo.critic_step, state.critic) if critic else (ppo.actor_step, state.actor)
    return step, (trained, rows, scored, part), size.rows * size.tokens


def _prefill(config: ModelConfig, mesh: Mesh, size: Size) -> Built:
    """Prompts of `tokens` tokens into a fresh cache of as many slots; weights as the engine has them."""
    if padded_length(size.tokens) != size.tokens:
        raise BadInput(f"--tokens={size.tokens}: prompts are padded to {padded_length(size.tokens)}; use that number")
    model = AudioLM(config, mesh, scan_layers=False)
    where = _cache_shardings(config, mesh)

    def prefill(params, tokens, valid, slots, features):
        cache = KVCache.empty(config.decoder, size.rows, size.tokens, jnp.dtype(config.compute_dtype))
        cache = jax.lax.with_sharding_constraint(cache, where)
        return model.apply({"params": params}, tokens, valid, slots, features, cache, method="extend")

    rows = (size.rows, size.tokens)
    arguments = (
        abstract_weights(config, mesh),
        _row_array(mesh, rows, jnp.int32),
        _row_array(mesh, rows, jnp.bool_),
        _row_array(mesh, rows, jnp.int32),
        _row_array(mesh, _features(config, size), jnp.float16),
    )
    return jax.jit(prefill, out_shardings=(batch_sharding(mesh), where)), arguments, size.rows * size.tokens


def _decode(config: ModelConfig, mesh: Mesh, size: Size) -> Built:
    """One token a row, greedy, with a cache of `tokens` slots that is updated in place."""
    model = AudioLM(config, mesh, scan_layers=False)
    dtype = jnp.dtype(config.compute_dtype)
    where = _cache_shardings(config, mesh)

    def decode(params, token, cache):
        everywhere = jnp.ones(token.shape, bool)
        no_audio = jnp.zeros((size.rows, 0, 1, 1), dtype)
        logits, cache = model.apply(
            {"params": params}, token, everywhere, jnp.full_like(token, -1), no_audio, cache, method="extend"
        )
        return logits.argmax(-1).astype(jnp.int32)[:, None], cache

    shapes = jax.eval_shape(lambda: KVCache.empty(config.decoder, size.rows, size.tokens, dtype))
    cache = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, where)
    params = abstract_weights(config, mesh)
    token = _row_array(mesh, (size.rows, 1), jnp.int32)
    step = jax.jit(decode, donate_argnums=2, out_shardings=(batch_sharding(mesh), where))
    return step, (params, token, cache), size.rows


def _row_array(mesh: Mesh, shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=batch_sharding(mesh))


def _cache_shardings(config: ModelConfig, mesh: Mesh) -> KVCache:
    """Rows where the batch's rows are, key-value heads over the tensor axis."""
    ways, heads = mesh.shape["tensor"], config.decoder.kv_heads
    if heads % ways:
        raise BadInput(f"--tensor={ways} does not divide the {heads} key-value heads; use a divisor of {heads}")
    rows = ("data", "fsdp")
    entries = (NamedSharding(mesh, PartitionSpec(rows, "tensor")),) * config.decoder.layers
    return KVCache(entries, entries, NamedSharding(mesh, PartitionSpec(rows)), replicated(mesh))


# A step's name -> what builds it for (model sizes, mesh, size).
STEPS: dict[str, Callable[[ModelConfig, Mesh, Size], Built]] = {
    "sft": _sft,
    "ppo_actor": functools.partial(_ppo, critic=False),
    "ppo_critic": functools.partial(_ppo, critic=True),
    "prefill": _prefill,
    "decode": _decode,
}
