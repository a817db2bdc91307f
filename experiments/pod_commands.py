"""The commands of a plan for a pod, in order: settings, records, the public model, machine, runs."""

from collections.abc import Sequence

from experiments.pod_cost import Machine
from experiments.pod_runs import PodRun
from experiments.sweep import Sweep
from step_audio_r1.pipeline.stage_config import RLVRStage

# Family of a topology -> the name of its accelerator, and what that counts a chip as.
ACCELERATORS = {"v4": ("v4", 2), "v5p": ("v5p", 2), "v5e": ("v5litepod", 1), "v6e": ("v6e", 1)}
CHECKPOINTS = {"step_audio_r1": "Step-Audio-R1", "step_audio_2_mini": "Step-Audio-2-mini"}


def accelerator(machine: Machine) -> str:
    """What Google Cloud calls it."""
    family = machine.topology.partition(":")[0]
    name, count = ACCELERATORS.get(family, (family, 1))
    return f"{name}-{count * machine.chips}"


def commands(
    sweeps: Sequence[Sweep], runs: Sequence[PodRun], seeds: Sequence[int], scale: str, machine: Machine
) -> list[str]:
    """From nothing to finished runs, as lines for a shell."""
    stem = runs[0]
    each = f"for SEED in {' '.join(map(str, seeds))}; do"
    name = sweeps[0].name.replace("_", "-")[:37] if len(sweeps) == 1 else "experiments"
    return [
        f"export PROJECT=my-project ZONE=us-east5-a ACCELERATOR_TYPE={accelerator(machine)} CAPACITY=on_demand",
        f"export TPU_NAME=r1-{name} BUCKET=gs://my-bucket",
        "export SHARED=/mnt/runs SHARED_SOURCE=10.0.0.2:/runs",
        "RUNS=$SHARED/experiments",
        f'DATA="{" ".join(_datasets(stem))}"',
        "",
        "# The records (3), once, and the public model, once a seed: on any machine that mounts SHARED; no TPU.",
        *(
            f"step-audio-r1 prepare --source={name}.jsonl --prompts=step_audio --out=$SHARED/data/{name}"
            for run in runs
            for name in run.datasets
        ),
        each,
        f"  test -e $RUNS/{stem.arm}_$SEED || JAX_PLATFORMS=cpu step-audio-r1 convert \\",
        f"    --from_hf=$SHARED/{CHECKPOINTS[machine.model]} --workdir=$RUNS/{stem.arm}_$SEED \\",
        f"    --config=configs/ablations.py:{stem.arm},{scale} --config.seed=$SEED $DATA || break",
        "done",
        "",
        "# From here on the TPU is paid for.",
        "tpu_scripts/create.sh",
        "tpu_scripts/watch.sh --until=active",
        "tpu_scripts/setup.sh",
        *_sandbox(runs),
        "",
        "# train ARM [FLAGS]: `step-audio-r1 train` on all workers, until the run has ended.",
        "# With CAPACITY=spot write train.sh for launch.sh and leave watch.sh out: it goes on after preemptions.",
        "train() {",
        f"  tpu_scripts/launch.sh --config=configs/ablations.py:$1,{scale} --workdir=$RUNS/$1_$SEED \\",
        '    --config.seed=$SEED $DATA "${@:2}" && tpu_scripts/watch.sh',
        "}",
        each,
        *(_train(run) for run in runs),
        "done",
        "",
        "# When nothing runs any more; delete.sh asks first.",
        "tpu_scripts/logs.sh",
        "tpu_scripts/delete.sh",
    ]


def _datasets(run: PodRun) -> list[str]:
    """Flags that say where the datasets are which the parent has not."""
    return [f"--config.datasets.{name}=$SHARED/data/{name}" for name in run.datasets]


def _train(run: PodRun) -> str:
    """One run of the loop over seeds."""
    # What the stem has is in DATA.
    begin = [f"--branch_from=$RUNS/{run.parent}_$SEED", *_datasets(run)] if run.parent else []
    return "  " + " ".join(["train", run.arm, *begin, "|| break"])


def _sandbox(runs: Sequence[PodRun]) -> list[str]:
    if not any(isinstance(stage, RLVRStage) for run in runs for _, stage in run.stages):
        return []
    return [
        '# Only if rewarded records have verifiers of kind "code", which `train` refuses without bubblewrap:',
        "# tpu_scripts/run.sh 'sudo apt-get -qq update && sudo apt-get -qq install -y bubblewrap'",
    ]
