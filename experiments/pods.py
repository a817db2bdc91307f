"""The plan of experiments' runs on a pod, for whoever pays: hours, machine, records, commands. Nothing is run."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import jax

from configs.ablations import RECIPES, lineage
from experiments.pod_commands import accelerator, commands
from experiments.pod_cost import (
    STEPS,
    Machine,
    Seconds,
    assumptions,
    features,
    rows_of_update,
    stage_seconds,
    together,
    tried_sources,
)
from experiments.pod_measures import in_short, measures
from experiments.pod_records import TEXT, Need, needs
from experiments.pod_runs import PodRun, check, runs_of
from experiments.pod_text import two_digits, wrapped
from experiments.sweep import Sweep
from step_audio_r1.errors import BadInput
from step_audio_r1.pipeline import RunConfig
from step_audio_r1.pipeline.stage_config import DistilStage, DPOStage, KnowledgeStage, RLVRStage, Stage, steps_of
from step_audio_r1.train import TRAINED, abstract_params

# Of a parameter, and of each of its two moments.
BYTES = 4
# What a run's stages take: by arm, and by the stage's name.
Hours = Mapping[str, Mapping[str, Seconds]]


def pod_plan(
    sweeps: Sequence[Sweep],
    arms: Sequence[str] | None,
    seeds: Sequence[int],
    scale: Literal["8b", "33b"],
    machine: Machine | None = None,
) -> str:
    """What it takes to run experiments on a public model, as text for a terminal; each run is in it once.

    Args:
      sweeps: the experiments.
      arms: those of their arms that are wanted, None is all; what they begin with is added.
      seeds: of each arm.
      scale: of `configs.ablations.RECIPES`.
      machine: None is the smallest whose steps are all in the compiler's table.

    Raises:
      BadInput: an unknown arm or scale, no arms or seeds, or a config that `train` would refuse on this machine.
    """
    known = list(dict.fromkeys(arm for sweep in sweeps for arm in sweep.arms))
    arms = known if arms is None else arms
    for flag, given, there in (
        ("arms", arms, known),
        ("scale", [scale], [name for name in RECIPES if name != "miniature"]),
    ):
        if unknown := [name for name in given if name not in there]:
            raise BadInput(f"--{flag}: no {unknown[0]!r}; there are {', '.join(there)}")
    if not arms or not seeds:
        raise BadInput("--arms and --seeds: a plan needs at least one of each")
    sweeps = [sweep for sweep in sweeps if set(sweep.arms) & set(arms)]
    runs = runs_of([arm for arm in known if arm in arms], scale)
    machine = machine or Machine.of(runs[0].config.model.name)
    for run in runs:
        check(run, machine)
    wanted = needs(stage for run in runs for stage in run.stages)
    hours = {run.arm: hours_of(run, machine, wanted) for run in runs}
    sections = {
        "1. HOURS, estimated; two digits, sums of what is not rounded": _hours(runs, seeds, machine, hours),
        "2. MACHINE": _machine(machine, runs),
        "3. RECORDS": _records(wanted),
        "4. COMMANDS, from the repository's root; tpu_scripts/README.md explains them": [
            *wrapped(_room(runs, seeds)),
            "",
            *commands(sweeps, runs, seeds, scale, machine),
            "",
            *wrapped(
                "A run that failed ends the loop; the same loop goes on from its last checkpoint, and passes over runs "
                "that are done. Seeds can run beside each other, each on a TPU of its own TPU_NAME."
            ),
        ],
        "5. MEASURE the runs when they are done": measures(sweeps, runs, seeds),
    }
    head = _head(sweeps, arms, runs, seeds, scale, machine, hours)
    parts = [head, *([title, *section] for title, section in sections.items())]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def hours_of(run: PodRun, machine: Machine, wanted: Sequence[Need]) -> dict[str, Seconds]:
    """What a run's own stages take, by name; before them the clips are encoded of datasets that its parent has not."""
    own = {name: stage_seconds(stage, run.config, machine) for name, stage in run.stages if steps_of(stage)}
    clips = sum(need.least for need in wanted if need.dataset in run.datasets and need.dataset != TEXT)
    return {f"{clips:,} clips encoded": features(clips, machine), **own} if clips else own


