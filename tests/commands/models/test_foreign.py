import collections
import hashlib
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from gsop.commands.models.foreign import read_weights, with_batch_counts
from gsop.errors import StoreError
from tests.commands.models.conftest import checkpoint_of

STATE = {"conv1.weight": torch.arange(6.0).view(2, 3), "bn1.bias": torch.ones(2)}


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return os.mkdir, (str(self.path),)


def save(path: Path, content: object, *, old_format: bool = False) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not old_format)
    return path


@pytest.mark.parametrize("old_format", [False, True], ids=["zip", "before PyTorch 1.6"])
@pytest.mark.parametrize("whole", [False, True], ids=["bare", "checkpoint"])
def test_a_state_dict_is_read_alone_and_in_a_checkpoint(
    tmp_path: Path, whole: bool, old_format: bool
) -> None:
    content = checkpoint_of(STATE) if whole else collections.OrderedDict(STATE)
    path = save(tmp_path / "model_best.pth.tar", content, old_format=old_format)
    weights = read_weights(path)
    prefix = "module." if whole else ""
    assert weights.state_dict.keys() == {prefix + key for key in STATE}
    assert all(torch.equal(weights.state_dict[prefix + key], STATE[key]) for key in STATE)
    assert weights.facts == ({"epoch": 95, "arch": "resnet50", "best_prec1": 77.5} if whole else {})
    assert weights.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("content", "passed_over"),
    [
        ({"state_dict": {"state_dict": STATE}}, set()),
        ({"model": {"module": STATE}, "optimizer": {"lr": 1}, "epoch": 7}, {"optimizer"}),
        ({"state_dict": {"x": torch.ones(1)}, "state_dict_ema": STATE}, {"state_dict"}),
        ({"ema": {"module": STATE, "decay": 0.99}, "args": {}}, {"decay", "args"}),
        ({**STATE, "optimizer": {"lr": 1}, "n_averaged": 3}, {"optimizer", "n_averaged"}),
    ],
)
def test_a_state_dict_is_found_inside_of_another(
    tmp_path: Path, content: dict[str, Any], passed_over: set[str]
) -> None:
    weights = read_weights(save(tmp_path / "last.ckpt", content))
    assert weights.state_dict.keys() == STATE.keys()
    assert set(weights.passed_over) == passed_over


def test_safetensors_are_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(STATE, path)
    weights = read_weights(path)
    assert all(torch.equal(weights.state_dict[key], STATE[key]) for key in STATE)


@pytest.mark.parametrize("old_format", [False, True])
def test_code_in_a_file_is_never_run(tmp_path: Path, old_format: bool) -> None:
    trap = tmp_path / "trap"
    content = checkpoint_of(STATE) | {"best_prec1": Malicious(trap)}
    path = save(tmp_path / "evil.pth.tar", content, old_format=old_format)
    with pytest.raises(StoreError, match=r"wants \w+\.mkdir to be run.*torch\.save\(model\.state"):
        read_weights(path)
    assert not trap.exists()
    torch.load(path, weights_only=False)
    assert trap.exists(), "the trap would have snapped"


def test_a_bare_malicious_pickle_is_not_run_either(tmp_path: Path) -> None:
    trap, path = tmp_path / "trap", tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps(Malicious(trap)))
    with pytest.raises(StoreError, match="save it anew"):
        read_weights(path)
    assert not trap.exists()


def test_a_pickled_module_is_refused_by_its_class(tmp_path: Path) -> None:
    path = save(tmp_path / "whole_model.pth", nn.Linear(1, 1))
    with pytest.raises(StoreError, match=r"wants torch\.nn\.modules\.linear\.Linear"):
        read_weights(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"no checkpoint at all",
        lambda data: data[: len(data) // 2],
        lambda data: data[:-40],
        lambda data: bytes(100),
    ],
    ids=["empty", "text", "half", "cut", "zeros"],
)
@pytest.mark.parametrize("old_format", [False, True])
def test_a_damaged_file_is_refused(
    tmp_path: Path, damage: Callable[[bytes], bytes], old_format: bool
) -> None:
    path = save(tmp_path / "model.pth", STATE, old_format=old_format)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(StoreError, match=r"model\.pth is no file that torch\.save wrote"):
        read_weights(path)


def test_damaged_safetensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors.torch.save(STATE)[:-1])
    with pytest.raises(StoreError, match="is no safetensors file"):
        read_weights(path)


@pytest.mark.parametrize(
    "content",
    [
        [torch.ones(1)],
        {},
        {"a": 1},
        {0: torch.ones(1)},
        {"state_dict": [1]},
        {"a": torch.ones(2, 2).to_sparse()},
        {"a": torch.ones(1, dtype=torch.complex64)},
        {"a": torch.ones(1, device="meta")},
    ],
    ids=str,
)
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: object) -> None:
    path = save(tmp_path / "model.pth", content)
    with pytest.raises(StoreError, match=r"holds no state dict.*: save it anew"):
        read_weights(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"nowhere\.pth cannot be read: No such file"):
        read_weights(tmp_path / "nowhere.pth")
    with pytest.raises(StoreError, match="cannot be read: Is a directory"):
        read_weights(tmp_path)


def test_facts_of_odd_types_are_left_out(tmp_path: Path) -> None:
    odd = {"state_dict": STATE, "epoch": [1], "arch": None, "best_prec1": torch.ones(2)}
    assert read_weights(save(tmp_path / "model.pth", odd)).facts == {}


def test_batch_counts_are_added_where_there_are_none() -> None:
    old = {"bn1.running_mean": torch.ones(2), "bn2.running_mean": torch.ones(2)}
    counted = {"bn2.num_batches_tracked": torch.tensor(7)}
    complete = with_batch_counts(old | counted)
    assert {key: int(t) for key, t in complete.items() if "num_batches" in key} == {
        "bn1.num_batches_tracked": 0,
        "bn2.num_batches_tracked": 7,
    }


def test_one_number_does_not_become_a_terabyte(tmp_path: Path) -> None:
    path = save(tmp_path / "wide.pth", {"conv1.weight": torch.ones(1).expand(2**40)})
    assert path.stat().st_size < 10_000
    with pytest.raises(StoreError, match="no dense tensor"):
        read_weights(path)
    shared = torch.ones(2**18)
    path = save(tmp_path / "shared.pth", {f"layer{i}.bias": shared for i in range(100)})
    with pytest.raises(StoreError, match="many times what the file has"):
        read_weights(path)


def test_members_that_inflate_are_refused(tmp_path: Path) -> None:
    stored, packed = save(tmp_path / "stored.pth", STATE), tmp_path / "packed.pth"
    with zipfile.ZipFile(stored) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(StoreError, match="compressed members"):
        read_weights(packed)


def test_nothing_of_a_file_reaches_the_terminal_as_a_command(tmp_path: Path) -> None:
    checkpoint = checkpoint_of(STATE) | {"arch": "\x1b]0;owned\x07", "epoch": 10**30}
    assert read_weights(save(tmp_path / "a.pth", checkpoint)).facts == {"best_prec1": 77.5}
    with pytest.raises(StoreError) as caught:
        read_weights(save(tmp_path / "b.pth", {"\x1b[2J": torch.ones(1)}))
    assert "\x1b" not in str(caught.value)
