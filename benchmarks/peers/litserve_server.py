"""LitServe: a FastAPI front, a worker process that decodes and batches.

Its ``fast_queue=True`` (ZeroMQ) is left out. In 0.2.19 the flag does nothing: the configuration is
built with a keyword that does not exist. With the transport set directly no answer ever comes: its
factory hands over the broker's two addresses in the wrong order.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import litserve
from fastapi import Body, Response

from benchmarks.peers.common import MAX_BATCH, Options, Work, options, parser, to_json

made = parser()
made.add_argument("--workers", type=int, default=1)


class Api(litserve.LitAPI):
    """Decoding in threads, as LitServe's own comparison with TorchServe does it."""

    def __init__(self, chosen: Options, **settings: Any) -> None:
        super().__init__(**settings)
        self._chosen = chosen

    def setup(self, device: str) -> None:
        """In the worker process."""
        self._work, self._pool = Work(self._chosen), ThreadPoolExecutor(2)

    def decode_request(self, request: Annotated[bytes, Body(media_type="image/jpeg")]) -> bytes:
        """Decoding waits for ``batch``, where there are several."""
        return request

    def batch(self, inputs: list[bytes]) -> list[Any]:
        """Decode side by side."""
        return list(self._pool.map(self._work.decode, inputs))

    def predict(self, x: list[Any]) -> list[dict[str, Any]]:
        """Compute."""
        return self._work.answers(x)

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """They are apart already."""
        return output

    def encode_response(self, output: dict[str, Any]) -> Response:
        """JSON without FastAPI's detour through its encoder."""
        return Response(to_json(output), media_type="application/json")


if __name__ == "__main__":
    given = made.parse_args()
    api = Api(options(given), max_batch_size=MAX_BATCH, batch_timeout=0.001)
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=given.workers, timeout=30
    )
    server.run(host="127.0.0.1", port=given.port, log_level="warning", generate_client_file=False)
