"""NVIDIA Triton (C++) with a Python backend, through PyTriton, and its dynamic batcher."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from benchmarks.peers.common import MAX_BATCH, Work, options, parser

made = parser()
made.add_argument("--delay-us", type=int, default=0)


def main() -> None:
    """Serve until SIGTERM."""
    given = made.parse_args()
    chosen = options(given)
    work, pool = Work(chosen), ThreadPoolExecutor(2)

    def infer(requests: list[Any]) -> list[dict[str, Any]]:
        bodies = [request.data["image"].reshape(-1)[0] for request in requests]
        probabilities = work.probabilities(list(pool.map(work.decode, bodies)))
        best = np.argsort(-probabilities, axis=1)[:, :5]
        scores = np.take_along_axis(probabilities, best, axis=1)
        return [
            {"class_id": best[i : i + 1].astype(np.int32), "probability": scores[i : i + 1]}
            for i in range(len(requests))
        ]

    # One image a request; Triton gathers requests, and the callable gets them as a list.
    config = TritonConfig(http_address="127.0.0.1", http_port=given.port, allow_grpc=True)
    config.allow_metrics = False
    with Triton(config=config) as triton:
        triton.bind(
            model_name=chosen.model,
            infer_func=infer,
            inputs=[Tensor(name="image", dtype=bytes, shape=(1,))],
            outputs=[
                Tensor(name="class_id", dtype=np.int32, shape=(5,)),
                Tensor(name="probability", dtype=np.float32, shape=(5,)),
            ],
            config=ModelConfig(
                max_batch_size=MAX_BATCH,
                batcher=DynamicBatcher(max_queue_delay_microseconds=given.delay_us),
            ),
        )
        triton.serve()


if __name__ == "__main__":
    main()
