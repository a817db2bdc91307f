"""Promise: every notebook runs and shows what it was saved with; what it misses is said in one line."""

import json
import sys
import types
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

from experiments import figures
from experiments.sweep import Cell, Contrast, Sweep
from tests.train.small_model import quick_compilation  # noqa: F401

ROOT = Path(__file__).parents[1]
NOTEBOOKS = {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
# This one reads a run and plays its sound, the others read committed results.
OF_A_RUN = "start_here"
OF_RESULTS = sorted(NOTEBOOKS.keys() - {OF_A_RUN})


def cells_of(name: str) -> list[dict]:
    """The notebook's code cells."""
    return [cell for cell in json.loads(NOTEBOOKS[name].read_text())["cells"] if cell["cell_type"] == "code"]


@pytest.fixture
def execute(monkeypatch):
    """Runs a notebook's cells as Jupyter in notebooks/ would, and returns how many figures it showed."""
    shown: list[int] = []

    def show() -> None:
        shown.extend(plt.get_fignums())
        plt.close("all")

    def call(name: str) -> int:
        names: dict = {}
        for cell in cells_of(name):
            exec(compile("".join(cell["source"]), NOTEBOOKS[name].name, "exec"), names)
        return len(shown)

    matplotlib.use("Agg")
    monkeypatch.setattr(plt, "show", show)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(ROOT / "notebooks")
    with plt.rc_context():
        yield call
    plt.close("all")


@pytest.mark.parametrize("name", OF_RESULTS)
def test_a_notebook_shows_what_it_was_saved_with(name, execute, monkeypatch, capsys):
    for variable in ("STEP_AUDIO_R1_RESULTS", "STEP_AUDIO_R1_WORKDIR"):
        monkeypatch.delenv(variable, raising=False)
    saved = [out for cell in cells_of(name) for out in cell["outputs"]]
    shown = execute(name)
    assert shown == sum("image/png" in out.get("data", {}) for out in saved) > 0
    printed = "".join("".join(out["text"]) for out in saved if out["output_type"] == "stream")
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize("name", OF_RESULTS)
def test_without_results_a_notebook_says_which_command_makes_them(name, execute, monkeypatch, tmp_path):
    monkeypatch.setattr(figures, "EXPERIMENTS", tmp_path)
    with pytest.raises(figures.Missing) as caught:
        execute(name)
    said = str(caught.value)
    assert "no results yet; `python -m experiments.run " in said and "\n" not in said
    # Jupyter shows this in the traceback's place.
    assert caught.value._render_traceback_() == [f"error: {said}"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_stored_clean(name):
    text, cells = NOTEBOOKS[name].read_text(), cells_of(name)
    counts = [cell["execution_count"] for cell in cells]
    assert counts == list(range(1, len(cells) + 1)) or set(counts) == {None}
    outputs = [out for cell in cells for out in cell["outputs"]]
    assert not any(out["output_type"] == "error" or out.get("name") == "stderr" for out in outputs)
    assert len(json.dumps(outputs)) < 250_000
    assert str(ROOT) not in text and str(Path.home()) not in text


@pytest.fixture(scope="module")
def measured_run(tmp_path_factory) -> Path:
    """The workdir of a run of two steps that was asked questions directly and with thinking."""
    from flax import linen as nn
    from jax import random

    from step_audio_r1.commands import train
    from step_audio_r1.interop import export_params
    from step_audio_r1.model import init_params
    from step_audio_r1.model.config import model_config
    from tests.commands.tiny_runs import tiny_config, write_config

    folder = tmp_path_factory.mktemp("measured")
    encoder, workdir = folder / "encoder.safetensors", folder / "run"
    config = tiny_config(encoder, evaluation={"questions": 10, "max_new_tokens": 6})
    config["stages"]["pretrain"]["evaluate"] = "everything"
    model = model_config(config["model"])
    export_params(nn.unbox(init_params(model, random.key(0))), model, encoder, parts=("encoder",), dtype="float32")
    assert train.main([f"--config={write_config(folder / 'tiny.py', config)}", f"--workdir={workdir}"]) == 0
    return workdir


@pytest.fixture
def played(monkeypatch) -> list:
    """Sounds that a notebook shows a player for; IPython itself is no dependency."""
    sounds: list = []
    display = types.ModuleType("IPython.display")
    display.Audio = lambda samples, rate, normalize: (samples, rate, normalize)
    display.display = sounds.append
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return sounds


def test_start_here_shows_any_run(execute, played, measured_run, monkeypatch, capsys):
    monkeypatch.setenv("STEP_AUDIO_R1_WORKDIR", str(measured_run))
    assert execute(OF_A_RUN) == 2
    [(samples, rate, normalize)] = played
    assert rate == 16_000 and np.abs(samples).max() <= 1 and not normalize
    printed = capsys.readouterr().out
    for said in ("true answer:", "direct:", "thinking:", "pretrain:", "perceptual  after pretrain", "true claims"):
        assert said in printed


def test_start_here_without_a_run_names_the_command(execute, played, monkeypatch, tmp_path):
    monkeypatch.setenv("STEP_AUDIO_R1_WORKDIR", str(tmp_path / "none"))
    with pytest.raises(figures.Missing, match="no finished run; train one with `make quickstart`"):
        execute(OF_A_RUN)


def test_the_band_is_the_t_interval_of_the_seeds_at_each_place():
    values = {0: (1, 2, 3, 4, 5), 1: (2, 2, 2, 2, 2)}
    rows = [
        {"seed": str(seed), "x": str(x), "y": str(value / 100), "arm": "a"}
        for x, several in values.items()
        for seed, value in enumerate(several)
    ]
    rows += [{"seed": "0", "x": "2", "y": "0.07", "arm": "a"}, {"seed": "0", "x": "0", "y": "9", "arm": "b"}]
    curve = figures.curve(rows, "x", "y", 100, arm="a")
    # 3 -+ 2.776445 * 1.581139 / sqrt(5), by hand; one seed alone has no interval.
    assert curve.x.tolist() == [0, 1, 2]
    np.testing.assert_allclose(curve.mean, [3, 2, 7])
    np.testing.assert_allclose(curve.band, [[1.036757, 2, np.nan], [4.963243, 2, np.nan]], rtol=1e-6)
    spread = figures.spread(rows, "y", 100, arm="a", x=0)
    assert figures.told(spread) == "3.0 [1.0, 5.0]"
    assert figures.told(figures.spread(rows, "y", arm="a", x=2), 100, "+") == "+7.0"


def test_what_is_not_there_is_named():
    rows = [{"seed": "0", "x": "1", "y": "", "arm": "a"}]
    for read in (lambda: figures.curve(rows, "x", "y", arm="a"), lambda: figures.spread(rows, "y", arm="a")):
        with pytest.raises(figures.Missing, match="no y of arm a; the results are not complete"):
            read()


def test_several_rows_of_a_seed_at_one_place_are_refused():
    rows = [{"seed": "0", "x": "1", "y": "1"}] * 2
    with pytest.raises(ValueError, match="several rows of seed 0"):
        figures.curve(rows, "x", "y")


def test_running_means_are_centred_and_leave_out_what_is_missing():
    found = figures.running_mean([1, 2, 6, np.nan, 8], width=3)
    np.testing.assert_allclose(found, [1.5, 3, 4, 7, 8])
    assert np.isnan(figures.running_mean([np.nan, np.nan, 1.0], width=1)[0])


@pytest.mark.parametrize("heights", [(0.1, 0.5, 0.9), (0.2, 0.2, 0.9), (0.5, 0.5, 0.5, 0.51)])
def test_names_at_lines_ends_stand_apart_near_and_in_order(heights):
    figure, axis = figures.plt.subplots()
    axis.set_ylim(0, 1)
    figures.name_ends(axis, [(1.0, height, str(i), "black") for i, height in enumerate(heights)])
    places = [axis.transData.transform(text.xy)[1] for text in axis.texts]
    wanted = [axis.transData.transform((1, height))[1] for height in heights]
    figures.plt.close(figure)
    assert [text.get_text() for text in axis.texts] == [str(i) for i in range(len(heights))]
    line = 10 * figure.dpi / 72  # a name is one line of 10 points
    assert min(np.diff(places)) >= line
    assert max(abs(np.subtract(places, wanted))) <= 2 * line
    if min(np.diff(wanted)) > 2 * line:
        np.testing.assert_allclose(places, wanted)


def test_the_verdict_names_what_it_rests_on(tmp_path, monkeypatch):
    results = tmp_path / "made" / "results"
    results.mkdir(parents=True)
    rows = [f"a,{seed},{0.5 + seed / 100},{3 * seed}" for seed in range(5)]
    (results / "table.csv").write_text("\n".join(["arm,seed,right,tokens", *rows]) + "\n")
    monkeypatch.setattr(figures, "EXPERIMENTS", tmp_path)
    right, tokens = (
        (Cell("table", "right", {"arm": "a"}),),
        (Cell("table", "tokens", {"arm": "a"}),),
    )
    sweep = Sweep(
        "made",
        "claim",
        "evidence",
        ("a",),
        {"table": lambda workdir: []},
        (
            Contrast("right", "Answers are right.", right, (), "above"),
            Contrast("tokens", "Tokens, told.", tokens, (), None, "tokens", decides=False),
        ),
    )
    assert figures.verdict(sweep, ["tokens"]).split("\n") == [
        "Verdict: reproduced, by 5 seeds (means, 95 % t intervals over seeds).",
        "rests on:",
        "  yes       52.0 [50.0, 54.0] %      Answers are right.",
        "beside it:",
        "  told        6.0 [0.1, 11.9] tokens Tokens, told.",
    ]


def test_there_are_notebooks():
    assert OF_A_RUN in NOTEBOOKS and OF_RESULTS
