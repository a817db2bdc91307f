"""Trains runs, a few at once: each in a process on a core of its own, children after their parents."""

import collections
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from step_audio_r1.errors import PREEMPTED, Preempted, WorkFailed

COMMAND = (sys.executable, "-m", "step_audio_r1")
_POLL_S = 0.2
_LAST_LINES = 12
# Large pages where Linux leaves the choice to programs: a training step takes a fifth less time.
_DEFAULTS = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "TF_CPP_MIN_LOG_LEVEL": "2"}


@dataclass(frozen=True)
class Job:
    """A run to be trained.

    Attributes:
      name: of its workdir and its log.
      flags: of `step-audio-r1`.
      after: name of the job that has to be done before.
      minutes: how long it is expected to take, None if that is not known.
    """

    name: str
    flags: tuple[str, ...]
    after: str | None = None
    minutes: float | None = None


@dataclass(frozen=True)
class Ended:
    """How a job ended: "stopped" if the whole command was told to end."""

    job: Job
    outcome: Literal["done", "failed", "stopped"]


@dataclass
class _Task:
    job: Job
    process: subprocess.Popen
    log: Path
    log_start: int
    began: float
    told: bool = False

    def stop(self) -> None:
        self.told = True
        self.process.terminate()

    def minutes(self) -> float:
        return (time.monotonic() - self.began) / 60

    def last_lines(self) -> list[str]:
        with open(self.log, "rb") as file:
            file.seek(self.log_start)
            lines = collections.deque(file, _LAST_LINES)
        return [line.decode(errors="replace").rstrip() for line in lines]


