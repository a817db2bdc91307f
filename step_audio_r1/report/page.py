"""Puts the page together: reads the workdir, makes tables and figures, fills the template, writes a file."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from step_audio_r1.files import write_text
from step_audio_r1.report.benchmarks import boards_of, boards_of_run
from step_audio_r1.report.chains import viewer_of
from step_audio_r1.report.figures import arms_figure, budget_figure, training_figures
from step_audio_r1.report.gallery import gallery_of
from step_audio_r1.report.measures import measures_of
from step_audio_r1.report.results import read_results
from step_audio_r1.report.rlvr import rlvr_of
from step_audio_r1.report.rounds import rounds_of
from step_audio_r1.report.tables import (
    accuracy_table,
    breakdown_tables,
    conditions_table,
    goodput_table,
    headline,
    perception_table,
    progress_table,
    verdicts,
)
from step_audio_r1.report.workdir import Row, Run, number_or_none, read_workdir

PAGE = "report.html"


def write_report(workdir: Path, against: Path | None = None) -> Path:
    """Writes `workdir/report.html`, a self-contained page about the run, and returns its path.

    The page shows whatever the run has left so far. It loads nothing, and its only script is the one that picks
    chains of the viewer: its policy lets the browser run no other, whatever a model wrote. An older page is
    replaced in one step.

    Args:
      workdir: of the run.
      against: a workdir, or a folder of results, whose public benchmarks the run's are compared with.

    Raises:
      BadInput: `workdir` is no directory, or has no readable config.json; the two cannot be compared.
      WorkFailed: the page cannot be written.
    """
    run = read_workdir(Path(workdir))
    return _write(run.path / PAGE, "template.html", _content(run, against))


def write_benchmarks(folder: Path, against: Path | None = None) -> Path:
    """Writes `folder/report.html`, a page about public benchmarks alone, and returns its path.

    Args:
      folder: what `evaluate` wrote, or a folder of such folders.
      against: as of `write_report`.

    Raises:
      BadInput: there is no result, one cannot be read, or the two cannot be compared.
      WorkFailed: the page cannot be written.
    """
    boards = boards_of(read_results(folder), against)
    return _write(folder / PAGE, "results.html", {"title": folder.resolve().name, "benchmarks": boards})


def _write(path: Path, template: str, content: dict[str, Any]) -> Path:
    environment = Environment(
        loader=PackageLoader("step_audio_r1.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    script, *_ = environment.loader.get_source(environment, "script.html")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = {"script": Markup(script), "script_source": Markup(f"'sha256-{digest}'")}
    write_text(path, environment.get_template(template).render(content | policy))
    return path


def _content(run: Run, against: Path | None) -> dict[str, Any]:
    """Everything that the template names."""
    content = {
        "title": str(run.config.get("name") or run.path.resolve().name),
        "headline": headline(run),
        "split": run.split,
        "provenance": _provenance(run),
        "encoder": str(run.provenance.get("encoder") or ""),
        "config": json.dumps(run.config, indent=2, ensure_ascii=False),
        "progress": progress_table(run),
        "goodput": goodput_table(run),
        "has_verdicts": run.verdicts is not None,
        "verdicts": verdicts(run),
        "accuracy": accuracy_table(run),
        "perception": perception_table(run),
        "arms": arms_figure(run),
        "budget": budget_figure(run),
        "conditions": conditions_table(run),
        "breakdown": breakdown_tables(run),
        "benchmarks": boards_of_run(run.path, against, run.notes),
        "training": training_figures(run),
        "rlvr": rlvr_of(run),
        "gallery": gallery_of(run),
        "measures": measures_of(run),
        "rounds": rounds_of(run),
        "viewer": viewer_of(run),
        "limits": _limits(run),
    }
    # Last, since reading the items may add some.
    return {**content, "notes": run.notes}


def _provenance(run: Run) -> list[tuple[str, str]]:
    known = run.provenance
    command = _in_one(known.get("command"))
    source = known.get("branched_from")
    versions = known.get("versions")
    facts = {
        "seed": run.config.get("seed"),
        "git": known.get("git"),
        "started": known.get("started"),
        "command": command,
        "begun after": _in_one(source.get("command")) if isinstance(source, dict) else None,
        "versions": ", ".join(f"{k} {v}" for k, v in versions.items()) if isinstance(versions, dict) else versions,
        "frozen encoder": known.get("encoder"),
    }
    return [(name, str(value)) for name, value in facts.items() if value not in (None, "")]


def _in_one(command: Any) -> Any:
    return " ".join(map(str, command)) if isinstance(command, list) else command


def _limits(run: Run) -> Row:
    """Facts for the list of what the page does not show."""
    counts = [row["n"] for row in run.summary if number_or_none(row.get("n")) is not None]
    totals = [row["n"] for row in run.summary if number_or_none(row.get("n")) is not None and _is_total(row)]
    return {
        "seed": run.config.get("seed", "unknown"),
        "most": max(totals, default=None),
        "least": min(counts, default=None),
        "unfinished": [name for name in run.order if run.stages.get(name, {}).get("done") is not True],
    }


def _is_total(row: Row) -> bool:
    return row.get("domain") == "all" and row.get("kind") == "all"
