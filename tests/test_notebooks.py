"""Promise: every notebook runs from top to bottom on the results that are in the repository."""

import json
from pathlib import Path

import matplotlib
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_it_was_saved_with(path, monkeypatch, capsys):
    matplotlib.use("Agg")
    monkeypatch.chdir(ROOT)
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    names: dict = {}
    for cell in cells:
        exec(compile("".join(cell["source"]), path.name, "exec"), names)
    saved = [out for cell in cells for out in cell["outputs"]]
    assert any("image/png" in out.get("data", {}) for out in saved)
    printed = "".join("".join(out["text"]) for out in saved if out.get("name") == "stdout")
    assert capsys.readouterr().out == printed


def test_there_are_notebooks():
    assert NOTEBOOKS
