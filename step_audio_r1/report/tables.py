"""The tables of the page, as plain text cells."""

from collections.abc import Sequence
from dataclasses import dataclass

from step_audio_r1.report.workdir import (
    Row,
    Run,
    StageKey,
    interval_of,
    number_or_none,
    select,
    stage_label,
)

GROUP_KINDS = ("perceptual", "content", "all")
PERCEPTION_KINDS = ("describe", "transcribe")
# How a question is put; other arms are made of several answers.
_ASKED = ("direct", "thinking", "free")
CONDITIONS = ("real", "silence", "noise", "swapped")
NONE = "–"


@dataclass(frozen=True)
class Table:
    """A table; the first `names` columns hold words, the others numbers.

    Attributes:
      caption: what it shows.
      head: column titles.
      rows: cells as text.
      names: how many leading columns are row headers.
      note: a line under it.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    names: int = 1
    note: str = ""


@dataclass(frozen=True)
class Verdict:
    """One claim of the run and whether its results bear it out; `state` is holds, missed or open."""

    claim: str
    result: str
    state: str
    n: str
    interval: str
    detail: str


def percent(value: object) -> str:
    """A share as a percentage with one decimal, – if there is none."""
    number = number_or_none(value)
    return NONE if number is None else f"{100 * number:.1f}"


def with_interval(row: Row) -> str:
    """The accuracy of a row with its 95 % interval, in percent."""
    pair = interval_of(row.get("ci95"))
    ends = "" if pair is None else f" [{percent(pair[0])}, {percent(pair[1])}]"
    return percent(row.get("accuracy")) + ends


def count_of(row: Row) -> str:
    """How many items a row rests on."""
    number = number_or_none(row.get("n"))
    return NONE if number is None else f"{number:g}"


def headline_rows(run: Run) -> list[Row]:
    """Results with the real sound over all domains: direct, and thinking without a budget."""
    rows = select(run.summary, condition="real", domain="all")
    rows = [row for row in rows if row.get("arm") == "direct" or row.get("budget") is None]
    chosen: dict[tuple, Row] = {}
    for row in sorted(rows, key=lambda row: row.get("budget") is not None):
        chosen.setdefault((row["stage"], row.get("round"), row.get("arm"), row.get("kind")), row)
    return list(chosen.values())


def accuracy_table(run: Run) -> Table | None:
    """Accuracy by stage, arm and group of questions, with what the thinking was worth beside it."""
    rows = [row for row in headline_rows(run) if row.get("kind") in GROUP_KINDS]
    cells, shared = [], {kind: _shared_n(select(rows, kind=kind)) for kind in GROUP_KINDS}
    for key in run.stage_keys(rows):
        for arm in _arms_of(rows):
            by_kind = {row.get("kind"): row for row in select(rows, at=key, arm=arm)}
            if by_kind:
                scores = [_score(by_kind.get(kind), shared[kind]) for kind in GROUP_KINDS]
                cells.append([stage_label(key), _arm_label(arm), *scores, *_quality(by_kind)])
    if not cells:
        return None
    head = ["stage", "arm", *(_head(kind, shared[kind]) for kind in GROUP_KINDS), *_QUALITY_HEAD]
    note = (
        "Accuracy [95 % interval]. The last four columns are of the perceptual questions if there are any: "
        "grounded chains, checked claims that are true and chains that argue from a caption, all in "
        "percent, and the mean length of thinking."
    )
    if select(rows, arm="free"):
        note += " Free: the model thinks or not, as it likes; an answer at once is no chain, and of length 0."
    if any(map(_votes_of, _arms_of(rows))):
        note += " Majority of N: the answer that most of N sampled chains give; the length is that of all N."
    return Table(f"Accuracy on held-out {run.split} clips with their real sound", head, cells, 2, note)


def _arms_of(rows: Sequence[Row]) -> list[str]:
    """The arms of the rows as the tables order them: how was asked, then votes by their number."""
    found = {row["arm"] for row in rows if isinstance(row.get("arm"), str)}
    others = sorted(found - {*_ASKED}, key=lambda arm: (len(_votes_of(arm)), arm))
    return [*(arm for arm in _ASKED if arm in found), *others]


def _votes_of(arm: str) -> str:
    """How many chains vote in an arm, "" where none do."""
    name, _, number = arm.rpartition("_")
    return number if name == "majority" else ""


def _arm_label(arm: str) -> str:
    return f"majority of {_votes_of(arm)}" if _votes_of(arm) else arm


_QUALITY_HEAD = ("grounded", "true claims", "surrogate", "tokens")


def _quality(by_kind: dict[str, Row]) -> list[str]:
    """Grounded share, claim precision, surrogate share and length, of perceptual questions if possible."""
    row = next(by_kind[kind] for kind in ("perceptual", "all", "content") if kind in by_kind)
    length = number_or_none(row.get("mean_think_tokens"))
    shares = [percent(row.get(name)) for name in ("grounded_share", "claim_precision", "surrogate_share")]
    return [*shares, NONE if length is None else f"{length:.1f}"]


def _score(row: Row | None, shared: float | None = None) -> str:
    """Accuracy with interval, and with n where the column has no n of its own."""
    if row is None or number_or_none(row.get("accuracy")) is None:
        return NONE
    return with_interval(row) if shared else f"{with_interval(row)} ({count_of(row)})"


def _shared_n(rows: Sequence[Row]) -> float | None:
    """The n of all rows, None if they differ."""
    counts = {number_or_none(row.get("n")) for row in rows}
    return counts.pop() if len(counts) == 1 else None


def _head(title: str, shared: float | None) -> str:
    return f"{title}, %, n = {shared:g}" if shared else f"{title}, % (n)"


def conditions_table(run: Run) -> Table | None:
    """Accuracy with the real sound, with silence, with noise and with another clip's sound."""
    rows = [r for r in select(run.summary, domain="all") if r.get("arm") == "direct" or r.get("budget") is None]
    kind = next((k for k in GROUP_KINDS if select(rows, kind=k, condition="silence")), None)
    if kind is None:
        kind = next((k for k in GROUP_KINDS if any(_is_other(row, k) for row in rows)), None)
    if kind is None:
        return None
    rows = select(rows, kind=kind)
    cells, shared = [], {name: _shared_n(select(rows, condition=name)) for name in CONDITIONS}
    others = [row for row in rows if _is_other(row, kind)]
    for key in run.stage_keys(others):
        for arm in _arms_of(others):  # votes are cast with the real sound alone
            mine = {row.get("condition"): row for row in select(rows, at=key, arm=arm)}
            if mine:
                cells.append([stage_label(key), arm, *(_score(mine.get(name), shared[name]) for name in CONDITIONS)])
    note = "A model that listens loses what it knows when the sound goes; what is left is what it guesses."
    head = ["stage", "arm", *(_head(name, shared[name]) for name in CONDITIONS)]
    return Table(f"What is left without the sound ({kind} questions)", head, cells, 2, note)


