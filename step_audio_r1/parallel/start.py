"""Start-up of many hosts: once, before any device is touched; nothing on a single host."""

import os

import jax

# What a TPU pod, SLURM or an explicit launcher sets; without any of them this is one host.
_SIGNS = (
    "JAX_COORDINATOR_ADDRESS",
    "COORDINATOR_ADDRESS",
    "SLURM_JOB_NUM_NODES",
    "MEGASCALE_COORDINATOR_ADDRESS",
)


def start_processes() -> None:
    """Calls `jax.distributed.initialize` on a multi-host job.

    An explicit launch sets JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID; TPU pods and SLURM are
    found by JAX itself.
    """
    hosts = os.environ.get("TPU_WORKER_HOSTNAMES", "")
    if "JAX_COORDINATOR_ADDRESS" in os.environ and "JAX_PROCESS_ID" in os.environ:
        jax.distributed.initialize(
            os.environ["JAX_COORDINATOR_ADDRESS"],
            int(os.environ["JAX_NUM_PROCESSES"]),
            int(os.environ["JAX_PROCESS_ID"]),
        )
    elif "," in hosts or any(name in os.environ for name in _SIGNS):
        jax.distributed.initialize()
