"""The config of a run: plain dicts from a config file become frozen dataclasses, checked field by field."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from step_audio_r1.data.world.examples import SOURCES
from step_audio_r1.data.world.identity import IDENTITY
from step_audio_r1.data.world.tasks import TASKS
from step_audio_r1.data.world.truth import SPLITS
from step_audio_r1.errors import BadInput
from step_audio_r1.eval import EvalConfig
from step_audio_r1.fields import NotNegative, Positive
from step_audio_r1.model import ModelConfig
from step_audio_r1.parallel import MeshConfig
from step_audio_r1.pipeline.stage_config import DistilStage, EncoderStage, Stage, goes_back, steps_of
from step_audio_r1.train import ProfileConfig


@dataclasses.dataclass(frozen=True)
class WorldConfig:
    """How many clips of the audio world each split has; 0 leaves the split (and the world) out.

    `tasks` is how many tasks of each kind (sums, puzzles, programs, dialogues, all in text: `TASKS`) training has
    beside its clips; validation and test have a tenth. Their words join the vocabulary. So it is with `identity`, the
    number of examples of each source that asks whether the model hears (`IDENTITY`).
    """

    train: NotNegative = 0
    validation: NotNegative = 0
    test: NotNegative = 0
    probe: NotNegative = 0
    tasks: NotNegative = 0
    identity: NotNegative = 0

    def tasks_of(self, split: str) -> int:
        """How many tasks of each kind a split has."""
        return _of_split(self.tasks, split)

    def identity_of(self, split: str) -> int:
        """How many examples of each source of identity a split has."""
        return _of_split(self.identity, split)

    def sources(self, split: str) -> tuple[str, ...]:
        """Names of the sources that a split has."""
        return (*SOURCES, *(TASKS if self.tasks_of(split) else ()), *(IDENTITY if self.identity_of(split) else ()))


def _of_split(count: int, split: str) -> int:
    return {"train": count, "probe": 0}.get(split, -(-count // 10))


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
      mesh: devices, for training.
      decode_mesh: the same devices for decoding, which reads all weights for each token and wants them split over
        tensor alone; None: as for training.
      order: names of the stages, in order.
      stages: by name.
      evaluation: what is measured after a stage, as far as its `evaluate` says.
      checkpoint_every, keep_checkpoints, log_every: in steps.
      profile: which steps are traced; no part of what the run is, so it may change when a run is resumed.
      decode_rows: samples decoded at once.
      format: output format.
      prompts: how `ask` words a question: as the audio world's data, or as Step-Audio-R1's own examples.
    """

    name: str
    seed: NotNegative
    model: ModelConfig
    order: tuple[str, ...]
    stages: dict[str, Stage]
    encoder: str = "shipped"
    world: WorldConfig = WorldConfig()
    datasets: dict[str, str] = dataclasses.field(default_factory=dict)
    mesh: MeshConfig = MeshConfig()
    decode_mesh: MeshConfig | None = None
    evaluation: EvalConfig = EvalConfig()
    checkpoint_every: Positive = 100
    keep_checkpoints: Positive = 3
    log_every: Positive = 10
    profile: ProfileConfig = ProfileConfig()
    decode_rows: Positive = 256
    format: Literal["think", "thinking_response"] = "think"
    prompts: Literal["world", "step_audio"] = "world"

    def __post_init__(self):
        for name in self.order:
            if name not in self.stages:
                raise BadInput(f"config.order: stage {name!r} is not in config.stages ({', '.join(self.stages)})")
        if len(set(self.order)) != len(self.order) or not self.order:
            raise BadInput("config.order: name at least one stage, each once")
        if self.seed >= 2**31:
            raise BadInput(f"config.seed={self.seed}: below 2^31")
        self._check_sources()
        self._check_kept()
        self._check_evaluation()

    @property
    def kept_stages(self) -> set[str]:
        """Names of the stages that a later one goes back to."""
        return {named for name in self.order for _, named in goes_back(self.stages[name])}

    @property
    def trained_tasks(self) -> tuple[str, ...]:
        """The world's tasks in text that some stage trains on; each stage that is measured is asked them as well."""
        shares = [getattr(stage, "sources", {}) for stage in self.stages.values()]
        trained = {source for sources in shares for source, weight in sources.items() if weight}
        return tuple(task for task in TASKS if f"world:{task}" in trained)

    def _check_kept(self) -> None:
        for i, name in enumerate(self.order):
            for field, named in goes_back(self.stages[name]):
                if named not in self.order[:i]:
                    earlier = ", ".join(self.order[:i]) or "there is none"
                    raise BadInput(f"config.stages.{name}.{field}={named!r}: no stage before this one; name {earlier}")

    def _check_sources(self) -> None:
        """Every source is there when its stage begins, so that none is missed hours into a run."""
        rounds: set[str] = set()
        for name in self.order:
            stage, path = self.stages[name], f"config.stages.{name}"
            if isinstance(stage, EncoderStage):
                if len(self.order) > 1:
                    raise BadInput(
                        f"{path}: an encoder is trained in a run of its own, whose file config.encoder names"
                    )
                continue
            if isinstance(stage, DistilStage):
                self._check_source(stage.source, f"{path}.source", set())
                if str(stage.round) in rounds:
                    raise BadInput(f"{path}.round={stage.round}: an earlier stage distils it; give each its own number")
                rounds.add(str(stage.round))
                continue
            if steps_of(stage) == 0 and name != self.order[0]:
                raise BadInput(f"{path}.steps=0: does nothing; leave the stage out of config.order")
            weights = stage.sources.values()  # none at all in the record of an imported checkpoint, which never runs
            if weights and (min(weights) < 0 or not sum(weights)):
                raise BadInput(f"{path}.sources: give at least one source a weight above 0, and none one below")
            for source in stage.sources:
                self._check_source(source, f"{path}.sources", rounds)

    def _check_source(self, source: str, path: str, rounds: set[str]) -> None:
        dataset, _, part = source.partition(":")
        if dataset == "chains":
            if part not in rounds:
                raise BadInput(f"{path}: {source!r}: no stage before this one distils round {part}")
            return
        worlds = {"world" if s == "train" else f"world_{s}": s for s in SPLITS if getattr(self.world, s)}
        known = [*worlds, *self.datasets]
        if dataset not in known:
            raise BadInput(f"{path}: {source!r}: no dataset {dataset!r}; there are {', '.join(known) or 'none'}")
        if dataset not in worlds:
            return
        there = self.world.sources(worlds[dataset])
        if part not in there:
            optional = {"tasks": TASKS, "identity": IDENTITY} if dataset != "world_probe" else {}
            more = "".join(f"; set config.world.{field}" for field, names in optional.items() if part in names)
            raise BadInput(
                f"{path}: {source!r}: the audio world has no source {part!r}; it has {', '.join(there)}{more}"
            )

    def _check_evaluation(self) -> None:
        wanted = {self.stages[name].evaluate for name in self.order} - {"nothing"}
        split = self.evaluation.split
        if wanted and not getattr(self.world, split, 0):
            raise BadInput(f"config.evaluation.split={split!r}: has no clips; set config.world.{split}")
        if "perception" in wanted and not self.evaluation.describe:
            raise BadInput("config.evaluation.describe=0: a stage measures perception; give it some items")
        if wanted - {"perception"} and not self.evaluation.questions:
            raise BadInput("config.evaluation.questions=0: a stage measures answers; give it some questions")


def with_real_vocab(config: RunConfig, rows: int | None) -> RunConfig:
    """The config with `model.decoder.real_vocab` set."""
    decoder = dataclasses.replace(config.model.decoder, real_vocab=rows)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, decoder=decoder))


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
    if origin is typing.Annotated:
        kind, least = typing.get_args(kind)
        value = _build(kind, value, path)
        _expect(value >= least, path, value, f"at least {least}")
        return value
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
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for name in value:
        if name not in fields:
            raise BadInput(f"{path}.{name}: unknown field; {path} has {', '.join(fields)}")
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in value:
            raise BadInput(f"{path}.{name}: missing; give it in the config")
    built = {name: _build(hints[name], v, f"{path}.{name}") for name, v in value.items()}
    try:
        return kind(**built)
    except BadInput as error:
        # A room names its fields from its own place ("mgrd.samples=0"); here it is known where that is.
        outer, _, last = path.rpartition(".")
        if str(error).startswith("config."):
            raise
        raise BadInput(f"{outer}.{error}" if str(error).startswith(f"{last}.") else f"{path}: {error}") from error


def _expect(holds: bool, path: str, value: Any, wanted: str) -> None:
    if not holds:
        raise BadInput(f"{path}={value!r}: expected {wanted}")
