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
_WAYS = " or ".join(ARMS)


def in_short(sweeps: Sequence[Sweep]) -> str:
    """What a reader has to know of it before any money is spent."""
    tables = _named(_tables(sweeps, ANSWERED))
    return f"Runs measure nothing while they train; `evaluate` asks each afterwards, for {tables} (5)."


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


def _named(tables: Sequence[str]) -> str:
    if not tables:
        return "no table"
    return f"the table{'s' * (len(tables) > 1)} {', '.join(tables)}"


def _cells(sweeps: Sequence[Sweep], runs: Sequence[PodRun]) -> list[Cell]:
    """Of answers, that expectations about the arms of the plan look at."""
    planned = {run.arm for run in runs}
    looked_at = (cell for sweep in sweeps for contrast in sweep.contrasts for cell in (*contrast.plus, *contrast.minus))
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
        "Answers lie in $RUNS/ARM_SEED/eval/benchmarks/mmau, in MMAU's groups and not by questions that are "
        "perceptual, of content or of identity. No command writes the CSV files at this scale."
    ]
    if trained := _tables(sweeps, TRAINED):
        said.append(f"What fills {_named(trained)}, `train` leaves in the workdir.")
    if unknown := sorted({table for sweep in sweeps for table in sweep.tables} - {*ANSWERED, *TRAINED}):
        said.append(f"What fills {_named(unknown)}, no command finds.")
    asked = {cell.where["asked"] for cell in cells if "asked" in cell.where}
    if ways := sorted(asked - set(ARMS)):
        said.append(f"Expectations about answers asked as {', '.join(ways)} stay open: `evaluate` asks as {_WAYS}.")
    over = dict.fromkeys(
        (cell.where["arm"], cell.where["stage"]) for cell in cells if not any(_ends_with(run, cell) for run in runs)
    )
    for arm in dict.fromkeys(arm for arm, _ in over):
        stages = ", ".join(sorted(stage for other, stage in over if other == arm))
        said.append(f"So do those about `{arm}` after {stages}: the run goes on, and only its end can be asked.")
    return said
