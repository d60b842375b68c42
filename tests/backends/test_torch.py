from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from gsop.backends import torch_cpu, torch_device
from gsop.backends.base import Backend, Place
from gsop.backends.torch_cpu import TorchCpu, fitting_threads
from gsop.backends.torch_device import TorchBackend, find_device, find_dtype
from gsop.errors import ConfigError
from gsop.settings import Precision
from gsop.store.manifest import read_manifest
from gsop.store.store import load

CPU = torch.device("cpu")
IMAGES = list(np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8))


def make(
    store: Path, device: str = "cpu", precision: Precision = "float32", max_batch: int = 16
) -> Backend[Any]:
    place = Place(device=device, precision=precision, max_batch=max_batch, threads=1)
    folder = store / "tiny" / "1"
    return TorchBackend.open(folder, read_manifest(folder), place)


def answers(backend: Backend[Any], images: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
    return backend.result(backend.submit(images)).copy()


def test_it_is_what_the_network_computes(tiny_store: Path) -> None:
    manifest, model = load(tiny_store / "tiny" / "1")
    spec = manifest.input
    pixels = torch.from_numpy(np.stack(IMAGES)).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (spec.mean, spec.std))
    with torch.inference_mode():
        output = model.eval()((pixels - mean) / std)
    gates = [output.gates[gate.name].flatten(1) for gate in manifest.answer.gates]
    expected = torch.cat([output.logits.softmax(1), *gates], dim=1)
    np.testing.assert_allclose(answers(make(tiny_store), IMAGES), expected, atol=1e-5)


def test_saturated_gates_stay_inside_of_their_interval(tiny_store: Path) -> None:
    manifest, model = load(tiny_store / "tiny" / "1")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("excite.expand.bias"):
                parameter.copy_(torch.linspace(-500, 500, len(parameter)))
    backend = TorchCpu(manifest, model, device=CPU, dtype=torch.float32, max_batch=1, threads=1)
    gates = manifest.answer.gate_values(answers(backend, IMAGES[:1]))
    assert 0 < gates.min() < 1e-30
    assert 1 - 1e-6 < gates.max() < 1


@pytest.mark.parametrize("name", ["toaster", "meta", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="GSOP_DEVICE"):
        find_device(name)


def test_auto_is_not_the_cpu_where_a_gpu_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_device("auto") == CPU
    monkeypatch.setattr(torch_device, "why_none", lambda *_: "torch needs driver 580 or newer")
    with pytest.raises(ConfigError, match="needs driver 580 or newer; or set GSOP_DEVICE=cpu"):
        find_device("auto")
    with pytest.raises(ConfigError, match=r"'cuda:1', but 0 CUDA.* needs driver 580 or newer"):
        find_device("cuda", "cuda:1")
    with pytest.raises(ConfigError, match=r"'MIG-8f0c', but 0.*`nvidia-smi -L` lists.*driver 580"):
        find_device("cuda", "MIG-8f0c")
    assert find_device("cpu") == CPU


def test_precision_follows_the_device() -> None:
    assert find_dtype("auto", CPU) == torch.float32
    with pytest.raises(ConfigError, match="GSOP_PRECISION"):
        find_dtype("float16", CPU)


def test_threads_follow_what_the_fronts_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_cpu, "cpu_count", lambda: 2)
    assert fitting_threads(0.002) == 1  # digits: the fronts need a processor
    assert fitting_threads(0.150) == 2  # a ResNet-50: they need a hundredth of one
    assert fitting_threads(0.0) == 1


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("precision", "tolerance"), [("float32", 1e-3), ("bfloat16", 0.02), ("float16", 0.02)]
)
def test_cuda_answers_as_the_cpu_does(
    tiny_store: Path, precision: Precision, tolerance: float
) -> None:
    expected = answers(make(tiny_store), IMAGES)
    backend = make(tiny_store, "cuda", precision)
    backend.warm_up()
    gates = backend.manifest.answer.gate_values
    np.testing.assert_allclose(gates(answers(backend, IMAGES)), gates(expected), atol=tolerance)


@pytest.mark.gpu
def test_two_batches_are_in_flight_on_cuda(tiny_store: Path) -> None:
    backend = make(tiny_store, "cuda", "float32")
    alone = answers(backend, IMAGES[:4]), answers(backend, IMAGES[4:])
    first, second = backend.submit(IMAGES[:4]), backend.submit(IMAGES[4:])
    np.testing.assert_allclose(backend.result(first), alone[0], atol=1e-5)
    np.testing.assert_allclose(backend.result(second), alone[1], atol=1e-5)