def _is_other(row: Row, kind: str) -> bool:
    return row.get("kind") == kind and row.get("condition") in CONDITIONS[1:]


def perception_table(run: Run) -> Table | None:
    """How right the percepts are that the model describes and transcribes."""
    rows = [r for r in select(run.summary, condition="real") if r.get("kind") in PERCEPTION_KINDS]
    cells = []
    for key in run.stage_keys(rows):
        for row in select(rows, at=key):
            name = [stage_label(key), str(row["kind"]), str(row.get("domain", "all"))]
            cells.append([*name, percent(row.get("claim_precision")), with_interval(row), count_of(row)])
    if not cells:
        return None
    head = ["stage", "task", "domain", "true percepts, %", "wholly right, %", "n"]
    return Table(f"Perception: describing and transcribing {run.split} clips", head, cells, 3)


def breakdown_tables(run: Run) -> list[Table]:
    """For each stage, accuracy by domain and kind of question in both arms; the latest stage first."""
    skipped = (*GROUP_KINDS[:2], *PERCEPTION_KINDS)
    rows = [
        row
        for row in select(run.summary, condition="real")
        if (row.get("arm") == "direct" or row.get("budget") is None)
        and row.get("kind") not in skipped
        and (row.get("domain"), row.get("kind")) != ("all", "all")
    ]
    return [_breakdown(run, rows, key) for key in reversed(run.stage_keys(rows))]


