import json
from dataclasses import asdict, replace
from pathlib import Path

from gsop.model.resnet import GSoPResNet
from gsop.store.manifest import MANIFEST_FILE, read_manifest
from tests.commands.models.conftest import Gsop
from tests.stores import publish_tiny
from tests.support import TINY

# tests/support.py publishes it with inputs of 32×32.
CONFIG = replace(TINY, attention="fusion_avg")


def test_all_of_the_manifest_is_shown(gsop: Gsop, root: Path) -> None:
    folder = publish_tiny(root, config=CONFIG, temperature=0.625)
    manifest = read_manifest(folder)
    out = gsop("show", "tiny").out
    for field, value in asdict(CONFIG).items():
        assert f"{field} " in out
        assert f"{value}" in out
    for text in (
        str(folder),
        manifest.sha256,
        "32×32",
        "0.25, 0.25, 0.25",
        "made by",
        "tests",
        "0.625",
    ):
        assert text in out
    assert "class 0, class 1, class 2, class 3, … class 9 (10)" in out


def test_gates_are_shown_with_their_shapes(gsop: Gsop, root: Path) -> None:
    publish_tiny(root, config=CONFIG)
    rows = [line.split() for line in gsop("show", "tiny/1").out.splitlines()]
    assert ["layer1.1.channel", "8"] in rows
    assert ["layer1.1.position", "32", "×", "32"] in rows
    assert ["layer4.1.position", "8", "×", "8"] in rows


def test_the_cost_is_shown_with_the_gates_share(gsop: Gsop, root: Path) -> None:
    publish_tiny(root, config=CONFIG)
    sizes = {name: p.numel() for name, p in GSoPResNet(CONFIG).named_parameters()}
    total = sum(sizes.values())
    gates = sum(size for name, size in sizes.items() if ".gate." in name)
    lines = gsop("show", "tiny/1").out.splitlines()
    (parameters,) = [line for line in lines if "parameters" in line]
    assert f"{total:,}, of them in gates {gates:,} ({gates / total:.2%})" in parameters
    (operations,) = [line for line in lines if "multiply-adds" in line]
    # 3×3 convolutions over 32×32 positions, 8 channels: the stem and all of the first stage.
    assert int(operations.split()[1].replace(",", "").rstrip(",")) > 32 * 32 * 9 * 8 * (3 + 4 * 8)


def test_a_network_without_gates_says_so(gsop: Gsop, root: Path) -> None:
    publish_tiny(root, config=replace(TINY, gated_blocks="none"))
    lines = gsop("show", "tiny").out.splitlines()
    assert lines[-2:] == [line for line in lines[-2:] if line.strip() in ("gates", "none")]


def test_text_in_square_brackets_is_no_markup(gsop: Gsop, root: Path) -> None:
    path = publish_tiny(root) / MANIFEST_FILE
    manifest = json.loads(path.read_text())
    manifest["metrics"] = {"[bold]how[/bold]": "[link=x]measured[/link]", "top1": 0.5}
    path.write_text(json.dumps(manifest))
    out = gsop("show", "tiny").out
    assert "[bold]how[/bold]" in out
    assert "[link=x]measured[/link]" in out


def test_an_unknown_version_says_what_there_is(gsop: Gsop, root: Path) -> None:
    publish_tiny(root)
    assert gsop("show", "tiny/2").refused("it holds tiny/1")
