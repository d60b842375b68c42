"""Many requests of all kinds, and whether anything grows."""

import base64
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.clients import Load, Question, scores
from tests.chaos.deaths import check_at_rest
from tests.chaos.memory import open_files, resident_bytes
from tests.chaos.report import Report
from tests.chaos.shots import FORM, chunked, form, good_images, request
from tests.support import Server

CLIENTS = 16
WARM_SHARE = 0.2
"""Of the requests; caches, allocators and the ring of records are full then."""

WARM_REQUESTS = 800
"""At least; each front has had some of every kind then."""

PER_CONNECTION = 25
"""Requests on one connection, so that clients come and go and every front has its share."""

PATIENCE_SECONDS = 1200.0
"""A soak may be stopped for a while, as on a machine that something else needs."""

GROWTH = 1.05
RECORDS = 256
"""Kept predictions: few, so that the ring goes round many times."""

LOOK_SECONDS = 0.2
REST_SECONDS = 1.0
"""In which what was in flight comes to its end before anything is measured."""


@dataclass(frozen=True)
class Held:
    """What a process holds: bytes of memory, open descriptors."""

    name: str
    resident: int
    files: int


def soak(store: Path, seconds: float, requests: int = 0) -> Report:
    """Mixed requests without pause: nothing grows but the counters.

    Args:
        store: with the model ``tiny``.
        seconds: how long, if ``requests`` is 0.
        requests: how many, however long they take.
    """
    report = Report()
    settings = {"fronts": 2, "attention_records": RECORDS}
    with Server(store, models="tiny", **settings) as server:
        asked = mixed(server.wait_ready())
        first = server.predict(good_images()[0])["id"]
        began = time.monotonic()

        def is_past(share: float, before: int, least: int) -> Callable[[Load], bool]:
            def look(load: Load) -> bool:
                right = before + load.tally.right
                if requests:
                    return right >= max(least, share * requests)
                return right >= least and time.monotonic() - began >= share * seconds

            return look

        warming = run_until(server, asked, is_past(WARM_SHARE, 0, WARM_REQUESTS))
        warm, before = held(server), warming.tally.right
        load = run_until(server, asked, is_past(1, before, before + RECORDS))
        after = held(server)
        took = time.monotonic() - began
        right = warming.tally.right + load.tally.right
        failed = ", ".join(filter(None, (warming.tally.failed, load.tally.failed)))
        report.note(answered_right=right, within=f"{took:.0f} s", failed=failed or 0)
        report.check(not failed, f"requests failed: {failed}")
        compare(warm, after, report)
        check_at_rest(server, report)
        newest = server.predict(good_images()[0])["id"]
        statuses = [server.http.get(f"/attention/{id_}").status_code for id_ in (first, newest)]
        report.check(statuses == [404, 200], f"the first and the newest record are {statuses}")
    return report


def run_until(server: Server, asked: list[Question], done: Callable[[Load], bool]) -> Load:
    """Clients until ``done`` says so of what they have had."""
    with Load(
        server.url, asked, CLIENTS, per_connection=PER_CONNECTION, patience=PATIENCE_SECONDS
    ) as load:
        while not done(load):
            time.sleep(LOOK_SECONDS)
    time.sleep(REST_SECONDS)
    return load


def held(server: Server) -> dict[int, Held]:
    """What each process of the service holds now."""
    processes = server.descendants() | {server.process.pid: "gsop serve"}
    return {
        pid: Held(role(command), resident_bytes(pid), open_files(pid))
        for pid, command in processes.items()
    }


def role(command: str) -> str:
    """What a process is, for people."""
    names = {
        "gsop-engine": "engine",
        "gsop-nursery": "nursery",
        "gsop-front": "front",
        "gsop-decoder": "decoder",
    }
    return next((name for mark, name in names.items() if mark in command), "supervisor")


def compare(before: dict[int, Held], after: dict[int, Held], report: Report) -> None:
    """Check that the same processes are there, and that none has grown."""
    report.check(set(before) == set(after), "processes came or went")
    growths: dict[str, list[str]] = {}
    for pid in before.keys() & after.keys():
        old, new = before[pid], after[pid]
        text = f"{old.resident / 2**20:.0f} → {new.resident / 2**20:.0f} MiB"
        growths.setdefault(old.name, []).append(f"{text} ({new.resident / old.resident - 1:+.1%})")
        report.aim(new.resident <= GROWTH * old.resident, f"{old.name} has grown: {text}")
        report.check(
            new.files <= old.files, f"{old.name} has {new.files} files open, before {old.files}"
        )
    report.note(**{name: ", ".join(sorted(texts)) for name, texts in sorted(growths.items())})
    report.note(
        open_files=" → ".join(str(sum(h.files for h in m.values())) for m in (before, after))
    )


def mixed(server: Server) -> list[Question]:
    """Requests of every form that a client may choose, and of the mistakes it may make."""
    images = good_images()
    right = [scores(server.predict(image, top_k=10)) for image in images]
    made = [Question(request(image), (one,)) for image, one in zip(images, right, strict=True)]
    for number, (image, one) in enumerate(zip(images, right, strict=True)):
        text = json.dumps({"image": base64.b64encode(image).decode()}).encode()
        made += [
            Question(request(text, "application/json"), (one,)),
            Question(request(form([("image", image)]), FORM), (one,)),
            Question(request(image, target="/predict?attention=true&top_k=3"), (one,)),
            Question(request(image[: len(image) // 3]), status=400)
            if number < 2  # PNGs, which never are taken for whole
            else Question(request(image, target="/predict?top_k=0"), status=422),
        ]
    several = [(one, image) for one, image in zip(right, images, strict=True)][:4]
    made += [
        Question(
            request(form([("image", image) for _, image in several]), FORM),
            tuple(one for one, _ in several),
        ),
        Question(
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n" + chunked(images[0], 500),
            (right[0],),
        ),
        Question(request(b"no image"), status=400),
        Question(request(images[0], target="/predict?model=nobody"), status=404),
        Question(request(b"a text", "text/plain"), status=415),
    ]
    return made
