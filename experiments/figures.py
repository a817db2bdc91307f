"""What the notebooks share: an experiment's tables, numbers over its seeds, and how figures look. Saves nothing.

Points and bands are means over seeds with 95 % t intervals (`experiments.sweep.over_seeds`), thin lines single seeds,
grey what the paper has published.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from experiments.results import Results, read_csv
from experiments.sweep import Cell, Found, Spread, Sweep, over_seeds
from experiments.sweep import verdict as verdict_of
from step_audio_r1.errors import BadInput

EXPERIMENTS = Path(__file__).parent
ROOT = EXPERIMENTS.parent

# The report page's colours, dark enough for lines on white; told apart also by marker and dash. Two more for many arms.
BLUE, RUST, GREEN, PURPLE, GREY = "#0067a5", "#b34700", "#00734f", "#8a3f86", "#8b9098"
SKY, AMBER, INK = "#4ea5d9", "#d99400", "#24292f"

Row = Mapping[str, str]


class Missing(BadInput):
    """Something that a notebook reads is not there; Jupyter shows the one line instead of a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"error: {self}"]


def read(experiment: str, table: str) -> list[Row]:
    """The rows of results/TABLE.csv of an experiment, as text.

    Raises:
      Missing: there is no such file, or no row in it.
    """
    name = f"{experiment}/results/{table}.csv"
    _, rows = read_csv(EXPERIMENTS / name)
    if not rows:
        raise Missing(f"experiments/{name}: no results yet; `python -m experiments.run {experiment}` makes them")
    return rows


