"""A service on GPUs, without one: its engines compute on emulated ones (tests/emulated_cuda)."""

import os
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from tests.api.http.test_resilience import IMAGES, alone, check_answers
from tests.images.test_planes import jpeg, needs_library, photo, png
from tests.support import Server, eventually, in_background, send_all

pytestmark = pytest.mark.slow

EMULATED = {"backend": "tests.emulated_cuda.backend:EmulatedCuda", "precision": "float32"}


def test_an_engine_a_gpu_each_sees_its_own_and_answers_right(tiny_store: Path) -> None:
    names = "cuda:1,MIG-8f0c-22"
    with Server(tiny_store, models="tiny") as cpu:
        expected = alone(cpu.wait_ready())
    with Server(tiny_store, models="tiny", device=names, max_batch=4, **EMULATED) as server:
        server.wait_ready()
        eventually(lambda: server.metric("gsop_engine_epoch") == 2)
        join = in_background(send_all(server.url, IMAGES, clients=16, requests=96))
        check_answers(join(), expected)
        engines = server.http.get("/readyz").json()["engines"]
        assert [engine["device"] for engine in engines] == ["cuda:1", "MIG-8f0c-22"]
        assert {engine["precision"] for engine in engines} == {"float32"}
        assert server.metric("gsop_engine_info", device="MIG-8f0c-22", precision="float32") == 1
        log = "".join(server.log)
        assert "tiny/1 on cuda:1 (Emulated GPU 1), in float32" in log
        assert "tiny/1 on MIG-8f0c-22 (Emulated GPU MIG-8f0c-22), in float32" in log
        # It launches and does not compute: it takes a processor as soon as it has something to do.
        assert os.sched_getscheduler(server.engine(0)) == os.SCHED_OTHER


def test_a_device_that_fails_at_start_has_a_reason_and_is_tried_again(tiny_store: Path) -> None:
    with Server(tiny_store, models="tiny", backend="tests.failing_backends:Spoilt") as server:
        eventually(lambda: "next start in 1.0 s" in "".join(server.log))
        assert server.http.get("/readyz").status_code == 503
        log = "".join(server.log)
        reason = "cannot start on cpu: CUDA error: all CUDA-capable devices are busy"
        assert log.count(reason) >= 2
        assert server.process.poll() is None


@needs_library
def test_photographs_are_answered_by_their_planes_as_by_their_pixels(tiny_store: Path) -> None:
    files = [jpeg(photo(90 + 7 * n, 120)) for n in range(6)] + [png(), jpeg(photo(30, 30))]
    answers = []
    for pixels in ("decoded", "planes"):
        options = {"cuda_options": "arena=pinned"} if pixels == "planes" else {}
        with Server(
            tiny_store, models="tiny", device="cuda", pixels=pixels, **EMULATED, **options
        ) as server:
            server.wait_ready()
            answers.append([server.predict(file, top_k=10)["predictions"] for file in files])
            seen = server.http.post(
                "/preprocess", content=files[0], headers={"Content-Type": "image/jpeg"}
            )
            assert Image.open(BytesIO(seen.content)).size == (32, 32), "as pixels, either way"
    for decoded, planes in zip(*answers, strict=True):
        assert planes[0]["class_id"] == decoded[0]["class_id"]
        assert abs(planes[0]["probability"] - decoded[0]["probability"]) < 0.05
    assert answers[0][-2:] == answers[1][-2:]  # those have no planes, and come as ever


def test_planes_without_a_gpu_end_the_start(tiny_store: Path) -> None:
    status, log = Server(tiny_store, models="tiny", pixels="planes").run_to_end()
    assert status == 1
    assert "GSOP_PIXELS=planes is for CUDA devices, and tiny is computed on cpu" in log[-1]
