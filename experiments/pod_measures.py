"""What measures the runs of a plan once they are done, and which tables of the experiments that fills."""

from collections.abc import Iterator, Sequence

from configs.ablations import lineage
from experiments.pod_runs import PodRun
from experiments.pod_text import wrapped
from experiments.sweep import Cell, Sweep
from step_audio_r1.benchmarks import ARMS, CONDITIONS

# Tables of the experiments whose numbers `evaluate` finds, and those whose numbers `train` writes in any case. No
# command finds those of the others at this scale.
ANSWERED = ("accuracy", "answers", "gains")
TRAINED = ("filters", "iterations", "pools", "summary")
# Budgets of the miniature are of its few words.
BUDGETS = "0,512,1024,2048,4096,full"


def in_short(sweeps: Sequence[Sweep]) -> str:
    """What a reader has to know of it before any money is spent."""
    tables = ", ".join(_tables(sweeps, ANSWERED))
    return (
        "Nothing is measured while these runs train: afterwards `step-audio-r1 evaluate` (5) asks each of them, for "
        f"the tables {tables}."
    )


def measures(sweeps: Sequence[Sweep], runs: Sequence[PodRun], seeds: Sequence[int]) -> list[str]:
    """The commands, and what they leave out."""
    return [
        *wrapped(
            "With SHARED and RUNS as above, on one host that holds the model; its hours are not counted. Each command "
            "asks the last parameters of a run, for the table named behind it."
        ),
        "",
        "evaluate() {",
        "  step-audio-r1 evaluate --benchmark=mmau --data=$SHARED/mmau/mmau-test-mini.json \\",
        '    --workdir=$RUNS/$1_$SEED --arms=thinking,direct --max_new_tokens=8192 "${@:2}"',
        "}",
        f"for SEED in {' '.join(map(str, seeds))}; do",
        *(_evaluate(run, cells) for run, cells in _asked(sweeps, runs)),
        "done",
        "",
        *(line for said in _left_out(sweeps, runs) for line in wrapped(said, "- ")),
    ]


def _tables(sweeps: Sequence[Sweep], known: Sequence[str]) -> list[str]:
    return [table for table in known if any(table in sweep.tables for sweep in sweeps)]


def _cells(sweeps: Sequence[Sweep], runs: Sequence[PodRun]) -> list[Cell]:
    """Of answers, that expectations about the arms of the plan look at."""
    planned = {run.arm for run in runs}
    looked_at = (
        cell for sweep in sweeps for contrast in sweep.contrasts for cell in (*contrast.plus, *contrast.minus)
    )
    return [cell for cell in looked_at if cell.table in ANSWERED and cell.where["arm"] in planned]


def _ends_with(run: PodRun, cell: Cell) -> bool:
    """Whether a run's last parameters are those that a cell is about."""
    return run.arm in lineage(cell.where["arm"]) and run.config.order[-1] == cell.where["stage"]


def _asked(sweeps: Sequence[Sweep], runs: Sequence[PodRun]) -> Iterator[tuple[PodRun, list[Cell]]]:
    cells = _cells(sweeps, runs)
    for run in runs:
        yield run, [cell for cell in cells if _ends_with(run, cell)]


def _evaluate(run: PodRun, cells: Sequence[Cell]) -> str:
    """One run of the loop over seeds."""
    compared = {cell.where.get("against") for cell in cells} & set(CONDITIONS)
    conditions = [name for name in CONDITIONS if name == "real" or name in compared]
    flags = [f"--conditions={','.join(conditions)}"] if compared else []
    flags += [f"--budgets={BUDGETS}"] if any(cell.where.get("budget") is not None for cell in cells) else []
    tables = ", ".join(sorted({cell.table for cell in cells})) or "no expectation looks at it"
    return "  " + " ".join(["evaluate", run.arm, *flags, "|| break", "#", tables])


def _left_out(sweeps: Sequence[Sweep], runs: Sequence[PodRun]) -> list[str]:
    cells = _cells(sweeps, runs)
    said = [
        "No command writes the CSV files at this scale: answers lie in $RUNS/ARM_SEED/eval/benchmarks/mmau, all in one "
        "group of questions."
    ]
    if trained := _tables(sweeps, TRAINED):
        said.append(f"Of the tables {', '.join(trained)} `train` itself leaves the numbers in the workdir.")
    tables = dict.fromkeys(table for sweep in sweeps for table in sweep.tables)
    if unknown := sorted(set(tables) - {*ANSWERED, *TRAINED}):
        said.append(f"Nothing finds what the tables {', '.join(unknown)} need.")
    ways = dict.fromkeys(cell.where["asked"] for cell in cells if cell.where.get("asked", ARMS[0]) not in ARMS)
    if ways:
        said.append(f"Expectations about answers that are {', '.join(ways)} stay open: `evaluate` asks no such.")
    over = dict.fromkeys(
        (cell.where["arm"], cell.where["stage"]) for cell in cells if not any(_ends_with(run, cell) for run in runs)
    )
    for arm in dict.fromkeys(arm for arm, _ in over):
        stages = ", ".join(stage for other, stage in over if other == arm)
        said.append(f"So do those about `{arm}` after {stages}: its run goes on from there, and only its end is asked.")
    return said
