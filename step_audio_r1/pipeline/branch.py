"""A run that begins where another has ended: an ablation trains what its arms share once."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from step_audio_r1.errors import BadInput, WorkFailed
from step_audio_r1.files import atomic_path, read_json, remove_leftovers_of, write_json
from step_audio_r1.parallel import once
from step_audio_r1.pipeline.config import RunConfig, to_json, with_real_vocab
from step_audio_r1.pipeline.workdir import IMPORTED, Workdir, difference, provenance

# What is written once and replaced whole, if at all: a link of the same file system takes no room. The rest is copied.
_LINKED = ("checkpoints", "kept", "data", "imported", "cache", "encoder.safetensors")
# What tells of the other run alone. Programs are many, and made again; a summary says that all stages were measured.
_LEFT = (
    *("config.json", "provenance.json", "goodput.json", "profile", "cache/programs", "report.html"),
    *("eval/benchmarks", "eval/measures.json", "eval/claims.json", "eval/summary.json"),
)
# Fields in which a branch differs from the run it begins with. Its stages are more.
_OPEN = ("name", "order", "stages", "profile")


def begins(source: Path | str, workdir: Workdir, config: RunConfig) -> bool:
    """Whether `workdir` is new, and the run of `config` can begin in it after the stages of the finished run `source`.

    These stages are the first of `config`, and whatever decides on their results is the same. So what comes of the
    branch is, to the bit, what the whole run would have come to. A workdir that is there already goes on by itself.

    Raises:
      BadInput: `source` is no workdir, is not finished, or is no beginning of this run (the first difference is
        named); or something else lies at `workdir`.
    """
    return once("beginning", lambda: _begins(Workdir(source), workdir, config))


def branch(source: Path | str, workdir: Workdir, config: RunConfig) -> None:
    """Makes the new `workdir` the run of `config` after the stages of `source`, whole or not at all (see `begins`).

    Raises:
      BadInput: `source` has no provenance.
      WorkFailed: the disk refuses a write.
    """
    once("branch", lambda: _branch(Workdir(source), workdir, config))


def _begins(source: Workdir, workdir: Workdir, config: RunConfig) -> bool:
    if (workdir / "config.json").exists():
        return False
    path, begun = f"--branch_from={source.path}", source.config()
    if not source.has_ended(begun):
        raise BadInput(f"{path}: its run has not ended; give its own command again first")
    if config.order[: len(begun.order)] != begun.order or len(config.order) == len(begun.order):
        raise BadInput(
            f"{path}: its stages ({', '.join(begun.order)}) are not the first of this config's and some more "
            f"({', '.join(config.order)}); use the run of a config that ends earlier"
        )
    if source.imported.exists():
        config = with_real_vocab(config, begun.model.decoder.real_vocab)
    if found := difference(_shared(begun, begun), _shared(config, begun), "config"):
        raise BadInput(f"{path}: does not begin this run ({found}); use the run of a config that does")
    _check_kept(path, begun, config)
    _check_measured(path, begun, config)
    workdir.check_new()
    if source.path.resolve() in workdir.path.resolve().parents:
        raise BadInput(f"{path}: {workdir.path} lies in it; use a directory of its own")
    return True


def _check_kept(path: str, begun: RunConfig, config: RunConfig) -> None:
    earlier = {*begun.order[:-1]} - {IMPORTED}
    for name in sorted(config.kept_stages & earlier - begun.kept_stages):
        raise BadInput(
            f"{path}: a stage goes back to {name!r}, whose parameters that run has not kept; "
            "branch from a run that ends there"
        )


def _check_measured(path: str, begun: RunConfig, config: RunConfig) -> None:
    more = [task for task in config.trained_tasks if task not in begun.trained_tasks]
    if more and any(begun.stages[name].evaluate != "nothing" for name in begun.order):
        raise BadInput(
            f"{path}: a later stage trains on {', '.join(more)}, which that run's stages were not asked; "
            "run this config whole"
        )


def _shared(config: RunConfig, begun: RunConfig) -> dict[str, Any]:
    values = {name: value for name, value in to_json(config).items() if name not in _OPEN}
    # Its later stages may read more.
    values["datasets"] = {name: config.datasets.get(name) for name in begun.datasets}
    return values | {"stages": {name: to_json(config.stages[name]) for name in begun.order}}


def _branch(source: Workdir, workdir: Workdir, config: RunConfig) -> None:
    theirs = read_json(source / "provenance.json")
    told = {name: theirs[name] for name in ("git", "command", "branched_from") if name in theirs}
    begun = {**told, "stages": list(source.config().order)}
    remove_leftovers_of(workdir.path)
    with atomic_path(workdir.path) as work:
        shutil.copytree(source.path, work, ignore=_left_of(source.path), copy_function=_copier(source.path))
        write_json(work / "provenance.json", {**provenance(config), "branched_from": begun})
        write_json(work / "config.json", to_json(config))


def _left_of(source: Path) -> Any:
    """What `shutil.copytree` is not to take from a folder of `source`."""

    def left(folder: str, names: Sequence[str]) -> list[str]:
        return [name for name in names if Path(folder, name).relative_to(source).as_posix() in _LEFT]

    return left


def _copier(source: Path) -> Any:
    """How `shutil.copytree` brings over a file of `source`."""

    def put(file: str, target: str) -> None:
        try:
            if Path(file).relative_to(source).parts[0] in _LINKED:
                _link(file, target)
            else:
                shutil.copy2(file, target)
        except OSError as error:  # here, since copytree would gather those of all files
            raise WorkFailed(f"{file}: could not be copied to {target}: {error.strerror or error}") from error

    return put


def _link(file: str, target: str) -> None:
    """A hard link, or a copy where the file system has none."""
    try:
        os.link(os.path.realpath(file), target)
    except OSError:
        shutil.copy2(file, target)
