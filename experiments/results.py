"""Results of an experiment as CSV files: where its runs come from, the rows that were read of them, what came of it."""

import csv
import io
import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.plan import Run, arm_fingerprint, config_fingerprint
from experiments.sweep import Found, Row, Spread, Sweep, judge
from step_audio_r1.errors import BadInput
from step_audio_r1.files import read_json, write_text

Rows = list[dict[str, str]]
# Of one run: the rows of each file.
Reading = dict[str, list[Row]]
RUN = ("arm", "seed")


@dataclass(frozen=True)
class Results:
    """The files of an experiment in `folder`/results: runs.csv, a file a table, contrasts.csv."""

    sweep: Sweep
    folder: Path

    def rows(self, name: str) -> Rows:
        """A file's rows; none where the file is not there yet.

        Raises:
          BadInput: it is no table of runs.
        """
        return read_csv(self._path(name))[1]

    def recorded(self, scale: str) -> set[Run]:
        """Runs whose results are here: of that scale, of the config that the arm has now, with rows in the tables.

        An arm may have no rows in a table at all. One that has them has them of each seed: where a seed lacks them, the
        table is younger than its run.
        """
        tables = [{_run(row) for row in self.rows(name)} for name in self.sweep.tables]
        if not all(self._path(name).exists() for name in self.sweep.tables):
            return set()

        def whole(run: Run) -> bool:
            having = [table for table in tables if any(other.arm == run.arm for other in table)]
            return bool(having) and all(run in table for table in having)

        here = [row for row in self.rows("runs") if row["arm"] in self.sweep.arms and row["scale"] == scale]
        return {_run(row) for row in here if row["config"] == arm_fingerprint(row["arm"], scale) and whole(_run(row))}

    def read(self, run: Run, workdir: Path, scale: str) -> Reading:
        """Reads a finished run: rows by the name of their file.

        Raises:
          BadInput: the workdir lacks what a table needs.
        """
        tables = {name: [_of(run, row) for row in reader(workdir)] for name, reader in self.sweep.tables.items()}
        # Last, so that no run is taken for recorded whose tables were not written.
        return tables | {"runs": [provenance(run, workdir, scale)]}

    def merge(self, readings: Mapping[Run, Reading]) -> None:
        """Puts what was read of runs into the files, in the place of what they had of these runs.

        Raises:
          BadInput: a file is no table of runs. Nothing is written then.
        """
        names = (*self.sweep.tables, "runs") if readings else ()
        new = {name: [row for reading in readings.values() for row in reading[name]] for name in names}
        merged = {name: self._merged(name, rows, readings.keys()) for name, rows in new.items()}
        for name, (columns, rows) in merged.items():
            write_csv(self._path(name), rows, columns)

    def _merged(self, name: str, new: Sequence[Row], replaced: Iterable[Run]) -> tuple[list[str], Rows]:
        before, old = read_csv(self._path(name))
        kept = [row for row in old if row["arm"] in self.sweep.arms and _run(row) not in replaced]
        told = dict.fromkeys([*RUN, *(column for row in new for column in row)])
        # What the reader does not tell any more stays as long as a row of an earlier reading has it.
        stay = [column for column in before if column in told or not new or any(row[column] for row in kept)]
        names = dict.fromkeys([*stay, *told])
        rows = [{column: row.get(column, "") for column in names} for row in kept]
        rows += [{column: cell(row.get(column)) for column in names} for row in new]
        rows.sort(key=lambda row: (self.sweep.arms.index(row["arm"]), int(row["seed"])))
        return list(names), rows

    def judged(self) -> list[Found]:
        """What came of each expectation, by the files as they are."""
        tables = {name: self.rows(name) for name in ("runs", *self.sweep.tables)}
        return [judge(contrast, tables) for contrast in self.sweep.contrasts]

    def write_contrasts(self, found: Sequence[Found]) -> None:
        """Writes contrasts.csv, if there are runs."""
        if self.rows("runs"):
            write_csv(self._path("contrasts"), [_contrast(one) for one in found])

    def _path(self, name: str) -> Path:
        return self.folder / "results" / f"{name}.csv"


def _run(row: Mapping[str, str]) -> Run:
    return Run(row["arm"], int(row["seed"]))


def _of(run: Run, row: Row) -> Row:
    if clash := row.keys() & set(RUN):
        raise ValueError(f"a reader's columns may not be {', '.join(sorted(clash))}: these tell of the run")
    return {"arm": run.arm, "seed": run.seed, **row}


def _contrast(found: Found) -> Row:
    contrast = found.contrast
    sides = {"plus": found.plus, "minus": found.minus if contrast.minus else Spread(None, None, None)}
    row: Row = {"name": contrast.name, "expected": contrast.expected, "unit": contrast.unit}
    row |= {"decides": contrast.decides, "seeds": len(found.seeds)}
    for name, spread in sides.items():
        row |= {name: spread.mean, f"{name}_low": spread.low, f"{name}_high": spread.high}
    difference = found.difference
    row |= {"difference": difference.mean, "low": difference.low, "high": difference.high, "holds": found.holds}
    return row


def provenance(run: Run, workdir: Path, scale: str) -> Row:
    """Where a run comes from: the row of runs.csv.

    The commit is None if the run's code was in no repository; the command has no folder of the machine; the minutes
    are all that the run has taken, its measurements too and its parents not.
    """
    told = read_json(workdir / "provenance.json")
    return {
        "arm": run.arm,
        "seed": run.seed,
        "scale": scale,
        "commit": told["git"],
        "config": config_fingerprint(read_json(workdir / "config.json")),
        "command": " ".join(["step-audio-r1", *_flags(told["command"][1:])]),
        "minutes": minutes_of(workdir),
    }


def _flags(command: Iterable[str]) -> Iterable[str]:
    for flag in command:
        name, _, value = flag.partition("=")
        if name == "--config":
            yield f"{name}=configs/{Path(value).name}"
        elif name == "--branch_from":
            yield f"{name}={Path(value).name}"
        elif name != "--workdir":
            yield flag


def minutes_of(workdir: Path) -> float:
    """How long the processes of a run have worked on it."""
    return sum(read_json(workdir / "goodput.json")["seconds"].values()) / 60


def read_csv(path: Path) -> tuple[list[str], Rows]:
    """Columns and rows of a table of runs; nothing where there is no such file.

    Raises:
      BadInput: it has no arms and seeds.
    """
    if not path.exists():
        return [], []
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    columns = list(reader.fieldnames or ())
    if not set(RUN) <= set(columns) or not all((row["seed"] or "").isdecimal() for row in rows):
        raise BadInput(f"{path}: no table of runs (columns arm, seed, ...); restore or remove it")
    return columns, rows


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> None:
    """Writes rows, whose columns are those of the first if none are named; None is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns or rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: cell(value) for name, value in row.items()} for row in rows)
    write_text(path, text.getvalue())


def cell(value: Any) -> str:
    """A value as it stands in a file: numbers with six significant digits, nothing for None.

    Raises:
      ValueError: it is neither text nor a finite number.
    """
    if value is None:
        return ""
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, numbers.Integral):
        return str(int(value))
    if not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise ValueError(f"{value!r}: a cell holds text or a finite number")
    return str(float(f"{value:.6g}"))
