"""Each way to compute on CUDA against the plain one: on emulated GPUs, or by Triton's interpreter.

The bounds are those that docs/performance.md states.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import golden_numbers as golden
from gsop.backends import kernels
from gsop.backends.base import Place, buckets
from gsop.backends.bundles import fit_bundles_twin
from gsop.backends.device_tally import DeviceTally
from gsop.backends.fusing import products_covariance
from gsop.backends.torch_cuda import TorchCuda, fine_sizes
from gsop.backends.torch_device import TorchBackend
from gsop.cuda_options import CudaOptions
from gsop.gates.tally import HostTally
from gsop.model.config import GSoPResNetConfig
from gsop.model.gsop import covariance
from gsop.model.resnet import GSoPResNet
from gsop.store.manifest import read_manifest
from gsop.store.store import load
from tests.emulated_cuda import Machine, emulated
from tests.stores import publish_tiny

IMAGES = list(np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8))
Answers = npt.NDArray[np.float32]

NETWORKS = {
    "basic": GSoPResNetConfig(depth=18, stem="cifar", base_width=8, num_classes=5, reduced_dim=16),
    "bottleneck": GSoPResNetConfig(depth=50, base_width=4, num_classes=5, reduced_dim=16),
    "preactivation": GSoPResNetConfig(
        depth=164, stem="cifar", base_width=4, num_classes=5, reduced_dim=8
    ),
    "position": GSoPResNetConfig(
        depth=18, stem="cifar", base_width=8, num_classes=5, attention="position"
    ),
}

WAYS = (
    "convolutions=fused",
    "covariance=products",
    "positions=sliced",
    "residuals=fused",
    "sizes=fine",
    "search=measured",
    "sums=device",
    "convolutions=fused,residuals=fused,covariance=products,positions=sliced,sizes=fine",
)


class WithTwins(TorchCuda):
    """An emulated GPU runs no kernel of ours, but what each says that it does."""

    _gated_sum = staticmethod(kernels.gated_sum_twin)
    _fit_bundles = staticmethod(fit_bundles_twin)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("ways")
    return {name: publish_tiny(root, name=name, config=c) for name, c in NETWORKS.items()}


@pytest.fixture(autouse=True)
def flags_kept() -> Iterator[None]:
    """What a backend sets for its process."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    kept = cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark
    yield
    cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark = kept


def answers(folder: Path, options: str, precision: str = "float32", *, warm: bool) -> Answers:
    """Of :data:`IMAGES`, by an emulated GPU."""
    place = Place("cuda", precision, 6, cuda=CudaOptions.parse(options))  # type: ignore[arg-type]  # a name of a precision
    with emulated(Machine(devices=1)):
        backend = WithTwins.open(folder, read_manifest(folder), place)
        if warm:
            backend.warm_up()
        return backend.result(backend.submit(IMAGES)).copy()


@pytest.fixture(scope="module")
def plain(folders: dict[str, Path]) -> dict[str, Answers]:
    """The answers of the CPU, in the plain way."""
    found = {}
    for name, folder in folders.items():
        cpu = TorchBackend.open(folder, read_manifest(folder), Place("cpu", "float32", 6, 1))
        found[name] = cpu.result(cpu.submit(IMAGES)).copy()
    return found


@pytest.mark.parametrize(
    ("network", "way"),
    [(name, way) for name in NETWORKS for way in (WAYS if name == "basic" else WAYS[-1:])],
)
def test_each_way_answers_as_the_plain_one(
    folders: dict[str, Path], plain: dict[str, Answers], network: str, way: str
) -> None:
    found = answers(folders[network], way, warm=way == "sizes=fine")
    np.testing.assert_allclose(found, plain[network], atol=2e-5)


@pytest.mark.parametrize("way", WAYS[:4])
def test_each_way_in_half_precision_is_no_farther_off_than_the_plain_one(
    folders: dict[str, Path], plain: dict[str, Answers], way: str
) -> None:
    folder, exact = folders["basic"], plain["basic"]
    off = [np.abs(answers(folder, o, "bfloat16", warm=False) - exact).max() for o in ("", way)]
    assert off[1] < max(0.02, 1.5 * off[0])


class Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Notes what is called, and how wide the maps are that are rectified."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.names: list[str] = []
        self.relus: list[int] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        self.names.append(function._schema.name.removeprefix("aten::"))
        if self.names[-1] == "relu":
            self.relus.append(arguments[0].shape[-1])
        return function(*arguments, **(options or {}))


def operators(folder: Path, options: str) -> Operators:
    """What a forward calls."""
    place = Place("cuda", "float32", 6, cuda=CudaOptions.parse(options))
    with emulated(Machine(devices=1)):
        backend = WithTwins.open(folder, read_manifest(folder), place)
        seen = Operators()
        with seen:
            backend.submit(IMAGES)
    return seen


def test_fused_convolutions_leave_no_relu_and_no_sum_of_their_own(
    folders: dict[str, Path],
) -> None:
    before = operators(folders["bottleneck"], "").names
    after = operators(folders["bottleneck"], "convolutions=fused,residuals=fused").names
    blocks = NETWORKS["bottleneck"].backbone.blocks
    joined = sum(blocks) - len(blocks)  # the last one of each stage is gated
    assert after.count("cudnn_convolution_add_relu") == joined
    # Of each block the first two; the stem; each gate's own.
    assert after.count("cudnn_convolution_relu") == 2 * sum(blocks) + 1 + len(blocks)
    relus = [sum("relu" in n and "cudnn" not in n for n in names) for names in (before, after)]
    assert relus[0] > 50
    assert relus[1] == 2 * len(blocks)  # each gate's input, and in the twin of each gated sum


def test_a_slice_has_a_quarter_of_the_positions_rectified(folders: dict[str, Path]) -> None:
    widths = [operators(folders["basic"], options).relus for options in ("", "positions=sliced")]
    assert widths[0].count(32) == widths[1].count(32) + 1
    assert widths[1].count(16) == widths[0].count(16) + 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_covariance_of_products_is_as_near_as_that_of_centred_features(
    dtype: torch.dtype,
) -> None:
    """Near to float64's, of features as a network has them: rectified, far from 0."""
    x = (golden.normal(0, (2, 16, 14, 14)) + 1.5).relu().to(dtype)
    exact = covariance(x.double())
    with emulated(Machine(devices=1)):
        found = products_covariance(x.to("cuda")).to("cpu")
    assert found.dtype == torch.float32
    for computed in (found, covariance(x)):
        assert float((computed - exact).abs().max() / exact.abs().max()) < 3e-6


