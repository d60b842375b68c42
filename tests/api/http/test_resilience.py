"""Failures on purpose: what is promised must hold while processes die, hang and leave."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support import (
    START_SECONDS,
    Server,
    descendants,
    eventually,
    in_background,
    random_pngs,
    send_all,
    state_of,
)

pytestmark = pytest.mark.slow

IMAGES = random_pngs(16)
PNG = {"Content-Type": "image/png"}


@pytest.fixture
def server(tiny_store: Path) -> Iterator[Server]:
    with Server(tiny_store, models="tiny") as server:
        yield server.wait_ready()


def alone(server: Server) -> list[dict[str, float]]:
    """What each image is answered when nothing else is asked."""
    return [scores(server.predict(image, top_k=10)["predictions"]) for image in IMAGES]


def scores(predictions: list[dict[str, float]]) -> dict[str, float]:
    return {str(p["label"]): p["probability"] for p in predictions}


def check_answers(
    answers: list[tuple[int, httpx.Response]], expected: list[dict[str, float]]
) -> None:
    for which, answer in answers:
        assert answer.status_code == 200, answer.text
        for label, probability in scores(answer.json()["predictions"]).items():
            assert probability == pytest.approx(expected[which][label], abs=1e-5)


@contextmanager
def engine_stopped(server: Server) -> Iterator[None]:
    """The engine stands still, as a busy device would."""
    engine = server.engine()
    os.kill(engine, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(engine, signal.SIGCONT)


def test_64_clients_get_the_answers_that_each_image_gets_alone(server: Server) -> None:
    expected = alone(server)
    with engine_stopped(server):  # until all are waiting, so that whole batches are certain
        join = in_background(send_all(server.url, IMAGES, clients=64, requests=2000))
        eventually(lambda: server.metric("gsop_slots", state="used") == 64)
    answers = join()
    assert len(answers) == 2000
    check_answers(answers, expected)
    batches = server.metric("gsop_batch_size_count")
    assert server.metric("gsop_batch_size_sum") == 2000 + len(IMAGES)
    assert batches < 2000 + len(IMAGES)
    assert batches - server.metric("gsop_batch_size_bucket", le="8.0") >= 3, "no large batches"
    assert server.metric("gsop_slots", state="used") == 0


def test_no_request_fails_when_the_engine_is_killed(server: Server) -> None:
    expected = alone(server)
    epoch = server.metric("gsop_engine_epoch")
    join = in_background(send_all(server.url, IMAGES, clients=64, requests=2000))
    eventually(lambda: server.metric("gsop_batch_size_sum") > 300)
    os.kill(server.engine(), signal.SIGSTOP)  # so that it dies with requests in hand
    eventually(lambda: server.metric("gsop_slots", state="used") >= 32)
    os.kill(server.engine(), signal.SIGKILL)
    eventually(lambda: server.http.get("/readyz").status_code == 503)
    assert server.http.get("/healthz").status_code == 200
    eventually(lambda: server.http.get("/readyz").status_code == 200, 120)
    answers = join()
    assert len(answers) == 2000
    check_answers(answers, expected)
    assert server.metric("gsop_engine_epoch") == epoch + 1
    assert server.metric("gsop_engine_restarts_total") == 1
    assert server.metric("gsop_resent_total") > 0


def test_an_engine_that_is_stopped_without_work_is_replaced(tiny_store: Path) -> None:
    with Server(tiny_store, models="tiny", hang_seconds=3) as server:
        stopped = server.wait_ready().engine()
        os.kill(stopped, signal.SIGSTOP)
        assert server.predict(IMAGES[0])["predictions"]  # by its successor
        assert server.engine() != stopped
        assert any("stands still without a batch" in line for line in server.log)


def zombies(server: Server) -> list[int]:
    """Descendants that have ended and that nobody has taken away."""
    return [pid for pid in server.descendants() if state_of(pid) == "Z"]


def test_no_request_fails_when_the_nurseries_are_killed(server: Server) -> None:
    expected = alone(server)
    engine, front = server.engine(), server.child("gsop-front-0")
    join = in_background(send_all(server.url, IMAGES, clients=16, requests=600))
    eventually(lambda: server.metric("gsop_batch_size_sum") > 100)
    for pid, name in server.descendants().items():
        if name == "gsop-nursery":
            os.kill(pid, signal.SIGKILL)
    answers = join()
    assert len(answers) == 600
    check_answers(answers, expected)
    assert (server.engine(), server.child("gsop-front-0")) == (engine, front), "nothing was lost"
    # What dies now has a new nursery to be born from.
    os.kill(engine, signal.SIGKILL)
    os.kill(front, signal.SIGKILL)
    eventually(lambda: ready_again(server), 120)
    check_answers(in_background(send_all(server.url, IMAGES, clients=4, requests=40))(), expected)
    assert {server.engine(), server.child("gsop-front-0")}.isdisjoint((engine, front))
    eventually(lambda: zombies(server) == [])


def test_sigterm_answers_what_is_in_flight(server: Server) -> None:
    below = server.descendants()
    others = sorted(name for name in below.values() if name != "gsop-decoder")
    assert others == ["gsop-engine-0", "gsop-front-0", "gsop-nursery", "gsop-nursery"]
    with engine_stopped(server):
        join = in_background(send_all(server.url, IMAGES, clients=20, requests=20))
        eventually(lambda: server.metric("gsop_slots", state="used") == 20)
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: "stopping" in "".join(server.log))
    answers = join()
    assert [answer.status_code for _, answer in answers] == [200] * 20
    assert server.process.wait(60) == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in below)
    assert not [path for path in Path("/dev/shm").iterdir() if "gsop" in path.name]  # noqa: S108


def test_readiness_goes_off_first_and_answers_announce_the_end(tiny_store: Path) -> None:
    with Server(tiny_store, models="tiny", drain_delay_seconds=3) as server:
        serving = server.wait_ready().http.post("/predict", content=IMAGES[0], headers=PNG)
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: server.http.get("/readyz").status_code == 503)
        leaving = server.http.post("/predict", content=IMAGES[0], headers=PNG)
        assert (serving.status_code, leaving.status_code) == (200, 200)
        # Nobody is to send a request on a connection that is about to be closed.
        assert "connection" not in serving.headers
        assert leaving.headers["connection"] == "close"
        assert server.process.wait(60) == 0


def test_all_slots_taken_is_429_at_once(tiny_store: Path) -> None:
    with Server(tiny_store, models="tiny", slots=4) as server:
        server.wait_ready()
        server.predict(IMAGES[0])
        with engine_stopped(server):
            join = in_background(send_all(server.url, IMAGES, clients=4, requests=4))
            eventually(lambda: server.metric("gsop_slots", state="used") == 4)
            began = time.perf_counter()
            refused = server.http.post("/predict", content=IMAGES[0], headers=PNG)
            elapsed = time.perf_counter() - began
        assert refused.status_code == 429
        assert refused.json()["code"] == "overloaded"
        assert int(refused.headers["Retry-After"]) >= 1
        assert elapsed < 5, "a refusal must not wait for the engine"
        assert [answer.status_code for _, answer in join()] == [200] * 4
        assert server.metric("gsop_slots", state="used") == 0


def test_one_client_cannot_take_every_slot(tiny_store: Path) -> None:
    """Nor pretend to be several; whose request it is, is believed of a trusted proxy alone."""
    settings: dict[str, object] = {"slots": 8, "slots_per_client": 4}
    settings["trusted_proxies"] = "127.0.0.3"
    with Server(tiny_store, models="tiny", **settings) as server, ExitStack() as clients:
        server.wait_ready()

        def client(address: str) -> httpx.Client:
            transport = httpx.HTTPTransport(local_address=address)
            made = httpx.Client(base_url=server.url, transport=transport, timeout=START_SECONDS)
            return clients.enter_context(made)

        other, proxy = client("127.0.0.2"), client("127.0.0.3")

        def ask(one: httpx.Client, told: str = "") -> httpx.Response:
            headers = {"X-Forwarded-For": told} if told else {}
            return one.post("/predict", content=IMAGES[0], headers=headers)

        for one in (other, proxy):
            one.get("/healthz")
        with engine_stopped(server), ThreadPoolExecutor() as pool:
            join = in_background(send_all(server.url, IMAGES, clients=4, requests=4))
            eventually(lambda: server.metric("gsop_slots", state="used") == 4)
            refused = [
                ask(server.http),
                ask(server.http, "192.0.2.7"),
                ask(proxy, "127.0.0.1"),
            ]
            served = [pool.submit(ask, other), pool.submit(ask, proxy, "192.0.2.7")]
            eventually(lambda: server.metric("gsop_slots", state="used") == 6)
            os.kill(server.engine(), signal.SIGCONT)
            assert [answer.result().status_code for answer in served] == [200, 200]
        for answer in refused:
            assert (answer.status_code, answer.json()["code"]) == (429, "client_overloaded")
            assert int(answer.headers["Retry-After"]) >= 1
        assert [answer.status_code for _, answer in join()] == [200] * 4
        server.predict(IMAGES[0])  # its share is free again


def test_what_expires_never_reaches_the_device(server: Server) -> None:
    server.predict(IMAGES[0])
    computed = batches_counted(server, 1)
    with engine_stopped(server):
        late = server.http.post(
            "/predict", params={"timeout_ms": 100}, content=IMAGES[0], headers=PNG
        )
        assert (late.status_code, late.json()["code"]) == (504, "deadline_exceeded")
        assert server.metric("gsop_slots", state="used") == 0
    eventually(lambda: server.metric("gsop_skipped_total") == 1)
    server.predict(IMAGES[1])
    assert batches_counted(server, computed + 1) == computed + 1


def batches_counted(server: Server, least: float) -> float:
    """Images in batches, which the engine counts after their answers are out."""

    def counted() -> float | None:
        images = server.metric("gsop_batch_size_sum")
        return images if images >= least else None

    return eventually(counted)


def test_a_client_that_leaves_frees_its_slot(server: Server) -> None:
    computed = server.metric("gsop_batch_size_sum")
    host, port = server.url.removeprefix("http://").split(":")
    with engine_stopped(server):
        with socket.create_connection((host, int(port))) as connection:
            head = (
                "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
                f"Content-Length: {len(IMAGES[0])}\r\n\r\n"
            )
            connection.sendall(head.encode() + IMAGES[0])
            eventually(lambda: server.metric("gsop_stage_seconds_count", stage="decode") == 1)
            assert server.metric("gsop_slots", state="used") == 1
        eventually(lambda: server.metric("gsop_slots", state="used") == 0)
        assert server.metric("gsop_requests_total", route="/predict", status="499") == 1
        assert server.metric("gsop_images_total", result="cancelled") == 1
    eventually(lambda: server.metric("gsop_skipped_total", reason="cancelled") == 1)
    assert server.metric("gsop_batch_size_sum") == computed


def test_a_killed_front_comes_back_with_all_its_slots(tiny_store: Path) -> None:
    with Server(tiny_store, models="tiny", slots=8, slots_per_client=8) as server:
        server.wait_ready()
        with engine_stopped(server):
            join = in_background(send_until_error(server))
            eventually(lambda: server.metric("gsop_slots", state="used") == 1)
            os.kill(server.child("gsop-front-0"), signal.SIGKILL)
            join()
        eventually(lambda: ready_again(server), 60)
        assert server.metric("gsop_slots", state="used") == 0
        answers = in_background(send_all(server.url, IMAGES, clients=8, requests=40))()
        assert [answer.status_code for _, answer in answers] == [200] * 40


async def send_until_error(server: Server) -> None:
    with pytest.raises(httpx.TransportError):
        await send_all(server.url, IMAGES, clients=1, requests=1)


def ready_again(server: Server) -> bool:
    try:
        return server.http.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_nothing_outlives_a_killed_supervisor(server: Server) -> None:
    below = descendants(server.process.pid)
    server.process.kill()
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below))


def test_a_front_is_small_and_has_no_torch(server: Server) -> None:
    server.predict(IMAGES[0])
    front = Path(f"/proc/{server.child('gsop-front-0')}")
    assert "libtorch" not in (front / "maps").read_text()
    status = dict(line.split(":", 1) for line in (front / "status").read_text().splitlines())
    assert int(status["VmRSS"].split()[0]) < 150 * 1024


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({"models": "nobody"}, "holds no nobody"),
        ({"models": "tiny", "device": "cuda:7"}, "GSOP_DEVICE"),
        ({"models": "tiny", "device": "toaster"}, "GSOP_DEVICE"),
        ({"models": "tiny", "slots": "many"}, "GSOP_SLOTS"),
        ({"models": "tiny", "host": "203.0.113.1"}, "GSOP_HOST"),
        ({"models": "tiny", "precision": "float16"}, "GSOP_PRECISION"),
    ],
)
def test_a_service_that_cannot_start_says_why(
    tiny_store: Path, settings: dict[str, str], remedy: str
) -> None:
    server = Server(tiny_store, **settings)
    status, lines = server.run_to_end()
    assert status == 1
    errors = [line for line in lines if line.startswith("gsop: error:")]
    assert len(errors) == 1
    assert remedy in errors[0]
    assert "Traceback" not in "".join(lines)
