"""Backends are found by name: ours, other packages', and anybody's."""

import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from gsop.backends import registry
from gsop.backends.null import NullBackend
from gsop.backends.registry import BUILT_IN, find_backend, module_of
from gsop.errors import ConfigError
from tests.support import START_SECONDS


def test_ours_have_short_names() -> None:
    assert find_backend("null") is NullBackend
    assert {name: module_of(name) for name in BUILT_IN} == {
        "torch": "gsop.backends.torch_device",
        "openvino": "gsop.backends.openvino",
        "null": "gsop.backends.null",
    }


def test_anybodys_are_named_by_module_and_class() -> None:
    assert find_backend("gsop.backends.null:NullBackend") is NullBackend


def test_another_package_adds_its_own_by_an_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("theirs", "gsop.backends.null:NullBackend", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry])
    assert find_backend("theirs") is NullBackend
    with pytest.raises(ConfigError, match="use torch, openvino, null, theirs, or module:Class"):
        find_backend("ours")


def test_nobody_can_take_the_name_of_one_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("null", "pathlib:Path", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry])
    assert find_backend("null") is NullBackend


@pytest.mark.parametrize(
    "name",
    ["toaster", "no_such_module:Backend", "gsop.backends.null:Missing", "pathlib:Path"],
)
def test_what_is_no_backend_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="GSOP_BACKEND"):
        find_backend(name)


def test_to_look_a_name_up_loads_no_library() -> None:
    code = (
        "import sys; from gsop.backends.registry import find_backend, module_of;"
        "module_of('openvino'); find_backend('null'); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=START_SECONDS)
