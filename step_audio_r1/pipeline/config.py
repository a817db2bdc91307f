"""The config of a run: plain dicts from a config file become frozen dataclasses, checked field by field."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from step_audio_r1.data.batches import BatchConfig
from step_audio_r1.errors import BadInput
from step_audio_r1.eval import EvalConfig
from step_audio_r1.mgrd import MGRDConfig
from step_audio_r1.model import ModelConfig
from step_audio_r1.parallel import MeshConfig
from step_audio_r1.rewards import RewardConfig
from step_audio_r1.rl import PPOConfig
from step_audio_r1.rollout import SamplingConfig
from step_audio_r1.train import OptimiserConfig


@dataclasses.dataclass(frozen=True)
class WorldConfig:
    """How many clips of the audio world each split has; 0 leaves the split (and the world) out."""

    train: int = 0
    validation: int = 0
    test: int = 0
    probe: int = 0


# What is measured when a stage ends: how well clips are described; direct against thinking; every budget and condition.
Measure = Literal["nothing", "perception", "arms", "everything"]


@dataclasses.dataclass(frozen=True)
class EncoderStage:
    """Framewise supervised pre-training of an encoder on the audio world; the only stage that trains an encoder."""

    kind: Literal["encoder"]
    steps: int
    rows: int
    optimiser: OptimiserConfig
    evaluate: Measure = "nothing"
    round: int = 0


@dataclasses.dataclass(frozen=True)
class SFTStage:
    """Cross-entropy on targets. `sources` are weights by "DATASET:SOURCE", or "chains:N" for MGRD round N."""

    kind: Literal["sft"]
    steps: int
    batch: BatchConfig
    optimiser: OptimiserConfig
    sources: dict[str, float]
    evaluate: Measure = "nothing"
    round: int = 0


@dataclasses.dataclass(frozen=True)
class RLVRStage:
    """KL-free PPO with verified rewards.

    `sources` are weights of prompts. With `candidates` = N, the stage's first weights try N questions of each audio
    source, and those are trained on that `pass_range` of the samples get right (the report: 3 to 6 of 8).
    """

    kind: Literal["rlvr"]
    iterations: int
    prompts: int
    samples: int
    sources: dict[str, float]
    sampling: SamplingConfig
    ppo: PPOConfig
    reward: RewardConfig
    candidates: int | None = None
    pass_range: tuple[int, int] = (3, 6)
    max_tokens: int = 128
    evaluate: Measure = "nothing"
    round: int = 0


@dataclasses.dataclass(frozen=True)
class DistilStage:
    """One MGRD round up to its chain records: select, sample, filter, write `chains/round_NN`."""

    kind: Literal["distil"]
    source: str
    mgrd: MGRDConfig
    evaluate: Measure = "nothing"
    round: int = 1


Stage = EncoderStage | SFTStage | RLVRStage | DistilStage


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """A whole run.

    Attributes:
      name: shown in the report.
      seed: of everything.
      model: sizes.
      encoder: where the frozen encoder comes from: "shipped" (the miniature's), a .safetensors file or a directory
        in the public layout, or "" for a run that trains one.
      world: clips of the audio world to generate into the workdir.
      datasets: prepared datasets by name, for "NAME:SOURCE".
      mesh: devices.
      order: names of the stages, in order.
      stages: by name.
      evaluation: what is measured after a stage, as far as its `evaluate` says.
      checkpoint_every, keep_checkpoints, log_every: in steps.
      decode_rows: samples decoded at once.
      format: output format.
    """

    name: str
    seed: int
    model: ModelConfig
    order: tuple[str, ...]
    stages: dict[str, Stage]
    encoder: str = "shipped"
    world: WorldConfig = WorldConfig()
    datasets: dict[str, str] = dataclasses.field(default_factory=dict)
    mesh: MeshConfig = MeshConfig()
    evaluation: EvalConfig = EvalConfig()
    checkpoint_every: int = 100
    keep_checkpoints: int = 3
    log_every: int = 10
    decode_rows: int = 256
    format: Literal["think", "thinking_response"] = "think"

    def __post_init__(self):
        for name in self.order:
            if name not in self.stages:
                raise BadInput(f"config.order: stage {name!r} is not in config.stages ({', '.join(self.stages)})")
        if len(set(self.order)) != len(self.order) or not self.order:
            raise BadInput("config.order: name at least one stage, each once")


def run_config(values: Mapping[str, Any]) -> RunConfig:
    """Builds and checks a RunConfig from nested dicts.

    Raises:
      BadInput: an unknown or missing field, or a value of the wrong type; the message names it.
    """
    return _build(RunConfig, values, "config")


def to_json(value: Any) -> Any:
    """A config as plain JSON types, for `config.json`."""
    if dataclasses.is_dataclass(value):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {k: to_json(v) for k, v in value.items()}
    return [to_json(v) for v in value] if isinstance(value, list | tuple) else value


def _build(kind: Any, value: Any, path: str) -> Any:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return _build_union(typing.get_args(kind), value, path)
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(kind, value, path)
    if origin is Literal:
        options = typing.get_args(kind)
        if value not in options:
            raise BadInput(f"{path}={value!r}: expected one of {', '.join(map(repr, options))}")
        return value
    if origin is dict:
        _expect(isinstance(value, Mapping), path, value, "a mapping")
        _, item = typing.get_args(kind)
        return {str(k): _build(item, v, f"{path}.{k}") for k, v in value.items()}
    if origin is tuple:
        _expect(isinstance(value, list | tuple), path, value, "a sequence")
        items = typing.get_args(kind)
        if items[-1] is not Ellipsis:
            _expect(len(items) == len(value), path, value, f"{len(items)} values")
            return tuple(_build(k, v, f"{path}[{i}]") for i, (k, v) in enumerate(zip(items, value)))
        return tuple(_build(items[0], v, f"{path}[{i}]") for i, v in enumerate(value))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    _expect(isinstance(value, kind) and (kind is bool or not isinstance(value, bool)), path, value, kind.__name__)
    return value


def _build_union(kinds: tuple[Any, ...], value: Any, path: str) -> Any:
    if value is None:
        _expect(type(None) in kinds, path, value, "a value")
        return None
    kinds = tuple(k for k in kinds if k is not type(None))
    if len(kinds) == 1:
        return _build(kinds[0], value, path)
    _expect(isinstance(value, Mapping), path, value, "a mapping")
    for kind in kinds:  # the stages, told apart by their kind
        if value.get("kind") in typing.get_args(typing.get_type_hints(kind)["kind"]):
            return _build(kind, value, path)
    names = [typing.get_args(typing.get_type_hints(k)["kind"])[0] for k in kinds]
    raise BadInput(f"{path}.kind={value.get('kind')!r}: expected one of {', '.join(names)}")


def _build_dataclass(kind: Any, value: Any, path: str) -> Any:
    if isinstance(value, kind):
        return value
    _expect(isinstance(value, Mapping), path, value, "a mapping")
    hints = typing.get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for name in value:
        if name not in fields:
            raise BadInput(f"{path}.{name}: unknown field; {path} has {', '.join(fields)}")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in value:
            raise BadInput(f"{path}.{name}: missing; give it in the config")
    return kind(**{name: _build(hints[name], v, f"{path}.{name}") for name, v in value.items()})


def _expect(holds: bool, path: str, value: Any, wanted: str) -> None:
    if not holds:
        raise BadInput(f"{path}={value!r}: expected {wanted}")
