"""What OpenVINO computes: Intel's inference library, for CPUs only.

It answers as torch does, gates included, and fuses and lays out memory better than torch's own
operators. ``GSOP_BACKEND=openvino``; the extra ``openvino``.

To export and translate a network takes many seconds of a processor, so what comes out is kept for
the next start (:mod:`gsop.backends.cache`). To compile it takes some tenths, and depends on the
processor: that is done at each start.
"""

import functools
import hashlib
import logging
import struct
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

import gsop
from gsop.backends.answering import Answering, load_expected
from gsop.backends.base import Backend, Pixels, Place, Values
from gsop.backends.cache import Cache, key_of
from gsop.backends.torch_cpu import fitting_threads, image_seconds
from gsop.backends.torch_device import DEFAULT_MAX_BATCH, find_device, find_dtype, name_of
from gsop.errors import ConfigError
from gsop.model.resnet import GSoPResNet
from gsop.processes.memory import keep_freed_memory
from gsop.store.manifest import Manifest

try:
    import openvino
except ImportError as error:
    raise ConfigError(
        f"GSOP_BACKEND=openvino needs OpenVINO ({error}): install the extra `openvino` of this "
        "project, or set GSOP_BACKEND=torch"
    ) from error

log = logging.getLogger("gsop.engine")

PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16"}


class OpenVINOBackend(Backend[Values]):
    """One model on the CPU, computed by OpenVINO.

    Args:
        manifest: of the model version.
        network: exactly that version, which becomes the backend's own.
        dtype: float32 or bfloat16.
        max_batch: most images in a batch.
        threads: of a batch; 0: what suits.
        cache: folder where the translated network is kept; ``None``: nowhere.
    """

    def __init__(
        self,
        manifest: Manifest,
        network: GSoPResNet,
        *,
        dtype: torch.dtype,
        max_batch: int,
        threads: int = 0,
        cache: Path | None = None,
    ) -> None:
        super().__init__(manifest, device="cpu", precision=name_of(dtype), max_batch=max_batch)
        self._cache = cache
        spec = manifest.input
        self._example = torch.zeros((2, spec.height, spec.width, 3), dtype=torch.uint8)
        options = {
            # The network is translated in float32; OpenVINO chooses what to compute in less.
            "INFERENCE_PRECISION_HINT": PRECISIONS[dtype],
            "INFERENCE_NUM_THREADS": threads
            or fitting_threads(image_seconds(network, self._example)),
            "PERFORMANCE_HINT": "LATENCY",  # one batch at a time, by all threads
        }
        core = openvino.Core()
        model = self._translated(core, Answering(manifest, network, torch.float32))
        self._request = core.compile_model(model, "CPU", options).create_infer_request()

    @classmethod
    def open(cls, folder: Path, manifest: Manifest, place: Place) -> Self:
        """See :meth:`Backend.open`; only on the CPU."""
        device = find_device(place.device)
        if device.type != "cpu":
            raise ConfigError(
                "GSOP_BACKEND=openvino computes on the CPU only, and GSOP_DEVICE is "
                f"{place.device}: set GSOP_DEVICE=cpu, or GSOP_BACKEND=torch"
            )
        keep_freed_memory()
        return cls(
            manifest,
            load_expected(folder, manifest),
            dtype=find_dtype(place.precision, device),
            max_batch=place.max_batch or DEFAULT_MAX_BATCH[device.type],
            threads=place.threads,
            cache=place.cache,
        )

    def submit(self, images: Sequence[Pixels]) -> Values:
        """See :meth:`Backend.submit`; runs the batch to its end."""
        answers = self._request.infer([np.stack(images)], share_inputs=True, share_outputs=True)
        return np.asarray(answers[0])

    def result(self, pending: Values) -> Values:
        """See :meth:`Backend.result`."""
        return pending

    def _translated(self, core: openvino.Core, answering: Answering) -> openvino.Model:
        if self._cache is None:
            return self._translate(answering)
        cache, key = Cache(self._cache), key_of(self._facts())
        kept = cache.get(key)
        model = _unpack(core, kept) if kept is not None else None
        if model is None:
            model = self._translate(answering)
            if (packed := _pack(model)) is not None:
                cache.put(key, packed)
        return model

    def _translate(self, answering: Answering) -> openvino.Model:
        log.info("%s/%s is translated for OpenVINO", self.manifest.name, self.manifest.version)
        return translate(answering, self._example)

    def _facts(self) -> dict[str, Any]:
        """All that the translated network depends on: not the precision, not the processor."""
        return {
            "weights": self.manifest.sha256,
            "temperature": self.manifest.temperature,
            "network": asdict(self.manifest.config),
            "input": self.manifest.input.model_dump(),
            "openvino": openvino.get_version(),
            "torch": torch.__version__,
            "code": _code_digest(),
        }


def translate(answering: Answering, example: Tensor) -> openvino.Model:
    """The network as OpenVINO's, with any number of images in a batch.

    Not by ``openvino.convert_model``, which reports each use of it to a server of Intel's.

    Args:
        answering: in eval mode, on the CPU.
        example: images to trace with, two or more: one would be taken for a constant.
    """
    # Here, for they cost seconds that a start with a compiled network does not need.
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch.export calls what torch deprecated
        program = torch.export.export(
            answering.eval(), (example,), dynamic_shapes={"images": {0: torch.export.Dim("batch")}}
        )
        level = logging.root.manager.disable
        logging.disable(logging.WARNING)  # of operators that this torch does not have
        try:
            decoder = TorchFXPythonDecoder.from_exported_program(program)
        finally:
            logging.disable(level)
    frontend = FrontEndManager().load_by_framework("pytorch")
    return frontend.convert(frontend.load(decoder))


@functools.cache
def _code_digest() -> str:
    """A hash of our code that makes the network and its translation: the sources' own."""
    root = Path(gsop.__file__).parent
    engine = [root / "backends" / name for name in ("openvino.py", "answering.py")]
    digest = hashlib.sha256()
    for path in (*sorted((root / "model").glob("*.py")), *engine):
        digest.update(f"{path.name}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


_LENGTH = struct.Struct("<Q")
"""A packed model: the length of its XML, the XML, its weights."""


def _pack(model: openvino.Model) -> bytes | None:
    """The model as bytes; ``None`` if there is no room for the files that OpenVINO writes."""
    try:
        with tempfile.TemporaryDirectory(prefix="gsop-") as folder:
            xml, weights = Path(folder, "model.xml"), Path(folder, "model.bin")
            openvino.serialize(model, xml, weights)
            text = xml.read_bytes()
            return _LENGTH.pack(len(text)) + text + weights.read_bytes()
    except (OSError, RuntimeError) as error:  # OpenVINO's own are of the latter kind
        log.warning("the translated network cannot be written, and is not kept: %s", error)
        return None


def _unpack(core: openvino.Core, packed: bytes) -> openvino.Model | None:
    """The model of :func:`_pack`; ``None`` if OpenVINO cannot read it."""
    try:
        (length,) = _LENGTH.unpack_from(packed)
        end = _LENGTH.size + length
        return core.read_model(packed[_LENGTH.size : end], packed[end:])
    except (struct.error, RuntimeError) as error:
        log.warning("OpenVINO cannot read what was kept, and it is made anew: %s", error)
        return None
