"""Experiments that are run together: their runs are planned, trained and read, and their pages written."""

import dataclasses
import importlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from configs.ablations import lineage
from experiments import pages
from experiments.plan import Plan, Run, arm_flags, expected_minutes, make_plan
from experiments.results import Reading, Results, minutes_of
from experiments.sweep import Found, Sweep, verdict
from experiments.workers import Job, Workers, duration
from step_audio_r1.errors import BadInput, WorkFailed
from step_audio_r1.progress import Progress


def load(folder: Path, names: Iterable[str]) -> dict[str, Sweep]:
    """The sweeps of a package's folders, by name."""
    return {name: importlib.import_module(f"{folder.name}.{name}.sweep").SWEEP for name in names}


@dataclasses.dataclass(frozen=True)
class Campaign:
    """Experiments that are run together.

    Attributes:
      folder: of all experiments.
      sweeps: all experiments, by folder.
      asked: those that are run.
      arms: only these of theirs; None: all.
      seeds: of each arm.
      scale: of the model.
      runs: folder of the workdirs.
    """

    folder: Path
    sweeps: Mapping[str, Sweep]
    asked: Sequence[str]
    arms: Sequence[str] | None
    seeds: Sequence[int]
    scale: str
    runs: Path

    def __post_init__(self):
        known = dict.fromkeys(arm for name in self.asked for arm in self.sweeps[name].arms)
        for arm in self.arms or ():
            if arm not in known:
                raise BadInput(f"--arms={','.join(self.arms)}: {arm!r} is no arm of it; there are {', '.join(known)}")

    def _arms(self, name: str) -> list[str]:
        return [arm for arm in self.sweeps[name].arms if self.arms is None or arm in self.arms]

    def _results(self, name: str) -> Results:
        return Results(self.sweeps[name], self.folder / name)

    def _wanted(self) -> list[Run]:
        wanted = (Run(arm, seed) for name in self.asked for arm in self._arms(name) for seed in self.seeds)
        return list(dict.fromkeys(wanted))

    def plan(self, again: bool) -> Plan:
        """What is to be done; with `again` results without a workdir are made again.

        Raises:
          BadInput: a workdir is another config's, or a file of results is no table.
        """
        have = {name: self._results(name).recorded(self.scale) for name in self.asked}

        def recorded(run: Run) -> bool:
            return not again and all(run in have[name] for name in self._having(run))

        return make_plan(self._wanted(), self.runs, self.scale, recorded)

    def _jobs(self, plan: Plan) -> list[Job]:
        expected = expected_minutes(self._earlier(plan))
        jobs = []
        for run in plan.train:
            after = run.parent.name if run.parent in plan.train else None
            jobs.append(Job(run.name, arm_flags(run, self.runs, self.scale), after, expected(run.arm)))
        return jobs

    def _earlier(self, plan: Plan) -> dict[Run, float]:
        """Minutes of runs that there were: in the results of all experiments, and those whose workdirs are there."""
        minutes = {}
        for name in self.sweeps:
            rows = [row for row in self._results(name).rows("runs") if row["scale"] == self.scale and row["minutes"]]
            minutes |= {Run(row["arm"], int(row["seed"])): float(row["minutes"]) for row in rows}
        related = {Run(arm, wanted.seed) for wanted in self._wanted() for arm in lineage(wanted.arm)}
        for run in related.difference(plan.train):
            workdir = self.runs / run.name
            if (workdir / "goodput.json").exists():
                minutes[run] = minutes_of(workdir)
        return minutes

    def told(self, workers: int, again: bool) -> str:
        """The commands in order with their minutes, what is there, and how long it takes, as lines for a shell."""
        plan = self.plan(again)
        jobs = self._jobs(plan)
        lines = []
        for said, runs in (("workdirs that are there", plan.read), ("in the results already", plan.recorded)):
            if runs:
                lines.append(f"# {said}: {', '.join(run.name for run in runs)}")
        for job in jobs:
            minutes = "" if job.minutes is None else f"  # {job.minutes:.0f} minutes"
            lines.append(f"{' '.join(['step-audio-r1', *job.flags])}{minutes}")
        known = [job.minutes for job in jobs if job.minutes is not None]
        total = f"# {len(jobs)} runs to train"
        if known:
            total += f", {sum(known):.0f} core minutes: {duration(sum(known) / workers)} with --workers={workers}"
        elif jobs:
            total += "; how long they take is not known, as there are no earlier runs"
        return "\n".join([*lines, total])

    def pods(self) -> str:
        """The plan for pods, of a scale that is not trained here."""
        from experiments.pods import pod_plan

        return pod_plan([self.sweeps[name] for name in self.asked], self.arms, self.seeds, self.scale)

    def run(self, workers: int, again: bool) -> None:
        """Trains what is missing, reads all that is there and writes results and pages, anew after each run.

        Raises:
          BadInput: a workdir or a file cannot be used; nothing is trained then.
          WorkFailed: runs failed (they are named), or another command trains in the same folder.
          Preempted: a signal came.
        """
        plan = self.plan(again)
        for name in self.asked:
            pages.split_page(self.folder / name / "README.md", pages.RESULTS)
        pages.split_page(self.folder / "README.md", pages.TABLE)
        found = {name: self._results(name).judged() for name in self.sweeps}
        by_name = {run.name: run for run in plan.train}
        with Workers(self.runs, workers) as working:
            working.start(self._jobs(plan))
            failed = self._read(plan.read)
            self._write(self.asked, found)
            for ended in working.ended():
                run = by_name[ended.job.name]
                if ended.outcome == "done":
                    failed += self._read([run])
                    self._write(self._having(run), found)
                elif ended.outcome == "failed":
                    failed.append(run.name)
        if failed:
            raise WorkFailed(f"{', '.join(failed)}: why stands above; the rest is done; the same command tries again")
        for name in self.asked:
            print(f"{name}: {verdict(found[name])}; {self.folder / name / 'README.md'}")

    def _read(self, runs: Sequence[Run]) -> list[str]:
        """Reads finished runs into the results of the experiments that are asked for.

        Returns the names of runs that could not be read; why is told.
        """
        failed = []
        readings: dict[str, dict[Run, Reading]] = {name: {} for name in self.asked}
        with Progress("read", len(runs), "run", brief=True) as progress:
            for run in runs:
                try:
                    for name in self._having(run):
                        readings[name][run] = self._results(name).read(run, self.runs / run.name, self.scale)
                except BadInput as error:
                    print(f"{run.name}: could not be read: {error}", file=sys.stderr)
                    failed.append(run.name)
                progress.advance()
        for name, several in readings.items():
            self._results(name).merge(several)
        return failed

    def _write(self, changed: Iterable[str], found: dict[str, list[Found]]) -> None:
        """Judges the experiments whose results have changed, and writes their pages and the table of all anew."""
        for name in changed:
            results = self._results(name)
            found[name] = results.judged()
            results.write_contrasts(found[name])
            part = pages.results_part(results.rows("runs"), found[name])
            pages.fill(self.folder / name / "README.md", pages.RESULTS, part)
        all_of_them = {
            name: (sweep, self._results(name).rows("runs"), found[name]) for name, sweep in self.sweeps.items()
        }
        pages.fill(self.folder / "README.md", pages.TABLE, pages.index_table(all_of_them))

    def _having(self, run: Run) -> list[str]:
        """The experiments that are asked for and have its arm."""
        return [name for name in self.asked if run.arm in self.sweeps[name].arms]
