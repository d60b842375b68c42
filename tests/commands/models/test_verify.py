from pathlib import Path

import pytest

from gsop.store.manifest import WEIGHTS_FILE
from tests.commands.models.conftest import Gsop
from tests.stores import publish_tiny


@pytest.fixture
def two_good_one_bad(root: Path) -> Path:
    publish_tiny(root, version="1")
    publish_tiny(root, name="other")
    weights = publish_tiny(root, version="2") / WEIGHTS_FILE
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    return root


def test_every_version_of_the_store_is_checked(gsop: Gsop, two_good_one_bad: Path) -> None:
    done = gsop("verify")
    assert done.status == 1
    lines = done.out.splitlines()
    assert lines[:2] == ["other/1: good", "tiny/1: good"]
    assert lines[2].startswith("tiny/2: bad: ")
    assert "SHA-256" in lines[2]
    assert len(lines) == 3


@pytest.mark.parametrize(
    ("references", "status", "lines"),
    [(["tiny/1"], 0, 1), (["tiny"], 1, 2), (["other", "tiny/1"], 0, 2)],
)
def test_versions_can_be_named(
    gsop: Gsop, two_good_one_bad: Path, references: list[str], status: int, lines: int
) -> None:
    done = gsop("verify", *references)
    assert (done.status, len(done.out.splitlines())) == (status, lines)


def test_a_name_that_is_none_is_an_error(gsop: Gsop, two_good_one_bad: Path) -> None:
    assert gsop("verify", "nobody").refused("it holds other/1, tiny/1, tiny/2")


def test_an_empty_store_is_no_good_store(gsop: Gsop, root: Path) -> None:
    root.mkdir()
    assert gsop("verify").refused("publish one")
