"""A workdir is a run: what lies where, whose config it is, how far it got."""

import os
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from step_audio_r1.errors import BadInput
from step_audio_r1.files import read_json, remove_leftovers, write_json
from step_audio_r1.parallel import leads, once
from step_audio_r1.pipeline.config import RunConfig, run_config, to_json

# The stage that stands for parameters that were imported: the first of its run, of 0 steps.
IMPORTED = "imported"

# How long what one host has made may stay hidden from another: network file systems remember what was not there.
_SHOWN_S = 90
_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "tokenizers")


class Workdir:
    """Paths of a run.

    config.json, provenance.json, stages.json     what it is, where it came from, how far it got
    tokenizer.json, encoder.safetensors           what never changes in it
    imported/                                     adaptor and decoder it began with, in the public layout, and what
                                                  lay beside them (`convert --from_hf`)
    checkpoints/  metrics.jsonl  tensorboard/     training
    goodput.json  profile/                        where the time went; traced steps
    data/world/SPLIT/  cache/                     generated clips; encoder features, acoustics, programs
    chains/round_NN/                              MGRD rounds
    kept/STAGE/                                   parameters of stages that a later one goes back to
    rollouts/STAGE/  rollouts/judge.jsonl         which questions RLVR was given, samples with their rewards; what a
                                                  judge of free text has said, and in judge.json what it cost
    pairs/STAGE/                                  outputs that DPO compares
    eval/  report.html                            results
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def encoder(self) -> Path:
        """The frozen encoder's weights in the public layout."""
        return self.path / "encoder.safetensors"

    @property
    def imported(self) -> Path:
        """The public checkpoint that the run began with, without its encoder; not there in other runs."""
        return self.path / "imported"

    @property
    def tokenizer(self) -> Path:
        """The tokenizer file."""
        return self.path / "tokenizer.json"

    def chains(self, round: int) -> Path:
        """Records of an MGRD round."""
        return self.path / "chains" / f"round_{round:02d}"

    def rollouts(self, stage: str) -> Path:
        """Records of an RLVR stage."""
        return self.path / "rollouts" / stage

    def pairs(self, stage: str) -> Path:
        """Pairs of a DPO stage."""
        return self.path / "pairs" / stage

    def features(self, name: str) -> Path:
        """Cached encoder features of a dataset."""
        return self.path / "cache" / "features" / name

    @property
    def acoustics(self) -> Path:
        """What was measured of clips, for claims about them."""
        return self.path / "cache" / "acoustics"

    def config(self) -> RunConfig:
        """The config the run was started with.

        Raises:
          BadInput: this is no workdir.
        """
        if not (self / "config.json").exists():
            raise BadInput(f"{self.path}: not a workdir (no config.json); give the --workdir of a `train` run")
        return run_config(read_json(self / "config.json"))

    def check_new(self) -> None:
        """Raises BadInput if something lies there that is no workdir."""
        if self.path.exists() and not self.path.is_dir():
            raise BadInput(f"{self.path}: is a file; use a new directory")
        if self.path.exists() and any(self.path.iterdir()):
            raise BadInput(f"{self.path}: not empty and not a workdir (no config.json); use a new directory")

    def claim(self, config: RunConfig) -> None:
        """Makes the directory this config's, or checks that it already is.

        Raises:
          BadInput: the directory belongs to another config (the first field that differs is named), or it is not the
            same on all hosts.
        """
        new = to_json(config)
        once("claim", lambda: self._claim_alone(config, new))
        # The others look when the files are there, each at its own config.
        if not leads():
            self._await_claim()
            self._claim(config, new)

    def _await_claim(self) -> None:
        until = time.monotonic() + _SHOWN_S
        while not (self / "config.json").exists():
            if time.monotonic() > until:
                raise BadInput(
                    f"{self.path}: process 0 has made it and process {jax.process_index()} does not see it; "
                    "use a folder that all hosts share"
                )
            time.sleep(0.2)

    def _claim_alone(self, config: RunConfig, new: dict[str, Any]) -> None:
        self._claim(config, new)
        remove_leftovers(self.path, skip="checkpoints")  # Orbax's own, and of many files

    def _claim(self, config: RunConfig, new: dict[str, Any]) -> None:
        if (self / "config.json").exists():
            old = self._but_for_open_rounds(read_json(self / "config.json"), new)
            found = difference(old, new, "config")
            if found:
                raise BadInput(
                    f"{self.path}: was started with another config ({found}); use another --workdir, or the same config"
                )
            if leads() and old["stages"] != read_json(self / "config.json")["stages"]:
                write_json(self / "config.json", new)
            return
        self.check_new()
        write_json(self / "config.json", new)
        write_json(self / "provenance.json", provenance(config))

    def _but_for_open_rounds(self, old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
        """The old config with what may change in a run: what is traced, and how data are made that are not made yet.

        A round of MGRD that keeps too few chains ends the run, and so does DPO with too few pairs; it goes on with
        other questions, filters or samples.
        """
        stages, ended = dict(old.get("stages", {})), self.stages()
        for name, stage in new["stages"].items():
            made = {"distil": name in ended, "dpo": (self.pairs(name) / "pairs.jsonl").exists()}
            if name in stages and not made.get(stage["kind"], True):
                stages[name] = stage
        return {**old, "profile": new["profile"], "stages": stages}

    def keep_programs(self) -> None:
        """From now on what is compiled is kept in `cache/programs`, and found there by the next command.

        Whoever sets JAX_COMPILATION_CACHE_DIR keeps programs there instead, for many workdirs, by JAX's own rules. Of
        several processes the first writes and all read; an entry that a kill has cut short is compiled again.
        """
        if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
            jax.config.update("jax_compilation_cache_dir", str((self / "cache" / "programs").absolute()))
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)

    def stages(self) -> dict[str, Any]:
        """What `stages.json` says: {name: {"seconds", "done", "steps"}}."""
        path = self / "stages.json"
        return read_json(path) if path.exists() else {}

    def stage_done(self, name: str, seconds: float, steps: int) -> None:
        """Records that a stage has ended; `seconds` is the time this process spent in it."""
        if leads():
            write_json(
                self / "stages.json",
                {**self.stages(), name: {"seconds": seconds, "done": True, "steps": steps}},
            )

    def finished(self, config: RunConfig) -> bool:
        """Whether every stage has ended and all that was to be measured is summarised; process 0 looks for all."""
        return once("finished", lambda: self.has_ended(config))

    def has_ended(self, config: RunConfig) -> bool:
        """The same as this process alone sees it."""
        stages = self.stages()
        to_measure = any(config.stages[name].evaluate != "nothing" for name in config.order)
        summarised = (self / "eval" / "summary.json").exists()
        return all(stages.get(name, {}).get("done") for name in config.order) and (summarised or not to_measure)


def difference(old: Any, new: Any, path: str) -> str | None:
    """The first field in which two configs in plain JSON differ, with both values; None if there is none."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            found = difference(old.get(key), new.get(key), f"{path}.{key}")
            if found:
                return found
        return None
    return None if old == new else f"{path}: there {old!r}, here {new!r}"


def provenance(config: RunConfig) -> dict[str, Any]:
    """Where a run that begins now comes from: commit, versions of libraries, command, time, encoder."""
    root = Path(__file__).parent
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    encoder = "imported with the model" if config.order[0] == IMPORTED else config.encoder
    if encoder == "shipped":
        encoder = (
            "shipped with the package (step_audio_r1/assets/miniature_encoder.safetensors), made by "
            "`step-audio-r1 train --config=configs/miniature_encoder.py --workdir=runs/miniature_encoder`"
        )
    return {
        "git": git.stdout.strip() or None,
        "versions": {name: metadata.version(name) for name in _LIBRARIES},
        "command": [os.path.basename(sys.argv[0]), *sys.argv[1:]],
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "encoder": encoder or "trained in this run",
    }