def _head(
    sweeps: Sequence[Sweep],
    arms: Sequence[str],
    runs: Sequence[PodRun],
    seeds: Sequence[int],
    scale: str,
    machine: Machine,
    hours: Hours,
) -> list[str]:
    total = len(seeds) * sum(map(_total, hours.values()))
    count, (_, kept) = len(seeds) * len(runs), _terabytes(runs[0].config)
    several = f"{len(sweeps)} experiments" if len(sweeps) > 1 else sweeps[0].name
    lines = [
        f"PLAN: {several}, {scale} ({machine.model}), seeds {', '.join(map(str, seeds))}",
        f"{_price(total, machine)}.",
        f"{count} runs ({len(runs)} a seed), one after another; disk: up to {two_digits(count * kept)} TB.",
        "Hours are estimates, never measured: the compiler's time of a step, times counts that rest on assumed",
        "lengths (1). Nothing was run for this plan.",
        in_short(sweeps),
        "",
        f"{'experiment':<20}{'hours, alone':>12}   arms",
    ]
    for sweep in sweeps:
        chosen = [arm for arm in sweep.arms if arm in arms]
        alone = len(seeds) * sum(_total(hours[arm]) for arm in {name for arm in chosen for name in lineage(arm)})
        lines += wrapped(" ".join(chosen), f"{sweep.name:<20}{two_digits(alone):>12}   ")
    extra = [run.arm for run in runs if run.arm not in arms]
    return [*lines, *([f"{'begun with':<35}{' '.join(extra)}"] if extra else [])]


def _hours(runs: Sequence[PodRun], seeds: Sequence[int], machine: Machine, hours: Hours) -> list[str]:
    kinds: dict[str, int] = {}
    rows = []
    own, after = (2 + max(len(name or "") for name in names) for names in zip(*((run.arm, run.parent) for run in runs)))
    after = max(after, len("after") + 2)
    for run in runs:
        numbers = []
        for name, seconds in hours[run.arm].items():
            what = _what(run.config.stages[name], run.config, machine) if name in run.config.stages else ""
            # Rounds have the same stages: these are told once.
            row = _row(re.sub(r"_\d+", "", name), [seconds], 22) + f"   {what}".rstrip()
            numbers.append(kinds.setdefault(row, len(kinds) + 1))
        row = _row(f"{run.arm:<{own}}{run.parent or '-':<{after}}", hours[run.arm].values(), own + after)
        rows.append(f"{row}   {' '.join(map(str, numbers))}")
    every = [seconds for run in runs for seconds in hours[run.arm].values()]
    return [
        f"   {'stage':<22}{'hours':>8}{'decoding':>10}   what (RLVR: iterations x prompts x samples; questions tried)",
        *(f"{number:>2} {row}" for row, number in kinds.items()),
        "",
        f"{'run':<{own}}{'after':<{after}}{'hours':>8}{'decoding':>10}   stages",
        *rows,
        _row("all, a seed", every, own + after),
        _row(f"x {len(seeds)}", every * len(seeds), own + after),
        "",
        "Assumed:",
        *(f"- {said}" for said in assumptions(machine, runs[0].config.decode_rows)),
    ]


def _row(label: str, parts: Iterable[Seconds], width: int) -> str:
    seconds = together(*parts)
    decoding = two_digits(seconds["decode"] / 3600) if "decode" in seconds else "-"
    return f"{label:<{width}}{two_digits(sum(seconds.values()) / 3600):>8}{decoding:>10}"


def _price(hours: float, machine: Machine) -> str:
    if math.isnan(hours):
        return f"The hours are unknown, for the table lacks {', '.join(machine.missing)} on {machine.topology}"
    days, chip_hours = two_digits(hours / 24), two_digits(hours * machine.chips)
    return f"{two_digits(hours)} hours ({days} days) of {machine.chips} chips, {chip_hours} chip hours"


def _total(found: Mapping[str, Seconds]) -> float:
    """Hours of a run."""
    return sum(sum(seconds.values()) for seconds in found.values()) / 3600


def _what(stage: Stage, run: RunConfig, machine: Machine) -> str:
    match stage:
        case RLVRStage():
            rows = rows_of_update(stage, run, machine)
            said = f"{stage.iterations} x {stage.prompts} x {stage.samples} samples, {rows} rows"
            said += f", critic {stage.ppo.critic_weights}"
            said += f", {stage.ppo.policy_minibatches} updates" if stage.ppo.policy_minibatches > 1 else ""
            tried = len(tried_sources(stage)) * (stage.candidates or 0)
            return said + (f"; {tried:,} tried" if tried else "")
        case DistilStage():
            tried = stage.contribution and stage.contribution.candidates
            said = f"{stage.mgrd.questions:,} x {stage.mgrd.samples} chains"
            said += ", counterfactual" if "counterfactual" in stage.mgrd.filters else ""
            return said + (f"; {tried:,} tried" if tried else "")
        case DPOStage():
            return f"{stage.questions:,} x {stage.samples} outputs, {stage.steps} steps of {stage.rows} pairs"
        case KnowledgeStage():
            return f"{stage.steps} steps of {stage.batch.rows} x {stage.batch.tokens} tokens, the teacher's as well"
    return f"{stage.steps} steps of {stage.batch.rows} x {stage.batch.tokens} tokens"


