"""The device, the processes and the precision of a run, through Lightning Fabric."""

import logging
import os
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricModule

from gsop.backends.gpus import by_uuid
from gsop.backends.torch_device import compute_exactly, find_device
from gsop.environment import torchrun_layout
from gsop.train.recipe import Recipe

Network = _FabricModule
"""A network as Fabric has set it up; Fabric itself has no public name for it."""


def make_fabric(recipe: Recipe, device: str) -> Fabric:
    """Fabric for this process, launched.

    Under ``torchrun`` the run has as many processes as that started, each with its share of every
    batch; on CUDA each with the device of its local rank. Otherwise it has one process.

    Args:
        recipe: says the precision.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; or a UUID, and this process sees no other
            GPU from then on.

    Raises:
        ConfigError: if this machine has no such device.
    """
    found = find_device(by_uuid(device, os.environ), device)
    layout = torchrun_layout()
    bfloat16 = recipe.precision == "bfloat16" or (
        recipe.precision == "auto" and found.type == "cuda"
    )
    if found.type == "cuda":
        compute_exactly()
        torch.backends.cudnn.benchmark = True  # all steps are of one size: its search pays
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # else it tells the precision
    fabric = Fabric(
        accelerator=found.type,
        devices=_devices(found) if layout is None else layout.processes,
        num_nodes=1 if layout is None else layout.machines,
        strategy="auto" if layout is None else "ddp",
        precision="bf16-mixed" if bfloat16 else "32-true",
    )
    fabric.launch()
    return fabric


def _devices(found: torch.device) -> list[int] | int:
    return [found.index or 0] if found.type == "cuda" else 1


# What all processes know together. Each of them calls the same function at the same place, and
# waits there for the others.


def sum_of_all(fabric: Fabric, value: float) -> float:
    """The sum of the processes' values."""
    return _reduced(fabric, value, dist.ReduceOp.SUM)


def largest_of_all(fabric: Fabric, value: float) -> float:
    """The largest of the processes' values."""
    return _reduced(fabric, value, dist.ReduceOp.MAX)


def union_of_all(fabric: Fabric, names: set[str]) -> set[str]:
    """The names that at least one process has."""
    if fabric.world_size == 1:
        return names
    found: list[set[str]] = [set() for _ in range(fabric.world_size)]
    dist.all_gather_object(found, names)
    return set().union(*found)


def leave(fabric: Fabric) -> None:
    """Nothing is common any more; what one process does from now on, the others do not wait for.

    Without it a process that leaves first may abort another in the threads of the group.
    """
    fabric.barrier()
    if dist.is_initialized():
        dist.destroy_process_group()


def _reduced(fabric: Fabric, value: float, how: Any) -> float:
    if fabric.world_size == 1:
        return value
    whole = torch.tensor(value, dtype=torch.float64, device=fabric.device)
    dist.all_reduce(whole, how)
    return float(whole)
