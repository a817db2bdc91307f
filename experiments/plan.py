"""Which runs experiments need, which of them are there, and in which order the others are trained."""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from configs.ablations import ARMS, get_config, lineage
from step_audio_r1.data.features import fingerprint
from step_audio_r1.errors import BadInput
from step_audio_r1.files import read_json
from step_audio_r1.pipeline.config import run_config, to_json

# What differs between runs that are the same but for chance, and what is only said or watched.
_NOT_COMPARED = ("seed", "name", "profile")
_PLACE = {arm: (len(lineage(arm)), i) for i, arm in enumerate(ARMS)}


@dataclasses.dataclass(frozen=True)
class Run:
    """One arm with one seed."""

    arm: str
    seed: int

    @property
    def name(self) -> str:
        """Of its workdir and its log."""
        return f"{self.arm}_{self.seed}"

    @property
    def parent(self) -> "Run | None":
        """The run that it begins with."""
        parent = ARMS[self.arm].parent
        return Run(parent, self.seed) if parent else None


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes:
      train: what is trained, parents before children and few seeds of all arms before more seeds.
      read: runs of the experiments whose finished workdirs are there.
      recorded: runs without a workdir, whose results are there all the same.
    """

    train: tuple[Run, ...]
    read: tuple[Run, ...]
    recorded: tuple[Run, ...]


def make_plan(wanted: Iterable[Run], runs: Path, scale: str, recorded: Callable[[Run], bool]) -> Plan:
    """Plans the runs that are wanted, each once, and those that they begin with.

    Args:
      wanted: the experiments' own runs.
      runs: folder of the workdirs.
      scale: of the model.
      recorded: whether the results of a run are there already, so that it is trained for a child's sake at most.

    Raises:
      BadInput: a finished workdir is of another config than the arm's.
    """
    state = functools.cache(lambda run: workdir_state(runs / run.name, arm_config(run.arm, scale)))
    train, read, known = set(), [], []
    for run in dict.fromkeys(wanted):
        if state(run) == "finished":
            read.append(run)
        elif recorded(run):
            known.append(run)
        else:
            train |= _with_parents(run, state)
    # A parent that is trained for a child's sake is read as well, if an experiment has its arm.
    known = [run for run in known if run not in train]
    return Plan(*(tuple(sorted(some, key=_order)) for some in (train, read, known)))


def _with_parents(run: Run, state: Callable[[Run], str]) -> set[Run]:
    """The run and what it begins with, down to a run that has ended or is past its beginning."""
    found = {run}
    while state(run) == "absent" and run.parent and state(run.parent) != "finished":
        run = run.parent
        found.add(run)
    return found


def _order(run: Run) -> tuple[int, tuple[int, int]]:
    return run.seed, _PLACE[run.arm]


def workdir_state(workdir: Path, config: Mapping[str, Any]) -> Literal["absent", "begun", "finished"]:
    """How far the run of a config has come; of one that is not finished `train` itself tells whether it may go on.

    JAX is not asked, unlike by `Workdir.finished`: an accelerator would belong to this process then.

    Raises:
      BadInput: the run has ended and is of another config.
    """
    if not (workdir / "config.json").exists():
        return "absent"
    theirs = read_json(workdir / "config.json")
    stages = read_json(workdir / "stages.json") if (workdir / "stages.json").exists() else {}
    measured = any(stage.get("evaluate") != "nothing" for stage in theirs["stages"].values())
    summarised = (workdir / "eval" / "summary.json").exists()
    if not all(stages.get(name, {}).get("done") for name in theirs["order"]) or (measured and not summarised):
        return "begun"
    if config_fingerprint(theirs) != config_fingerprint(config):
        raise BadInput(f"{workdir}: its run has ended and is of another config; move it away, or give another --runs")
    return "finished"


@functools.cache
def arm_config(arm: str, scale: str) -> dict[str, Any]:
    """What stands in `config.json` of a run of the arm, with seed 0. Not to be changed."""
    return to_json(run_config(get_config(arm, scale).to_dict()))


def arm_fingerprint(arm: str, scale: str) -> str:
    """The fingerprint of the config that an arm has now."""
    return config_fingerprint(arm_config(arm, scale))


def config_fingerprint(config: Mapping[str, Any]) -> str:
    """The same for all seeds of a config, and for no two configs that are not the same run."""
    compared = {name: value for name, value in config.items() if name not in _NOT_COMPARED}
    return fingerprint(json.dumps(compared, sort_keys=True))


def train_flags(config: str, workdir: Path, seed: int, branch_from: Path | None = None) -> tuple[str, ...]:
    """What `step-audio-r1` is given to train a run."""
    flags = ("train", f"--config={config}", f"--workdir={workdir}", f"--config.seed={seed}")
    return flags if branch_from is None else (*flags, f"--branch_from={branch_from}")


def arm_flags(run: Run, runs: Path, scale: str) -> tuple[str, ...]:
    """The same for a run of an arm, whose workdir and whose parent's are in the folder `runs`."""
    arm = run.arm if scale == "miniature" else f"{run.arm},{scale}"
    parent = runs / run.parent.name if run.parent else None
    return train_flags(f"configs/ablations.py:{arm}", runs / run.name, run.seed, parent)


def expected_minutes(earlier: Mapping[Run, float]) -> Callable[[str], float | None]:
    """How long a run of an arm takes: the mean of its earlier runs, else of all there were; None if there were none."""
    by_arm: dict[str, list[float]] = {}
    for run, minutes in earlier.items():
        by_arm.setdefault(run.arm, []).append(minutes)
    every = [minutes for several in by_arm.values() for minutes in several]

    def expected(arm: str) -> float | None:
        return _mean(by_arm.get(arm) or every)

    return expected


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
