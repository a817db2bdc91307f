"""What an experiment is: arms, what is read of their runs, and what is expected of it, said before any run."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from step_audio_r1.intervals import student_mean

Row = dict[str, Any]
# Reads a finished run's workdir; its rows become those of a CSV file, with the arm and the seed before them.
Reader = Callable[[Path], Iterable[Row]]
Holds = Literal["yes", "no", "open"]
Verdict = Literal["reproduced", "partly", "not reproduced", "undecided"]


@dataclass(frozen=True)
class Cell:
    """A number of each seed: the column of the one row of a table in which the other columns have these values.

    Values are compared as text, as they stand in the file; None is the empty cell.
    """

    table: str
    column: str
    where: Mapping[str, Any]

    def of(self, rows: Sequence[Mapping[str, str]]) -> dict[int, float]:
        """The number of each seed that has one, from the rows of the table as they were read.

        Raises ValueError where several rows of a seed match.
        """
        wanted = {name: "" if value is None else str(value) for name, value in self.where.items()}
        found: dict[int, float] = {}
        for row in rows:
            if all(row[name] == value for name, value in wanted.items()) and row[self.column] != "":
                seed = int(row["seed"])
                if seed in found:
                    raise ValueError(f"{self.table}: several rows of seed {seed} where {wanted}")
                found[seed] = float(row[self.column])
        return found


@dataclass(frozen=True)
class Contrast:
    """A difference that was expected, of each seed's own numbers.

    Attributes:
      name: a word for files.
      says: the expectation as a sentence of the page.
      plus, minus: what is added and what is taken away. Without `minus` the number itself is looked at.
      expected: the sign; None where nothing was expected, and the difference is only told.
      unit: shares are shown in percent, differences of shares in points.
      decides: whether the experiment's verdict rests on it.
    """

    name: str
    says: str
    plus: tuple[Cell, ...]
    minus: tuple[Cell, ...]
    expected: Literal["above", "below"] | None
    unit: Literal["points", "tokens", "other"] = "points"
    decides: bool = True

    def __post_init__(self):
        if self.decides and self.expected is None:
            raise ValueError(f"{self.name}: decides, and nothing is expected of it; give one of the two up")


@dataclass(frozen=True)
class Spread:
    """A number over seeds.

    Attributes:
      mean: of the seeds, None if there are none.
      low, high: 95 % t interval, None for fewer than two seeds; it holds for another seed.
    """

    mean: float | None
    low: float | None
    high: float | None


def over_seeds(values: Sequence[float]) -> Spread:
    """The spread of one value a seed."""
    interval = student_mean(values) if len(values) > 1 else (None, None)
    return Spread(sum(values) / len(values) if values else None, *interval)


@dataclass(frozen=True)
class Found:
    """What came of a contrast: of the seeds that have all its cells, the two sides, the difference, and whether it is
    as expected: "open" where the interval holds zero, None where nothing was expected or one seed tells nothing.
    """

    contrast: Contrast
    seeds: tuple[int, ...]
    plus: Spread
    minus: Spread
    difference: Spread
    holds: Holds | None


def judge(contrast: Contrast, tables: Mapping[str, Sequence[Mapping[str, str]]]) -> Found:
    """Judges a contrast by the tables of an experiment, as they were read from its files."""
    sides = [[cell.of(tables.get(cell.table, ())) for cell in side] for side in (contrast.plus, contrast.minus)]
    seeds = sorted(set.intersection(*(set(cell) for side in sides for cell in side)))
    plus, minus = ([sum(cell[seed] for cell in side) for seed in seeds] for side in sides)
    difference = over_seeds([a - b for a, b in zip(plus, minus)])
    return Found(contrast, tuple(seeds), over_seeds(plus), over_seeds(minus), difference, _holds(contrast, difference))


def _holds(contrast: Contrast, difference: Spread) -> Holds | None:
    if contrast.expected is None or difference.low is None:
        return None
    above, below = difference.low > 0, difference.high < 0
    wanted, opposite = (above, below) if contrast.expected == "above" else (below, above)
    return "yes" if wanted else "no" if opposite else "open"


def verdict(found: Sequence[Found]) -> Verdict:
    """Of the contrasts that decide: all as expected, some, none and one the other way round, or too wide to say."""
    decided = [one.holds for one in found if one.contrast.decides]
    if decided and all(holds == "yes" for holds in decided):
        return "reproduced"
    if "yes" in decided:
        return "partly"
    return "not reproduced" if "no" in decided else "undecided"


@dataclass(frozen=True)
class Sweep:
    """An experiment.

    Attributes:
      name: of its folder.
      claim: what the paper claims, for the table of all experiments.
      evidence: what it shows for it.
      arms: names of `configs.ablations.ARMS`, in the order in which pages show them.
      tables: readers by the name of their file, results/NAME.csv.
      contrasts: what is expected.
      labels: for readers, of arms whose names do not speak for themselves.
    """

    name: str
    claim: str
    evidence: str
    arms: tuple[str, ...]
    tables: Mapping[str, Reader]
    contrasts: tuple[Contrast, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
