"""RLVR stages: what came of them in a sentence, the curves of their iterations, and the questions they trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from step_audio_r1.report.bars import Bar, Layer, bar_chart, layer_swatch, stacked_chart
from step_audio_r1.report.charts import Axes, Series, line_chart, swatch
from step_audio_r1.report.figures import Figure, curve, smoothed
from step_audio_r1.report.rollouts import Dump, dumps_of
from step_audio_r1.report.tables import Table, percent
from step_audio_r1.report.workdir import Row, Run, number_or_none, select

# Curves that are drawn on a logarithmic axis if they span more than this.
_WIDE = 30


@dataclass(frozen=True)
class Line:
    """A curve of a panel: what the legend calls it, and its metric."""

    label: str
    metric: str


@dataclass(frozen=True)
class Panel:
    """Curves on one pair of axes.

    Attributes:
      title: what it shows.
      y_label: of the y axis.
      lines: its curves; those without values are left out.
      percent: the values are shares.
      range: fixed range of y; values outside are drawn at its edge.
      log: a logarithmic axis where the values are positive and span much.
    """

    title: str
    y_label: str
    lines: Sequence[Line]
    percent: bool = False
    range: tuple[float, float] | None = None
    log: bool = False


@dataclass(frozen=True)
class Selection:
    """How often the candidates of a source were solved, and which of them were kept."""

    title: str
    chart: Markup
    note: str


@dataclass(frozen=True)
class Stage:
    """An RLVR stage as the page shows it; `summary` is "" without metrics."""

    title: str
    summary: str
    figure: Figure | None
    selections: Sequence[Selection]
    dumps: Sequence[Dump]


# Reward and accuracy are never drawn as one: their sum rises when a model merely learns the format.
PANELS = (
    Panel(
        "Rewards, correct and format apart",
        "mean over samples",
        [Line("total", "reward/total"), Line("correct", "reward/correct"), Line("format", "reward/format")],
    ),
    Panel(
        "Accuracy of the samples",
        "right, %",
        [Line("audio", "reward/correct_audio"), Line("text", "reward/correct_text")],
        percent=True,
    ),
    Panel(
        "Length of thinking",
        "tokens a sample",
        [Line("audio", "rollout/think_tokens_audio"), Line("text", "rollout/think_tokens_text")],
    ),
    Panel(
        "Length of thinking, right and wrong",
        "tokens a sample",
        [Line("right", "rollout/think_tokens_correct"), Line("wrong", "rollout/think_tokens_wrong")],
    ),
    Panel("Entropy of the policy", "nats a token", [Line("entropy", "ppo/entropy")]),
    Panel(
        "Ratios of the new policy to the old",
        "ratio",
        [Line("mean", "ppo/ratio"), Line("smallest", "ppo/ratio_min"), Line("largest", "ppo/ratio_max")],
    ),
    Panel("Ratios beyond the clip", "tokens, %", [Line("clipped", "ppo/clip_fraction")], percent=True),
    Panel(
        "Explained variance of the critic",
        "share of the returns' variance",
        [Line("explained", "ppo/explained_variance")],
        range=(-1.0, 1.0),
    ),
    Panel(
        "Gradient norms, before clipping",
        "norm",
        [Line("actor", "ppo/grad_norm"), Line("critic", "critic/grad_norm")],
        log=True,
    ),
    Panel(
        "Sampler against trainer",
        "nats apart",
        [Line("mean", "ppo/sampler_logp_difference"), Line("largest", "ppo/sampler_logp_difference_max")],
        log=True,
    ),
    Panel("KL from the start (a metric, no loss)", "nats a token", [Line("KL", "ppo/kl_to_start")]),
    Panel(
        "Samples cut off, and verifier errors",
        "samples, %",
        [Line("cut off", "rollout/truncated"), Line("verifier error", "reward/failed")],
        percent=True,
    ),
    Panel(
        "Speed of generation and of training",
        "tokens/s",
        [Line("generated", "perf/generated_tokens_per_s"), Line("trained", "perf/trained_tokens_per_s")],
    ),
)
_CAPTION = (
    "One point an iteration. Rewards are means over the samples that could be verified; errors of verifiers are "
    "counted apart and train nothing. Explained variance below −1 is drawn at −1."
)


def rlvr_of(run: Run) -> list[Stage]:
    """The RLVR stages of the run in order, each with what there is of it."""
    stages = []
    named = run.stages_of_kind("rlvr")
    for name in run.order:
        rows = select(run.metrics, stage=name)
        if any("reward/total" in row or "reward/correct" in row for row in rows) or name in named:
            stages.append((name, rows))
    # Players only in the last stage that has rollouts: each clip takes its place on the page.
    last = next((name for name, _ in reversed(stages) if run.rollout_files(name)), None)
    return [_stage(run, name, rows, place, name == last) for place, (name, rows) in enumerate(stages)]


def _stage(run: Run, name: str, rows: list[Row], place: int, with_clips: bool) -> Stage:
    wanted = [*PANELS[:2], *_domains(rows), *PANELS[2:]]
    panels = [drawn for drawn in (*(_panel(panel, rows) for panel in wanted), _phases(rows)) if drawn]
    tables = [table for table in (_ends(rows, wanted),) if table]
    figure = Figure(f"rlvr-{place}", name, panels, caption=_CAPTION, tables=tables) if panels else None
    return Stage(
        name.replace("_", " "), _summary(rows), figure, _selections(run, name), dumps_of(run, name, with_clips)
    )


def _domains(rows: list[Row]) -> list[Panel]:
    """Accuracy in each domain, where there are several."""
    prefix = "reward/correct/"
    names = sorted({key.removeprefix(prefix) for row in rows for key in row if key.startswith(prefix)})
    if len(names) < 2:
        return []
    return [Panel("Accuracy by domain", "right, %", [Line(name, prefix + name) for name in names], percent=True)]


def _panel(panel: Panel, rows: list[Row]) -> tuple[str, Markup] | None:
    curves = [(line, curve(rows, line.metric, "stage_step")) for line in panel.lines]
    curves = [(line, points) for line, points in curves if points]
    if not curves:
        return None
    values = [y for _, points in curves for _, y in points]
    log_y = panel.log and min(values) > 0 and max(values) > _WIDE * min(values)
    series, legend = [], []
    for place, (line, points) in enumerate(curves):
        # Colour and marker come again after four lines, then dashed where they were not.
        style, dashed = place % 4 + 1, (place % 2 == 1) != (place // 4 % 2 == 1)
        series.append(Series("raw", points, style, markers=False, faint=True))
        series.append(Series(line.label, smoothed(points), style, dashed=dashed))
        legend.append((swatch(style, dashed), line.label))
    scale = ", log scale" if log_y else ""
    axes = Axes("iteration", panel.y_label + scale, y_range=panel.range, log_y=log_y, as_percent=panel.percent)
    chart = line_chart(panel.title, series, axes)
    return panel.title, _keyed(legend, chart) if len(legend) > 1 else chart


def _keyed(legend: Sequence[tuple[Markup, str]], chart: Markup) -> Markup:
    """A chart with a legend of its own above it."""
    entries = Markup("").join(Markup("<li>{}{}</li>").format(sample, text) for sample, text in legend)
    return Markup('<ul class="legend">{}</ul>{}').format(entries, chart)


def _phases(rows: list[Row]) -> tuple[str, Markup] | None:
    """What an iteration spends its time on, stacked to its whole time."""
    names = dict.fromkeys(key for row in rows for key in row if key.startswith("time/") and key != "time/step_s")
    curves = {name: curve(rows, name, "stage_step") for name in names}
    xs = sorted({x for points in curves.values() for x, _ in points})
    layers = []
    for name, points in curves.items():
        known = dict(points)
        layers.append(Layer(name.removeprefix("time/").removesuffix("_s"), [known.get(x, 0.0) for x in xs]))
    whole = dict(curve(rows, "time/step_s", "stage_step"))
    rest = [max(whole.get(x, 0.0) - sum(layer.values[i] for layer in layers), 0.0) for i, x in enumerate(xs)]
    layers = [layer for layer in (*layers, Layer("rest", rest)) if any(layer.values)]
    if not layers:
        return None
    total = sum(sum(layer.values) for layer in layers)
    legend = [
        (
            layer_swatch(place),
            f"{layer.label} {sum(layer.values) / len(xs):.3g} s ({percent(sum(layer.values) / total)} %)",
        )
        for place, layer in reversed(list(enumerate(layers)))
    ]
    title = "Time of an iteration by phase"
    return title, _keyed(legend, stacked_chart(title, xs, layers, Axes("iteration", "seconds, stacked")))


def _ends(rows: list[Row], panels: Sequence[Panel]) -> Table | None:
    """Each curve's mean over the first and the last tenth of the iterations."""
    cells = []
    for panel in panels:
        for line in panel.lines:
            ends = _first_and_last(rows, line.metric)
            if ends:
                cells.append([panel.title, line.label, *(percent(x) if panel.percent else f"{x:.4g}" for x in ends)])
    if not cells:
        return None
    head = ["curve", "of", "first tenth", "last tenth"]
    return Table("Means over the first and the last tenth of the iterations; shares in percent", head, cells, 2)


