"""Where the tests' decoders are born."""

import os
from collections.abc import Iterator

import pytest

from gsop.processes.nursery import Nursery
from gsop.processes.orphans import Orphanage
from tests.serving.support import HOSTILE


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    made = Nursery([HOSTILE, "gsop.images:prepare"], environment, Orphanage(adopt=False))
    yield made
    made.close()
