"""Promise: pages tell what was expected and what came of it, are filled anew without growing, and lack no place."""

import pytest

from experiments import pages
from experiments.sweep import Contrast, Found, Spread, Sweep, judge
from step_audio_r1.errors import BadInput
from tests.experiments.fake_experiments import record


def test_a_page_is_filled_in_its_place_and_again_the_same(tmp_path):
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- results -->\nold\n<!-- /results -->\nafter\n")
    pages.fill(page, "results", "new | é")
    once = page.read_text(encoding="utf-8")
    assert once == "before\n<!-- results -->\nnew | é\n<!-- /results -->\nafter\n"
    pages.fill(page, "results", "new | é")
    assert page.read_text(encoding="utf-8") == once


@pytest.mark.parametrize("text", [None, "", "<!-- results -->", "<!-- /results -->\n<!-- results -->"])
def test_a_page_without_a_place_is_told(tmp_path, text):
    page = tmp_path / "README.md"
    if text is not None:
        page.write_text(text)
    with pytest.raises(BadInput, match=r"README\.md.*<!-- results -->"):
        pages.fill(page, "results", "new")


def test_a_page_tells_runs_expectations_and_the_verdict(results, tmp_path):
    assert pages.results_part([], []) == "No runs yet."
    record(results, tmp_path, ("rl_format", 0), ("rl_format", 1), ("rl_format", 2), commit="0123456789abcdef")
    record(results, tmp_path, ("rl_no_format", 0), ("rl_no_format", 1), commit=None, checkpoint_every=7)
    record(results, tmp_path, ("rl_no_format", 1))
    lines = pages.results_part(results.rows("runs"), results.judged()).splitlines()
    assert lines[0].startswith("Seeds 0, 1, 2; commits 0123456789ab, c0ffee, unknown; ")
    assert "Only some of the seeds so far: rl_no_format (0, 1)." in lines[0]
    assert "**Runs of different configs are mixed** in: rl_no_format." in lines[0]
    assert lines[4] == "| The first arm wins. | 61.5 | 50.5 | +11.0 [-1.7, +23.7] (2 seeds) | above 0 | open |"
    # .60 .63 .66: t(2, .975) * .03 / 3 ** .5 = .0745
    assert lines[5] == "| How good the first is. |  |  | 0.63 [0.555, 0.705] |  |  |"
    assert lines[-1].endswith("**undecided** (of what decides 1 open).")


@pytest.mark.parametrize(
    ("unit", "minus", "shown"),
    [
        ("points", True, "+12.3 [+1.2, +23.5]"),
        ("tokens", True, "+0.1 [+0.0, +0.2]"),
        ("other", True, "+0.123 [+0.0123, +0.235]"),
        ("points", False, "12.3 [1.2, 23.5]"),
    ],
)
def test_units(unit, minus, shown):
    contrast = Contrast("n", "a|b", (), (object(),) if minus else (), "below", unit, decides=False)
    spread = Spread(0.12345, 0.0123, 0.2346)
    found = Found(contrast, (0, 1), spread, spread, spread, "no")
    line = pages.results_part(
        [{"arm": "a", "seed": s, "commit": "c", "config": "f"} for s in "01"], [found]
    ).splitlines()[4]
    assert line.startswith("| a\\|b |") and f"| {shown} | below 0, does not decide | no |" in line


def test_the_table_of_all_names_effects_and_pages(results, tmp_path):
    record(results, tmp_path, *((arm, seed) for arm in results.sweep.arms for seed in (0, 1)))
    runs, found = results.rows("runs"), results.judged()
    none = [judge(contrast, {}) for contrast in results.sweep.contrasts]
    told = pages.index_table({"reward": (results.sweep, runs, found), "other": (results.sweep, [], none)})
    lines = told.splitlines()
    effect = "first wins +11.0 [-1.7, +23.7] points: open<br>2 seeds"
    assert lines[2] == f"| reward a\\|b | none | {effect} | undecided | [reward](reward/README.md) |"
    assert lines[3] == "| reward a\\|b | none | no runs yet |  | [other](other/README.md) |"


def test_seeds_are_said_of_each_effect_where_they_differ():
    spread = Spread(0.5, 0.4, 0.6)
    effects = [
        Found(Contrast(name, "", (), (object(),), "above"), seeds, spread, spread, spread, "yes")
        for name, seeds in (("a", (0, 1)), ("b_c", (0,)))
    ]
    sweep = Sweep("s", "claim", "evidence", (), {}, tuple(one.contrast for one in effects))
    line = pages.index_table({"s": (sweep, [{"arm": "x"}], effects)}).splitlines()[2]
    assert "| a +50.0 [+40.0, +60.0] points: holds, 2 seeds<br>b c +50.0 [+40.0, +60.0] points: holds, 1 seed |" in line
