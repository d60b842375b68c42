from pathlib import Path

import pytest

from gsop.commands.models.list import network_name
from gsop.model.config import GSoPResNetConfig
from gsop.store.manifest import MANIFEST_FILE
from tests.commands.models.conftest import Gsop
from tests.stores import publish_tiny


def test_every_version_has_a_line(gsop: Gsop, root: Path) -> None:
    publish_tiny(root, version="1")
    publish_tiny(root, version="2")
    done = gsop("list")
    assert done.status == 0
    lines = [line.split() for line in done.out.splitlines()]
    assert [line[:2] for line in lines[1:]] == [["tiny", "1"], ["tiny", "2"]]
    assert lines[1][2:6] == ["GSoP-ResNet-18,", "channel", "32×32", "10"]


def test_a_version_that_cannot_be_read_is_listed_with_the_reason(gsop: Gsop, root: Path) -> None:
    publish_tiny(root, version="1")
    (publish_tiny(root, version="2") / MANIFEST_FILE).write_text("{")
    done = gsop("list")
    assert done.status == 1
    assert "cannot be read" in done.out
    assert "is not JSON" in done.err
    assert done.out.count("tiny") == 2


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (GSoPResNetConfig(), "GSoP-ResNet-50, channel"),
        (GSoPResNetConfig(head="isqrt"), "GSoP-ResNet-50, channel, isqrt"),
        (GSoPResNetConfig(depth=18, gated_blocks="none"), "GSoP-ResNet-18, no gates"),
    ],
)
def test_the_network_is_told_in_a_few_words(config: GSoPResNetConfig, name: str) -> None:
    assert network_name(config) == name
