"""What an engine remembers of its versions, on its way to the engine that takes its place.

Arrays and JSON in numpy's npz: nothing in it can be more than data.
"""

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from gsop.gates.memory import GateMemory

_META = "meta"


def write(memories: Mapping[str, GateMemory]) -> bytes:
    """All of it.

    Args:
        memories: by the version, its digest included.
    """
    arrays: dict[str, npt.NDArray[Any]] = {}
    meta = {}
    for number, (version, memory) in enumerate(memories.items()):
        own, state = memory.state()
        meta[version] = own | {"number": number}
        arrays |= {f"{number}/{name}": array for name, array in state.items()}
    arrays[_META] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]  # its stubs take the names for options
    return file.getvalue()


def take_over(memories: Mapping[str, GateMemory], data: bytes) -> None:
    """Add what the predecessor remembered of the versions that are still there."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        meta = json.loads(arrays[_META].tobytes())
        for version, memory in memories.items():
            if (own := meta.get(version)) is None:
                continue
            prefix = f"{own.pop('number')}/"
            state = {
                name.removeprefix(prefix): arrays[name]
                for name in arrays
                if name.startswith(prefix)
            }
            memory.take_over(own, state)
