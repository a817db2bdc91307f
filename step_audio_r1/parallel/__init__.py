"""Mesh, sharding rules, start-up of many hosts."""

from step_audio_r1.parallel.mesh import MeshConfig, batch_rows_divide, batch_sharding, make_mesh, replicated
from step_audio_r1.parallel.rules import DECODING, TRAINING, Rules, shardings

__all__ = [
    "DECODING",
    "TRAINING",
    "MeshConfig",
    "Rules",
    "batch_rows_divide",
    "batch_sharding",
    "make_mesh",
    "replicated",
    "shardings",
]
