"""A run that begins where another has ended: an ablation trains what its arms share once."""

import os
import shutil
from pathlib import Path
from typing import Any

from step_audio_r1.errors import BadInput
from step_audio_r1.files import atomic_path, read_json, write_json
from step_audio_r1.parallel import once
from step_audio_r1.pipeline.config import RunConfig, to_json
from step_audio_r1.pipeline.workdir import Workdir, difference, provenance

# What is written once and replaced whole, if at all: a link of the same file system takes no room. The rest is copied.
_LINKED = ("checkpoints", "kept", "data", "imported", "encoder.safetensors")
# What tells of the other run alone.
_LEFT = ("config.json", "provenance.json", "goodput.json", "profile", "report.html", "eval/benchmarks")
# Fields in which a branch differs from the run it begins with. Its stages are more.
_OPEN = ("name", "order", "stages", "profile")


def branch(source: Path | str, workdir: Workdir, config: RunConfig) -> None:
    """Makes `workdir` the run of `config` after the stages that it shares with the finished run `source`.

    The stages of `source` are the first of `config`, and whatever decides on their results is the same. So what comes
    of the branch is, to the bit, what the whole run would have come to. A workdir that is already there is left alone.

    Raises:
      BadInput: `source` is no workdir, is not finished, or is no beginning of this run (the first difference is named).
      WorkFailed: the disk refuses a write.
    """
    once("branch", lambda: None if (workdir / "config.json").exists() else _branch(Workdir(source), workdir, config))


def _branch(source: Workdir, workdir: Workdir, config: RunConfig) -> None:
    begun = source.config()
    _check(source, begun, config)
    if workdir.path.exists() and any(workdir.path.iterdir()):
        raise BadInput(f"{workdir.path}: not empty and not a workdir (no config.json); use a new directory")
    about = provenance(config)
    theirs = read_json(source / "provenance.json")
    about["branched_from"] = {"git": theirs["git"], "command": theirs["command"], "stages": list(begun.order)}
    with atomic_path(workdir.path) as work:
        for entry in sorted(source.path.iterdir()):
            if entry.name not in _LEFT:
                _copy(entry, work / entry.name)
        for name in _LEFT:
            shutil.rmtree(work / name, ignore_errors=True)
        write_json(work / "provenance.json", about)
        write_json(work / "config.json", to_json(config))


def _check(source: Workdir, begun: RunConfig, config: RunConfig) -> None:
    path = source.path
    if not source.finished(begun):
        raise BadInput(f"--branch_from={path}: its run has not ended; give its own command again first")
    if config.order[: len(begun.order)] != begun.order or len(config.order) == len(begun.order):
        raise BadInput(
            f"--branch_from={path}: its stages ({', '.join(begun.order)}) are not the first of this config's "
            f"({', '.join(config.order)})"
        )
    old, new = _shared(begun, begun), _shared(config, begun)
    if found := difference(old, new, "config"):
        raise BadInput(f"--branch_from={path}: does not begin this run ({found}); use the run of a config that does")
    for name in config.kept_stages & set(begun.order[:-1]) - begun.kept_stages:
        raise BadInput(
            f"--branch_from={path}: a stage goes back to {name!r}, whose parameters that run has not kept; "
            "branch from a run that ends there"
        )


def _shared(config: RunConfig, begun: RunConfig) -> dict[str, Any]:
    values = {name: value for name, value in to_json(config).items() if name not in _OPEN}
    return values | {"stages": {name: to_json(config.stages[name]) for name in begun.order}}


def _copy(source: Path, target: Path) -> None:
    link = source.name in _LINKED
    if source.is_dir():
        # Programs are many and found elsewhere or made again.
        skip = shutil.ignore_patterns("programs") if source.name == "cache" else None
        shutil.copytree(source, target, ignore=skip, copy_function=_link if link or skip else shutil.copy2)
    else:
        (_link if link else shutil.copy2)(source, target)


def _link(source: str | Path, target: str | Path) -> None:
    """A hard link, or a copy where the file system has none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
