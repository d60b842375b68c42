"""``torch.cuda`` without a GPU: what runs on one runs here, later and in the worst order.

    with emulated(Machine(devices=2)) as machine:
        ...  # torch.device("cuda", 1) is there

It shows mistakes of ordering: a stream or event of the wrong device, memory that is used again too
early, a graph that recorded nothing, a host that waits. It knows nothing of kernels, of speed, and
of numbers that only a GPU computes: these it cannot show.
"""

from tests.emulated_cuda.machine import Machine
from tests.emulated_cuda.runtime import emulated

__all__ = ["Machine", "emulated"]
