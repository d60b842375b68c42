"""Which GPU an engine sees, and what to say where torch sees none. Touches no device, and no torch.

CUDA reads ``CUDA_VISIBLE_DEVICES`` once, at a process's first call. An engine narrows it to its one
GPU before: so nothing that it does by mistake reaches another one, and it can be a MIG slice, of
which CUDA shows a process one only.
"""

import re
from collections.abc import Mapping, MutableMapping
from pathlib import Path

VISIBLE = "CUDA_VISIBLE_DEVICES"

HIDDEN = ("", "-1", "NoDevFiles")
"""Its values for "no GPU": who sets them means the CPU."""

NEEDED_DRIVERS = {11: 450, 12: 525, 13: 580}
"""The oldest NVIDIA driver that runs a CUDA release, by the major numbers of both."""


def see_only(name: str, environment: MutableMapping[str, str]) -> str:
    """Let this process see no GPU but one. To be called before its first call of CUDA.

    Args:
        name: an entry of ``GSOP_DEVICE``.
        environment: this process's own, which is changed.

    Returns:
        What that device is called from now on.
    """
    if name == "cpu" or environment.get(VISIBLE) in HIDDEN:
        return name
    listed = [part.strip() for part in environment.get(VISIBLE, "").split(",") if part.strip()]
    if (called := by_uuid(name, environment)) != name:
        return called
    index = int(name.partition(":")[2] or 0)
    if not listed:
        environment[VISIBLE] = str(index)
    elif index < len(listed):
        environment[VISIBLE] = listed[index]
    else:
        return name  # which is not there, as will be said
    return name if name == "auto" else "cuda"


def is_uuid(name: str) -> bool:
    """Whether an entry of ``GSOP_DEVICE`` is the UUID of a GPU or of a MIG slice."""
    return name.startswith(("GPU-", "MIG-"))


def by_uuid(name: str, environment: MutableMapping[str, str]) -> str:
    """:func:`see_only` of a GPU or a MIG slice that is named by its UUID; others stay as they are.

    For processes that are one of several with a GPU each, whose numbers are counted among all.
    """
    if not is_uuid(name):
        return name
    environment[VISIBLE] = name
    return "cuda"


def why_none(
    torch_version: str,
    cuda_version: str | None,
    environment: Mapping[str, str],
    root: Path = Path("/"),
) -> str | None:
    """Why torch sees no GPU, if this machine has one that is not hidden on purpose.

    Args:
        torch_version: torch's own.
        cuda_version: that torch was built with, such as ``13.0``; ``None`` for without.
        environment: this process's.
        root: of the file system.

    Returns:
        What is the matter and what to do about it; ``None`` where the CPU is what there is.
    """
    if environment.get(VISIBLE) in HIDDEN:
        return None
    driver = _driver(root)
    is_passed = any((root / "dev" / name).exists() for name in ("nvidiactl", "nvidia0"))
    if driver is None and not is_passed:
        return None
    if cuda_version is None:
        return f"torch {torch_version} is built without CUDA: install one that is built with it"
    if not is_passed:
        return "the GPU is not passed to this process: pass it through (docker run --gpus all)"
    needed = NEEDED_DRIVERS.get(int(cuda_version.partition(".")[0]))
    has = driver.partition(".")[0] if driver is not None else ""
    if needed is not None and has.isdecimal() and int(has) >= needed:
        return (
            f"its driver {driver}, new enough for torch {torch_version}, does not start: "
            "nvidia-smi says why (after an update it wants a reboot, with NVSwitch "
            "nvidia-fabricmanager; a container wants /dev/nvidia-uvm)"
        )
    wants = f"driver {needed} or newer" if needed else "a newer driver"
    return f"torch {torch_version} (CUDA {cuda_version}) needs {wants}, and here is {driver}"


def _driver(root: Path) -> str | None:
    """The version of the kernel's NVIDIA driver; ``None`` if it has none."""
    try:
        text = (root / "proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"\b\d{3,}(\.\d+)+\b", text)
    return found[0] if found else "one of unknown version"
