"""Mesh, sharding rules, start-up of many hosts."""

from step_audio_r1.parallel.hlo import program_cost
from step_audio_r1.parallel.mesh import MeshConfig, batch_rows_divide, batch_sharding, make_mesh, replicated
from step_audio_r1.parallel.rules import DECODING, TRAINING, Rules, shardings
from step_audio_r1.parallel.start import start_processes

__all__ = [
    "DECODING",
    "TRAINING",
    "MeshConfig",
    "Rules",
    "batch_rows_divide",
    "batch_sharding",
    "make_mesh",
    "program_cost",
    "replicated",
    "shardings",
    "start_processes",
]