class Workers:
    """Processes that train jobs into `runs`; a context manager, which stops those that still run when it is left.

    On the CPU each has a core of its own: two such processes do more than one process on both cores. An accelerator is
    one process's. Each worker keeps compiled programs in a folder of its own, RUNS/programs/NUMBER.

    SIGTERM and SIGINT end the command: the processes get SIGTERM, save and end, and the same command goes on. They are
    not told of Ctrl-C by the terminal. A second signal is passed on as well, and ends them at once.

    Raises:
      WorkFailed: another command trains into `runs`.
    """

    def __init__(self, runs: Path, count: int):
        self.runs, self.stopping = runs, False
        self._count = count
        self._cores: list[int] = []
        self._waiting: list[Job] = []
        self._running: dict[int, _Task] = {}
        self._total, self._done = 0, 0
        self._taken: list[float] = []

    def __enter__(self) -> "Workers":
        self.runs.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self.runs)
        self._before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_) -> None:
        for task in self._running.values():
            task.stop()
        for task in self._running.values():
            task.process.wait()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._lock.close()

    def start(self, jobs: Sequence[Job]) -> None:
        """Takes the jobs, in the order in which they shall be done, and starts the first ones."""
        if jobs:
            self._waiting, self._total = list(jobs), len(jobs)
            self._place()
            self._fill()

    def ended(self) -> Iterator[Ended]:
        """Yields each job as it ends; one whose parent has failed is dropped.

        Raises:
          Preempted: a signal came, and all processes have ended.
        """
        while self._running:
            ended = [self._end(slot, code) for slot, code in self._codes()]
            self._fill()
            yield from ended
            if self.stopping:
                self._stop_all()
            if not ended:
                time.sleep(_POLL_S)
        if self.stopping:
            raise Preempted(f"{self._done} of {self._total} runs are done; the same command goes on")

    def _place(self) -> None:
        """Finds how many processes there can be, and a core for each."""
        if not _on_cpu():
            self._count = 1
        elif hasattr(os, "sched_setaffinity"):
            cores = sorted(os.sched_getaffinity(0))
            self._cores = cores if len(cores) >= self._count else []

    def _codes(self) -> list[tuple[int, int]]:
        polled = [(slot, task.process.poll()) for slot, task in self._running.items()]
        return [(slot, code) for slot, code in polled if code is not None]

    def _end(self, slot: int, code: int) -> Ended:
        task = self._running.pop(slot)
        name, minutes = task.job.name, task.minutes()
        if code == 0:
            self._done += 1
            self._taken.append(minutes)
            _say(f"{name}: done in {minutes:.1f} minutes; {self._done} of {self._total} runs{self._left()}")
            return Ended(task.job, "done")
        if code == PREEMPTED:  # the machine goes, and the others will hear of it
            self.stopping = True
        if self.stopping:
            _say(f"{name}: stopped after {minutes:.1f} minutes")
            return Ended(task.job, "stopped")
        _say(f"{name}: failed with exit code {code} after {minutes:.1f} minutes; the end of {task.log}:")
        for line in task.last_lines():
            _say(f"  {line}")
        self._drop_after(name)
        return Ended(task.job, "failed")

    def _drop_after(self, failed: str) -> None:
        for job in [job for job in self._waiting if job.after == failed]:
            _say(f"{job.name}: not trained, as it begins with {failed}")
            self._waiting.remove(job)
            self._drop_after(job.name)

    def _fill(self) -> None:
        """Starts what can be started on the workers that are free."""
        for slot in range(self._count):
            if slot not in self._running and not self.stopping:
                undone = {job.name for job in self._waiting} | {task.job.name for task in self._running.values()}
                job = next((job for job in self._waiting if job.after not in undone), None)
                if job is not None:
                    self._waiting.remove(job)
                    self._running[slot] = self._launch(job, slot)

    def _launch(self, job: Job, slot: int) -> _Task:
        log = self.runs / f"{job.name}.log"
        programs = (self.runs / "programs" / str(slot)).absolute()
        environment = _DEFAULTS | os.environ
        environment |= {"JAX_COMPILATION_CACHE_DIR": str(programs), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3"}
        with open(log, "ab") as file:
            start = os.fstat(file.fileno()).st_size
            process = subprocess.Popen(
                [*COMMAND, *job.flags],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=environment,
                start_new_session=True,
                pass_fds=[self._lock.fileno()],  # held as long as one of them lives
            )
        if self._cores:
            with contextlib.suppress(ProcessLookupError):  # it has ended already
                os.sched_setaffinity(process.pid, {self._cores[slot]})
        expected = f", {job.minutes:.0f} minutes expected" if job.minutes is not None else ""
        _say(f"{job.name}: started{expected}")
        return _Task(job, process, log, start, time.monotonic())

    def _left(self) -> str:
        """How long the rest takes, if anything is known of it."""
        mean = sum(self._taken) / len(self._taken)
        waiting = sum(mean if job.minutes is None else job.minutes for job in self._waiting)
        for task in self._running.values():
            expected = mean if task.job.minutes is None else task.job.minutes
            waiting += max(0.0, expected - task.minutes())
        return f", {duration(waiting / self._count)} left" if waiting else ""

    def _on_signal(self, *_) -> None:
        self.stopping = True
        for task in list(self._running.values()):
            task.stop()

    def _stop_all(self) -> None:
        """Those that were started while the signal came, or that another's end has stopped."""
        for task in self._running.values():
            if not task.told:
                task.stop()


def duration(minutes: float) -> str:
    """Minutes for readers."""
    return f"{minutes / 60:.1f} hours" if minutes >= 90 else f"{minutes:.0f} minutes"


def _lock(runs: Path) -> IO[bytes]:
    """Keeps other commands out of the folder: two processes that train one run would ruin it.

    The processes hold it as well, so that those of a command that was killed are not joined by others.
    """
    file = open(runs / "lock", "ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise WorkFailed(f"{runs}: another command trains runs here; wait for it, or give another --runs") from error
    return file


def _on_cpu() -> bool:
    """Whether JAX runs on the CPU. Another process asks: an accelerator that is looked at is taken."""
    if named := os.environ.get("JAX_PLATFORMS"):
        return named.split(",")[0] == "cpu"
    asked = [sys.executable, "-c", "import jax; print(jax.default_backend())"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() == "cpu"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
