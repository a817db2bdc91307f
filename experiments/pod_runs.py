"""Runs of arms on a pod: what each trains itself, and whether `train` takes it there."""

import dataclasses
from collections.abc import Iterable
from types import SimpleNamespace

import jax

from configs.ablations import ARMS, get_config, lineage
from experiments.pod_cost import Machine
from step_audio_r1.errors import BadInput
from step_audio_r1.parallel import batch_rows_divide
from step_audio_r1.pipeline import RunConfig, run_config
from step_audio_r1.pipeline.distil import check_distil
from step_audio_r1.pipeline.dpo import check_dpo
from step_audio_r1.pipeline.rlvr import check_rlvr
from step_audio_r1.pipeline.stage_config import DistilStage, DPOStage, RLVRStage, Stage, steps_of
from step_audio_r1.train import micro_batches_divide


@dataclasses.dataclass(frozen=True)
class PodRun:
    """An arm's run of one seed, which begins where its parent's ends.

    Attributes:
      arm, parent: names of `configs.ablations.ARMS`; the stem has no parent.
      config: of the whole run.
      own: names of the stages that it trains itself; the parent's come before.
      datasets: names of the datasets that the parent has not.
    """

    arm: str
    parent: str | None
    config: RunConfig
    own: tuple[str, ...]
    datasets: tuple[str, ...]

    @property
    def stages(self) -> list[tuple[str, Stage]]:
        """Its own, by name."""
        return [(name, self.config.stages[name]) for name in self.own]


def runs_of(arms: Iterable[str], scale: str) -> list[PodRun]:
    """The runs of arms and of what they begin with, each after its parent."""
    runs: dict[str, PodRun] = {}
    for arm in dict.fromkeys(name for wanted in arms for name in lineage(wanted)):
        config, parent = run_config(get_config(arm, scale).to_dict()), ARMS[arm].parent
        begun = runs[parent].config.order if parent else ()
        known = runs[parent].config.datasets if parent else ()
        datasets = tuple(name for name in config.datasets if name not in known)
        runs[arm] = PodRun(arm, parent, config, config.order[len(begun) :], datasets)
    return list(runs.values())


def check(run: PodRun, machine: Machine) -> None:
    """Raises BadInput, as `train` would, where rows do not divide over the machine's chips or prompts are no good."""
    axes = machine.axes(run.config.mesh)
    pod = SimpleNamespace(mesh=jax.sharding.AbstractMesh(tuple(axes.values()), tuple(axes)))
    for name, stage in run.stages:
        try:
            match stage:
                case RLVRStage():
                    check_rlvr(stage, name, pod)
                case DistilStage():
                    check_distil(stage, name)
                case DPOStage():
                    check_dpo(stage, name, pod)
                case _ if steps_of(stage):
                    batch_rows_divide(pod.mesh, stage.batch.rows, f"config.stages.{name}.batch.rows")
                    path = f"config.stages.{name}.micro_batches"
                    micro_batches_divide(pod.mesh, stage.batch.rows, stage.micro_batches, path)
        except BadInput as error:
            raise BadInput(f"{run.arm} on {machine.topology}: {error}") from error