def _machine(machine: Machine, runs: Sequence[PodRun]) -> list[str]:
    lines = [f"{machine.topology}: {machine.chips} chips, ACCELERATOR_TYPE={accelerator(machine)}"]
    lines.append(f"{'step':<12}{'compiled for':<24}{'peak + held, GiB of a chip':<32}{'seconds':>9}")
    for step in STEPS:
        if row := machine.rows.get(step):
            size = f"{row['rows']} x " + (f"{row['tokens']} tokens" if row["tokens"] else "25 s")
            memory = f"{row['peak_gib']:.1f} + {row['resident_gib']:.1f} of {row['hbm_gib']:.1f}"
            lines.append(f"{step:<12}{size:<24}{memory:<32}{two_digits(row['estimated_step_s']):>9}")
        else:
            lines.append(f"{step:<12}no row that fits in the table")
    if machine.missing:
        lines += wrapped(
            "Hours that need a missing row are unknown. The command below compiles it, with no TPU; a new topology "
            "goes into TOPOLOGIES of benchmarks/tpu/cases.py first."
        )
        lines.append(f"  python -m benchmarks.tpu.table --only='{machine.model}/*/{machine.topology}'")
    else:
        lines.append("By the compiler all of it fits. Machines that are not in the table may do as well.")
    return lines + _unlike(machine, runs)


def _unlike(machine: Machine, runs: Sequence[PodRun]) -> list[str]:
    """Where the runs differ from what was compiled."""
    config = runs[0].config
    meshes = {"prefill": config.decode_mesh or config.mesh, "decode": config.decode_mesh or config.mesh}
    differ: dict[str, list[str]] = {}
    for step in machine.rows:
        if step != "encode" and (axes := machine.axes(meshes.get(step, config.mesh))) != machine.rows[step]["mesh"]:
            theirs, ours = (
                " ".join(f"{a} {n}" for a, n in mesh.items()) for mesh in (machine.rows[step]["mesh"], axes)
            )
            differ.setdefault(f"compiled for {theirs}, run with {ours}: memory and time differ.", []).append(step)
    lines = [line for said, steps in differ.items() for line in wrapped(f"{', '.join(steps)}: {said}")]
    longest = max(
        (stage.max_tokens for run in runs for _, stage in run.stages if isinstance(stage, DPOStage)), default=0
    )
    if longest:
        lines.append(f"The step of DPO, rows of {longest} tokens, is in no table; this compiles what is nearest to it:")
        flags = f"--config={machine.model} --topology={machine.topology} --step=sft --tokens={longest}"
        lines.append(f"  step-audio-r1 aot {flags}")
    return lines


def _records(wanted: Sequence[Need]) -> list[str]:
    lines = wrapped(
        "Manifests are yours to make, one JSON object a line (step_audio_r1/data/manifest.py has the keys), a manifest "
        'a dataset. Rows with "response" are its "examples", those without its "questions". With fewer records than '
        '"at least" a stage repeats some, or tries fewer. Chains of MGRD the runs write themselves.'
    )
    for need in wanted:
        lines += ["", f"{need.source:<20}at least {need.least:,} ({need.why})"]
        lines += wrapped(f"read by {', '.join(need.stages)}", "    ")
        lines += [line for held in need.holds for line in wrapped(held, "    - ")]
    return lines


def _terabytes(config: RunConfig) -> tuple[float, float]:
    """Of the largest checkpoint, which is RLVR's, and of what a run holds that is done."""
    parameters = jax.tree.leaves({part: abstract_params(config.model)[part] for part in TRAINED})
    weights = BYTES * sum(math.prod(x.shape) for x in parameters) / 1e12
    full = 2 * 3 * weights
    return full, weights + (config.keep_checkpoints - 1) * full


def _room(runs: Sequence[PodRun], seeds: Sequence[int]) -> str:
    full, kept = _terabytes(runs[0].config)
    return (
        f"SHARED is a Filestore on all workers, not gs://. A checkpoint of RLVR has up to {two_digits(full)} TB (actor "
        f"and critic, float32, with moments); a run that is done holds up to {two_digits(kept)} TB, all of them "
        f"{two_digits(len(seeds) * len(runs) * kept)} TB. Checkpoints that no other run begins with can go once they "
        "are evaluated."
    )