def test_the_compiler_is_given_the_whole_network(
    folders: dict[str, Path], plain: dict[str, Answers], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a break, and it answers right; by the compiler's front half, on the CPU."""
    given = []
    compile_ = torch.compile

    def compile_here(model: torch.nn.Module, **options: object) -> object:
        given.append(options)
        return compile_(model, **options | {"backend": "aot_eager"})  # type: ignore[call-overload]  # as given

    monkeypatch.setattr(torch, "compile", compile_here)
    place = Place("cuda", "float32", 6, cuda=CudaOptions.parse("convolutions=compiled"))
    folder = folders["basic"]
    with emulated(Machine(devices=1)):
        backend = WithTwins.open(folder, read_manifest(folder), place)
    assert isinstance(backend, WithTwins)
    assert given == [{"backend": "inductor", "fullgraph": True, "dynamic": False}]
    assert torch._dynamo.config.recompile_limit >= backend.max_batch
    cpu = TorchBackend.open(folder, read_manifest(folder), Place("cpu", "float32", 6, 1))
    model = backend._compiled(cpu._answering(*network_of(folder)))
    with torch.inference_mode():
        found = model(torch.from_numpy(np.stack(IMAGES))).numpy()
    np.testing.assert_allclose(found, plain["basic"], atol=2e-5)


@pytest.mark.parametrize(("options", "times"), [("convolutions=compiled", 1), ("", 0)])
def test_compilers_end_with_the_warm_up(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, options: str, times: int
) -> None:
    """A process a core, each with torch in its memory, would wait for ever beside each engine."""
    ended: list[str] = []
    monkeypatch.setattr(torch, "compile", lambda model, **_: model)
    ending = "torch._inductor.async_compile.shutdown_compile_workers"
    monkeypatch.setattr(ending, lambda: ended.append("ended"))
    place = Place("cuda", "float32", 1, cuda=CudaOptions.parse(options))
    with emulated(Machine(devices=1)):
        WithTwins.open(folders["basic"], read_manifest(folders["basic"]), place).warm_up()
    assert ended == ["ended"] * times


def network_of(folder: Path) -> tuple[GSoPResNet, torch.dtype]:
    return load(folder)[1], torch.float32


@pytest.mark.parametrize("most", [1, 2, 3, 6, 16, 20, 64, 256])
def test_fine_sizes_waste_little(most: int) -> None:
    sizes = fine_sizes(most)
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == most
    for size in range(1, most + 1):
        taken = min(s for s in sizes if s >= size)
        assert taken - size <= max(2, min(7, size))


@pytest.mark.parametrize(("options", "kind"), [("", HostTally), ("sums=device", DeviceTally)])
def test_gates_are_summed_up_where_it_is_asked_for(
    folders: dict[str, Path], options: str, kind: type
) -> None:
    place = Place("cuda", "float32", 6, cuda=CudaOptions.parse(options))
    with emulated(Machine(devices=1)):
        backend = WithTwins.open(folders["basic"], read_manifest(folders["basic"]), place)
    assert type(backend.tally()) is kind


@pytest.mark.parametrize(("options", "sizes"), [("", buckets), ("sizes=fine", fine_sizes)])
def test_graphs_are_of_the_sizes_that_are_asked_for(
    folders: dict[str, Path], options: str, sizes: Callable[[int], list[int]]
) -> None:
    most = 14
    assert buckets(most) != fine_sizes(most)
    place = Place("cuda", "float32", most, cuda=CudaOptions.parse(options))
    with emulated(Machine(devices=1)):
        backend = WithTwins.open(folders["basic"], read_manifest(folders["basic"]), place)
        backend.warm_up()
    assert isinstance(backend, WithTwins)
    assert backend._graphs is not None
    assert backend._graphs.sizes == sizes(most)


INTERPRETED = """
import sys, torch
from gsop.backends import kernels
torch.manual_seed(0)
for dtype in (torch.float32, torch.bfloat16):
    for shape in ((2, 5, 7, 9), (1, 64, 14, 14)):
        b, shortcut = (torch.randn(shape).to(dtype) for _ in range(2))
        shortcut = shortcut.to(memory_format=torch.channels_last)
        gate = torch.rand(shape[:2])
        found = kernels.gated_sum(b, gate, shortcut)
        torch.testing.assert_close(found, kernels.gated_sum_twin(b, gate, shortcut))
print("they agree")
"""


def test_each_kernel_agrees_with_its_twin() -> None:
    """By Triton's interpreter, which takes its place when Triton is imported."""
    found = interpreted(INTERPRETED)
    assert "they agree" in found.stdout, found.stderr


def interpreted(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


# ── the switches themselves ──────────────────────────────────────────────────────────────────────


def test_options_are_read_and_written() -> None:
    found = CudaOptions.parse(" convolutions=fused ,sizes=fine,")
    assert (found.convolutions, found.sizes, found.covariance) == ("fused", "fine", "centred")
    assert CudaOptions.parse(str(found)) == found
    assert str(CudaOptions.parse("")) == ""


@pytest.mark.parametrize(
    "text", ["convolutions=quick", "toast=burnt", "sizes", "sizes=fine,sizes=fine"]
)
def test_what_is_no_option_is_refused_with_the_choices(text: str) -> None:
    with pytest.raises(ValueError, match=r"twice|sizes=powers\|fine"):
        CudaOptions.parse(text)


def test_every_way_is_tried_here() -> None:
    for name, field in CudaOptions.model_fields.items():
        for value in get_args(field.annotation)[1:]:
            text = f"{name}={value}"
            elsewhere = ("launch=after", "convolutions=compiled", "arena=pinned")
            assert text in WAYS or text in elsewhere, f"nothing tries {text}"