def paper_curves() -> dict[str, np.ndarray]:
    """The paper's digitised curves, f64[59] by column of experiments/paper/curves.csv, "iteration" among them."""
    with (ROOT / "experiments/paper/curves.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def select(rows: Sequence[Row], **where: object) -> list[Row]:
    """The rows whose columns have these values, compared as text; None is the empty cell."""
    wanted = {name: "" if value is None else str(value) for name, value in where.items()}
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def distinct(rows: Sequence[Row], column: str) -> list[str]:
    """The column's values, each once, in the order of the file."""
    return list(dict.fromkeys(row[column] for row in rows))


def spread(rows: Sequence[Row], column: str, scale: float = 1.0, **where: object) -> Spread:
    """A column's mean and interval over seeds, of the one row that each seed has there, times `scale`.

    Raises:
      ValueError: several rows of a seed match.
      Missing: no seed has a value.
    """
    values = Cell("rows", column, where).of(rows)
    if not values:
        raise _nothing(column, where)
    return over_seeds([scale * value for value in values.values()])


def _nothing(column: str, where: Mapping[str, object]) -> Missing:
    about = ", ".join(f"{name} {value}" for name, value in where.items()) or "any row"
    return Missing(f"no {column} of {about}; the results are not complete, train all arms of the experiment")


@dataclass(frozen=True)
class Curve:
    """A number along x, by seed.

    Attributes:
      x: f64[X], rising.
      seeds: f64[X] of each seed, nan where it has no value.
    """

    x: np.ndarray
    seeds: Mapping[int, np.ndarray]

    @property
    def spreads(self) -> list[Spread]:
        """Mean and interval at each x, of the seeds that have a value there."""
        return [over_seeds([float(value) for value in column if not np.isnan(value)]) for column in self._columns]

    @property
    def mean(self) -> np.ndarray:
        """f64[X]."""
        return np.array([one.mean for one in self.spreads], np.float64)

    @property
    def band(self) -> tuple[np.ndarray, np.ndarray]:
        """f64[X] below and above, nan where fewer than two seeds have a value."""
        return tuple(np.array([getattr(one, end) for one in self.spreads], np.float64) for end in ("low", "high"))

    def smooth(self, width: int = 5) -> "Curve":
        """Each seed's running mean over `width` places."""
        return Curve(self.x, {seed: running_mean(values, width) for seed, values in self.seeds.items()})

    def complete(self) -> "Curve":
        """Those places at which every seed has a value."""
        kept = ~np.isnan(self._columns).any(axis=1)
        return Curve(self.x[kept], {seed: values[kept] for seed, values in self.seeds.items()})

    @property
    def _columns(self) -> np.ndarray:
        return np.array(list(self.seeds.values())).T


def curve(rows: Sequence[Row], x: str, y: str, scale: float = 1.0, **where: object) -> Curve:
    """Column `y` times `scale` against column `x` of the rows where the other columns have these values.

    Raises:
      ValueError: a seed has several rows at one x.
      Missing: there is no value.
    """
    found: dict[int, dict[float, float]] = {}
    for row in select(rows, **where):
        if row[x] != "" and row[y] != "":
            values, at = found.setdefault(int(row["seed"]), {}), float(row[x])
            if at in values:
                raise ValueError(f"several rows of seed {row['seed']} with {x}={row[x]} where {where}")
            values[at] = scale * float(row[y])
    if not found:
        raise _nothing(y, where)
    places = sorted({at for values in found.values() for at in values})
    seeds = {seed: np.array([found[seed].get(at, np.nan) for at in places]) for seed in sorted(found)}
    return Curve(np.array(places), seeds)


def running_mean(values: Sequence[float], width: int = 5) -> np.ndarray:
    """Centred mean over `width` values, an odd number, and over fewer at the ends; nan is left out where it can be."""
    data, half = np.asarray(values, np.float64), width // 2
    known = ~np.isnan(data)
    sums, counts = (
        np.convolve(np.pad(what, half), np.ones(width), "valid") for what in (np.where(known, data, 0.0), known * 1.0)
    )
    return np.divide(sums, counts, out=np.full(len(data), np.nan), where=counts > 0)


def told(one: Spread, scale: float = 1.0, sign: str = "", digits: int = 1) -> str:
    """A spread in words: "12.3 [10.1, 14.5]"; "-" without any value."""
    mean, low, high = (
        None if end is None else f"{round(scale * end, digits) + 0.0:{sign}.{digits}f}"  # + 0.0: never "-0.0"
        for end in (one.mean, one.low, one.high)
    )
    return "-" if mean is None else mean if low is None else f"{mean} [{low}, {high}]"


def judged(sweep: Sweep) -> dict[str, Found]:
    """What came of an experiment's expectations, by name.

    Raises:
      Missing: one of its tables is not there.
    """
    for table in sweep.tables:
        read(sweep.name, table)
    return {one.contrast.name: one for one in Results(sweep, EXPERIMENTS / sweep.name).judged()}


def verdict(sweep: Sweep, also: Sequence[str] = ()) -> str:
    """The verdict in a few lines: on what it rests, then the expectations named in `also`, which do not decide."""
    found = judged(sweep)
    decided = [one for one in found.values() if one.contrast.decides]
    seeds = sorted({len(one.seeds) for one in decided})
    count = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    lines = [f"Verdict: {verdict_of(decided)}, by {count} seeds (means, 95 % t intervals over seeds)."]
    for title, some in (("rests on", decided), ("beside it", [found[name] for name in also])):
        lines += [f"{title}:", *map(_line, some)] if some else []
    return "\n".join(lines)


def _line(one: Found) -> str:
    contrast = one.contrast
    shares, name = contrast.unit == "points", "" if contrast.unit == "other" else contrast.unit
    if shares and not contrast.minus:
        name = "%"
    number = told(one.difference, 100 if shares else 1, "+" if contrast.minus else "", 1 if name else 2)
    return f"  {one.holds or 'told':5}{number:>22} {name:7}{contrast.says}"


def style() -> None:
    """Sets matplotlib up for all figures."""
    plt.rcParams.update(
        {
            "figure.dpi": 110,
            "figure.constrained_layout.use": True,
            "font.size": 11,
            "axes.titlesize": 11.5,
            "axes.titlelocation": "left",
            "axes.titleweight": "bold",
            "axes.labelsize": 11,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#e3e6ea",
            "grid.linewidth": 0.8,
            "lines.linewidth": 2.0,
            "lines.markersize": 5.5,
            "legend.frameon": False,
        }
    )


def draw(axis: Axes, found: Curve, colour: str, dash: str = "-", marker: str = "", seeds: bool = True) -> None:
    """Mean with its band, and the seeds as thin lines."""
    if seeds:
        for values in found.seeds.values():
            axis.plot(found.x, values, color=colour, linewidth=0.6, alpha=0.35)
    axis.fill_between(found.x, *found.band, color=colour, alpha=0.16, linewidth=0)
    axis.plot(found.x, found.mean, color=colour, linestyle=dash, marker=marker)


def points(
    axis: Axes,
    x: Sequence[float],
    found: Sequence[Spread],
    colour: str,
    marker: str = "o",
    fill: str = "",
    label: str = "",
    upright: bool = True,
) -> None:
    """Means with intervals as bars, upright at places of the x axis, or lying at places of the y axis.

    `fill` is the colour inside the markers, `label` what a legend calls them.
    """
    means = np.array([one.mean for one in found], np.float64)
    ends = np.array([[one.low for one in found], [one.high for one in found]], np.float64)
    reach = np.nan_to_num(np.abs(ends - means))
    look = {"color": colour, "marker": marker, "linestyle": "", "elinewidth": 1.6, "capsize": 3}
    look |= {"markerfacecolor": fill or colour, "label": label or None}
    if upright:
        axis.errorbar(x, means, yerr=reach, **look)
    else:
        axis.errorbar(means, x, xerr=reach, **look)


def paper(axis: Axes, x: Sequence[float], y: Sequence[float], dash: str = "-") -> None:
    """A curve of the paper: digitised points pale, their running mean in grey."""
    axis.plot(x, y, color=GREY, linewidth=0.7, alpha=0.5)
    axis.plot(x, running_mean(y), color=GREY, linestyle=dash)


def heat(axis: Axes, values: np.ndarray, rows: Sequence[str], columns: Sequence[str], cmap: str, limits: tuple) -> None:
    """A table of numbers f64[rows, columns], nan where there is none, with colours between the two limits."""
    picture = axis.imshow(values, cmap=cmap, vmin=limits[0], vmax=limits[1], aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        dark = np.dot(picture.cmap(picture.norm(value))[:3], (0.3, 0.59, 0.11)) < 0.5
        text = "" if np.isnan(value) else str(round(value))
        axis.text(column, row, text, ha="center", va="center", color="white" if dark else INK, fontsize=10)
    axis.set_xticks(range(len(columns)), columns)
    axis.set_yticks(range(len(rows)), rows)
    axis.grid(False)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)


def key(colour: str, dash: str, name: str, marker: str = "") -> Line2D:
    """A sample for a legend."""
    return Line2D([], [], color=colour, linestyle=dash, marker=marker, label=name)


def name_ends(axis: Axes, ends: Sequence[tuple[float, float, str, str]], size: float = 10) -> None:
    """Writes names to the right of lines' ends, under one another, moved apart where they would touch.

    Call it when the axis has its limits. `ends`: (x, y, name, colour).
    """
    ends = sorted(ends, key=lambda end: end[1])
    right = max(x for x, *_ in ends)
    wanted = [axis.transData.transform((x, y))[1] for x, y, _, _ in ends]
    gap = 1.25 * size * axis.figure.dpi / 72
    look = {"textcoords": "offset points", "va": "center", "fontsize": size, "annotation_clip": False}
    for (_, _, name, colour), height in zip(ends, _apart(wanted, gap), strict=True):
        y = axis.transData.inverted().transform((0, height))[1]
        axis.annotate(name, (right, y), (8, 0), color=colour, **look)


def _apart(wanted: Sequence[float], gap: float) -> list[float]:
    """Rising places at least `gap` apart, as near to the rising places `wanted` as can be (isotonic regression)."""
    blocks: list[tuple[float, int]] = []  # mean of what a block wants, less its gaps; how many are in it
    for i, place in enumerate(wanted):
        block = (place - i * gap, 1)
        while blocks and blocks[-1][0] >= block[0]:
            mean, count = blocks.pop()
            block = (mean * count + block[0] * block[1]) / (count + block[1]), count + block[1]
        blocks.append(block)
    flat = [mean for mean, count in blocks for _ in range(count)]
    return [mean + i * gap for i, mean in enumerate(flat)]
