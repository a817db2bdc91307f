"""Promise: an expectation is judged by differences of each seed's own numbers, and a verdict follows from its rule."""

import pytest

from experiments.sweep import Cell, Contrast, Found, Spread, judge, over_seeds, verdict

ON = Cell("numbers", "score", {"arm": "on", "budget": None})
OFF = Cell("numbers", "score", {"arm": "off", "budget": None})


def rows(**scores):
    """Rows as they are read from a file: of each arm a score by seed, and one of another budget that is not meant."""
    found = []
    for arm, several in scores.items():
        for seed, score in enumerate(several):
            text = "" if score is None else str(score)
            found.append({"arm": arm, "seed": str(seed), "budget": "", "score": text})
            found.append({"arm": arm, "seed": str(seed), "budget": "4", "score": "99"})
    return {"numbers": found}


def contrast(plus=(ON,), minus=(OFF,), expected="above", decides=True):
    return Contrast("name", "says", plus, minus, expected, decides=decides)


def test_differences_are_of_each_seed():
    found = judge(contrast(), rows(on=[0.5, 0.7, 0.6], off=[0.3, 0.4, 0.2]))
    assert found.seeds == (0, 1, 2)
    assert (found.plus.mean, found.minus.mean) == (pytest.approx(0.6), pytest.approx(0.3))
    # Differences .2 .3 .4: mean .3, standard deviation .1, t(2, .975) = 4.302653.
    half = 4.302653 * 0.1 / 3**0.5
    assert found.difference.mean == pytest.approx(0.3)
    assert (found.difference.low, found.difference.high) == (pytest.approx(0.3 - half), pytest.approx(0.3 + half))
    assert found.holds == "yes"


@pytest.mark.parametrize(
    ("expected", "off", "holds"),
    [
        ("above", [0.1, 0.1], "yes"),
        ("below", [0.1, 0.1], "no"),
        ("above", [0.9, 0.9], "no"),
        ("below", [0.9, 0.9], "yes"),
        ("above", [0.1, 0.9], "open"),
        ("below", [0.1, 0.9], "open"),
        (None, [0.1, 0.1], None),
    ],
)
def test_the_interval_decides(expected, off, holds):
    asked = contrast(expected=expected, decides=expected is not None)
    assert judge(asked, rows(on=[0.5, 0.51], off=off)).holds == holds


def test_a_verdict_rests_on_expectations_only():
    with pytest.raises(ValueError, match="nothing is expected"):
        contrast(expected=None)


def test_seeds_that_lack_a_cell_are_left_out():
    found = judge(contrast(), rows(on=[0.5, None, 0.7, 0.9], off=[0.1, 0.2, 0.3]))
    assert found.seeds == (0, 2)
    assert found.plus.mean == pytest.approx(0.6) and found.difference.mean == pytest.approx(0.4)


def test_without_seeds_there_is_nothing():
    found = judge(contrast(), {})
    assert (found.seeds, found.holds) == ((), None)
    assert found.difference == Spread(None, None, None)
    one = judge(contrast(), rows(on=[0.5], off=[0.1]))
    assert (one.difference.mean, one.difference.low, one.holds) == (pytest.approx(0.4), None, None)


def test_several_rows_of_a_seed_are_an_error():
    tables = rows(on=[0.5, 0.6], off=[0.1, 0.2])
    with pytest.raises(ValueError, match="several rows of seed 0"):
        judge(contrast(plus=(Cell("numbers", "score", {"arm": "on"}),)), tables)


def test_cells_of_a_side_are_added():
    double = contrast(plus=(ON, OFF), minus=())
    found = judge(double, rows(on=[0.5, 0.6], off=[0.1, 0.2]))
    assert found.plus.mean == found.difference.mean == pytest.approx(0.7)
    assert found.minus.mean == 0


def test_values_are_compared_as_they_stand_in_the_file():
    tables = {"numbers": [{"arm": "on", "seed": "3", "budget": "4", "voted": "True", "score": "2.5"}]}
    assert Cell("numbers", "score", {"budget": 4, "voted": True}).of(tables["numbers"]) == {3: 2.5}
    assert Cell("numbers", "score", {"budget": None}).of(tables["numbers"]) == {}


def found(holds, decides=True):
    nothing = Spread(None, None, None)
    return Found(contrast(decides=decides), (0, 1), nothing, nothing, nothing, holds)


@pytest.mark.parametrize(
    ("holds", "said"),
    [
        (["yes", "yes"], "reproduced"),
        (["yes", "open"], "partly"),
        (["yes", "no"], "partly"),
        (["no", "open"], "not reproduced"),
        (["open", "open"], "undecided"),
        (["yes", None], "partly"),
        ([None], "undecided"),
        ([], "undecided"),
    ],
)
def test_the_verdict_follows_from_what_decides(holds, said):
    beside = [found("yes", decides=False), found("no", decides=False)]
    assert verdict([found(one) for one in holds] + beside) == said


def test_intervals_over_seeds():
    spread = over_seeds([1.0, 3.0])
    # Standard deviation 2 ** .5, t(1, .975) = 12.706205.
    assert (spread.mean, spread.high) == (2.0, pytest.approx(2 + 12.706205))
