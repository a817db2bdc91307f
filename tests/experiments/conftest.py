"""Results that tests of several files fill."""

import importlib

import pytest

from experiments.results import Results
from tests.experiments.fake_experiments import write_experiments


@pytest.fixture
def results(tmp_path, monkeypatch) -> Results:
    """The results, still none, of an experiment of two arms."""
    folder = write_experiments(tmp_path / f"files_of_{tmp_path.name}", reward=("rl_format", "rl_no_format"))
    monkeypatch.syspath_prepend(tmp_path)
    return Results(importlib.import_module(f"{folder.name}.reward.sweep").SWEEP, folder / "reward")
