from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from gsop.backends.base import Predictor, find_backend, find_device, find_dtype
from gsop.errors import ConfigError
from gsop.settings import Precision
from gsop.store.store import load

CPU = torch.device("cpu")
IMAGES = list(np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8))


def make(
    store: Path, device: torch.device = CPU, precision: Precision = "float32", max_batch: int = 16
) -> Predictor:
    manifest, model = load(store / "tiny" / "1")
    return Predictor(
        manifest,
        model,
        device=device,
        dtype=find_dtype(precision, device),
        max_batch=max_batch,
    )


def answers(predictor: Predictor, images: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
    return predictor.submit(images).result().copy()


def test_an_answer_is_probabilities_and_gates(tiny_store: Path) -> None:
    predictor = make(tiny_store)
    values = answers(predictor, IMAGES)
    classes = predictor.manifest.config.num_classes
    assert values.shape == (9, classes + predictor.manifest.gate_size)
    np.testing.assert_allclose(values[:, :classes].sum(axis=1), 1, atol=1e-5)
    assert ((values[:, classes:] > 0) & (values[:, classes:] < 1)).all()


def test_it_is_what_the_network_computes(tiny_store: Path) -> None:
    manifest, model = load(tiny_store / "tiny" / "1")
    spec = manifest.input
    pixels = torch.from_numpy(np.stack(IMAGES)).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (spec.mean, spec.std))
    with torch.inference_mode():
        output = model.eval()((pixels - mean) / std)
    gates = [output.gates[gate.name].flatten(1) for gate in manifest.gates]
    expected = torch.cat([output.logits.softmax(1), *gates], dim=1)
    np.testing.assert_allclose(answers(make(tiny_store), IMAGES), expected, atol=1e-5)


def test_an_image_in_a_batch_gets_the_answer_it_gets_alone(tiny_store: Path) -> None:
    predictor = make(tiny_store)
    together = answers(predictor, IMAGES)
    alone = np.concatenate([answers(predictor, [image]) for image in IMAGES])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_saturated_gates_stay_inside_of_their_interval(tiny_store: Path) -> None:
    manifest, model = load(tiny_store / "tiny" / "1")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("excite.expand.bias"):
                parameter.copy_(torch.linspace(-500, 500, len(parameter)))
    predictor = Predictor(manifest, model, device=CPU, dtype=torch.float32, max_batch=1)
    gates = answers(predictor, IMAGES[:1])[:, manifest.config.num_classes :]
    assert 0 < gates.min() < 1e-30
    assert 1 - 1e-6 < gates.max() < 1


def test_warm_up_runs_the_largest_batch(tiny_store: Path) -> None:
    predictor = make(tiny_store, max_batch=5)
    predictor.warm_up()
    assert answers(predictor, IMAGES[:5]).shape[0] == 5


@pytest.mark.parametrize("name", ["toaster", "meta", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="GSOP_DEVICE"):
        find_device(name)


def test_precision_follows_the_device() -> None:
    assert find_dtype("auto", CPU) == torch.float32
    assert find_dtype("auto", torch.device("cuda")) == torch.bfloat16
    with pytest.raises(ConfigError, match="GSOP_PRECISION"):
        find_dtype("float16", CPU)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("precision", "tolerance"), [("float32", 1e-3), ("bfloat16", 0.02), ("float16", 0.02)]
)
def test_cuda_answers_as_the_cpu_does(
    tiny_store: Path, precision: Precision, tolerance: float
) -> None:
    expected = answers(make(tiny_store), IMAGES)
    predictor = make(tiny_store, torch.device("cuda"), precision)
    predictor.warm_up()
    classes = predictor.manifest.config.num_classes
    found = answers(predictor, IMAGES)
    np.testing.assert_allclose(found[:, classes:], expected[:, classes:], atol=tolerance)


@pytest.mark.gpu
def test_two_batches_are_in_flight_on_cuda(tiny_store: Path) -> None:
    predictor = make(tiny_store, torch.device("cuda"), "float32")
    alone = answers(predictor, IMAGES[:4]), answers(predictor, IMAGES[4:])
    first, second = predictor.submit(IMAGES[:4]), predictor.submit(IMAGES[4:])
    np.testing.assert_allclose(first.result(), alone[0], atol=1e-5)
    np.testing.assert_allclose(second.result(), alone[1], atol=1e-5)


def test_a_backend_is_a_predictor_that_python_finds() -> None:
    assert find_backend("torch") is Predictor
    assert find_backend("gsop.backends.base:Predictor") is Predictor
    for name in ("no_such_module:Predictor", "gsop.backends.base:Missing", "pathlib:Path"):
        with pytest.raises(ConfigError, match="GSOP_BACKEND"):
            find_backend(name)
