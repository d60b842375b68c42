"""KServe's own client, unchanged: asks a service everything it can, and prints what it was told.

    python tests/api/oip/kserve_client.py http://127.0.0.1:8000 127.0.0.1:8001 IMAGE.png PIXELS.npy

Runs in an environment of its own (``make kserve``): its pins are others than ours, and two copies
of the protocol's messages cannot live in one process. Nothing of the project is imported here.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from kserve import (
    InferenceGRPCClient,
    InferenceRESTClient,
    InferInput,
    InferRequest,
    InferResponse,
    RESTConfig,
)

MODEL = "digits"


def requests(image: bytes, pixels: Any) -> dict[str, InferRequest]:
    """A request of each form."""
    as_file = InferInput("image", [1], "BYTES")
    as_file.set_data_from_numpy(np.array([image], object))
    as_bytes = InferInput("pixels", list(pixels.shape), "UINT8")
    as_bytes.set_data_from_numpy(pixels)
    as_numbers = InferInput("pixels", list(pixels.shape), "FP32")
    as_numbers.set_data_from_numpy((pixels / 255).astype(np.float32), binary_data=False)
    inputs = {"image": as_file, "pixels": as_bytes, "numbers": as_numbers}
    return {
        name: InferRequest(model_name=MODEL, infer_inputs=[tensor], request_id=name)
        for name, tensor in inputs.items()
    }


def told(answer: InferResponse | dict[str, Any]) -> dict[str, Any]:
    """What is compared of an answer."""
    if isinstance(answer, dict):
        answer = InferResponse.from_rest(answer)
    return {
        "id": answer.id,
        "outputs": {output.name: output.as_numpy().tolist() for output in answer.outputs},
    }


async def over_http(url: str, asked: dict[str, InferRequest]) -> dict[str, Any]:
    """Everything over HTTP."""
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    try:
        seen: dict[str, Any] = {
            "live": await client.is_server_live(url),
            "ready": await client.is_server_ready(url),
            "model": await client.is_model_ready(url, MODEL),
        }
        for name, request in asked.items():
            seen[name] = told(await client.infer(url, request, model_name=MODEL))
        try:
            await client.infer(url, asked["image"], model_name="others")
        except httpx.HTTPStatusError as error:
            seen["error"] = [error.response.status_code, str(error)]
        return seen
    finally:
        await client.close()


async def over_grpc(address: str, asked: dict[str, InferRequest]) -> dict[str, Any]:
    """Everything over gRPC."""
    client = InferenceGRPCClient(address)
    try:
        seen: dict[str, Any] = {
            "live": await client.is_server_live(),
            "ready": await client.is_server_ready(),
            "model": await client.is_model_ready(MODEL),
        }
        for name, request in asked.items():
            seen[name] = told(await client.infer(request))
        return seen
    finally:
        await client.close()


async def main(url: str, address: str, image: str, pixels: str) -> None:
    """Ask, and print."""
    asked = requests(Path(image).read_bytes(), np.load(pixels))  # noqa: ASYNC240  # nobody waits
    seen = {"rest": await over_http(url, asked), "grpc": await over_grpc(address, asked)}
    print(json.dumps(seen))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