def _first_and_last(rows: list[Row], metric: str) -> tuple[float, float] | None:
    values = [row[metric] for row in rows if metric in row]
    reach = max(len(values) // 10, 1)
    return (sum(values[:reach]) / reach, sum(values[-reach:]) / reach) if values else None


def _summary(rows: list[Row]) -> str:
    """What the stage did to accuracy and length, from its own samples."""
    if not rows:
        return ""
    said = []
    for name, words in (("audio", "questions about sound"), ("text", "text alone")):
        right = _first_and_last(rows, f"reward/correct_{name}")
        length = _first_and_last(rows, f"rollout/think_tokens_{name}")
        if right:
            thinking = f", with {length[0]:.1f} and {length[1]:.1f} tokens of thinking" if length else ""
            said.append(f"on {words} {percent(right[0])}\u00a0% and then {percent(right[1])}\u00a0% right{thinking}")
    iterations = max((int(row["stage_step"]) for row in rows if "stage_step" in row), default=len(rows))
    count = f"{iterations} iteration{'' if iterations == 1 else 's'}"
    return f"{count}; first and last tenth of its own samples: {'; '.join(said)}." if said else f"{count}."


def _selections(run: Run, name: str) -> list[Selection]:
    """Histograms of how often candidates were solved, one for each source that was tried."""
    found = []
    for source, rows, about in run.pass_counts(name):
        counts = [
            int(n)
            for n in (number_or_none(row.get("correct")) for row in rows if not row.get("errors"))
            if n is not None
        ]
        most = max((int(k) for k in (number_or_none(row.get("k")) for row in rows) if k), default=0)
        if not counts or most < 1:
            continue
        kept = _kept(about, most)
        bars = [Bar(str(n), counts.count(n), hollow=n not in kept) for n in range(most + 1)]
        axes = Axes(f"right samples of {most}", "questions")
        chosen = sum(bar.value for bar in bars if not bar.hollow)
        lost = len(rows) - len(counts)
        note = f"{len(rows)} questions tried"
        if about:
            pool = number_or_none(about.get("kept"))
            fewer = pool is not None and pool < chosen
            note += f", {chosen:g} {'suitable' if fewer else 'kept'}"
            note += f" ({about.get('strategy', 'strategy unknown')}: filled bars)"
            note += f", {pool:g} of them kept" if fewer else ""
        if lost:
            note += f"; {lost} left out because a verifier failed"
        found.append(Selection(source, bar_chart(f"Times solved, {source}", bars, axes), note + "."))
    return found


def _kept(about: Row, most: int) -> range:
    """The counts that the stage's strategy keeps; all of them if that is not known."""
    span = about.get("pass_range")
    usable = isinstance(span, list) and len(span) == 2 and all(isinstance(n, int) for n in span)
    low, high = span if usable else (0, most)
    match about.get("strategy"):
        case "moderate":
            return range(low, high + 1)
        case "failed":
            return range(1)
        case "easy":
            return range(high + 1, most + 1)
    return range(most + 1)