def _breakdown(run: Run, rows: list[Row], key: StageKey) -> Table:
    mine = select(rows, at=key)
    cells = []
    for domain, kind in dict.fromkeys((str(r.get("domain")), str(r.get("kind"))) for r in mine):
        arms = {row.get("arm"): row for row in mine if (row.get("domain"), row.get("kind")) == (domain, kind)}
        thinking = arms.get("thinking", {})
        shares = [percent(thinking.get(n)) for n in ("grounded_share", "claim_precision", "surrogate_share")]
        cells.append([domain, kind, _score(arms.get("direct")), _score(thinking), *shares])
    head = ["domain", "kind", "direct, % (n)", "thinking, % (n)", *_QUALITY_HEAD[:3]]
    return Table(stage_label(key), head, cells, 2)


def verdicts(run: Run) -> list[Verdict]:
    """The verdicts that evaluation has written."""
    found = []
    for row in run.verdicts or []:
        state = {True: "holds", False: "missed"}.get(row.get("holds"), "open")
        pair = interval_of(row.get("interval"))
        interval = NONE if pair is None else f"[{_signed(pair[0])}, {_signed(pair[1])}]"
        words = [str(row.get(name) or "") for name in ("claim", "result", "detail")]
        found.append(Verdict(words[0], words[1], state, count_of(row), interval, words[2]))
    return found


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def progress_table(run: Run) -> Table:
    """The stages of the config and how far each has come."""
    configs = run.config.get("stages") if isinstance(run.config.get("stages"), dict) else {}
    cells = []
    for name in run.order:
        seen = run.stages.get(name, {})
        logged = [row.get("stage_step") for row in select(run.metrics, stage=name)]
        steps = max((n for n in (*logged, seen.get("steps")) if number_or_none(n) is not None), default=None)
        settings = configs.get(name) if isinstance(configs.get(name), dict) else {}
        planned = number_or_none(settings.get("steps"))
        state = "done" if seen.get("done") is True else "not begun" if steps is None else "begun, not finished"
        count = NONE if steps is None else f"{steps:g}" + (f" of {planned:g}" if planned else "")
        cells.append([name.replace("_", " "), state, count, _duration(seen.get("seconds"))])
    return Table("Stages of this run", ["stage", "state", "steps", "time"], cells, 2)


_CAUSES = {
    "steps": "training steps",
    "startup": "start-up",
    "compile": "compilation",
    "data": "waiting for data",
    "checkpoint": "saving checkpoints",
    "evaluation": "evaluation",
    "sampling": "sampling of chains and questions",
    "lost": "steps that a restart did again",
}


def goodput_table(run: Run) -> Table | None:
    """Where the time of the run went."""
    seconds = {cause: run.goodput[cause] for cause in _CAUSES if cause in run.goodput}
    wall = sum(seconds.values())
    if not wall:
        return None
    cells = [[_CAUSES[cause], _duration(s), percent(s / wall)] for cause, s in seconds.items() if s]
    down = number_or_none(run.goodput.get("down"))
    note = f"Between its restarts the run was down for {_duration(down)}, which is not part of this." if down else ""
    return Table("Where the time went", ["time spent on", "time", "share, %"], cells, 1, note)


def _duration(value: object) -> str:
    seconds = number_or_none(value)
    if seconds is None:
        return NONE
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def headline(run: Run) -> str:
    """The result of the run in a sentence or two, from its numbers."""
    rows = [row for row in headline_rows(run) if number_or_none(row.get("accuracy")) is not None]
    kind = next((kind for kind in GROUP_KINDS if select(rows, kind=kind, arm="thinking")), None)
    if kind is None:
        return "No results yet: this page shows what the run has done so far."
    rows = select(rows, kind=kind)
    both = [
        key
        for key in run.stage_keys(select(rows, arm="thinking"))
        if select(rows, at=key, arm="direct") and select(rows, at=key, arm="thinking")
    ]
    if not both:
        return "Only one arm has been evaluated yet, so thinking cannot be compared with direct answers."
    sentences = [_compared(rows, key) for key in dict.fromkeys((both[0], both[-1]))]
    return f"On {kind} {run.split} questions: " + "; ".join(sentences) + "."


def _compared(rows: list[Row], key: StageKey) -> str:
    think, direct = (select(rows, at=key, arm=arm)[0]["accuracy"] for arm in ("thinking", "direct"))
    points = f"{100 * (think - direct):+.1f}".replace("-", "−")
    return (
        f"after {stage_label(key)}, thinking is right on {percent(think)} % and direct answers on "
        f"{percent(direct)} % ({points} points)"
    )
