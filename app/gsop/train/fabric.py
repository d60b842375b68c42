"""The device, the processes and the precision of a run, through Lightning Fabric."""

import logging

import torch
from lightning_fabric import Fabric

from gsop.backends.torch_device import find_device
from gsop.settings import torchrun_layout
from gsop.train.recipe import Recipe


def make_fabric(recipe: Recipe, device: str) -> Fabric:
    """Fabric for this process, launched.

    Under ``torchrun`` the run has as many processes as that started, each with its share of every
    batch; on CUDA each with the device of its local rank. Otherwise it has one process.

    Args:
        recipe: says the precision.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ConfigError: if this machine has no such device.
    """
    found = find_device(device)
    layout = torchrun_layout()
    bfloat16 = recipe.precision == "bfloat16" or (
        recipe.precision == "auto" and found.type == "cuda"
    )
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
