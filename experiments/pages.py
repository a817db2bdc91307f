"""What experiments found as Markdown: the results of each page, and the table of all in experiments/README.md."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from experiments.results import Rows
from experiments.sweep import Contrast, Found, Spread, Sweep, verdict
from step_audio_r1.errors import BadInput
from step_audio_r1.files import write_text

RESULTS, TABLE = "results", "table"
_UNKNOWN = "unknown"
_HOLDS = {"yes": "holds", "no": "the other way round", "open": "open"}


def fill(page: Path, name: str, text: str) -> None:
    """Writes `text` between the marks <!-- NAME --> and <!-- /NAME --> of a page.

    Raises:
      BadInput: the page has no such place.
    """
    before, after = split_page(page, name)
    write_text(page, f"{before}<!-- {name} -->\n{text}\n<!-- /{name} -->{after}")


def split_page(page: Path, name: str) -> tuple[str, str]:
    """What stands before the place of that name and after it. Raises BadInput if the page has no such place."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    before, opening, rest = text.partition(start)
    _, closing, after = rest.partition(end)
    if not opening or not closing:
        raise BadInput(f"{page}: has no place for what was found; give it the lines {start} and {end}")
    return before, after


def results_part(runs: Rows, found: Sequence[Found]) -> str:
    """The results of an experiment: what they rest on, each expectation with its numbers, the verdict of the rule."""
    if not runs:
        return "No runs yet."
    return "\n".join([_about(runs), "", *_contrasts(found, _seeds(runs)), "", _verdict(found)])


def _seeds(runs: Rows) -> list[int]:
    return sorted({int(row["seed"]) for row in runs})


def _about(runs: Rows) -> str:
    of_arms: dict[str, set[int]] = {}
    configs: dict[str, set[str]] = {}
    for row in runs:
        of_arms.setdefault(row["arm"], set()).add(int(row["seed"]))
        configs.setdefault(row["arm"], set()).add(row["config"])
    seeds = _seeds(runs)
    commits = dict.fromkeys(row["commit"][:12] or _UNKNOWN for row in runs)
    text = f"Seeds {_listed(seeds)}; {'commit' if len(commits) == 1 else 'commits'} {', '.join(sorted(commits))}; "
    text += "the configs' fingerprints of each run stand in `results/runs.csv`. "
    fewer = [f"{arm} ({_listed(sorted(of_arm))})" for arm, of_arm in of_arms.items() if len(of_arm) < len(seeds)]
    if fewer:
        text += f"Only some of the seeds so far: {', '.join(fewer)}. "
    mixed = [arm for arm, several in configs.items() if len(several) > 1]
    if mixed:
        text += f"**Runs of different configs are mixed** in: {', '.join(mixed)}. "
    return text + "Means over seeds with 95 % t intervals over seeds; shares in percent, differences in points."


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _contrasts(found: Sequence[Found], seeds: Sequence[int]) -> Iterator[str]:
    yield "| what was expected | plus | minus | difference [95 % interval] | expected | holds |"
    yield "|---|---|---|---|---|---|"
    for one in found:
        contrast, sides = one.contrast, ("", "")
        if contrast.minus:
            sides = _number(one.plus.mean, contrast.unit), _number(one.minus.mean, contrast.unit)
        difference = _with_interval(one.difference, contrast)
        if one.seeds and len(one.seeds) < len(seeds):
            difference += f" ({_count(len(one.seeds), 'seed')})"
        expected = f"{contrast.expected} 0" if contrast.expected else ""
        if expected and not contrast.decides:
            expected += ", does not decide"
        cells = [_in_cell(contrast.says), *sides, difference, expected, one.holds or ""]
        yield f"| {' | '.join(cells)} |"


def _with_interval(spread: Spread, contrast: Contrast) -> str:
    """A difference with its sign, or the number itself."""
    sign: Literal["", "+"] = "+" if contrast.minus else ""
    mean, low, high = (_number(value, contrast.unit, sign) for value in (spread.mean, spread.low, spread.high))
    return mean if spread.low is None else f"{mean} [{low}, {high}]"


def _number(value: float | None, unit: str, sign: Literal["", "+"] = "") -> str:
    if value is None:
        return "-"
    if unit == "other":
        return f"{value:{sign}.3g}"
    return f"{value * (100 if unit == 'points' else 1):{sign}.1f}"


def _verdict(found: Sequence[Found]) -> str:
    deciding = [one.holds for one in found if one.contrast.decides]
    kinds = {"yes": "held", "no": "the other way round", "open": "open", None: "without an interval"}
    counts = [f"{deciding.count(kind)} {said}" for kind, said in kinds.items() if kind in deciding]
    rests = f" (of what decides {', '.join(counts)})" if counts else ""
    return f"Verdict, computed by the rule of [all experiments](../README.md): **{verdict(found)}**{rests}."


def index_table(experiments: Mapping[str, tuple[Sweep, Rows, Sequence[Found]]]) -> str:
    """All experiments: what the paper claims and shows, what was found here.

    Args:
      experiments: by folder: the experiment, its runs, what came of its expectations.
    """
    lines = ["| claim | paper's evidence | ours | verdict | page |", "|---|---|---|---|---|"]
    for name, (sweep, runs, found) in experiments.items():
        effects = _effects([one for one in found if one.contrast.decides and one.seeds]) or "no runs yet"
        judged = verdict(found) if runs else ""
        cells = [_in_cell(sweep.claim), _in_cell(sweep.evidence), effects, judged, f"[{name}]({name}/README.md)"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _in_cell(text: str) -> str:
    return text.replace("|", "\\|")


def _effects(found: Sequence[Found]) -> str:
    """A line for each in one cell; how many seeds, at the end if all have as many."""
    counts = [_count(len(one.seeds), "seed") for one in found]
    if len(set(counts)) == 1:
        return "<br>".join([*map(_effect, found), counts[0]])
    return "<br>".join(f"{_effect(one)}, {count}" for one, count in zip(found, counts, strict=True))


def _effect(found: Found) -> str:
    contrast = found.contrast
    unit = {"points": " points" if contrast.minus else " %", "tokens": " tokens", "other": ""}[contrast.unit]
    holds = f": {_HOLDS[found.holds]}" if found.holds else ""
    return f"{contrast.name.replace('_', ' ')} {_with_interval(found.difference, contrast)}{unit}{holds}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
