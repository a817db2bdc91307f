"""The device mesh: axes data, fsdp, tensor. One place builds it, with Auto axes."""

import dataclasses
import math
from collections.abc import Sequence

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from step_audio_r1.errors import BadInput

AXES = ("data", "fsdp", "tensor")


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices along each axis; exactly one axis may be -1 and takes what the others leave."""

    data: int = -1
    fsdp: int = 1
    tensor: int = 1


def make_mesh(config: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Builds the mesh over `devices` (default: all of them).

    Raises:
      BadInput: the axes do not multiply to the number of devices.
    """
    devices = list(jax.devices() if devices is None else devices)
    shape = [config.data, config.fsdp, config.tensor]
    free = [i for i, n in enumerate(shape) if n == -1]
    fixed = math.prod(n for n in shape if n != -1)
    if len(free) == 1 and fixed > 0 and len(devices) % fixed == 0:
        shape[free[0]] = len(devices) // fixed
    if min(shape) < 1 or math.prod(shape) != len(devices):
        raise BadInput(
            f"config.mesh: data x fsdp x tensor = {config.data} x {config.fsdp} x {config.tensor} does not make "
            f"{len(devices)} devices; set one axis to -1 or make the product {len(devices)}"
        )
    try:
        return jax.make_mesh(tuple(shape), AXES, axis_types=(AxisType.Auto,) * 3, devices=devices)
    except NotImplementedError:
        # TPU tori refuse axes that split a physical axis; the split is allowed here explicitly.
        grid = mesh_utils.create_device_mesh(tuple(shape), devices, allow_split_physical_axes=True)
        return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * 3)


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of a value that every device holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows over data and fsdp; every other axis whole."""
    return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def batch_rows_divide(mesh: Mesh, rows: int, field: str) -> None:
    """Raises BadInput unless `rows` can be split over the mesh's data and fsdp axes."""
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    if rows % ways:
        raise BadInput(f"{field}={rows} does not divide over {ways} devices (data x fsdp); use a multiple of {ways}")
