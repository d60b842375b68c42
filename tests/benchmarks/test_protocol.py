"""What the Open Inference Protocol's benchmarks send and read."""

import base64
import json
from pathlib import Path

import numpy as np

from benchmarks.perf_analyzer import Load, inputs, read
from benchmarks.protocol import pixels_of, ways
from gsop.api.oip.body import LENGTH_HEADER, parse
from gsop.store.manifest import read_manifest
from tests.support import ROOT

STORE = ROOT / "model_store"
IMAGE = (ROOT / "examples" / "digits" / "7.png").read_bytes()


def test_all_ways_send_the_same_image() -> None:
    spec = read_manifest(STORE / "digits" / "1").input
    pixels = pixels_of(IMAGE, "digits", STORE)
    sent = ways("digits", IMAGE, pixels)
    assert sent["/predict"].body == IMAGE
    (file,) = parse(sent["v2"].body, sent["v2"].headers[LENGTH_HEADER]).images(1, spec)
    assert file == IMAGE
    last = sent["v2, pixels"]
    (found,) = parse(last.body, last.headers[LENGTH_HEADER]).images(1, spec)
    assert np.array_equal(np.asarray(found), pixels)


def test_perf_analyzer_is_given_tensors_as_they_go_over_the_wire(tmp_path: Path) -> None:
    files = inputs(tmp_path, IMAGE, b"pixels")
    (step,) = json.loads(files["image"].read_text())["data"]
    raw = base64.b64decode(step["image"]["b64"])
    assert (int.from_bytes(raw[:4], "little"), raw[4:]) == (len(IMAGE), IMAGE)


def test_perf_analyzers_table_is_read() -> None:
    text = (
        "Concurrency,Inferences/Second,Client Send,p50 latency,p90 latency,p99 latency\n"
        "8,610.2,30,12100,20000,25300\n\n"
    )
    assert read(text) == Load(610.2, 12.1, 25.3)
