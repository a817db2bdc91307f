"""Tests run on eight virtual CPU devices, so that sharded and single-device runs can be compared in one process."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"

import jax

jax.config.update("jax_num_cpu_devices", 8)
