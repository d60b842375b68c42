"""Devices that fail: what one image does must not reach the others."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.random import default_rng

from tests.api.http.test_resilience import IMAGES, PNG, alone, check_answers
from tests.failing_backends import ABORT, FITS, LARGE, NAN, POISON
from tests.support import Server, eventually, in_background, png, send_all

pytestmark = pytest.mark.slow


def marked(mark: int) -> bytes:
    pixels = default_rng(mark).integers(0, 200, (32, 32, 3), dtype=np.uint8)
    pixels[0, 0, 0] = mark
    return png(pixels)


@pytest.fixture(scope="module")
def failing(tiny_store: Path) -> Iterator[Server]:
    with Server(
        tiny_store, models="tiny", backend="tests.failing_backends:Failing", max_batch=8
    ) as server:
        yield server.wait_ready()


@pytest.mark.parametrize("mark", [ABORT, POISON], ids=["abort", "sticky error"])
def test_an_image_that_kills_the_engine_fails_alone(failing: Server, mark: int) -> None:
    expected = alone(failing)
    epoch = failing.metric("gsop_engine_epoch")
    join = in_background(send_all(failing.url, IMAGES, clients=16, requests=200))
    killer = in_background(send_all(failing.url, [marked(mark)], clients=1, requests=1))
    ((_, refused),) = killer()
    assert (refused.status_code, refused.json()["code"]) == (500, "engine_crashed")
    answers = join()
    assert len(answers) == 200
    check_answers(answers, expected)
    # It died with others, and twice more with nobody beside the marked image.
    eventually(lambda: failing.metric("gsop_engine_epoch") == epoch + 3, 60)
    if mark == POISON:
        assert "the device failed" in "".join(failing.log)
        assert "illegal memory access" in "".join(failing.log)


def test_an_answer_that_is_no_number_is_an_error_of_its_own(failing: Server) -> None:
    join = in_background(send_all(failing.url, [marked(NAN), *IMAGES], clients=17, requests=17))
    answers = dict(join())
    assert answers[0].status_code == 500
    assert answers[0].json()["code"] == "non_finite_output"
    assert all(answers[which].status_code == 200 for which in range(1, 17))
    assert "NaN" not in answers[0].text
    assert failing.metric("gsop_images_total", result="non_finite_output") >= 1


@pytest.mark.parametrize("backend", ["Cramped", "CrampedFromTheStart"])
def test_a_batch_that_does_not_fit_is_split_and_the_limit_lowered(
    tiny_store: Path, backend: str
) -> None:
    with Server(
        tiny_store, models="tiny", backend=f"tests.failing_backends:{backend}", max_batch=16
    ) as server:
        server.wait_ready()
        if backend == "Cramped":
            assert server.metric("gsop_engine_batch_limit") == 16
            join = in_background(send_all(server.url, IMAGES, clients=64, requests=400))
            answers = join()
            check_answers(answers, alone(server))
        assert server.metric("gsop_engine_batch_limit") <= FITS
        refused = server.http.post("/predict", content=marked(LARGE), headers=PNG)
        assert (refused.status_code, refused.json()["code"]) == (500, "out_of_memory")
        assert server.http.post("/predict", content=IMAGES[0], headers=PNG).status_code == 200
        assert server.metric("gsop_engine_restarts_total") == 0
