"""Training: state, optimiser, the loop, checkpoints, metrics and the SFT step."""

from step_audio_r1.train.checkpoints import Checkpoints
from step_audio_r1.train.loop import LoopPlan, fit, to_device
from step_audio_r1.train.metrics import Mean, MetricWriter
from step_audio_r1.train.optimiser import OptimiserConfig, optimiser, schedule
from step_audio_r1.train.sft import make_sft_step
from step_audio_r1.train.state import (
    TRAINED,
    TrainState,
    abstract_params,
    abstract_train_state,
    abstract_trained,
    init_sharded,
    param_shardings,
    train_state,
)

__all__ = [
    "TRAINED",
    "Checkpoints",
    "LoopPlan",
    "Mean",
    "MetricWriter",
    "OptimiserConfig",
    "TrainState",
    "abstract_params",
    "abstract_train_state",
    "abstract_trained",
    "fit",
    "init_sharded",
    "make_sft_step",
    "optimiser",
    "param_shardings",
    "schedule",
    "to_device",
    "train_state",
]
