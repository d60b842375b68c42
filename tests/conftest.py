"""Fixtures: stores and servers that several tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.support import ROOT, Server, publish_tiny


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Report tests that need a GPU as skipped where there is none."""
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a CUDA device")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a small random model, ``tiny/1``."""
    store = tmp_path_factory.mktemp("store")
    publish_tiny(store)
    return store


@pytest.fixture(scope="session")
def digits_server() -> Iterator[Server]:
    """The shipped store, served; for tests that leave the server as it was."""
    with Server(ROOT / "model_store") as server:
        yield server.wait_ready()
