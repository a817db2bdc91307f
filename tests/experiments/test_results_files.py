"""Promise: rows of a run replace those that it had, and say where they come from."""

import csv
import math

import numpy as np
import pytest

from experiments.plan import Run, arm_fingerprint
from experiments.results import Results, cell, read_csv, write_csv
from experiments.sweep import Sweep
from step_audio_r1.errors import BadInput
from tests.experiments.fake_experiments import finish, record


def test_rows_stand_by_arm_and_seed_whatever_came_first(results, tmp_path):
    record(results, tmp_path, ("rl_no_format", 0), ("rl_format", 10))
    record(results, tmp_path, ("rl_format", 2))
    text = (results.folder / "results" / "numbers.csv").read_bytes().decode()
    assert text == (
        "arm,seed,group,accuracy\n"
        "rl_format,2,all,0.66\nrl_format,2,few,\n"
        "rl_format,10,all,0.9\nrl_format,10,few,\n"
        "rl_no_format,0,all,0.5\nrl_no_format,0,few,\n"
    )
    assert [row["note"] for row in results.rows("notes")] == ['a, "b" é'] * 2


def test_rows_of_a_run_are_replaced(results, tmp_path):
    record(results, tmp_path, ("rl_format", 0), ("rl_format", 1), commit="old")
    record(results, tmp_path, ("rl_format", 0), commit=None)
    assert [(row["seed"], row["commit"]) for row in results.rows("runs")] == [("0", ""), ("1", "old")]
    assert [row["seed"] for row in results.rows("numbers")] == ["0", "0", "1", "1"]


def test_a_row_says_where_its_run_comes_from(results, tmp_path):
    record(results, tmp_path, ("rl_format", 3))
    (row,) = results.rows("runs")
    assert row == {
        "arm": "rl_format",
        "seed": "3",
        "scale": "miniature",
        "commit": "c0ffee",
        "config": arm_fingerprint("rl_format", "miniature"),
        "command": ("step-audio-r1 train --config=configs/ablations.py:rl_format --config.seed=3 --branch_from=stem_3"),
        "minutes": "1.5",
    }
    assert str(tmp_path) not in (results.folder / "results" / "runs.csv").read_text()


def test_what_is_recorded_is_of_the_present_config_with_rows_in_the_tables(results, tmp_path):
    both = {Run("rl_format", 0), Run("rl_no_format", 0)}
    record(results, tmp_path, ("rl_format", 0), ("rl_no_format", 0))
    assert results.recorded("miniature") == both  # though the one has no notes: its arm has none
    assert results.recorded("8b") == set()
    record(results, tmp_path, ("rl_format", 1), checkpoint_every=7)
    assert results.recorded("miniature") == both
    notes = results.folder / "results" / "notes.csv"
    write_csv(notes, [row for row in results.rows("notes") if row["seed"] != "0"])  # the table is younger than seed 0
    assert results.recorded("miniature") == {Run("rl_no_format", 0)}
    notes.unlink()
    assert results.recorded("miniature") == set()


def test_columns_that_a_reader_no_longer_tells_stay_as_long_as_rows_have_them(results, tmp_path):
    record(results, tmp_path, ("rl_format", 0), ("rl_format", 1))
    path = results.folder / "results" / "numbers.csv"
    write_csv(path, [row | {"older": "1"} for row in results.rows("numbers")])
    record(results, tmp_path, ("rl_format", 0))
    assert [row["older"] for row in results.rows("numbers")] == ["", "", "1", "1"]
    record(results, tmp_path, ("rl_format", 1))
    assert read_csv(path)[0] == ["arm", "seed", "group", "accuracy"]
    write_csv(path, [row | {"arm": "gone"} for row in results.rows("numbers")])
    record(results, tmp_path, ("rl_format", 1))
    assert {row["arm"] for row in results.rows("numbers")} == {"rl_format"}


def test_a_run_without_what_a_table_needs_changes_nothing(results, tmp_path):
    record(results, tmp_path, ("rl_format", 0))
    before = {path.name: path.read_bytes() for path in (results.folder / "results").iterdir()}
    workdir = finish(tmp_path / "runs", "rl_format", 1)
    (workdir / "numbers.json").unlink()
    with pytest.raises(BadInput, match="no numbers"):
        results.read(Run("rl_format", 1), workdir, "miniature")
    assert {path.name: path.read_bytes() for path in (results.folder / "results").iterdir()} == before


def test_a_file_that_is_no_table_of_runs_is_told(results, tmp_path):
    path = results.folder / "results" / "runs.csv"
    for text in ("a,b\n1,2\n", "arm,seed\nrl_format,one\n"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        with pytest.raises(BadInput, match=r"runs\.csv"):
            results.rows("runs")


def test_a_reader_may_not_tell_of_the_run(results, tmp_path):
    sweep = Sweep("n", "c", "e", ("stem",), {"t": lambda workdir: [{"arm": "direct"}]}, ())
    with pytest.raises(ValueError, match="arm"):
        Results(sweep, tmp_path).read(Run("stem", 0), finish(tmp_path / "runs", "stem", 0), "miniature")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *[(None, ""), ("x", "x"), (7, "7"), (True, "True"), (np.int64(12345678), "12345678")],
        *[(1 / 3, "0.333333"), (2.0, "2.0"), (1234567.0, "1234570.0"), (np.float32(0.1), "0.1")],
    ],
)
def test_cells(value, text):
    assert cell(value) == text


@pytest.mark.parametrize("value", [math.nan, math.inf, [1], {}])
def test_other_values_are_no_cells(value):
    with pytest.raises(ValueError):
        cell(value)


def test_contrasts_are_written_as_they_were_judged(results, tmp_path):
    results.write_contrasts(results.judged())
    assert not (results.folder / "results").exists()  # without runs there is nothing to tell
    record(results, tmp_path, *((arm, seed) for arm in results.sweep.arms for seed in (0, 1)))
    results.write_contrasts(results.judged())
    with open(results.folder / "results" / "contrasts.csv", newline="") as file:
        first, level = csv.DictReader(file)
    # Differences .10 and .12; t(1, .975) * .0141421 / 2 ** .5 = 12.7062 * .01
    assert {name: first[name] for name in ("name", "expected", "decides", "seeds", "plus", "minus")} == {
        "name": "first_wins",
        "expected": "above",
        "decides": "True",
        "seeds": "2",
        "plus": "0.615",
        "minus": "0.505",
    }
    assert (first["difference"], first["low"], first["high"]) == ("0.11", "-0.017062", "0.237062")
    assert first["holds"] == "open"
    assert (level["minus"], level["expected"], level["difference"], level["holds"]) == ("", "", "0.615", "")
