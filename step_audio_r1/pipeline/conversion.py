"""Public checkpoints to workdirs and back; parameters are read and written where they live, a tensor at a time."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from step_audio_r1.data.batches import BatchConfig
from step_audio_r1.errors import BadInput
from step_audio_r1.files import atomic_path
from step_audio_r1.interop import export_params, from_public, params_from_hf, params_to_hf, tokenizer_files
from step_audio_r1.model import ModelConfig
from step_audio_r1.parallel import TRAINING, MeshConfig, make_mesh
from step_audio_r1.pipeline.config import RunConfig, SFTStage, run_config, steps_of
from step_audio_r1.pipeline.run import newest_params
from step_audio_r1.pipeline.workdir import Workdir
from step_audio_r1.text import Tokenizer
from step_audio_r1.train import TRAINED, Checkpoints, OptimiserConfig, param_shardings

STAGE = "imported"


def import_workdir(source: Path, directory: Path, values: Mapping[str, Any] | None = None) -> None:
    """Makes the new workdir `directory` from a checkpoint in the public layout, whole or not at all.

    Args:
      source: directory with config.json, weights and tokenizer files.
      directory: new or empty.
      values: nested dicts of the RunConfig that goes on from there. Its first stage stands for the import: it is called
        "imported" and is an sft stage of no steps. None: a config of this stage alone.

    Raises:
      BadInput: the checkpoint is damaged or incomplete, or does not fit the config.
    """
    if not source.is_dir():
        raise BadInput(f"{source}: not a directory; give one with config.json and safetensors files")
    files = tokenizer_files(source)
    tokenizer = Tokenizer.load(source)
    config = _alone(from_public(source / "config.json")) if values is None else run_config(values)
    first = config.stages[config.order[0]]
    if config.order[0] != STAGE or steps_of(first) or first.kind != "sft":
        raise BadInput(f"config.order: the first stage must be {STAGE!r}, an sft stage of 0 steps")
    rows = config.model.decoder.vocab
    if tokenizer.vocab_size > rows:
        raise BadInput(f"{source}: its tokenizer has {tokenizer.vocab_size} entries, its embedding {rows} rows")
    where = param_shardings(config.model, make_mesh(config.mesh), TRAINING)
    params, _ = params_from_hf(source, config.model, where)
    with atomic_path(directory) as work:
        workdir = Workdir(work)
        workdir.claim(config)
        for file in files:
            shutil.copyfile(file, work / file.name)
        export_params(params, config.model, workdir.encoder, parts=("encoder",), dtype="float32")
        checkpoints = Checkpoints(work, config.keep_checkpoints)
        trained = {name: params[name] for name in TRAINED}
        checkpoints.save(0, {"params": trained}, {"stage": STAGE, "stage_step": 0, "done": True})
        checkpoints.close()
        workdir.stage_done(STAGE, 0.0, 0)


def export_workdir(directory: Path, out: Path, dtype: str) -> None:
    """Writes a run's newest parameters, with its encoder and tokenizer, to `out` in the public layout.

    Raises:
      BadInput: `directory` is no workdir or has no checkpoint yet, or `out` has files already.
    """
    run, params = newest_params(directory)
    _ = run.tokenizer  # a run that was stopped early may not have written it yet
    params_to_hf({"encoder": run.encoder_params, **params}, run.config.model, directory, out, dtype)


def _alone(model: ModelConfig) -> RunConfig:
    """A config that only says which model this is."""
    stage = SFTStage("sft", 0, BatchConfig(), OptimiserConfig(), {})
    # Every device holds its share: one alone could not hold the public models.
    mesh = MeshConfig(data=1, fsdp=-1)
    return RunConfig(f"{model.name}, imported", 0, model, (STAGE,), {STAGE: stage}, mesh=mesh)
