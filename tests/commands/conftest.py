"""One tiny finished run for the tests of the commands: 30 clips, two steps, an encoder of random weights."""

import shutil
import sys
from pathlib import Path

import jax
import pytest
from flax import linen as nn
from tiny_runs import tiny_config, write_config

from step_audio_r1.commands import train
from step_audio_r1.interop import export_params
from step_audio_r1.model import init_params
from step_audio_r1.model.config import model_config


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory) -> tuple[Path, Path]:
    """(config file, workdir) of the finished run; read it, or copy it before changing anything."""
    folder = tmp_path_factory.mktemp("tiny")
    encoder = folder / "encoder.safetensors"
    model = model_config(tiny_config(encoder)["model"])
    export_params(nn.unbox(init_params(model, jax.random.key(0))), model, encoder, parts=("encoder",), dtype="float32")
    config = write_config(folder / "tiny.py", tiny_config(encoder))
    assert train.main([f"--config={config}", f"--workdir={folder / 'run'}"]) == 0
    return config, folder / "run"


@pytest.fixture
def run_copy(tiny_run, tmp_path) -> Path:
    """The run's workdir, to be damaged."""
    return Path(shutil.copytree(tiny_run[1], tmp_path / "run"))


@pytest.fixture
def refused(capsys, monkeypatch):
    """Calls a command that has to refuse its input, and returns the one line it says."""

    def call(main, *flags: str, code: int = 2) -> str:
        capsys.readouterr()
        # Config flags look for overrides in the process's own arguments.
        monkeypatch.setattr(sys, "argv", ["step-audio-r1", *flags])
        assert main(list(flags)) == code
        out = capsys.readouterr()
        # Progress of what came before the fault is told on stderr as well.
        lines = [line for line in out.err.splitlines() if line.startswith(("error: ", "failed: "))]
        assert len(lines) == 1 and out.err.rstrip().endswith(lines[0]) and "Traceback" not in out.err
        assert not out.out
        return lines[0]

    return call
