"""A folder of experiments whose arms are real and whose runs are not, for tests of the runner."""

import json
from pathlib import Path

from experiments.plan import Run, arm_config, train_flags
from experiments.results import Results
from tests.experiments import fake_train

ARMS = ("stem", "rl_format", "rl_no_format", "round_1", "rl1_format", "rl1_no_format")
_SWEEP = '''
from experiments.sweep import Cell, Contrast, Sweep
from step_audio_r1.errors import BadInput
from step_audio_r1.files import read_json


def numbers(workdir):
    if not (workdir / "numbers.json").exists():
        raise BadInput(f"{{workdir}}: no numbers.json")
    return read_json(workdir / "numbers.json")


def notes(workdir):
    """Only some arms have any."""
    return [{{"note": 'a, "b" é'}}] if "rl_format" in workdir.name else []


def cells(arm):
    return (Cell("numbers", "accuracy", {{"arm": arm, "group": "all"}}),)


SWEEP = Sweep(
    name={name!r},
    claim="{name} a|b",
    evidence="none",
    arms={arms!r},
    tables={{"numbers": numbers, "notes": notes}},
    contrasts=(
        Contrast("first_wins", "The first arm wins.", cells({arms!r}[0]), cells({arms!r}[-1]), "above"),
        Contrast("level", "How good the first is.", cells({arms!r}[0]), (), None, "other", decides=False),
    ),
)
'''


def write_experiments(folder: Path, **arms: tuple[str, ...]) -> Path:
    """A folder with an experiment of these arms by name."""
    for name, several in arms.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "sweep.py").write_text(_SWEEP.format(name=name, arms=several))
        (folder / name / "README.md").write_text("# Question\n\n<!-- results -->\n<!-- /results -->\n\nend\n")
    (folder / "README.md").write_text("# All\n\n<!-- table -->\n<!-- /table -->\n\nend\n")
    return folder


def write_configs(fake: Path) -> Path:
    """What `fake_train` takes for the arms' configs."""
    fake.mkdir()
    for arm in ARMS:
        (fake / f"{arm}.json").write_text(json.dumps(arm_config(arm, "miniature")))
    return fake


def finish(runs: Path, arm: str, seed: int, commit: str | None = "c0ffee", **changes) -> Path:
    """A finished run, of the arm's config with changes."""
    run = Run(arm, seed)
    config = arm_config(arm, "miniature") | {"seed": seed} | changes
    parent = runs / run.parent.name if run.parent else None
    command = ["__main__.py", *train_flags(f"configs/ablations.py:{arm}", runs / run.name, seed, parent)]
    fake_train.finish(runs / run.name, config, command, arm, seed, commit)
    return runs / run.name


def told(fake: Path) -> list[dict]:
    """What the fake runs have told."""
    path = fake / "told.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def started(fake: Path) -> list[str]:
    """Names of the runs that were started, in order."""
    return [row["run"] for row in told(fake) if row["event"] == "start"]


def record(results: Results, tmp_path: Path, *runs: tuple[str, int], **about) -> None:
    """Puts what is read of finished runs into the results."""
    workdirs = {Run(*run): finish(tmp_path / "runs", *run, **about) for run in runs}
    results.merge({run: results.read(run, workdir, "miniature") for run, workdir in workdirs.items()})
