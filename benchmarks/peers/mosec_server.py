"""mosec: a Rust front, Python workers, batches closed by size or by a wait.

``stages`` is its documentation's ResNet-50 example: decoding processes before an inference process
that batches. ``one`` lets two processes both decode and compute: nothing is sent between stages.
"""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from mosec import Server, Worker

from benchmarks.peers.common import MAX_BATCH, Options, Pixels, Work, options, parser, to_json

made = parser()
made.add_argument("--layout", choices=("stages", "one"), default="stages")
# mosec reads sys.argv itself: ours comes through the environment of its workers.
GIVEN = "PEER_OPTIONS"


def _options() -> Options:
    model, store, port, threads = os.environ[GIVEN].split("\n")
    return Options(model, Path(store), int(port), int(threads))


class Decode(Worker):
    """Bytes to pixels; raw bytes go on to the next stage, which is cheaper than pickling."""

    def __init__(self) -> None:
        super().__init__()
        self._work = Work(_options(), computes=False)

    def deserialize(self, data: bytes) -> bytes:
        """The body is the image."""
        return data

    def forward(self, data: bytes) -> Pixels:
        """Decode one."""
        return self._work.decode(data)

    def serialize_ipc(self, data: Pixels) -> bytes:
        """Pixels as they lie in memory."""
        return data.tobytes()


class Infer(Worker):
    """A batch of pixels to answers."""

    def __init__(self) -> None:
        super().__init__()
        self._work = Work(_options())
        spec = self._work.manifest.input
        self._shape = (spec.height, spec.width, 3)

    def deserialize_ipc(self, data: bytes) -> Pixels:
        """Pixels as they lie in memory."""
        return np.frombuffer(data, np.uint8).reshape(self._shape)

    def forward(self, data: list[Pixels]) -> list[dict[str, Any]]:
        """Compute a batch."""
        return self._work.answers(data)

    def serialize(self, data: dict[str, Any]) -> bytes:
        """JSON."""
        return to_json(data)


class DecodeAndInfer(Worker):
    """Both in one process."""

    def __init__(self) -> None:
        super().__init__()
        self._work = Work(_options())

    def deserialize(self, data: bytes) -> bytes:
        """The body is the image."""
        return data

    def forward(self, data: list[bytes]) -> list[dict[str, Any]]:
        """Decode and compute a batch."""
        return self._work.answers([self._work.decode(body) for body in data])

    def serialize(self, data: dict[str, Any]) -> bytes:
        """JSON."""
        return to_json(data)


if __name__ == "__main__":
    given = made.parse_args()
    chosen = options(given)
    os.environ[GIVEN] = "\n".join(
        [chosen.model, str(chosen.store), str(chosen.port), str(chosen.threads)]
    )
    sys.argv[1:] = [
        *("--port", str(chosen.port), "--address", "127.0.0.1"),
        *("--timeout", "30000", "--log-level", "warning"),
    ]
    server = Server()
    if given.layout == "stages":
        server.append_worker(Decode, num=2)
        server.append_worker(Infer, num=1, max_batch_size=MAX_BATCH, max_wait_time=1)
    else:
        server.append_worker(DecodeAndInfer, num=2, max_batch_size=MAX_BATCH, max_wait_time=1)
    server.run()
