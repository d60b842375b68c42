"""A predictor that computes with OpenVINO: Intel's inference library, for CPUs only.

It answers as :class:`app.engine.predictor.Predictor` does, gates included, and fuses and lays out
memory better than torch's own operators. ``GSOP_BACKEND=openvino``; the extra ``openvino``.
"""

import logging
import warnings

import torch
from torch import Tensor

from app.engine.predictor import Answering, Predictor
from app.errors import ConfigError
from app.model.resnet import GSoPResNet
from app.store.manifest import Manifest

try:
    import openvino
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder
except ImportError as error:
    raise ConfigError(
        f"GSOP_BACKEND=openvino needs OpenVINO ({error}): install the extra `openvino` of this "
        "project, or set GSOP_BACKEND=torch"
    ) from error

PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16"}


class OpenVINOPredictor(Predictor):
    """One model on the CPU, computed by OpenVINO.

    Raises:
        ConfigError: if the device is not the CPU.
    """

    def __init__(
        self,
        manifest: Manifest,
        model: GSoPResNet,
        *,
        device: torch.device,
        dtype: torch.dtype,
        max_batch: int,
    ) -> None:
        if device.type != "cpu":
            raise ConfigError(
                f"GSOP_BACKEND=openvino computes on the CPU only, and GSOP_DEVICE is {device}: "
                "set GSOP_DEVICE=cpu, or GSOP_BACKEND=torch"
            )
        self._precision = PRECISIONS[dtype]
        super().__init__(manifest, model, device=device, dtype=torch.float32, max_batch=max_batch)

    def prepare(self, answering: Answering) -> None:
        """Translate the network and compile it for batches of any size."""
        compiled = openvino.Core().compile_model(
            translate(answering, torch.zeros_like(self._images[0, :1]).repeat(2, 1, 1, 1)),
            "CPU",
            {
                # The network is translated in float32; OpenVINO chooses what to compute in less.
                "INFERENCE_PRECISION_HINT": self._precision,
                "INFERENCE_NUM_THREADS": torch.get_num_threads(),
                "PERFORMANCE_HINT": "LATENCY",  # one batch at a time, by all threads
            },
        )
        self._request = compiled.create_infer_request()

    def compute(self, staged: Tensor, values: Tensor) -> None:
        """Run one batch to its end."""
        answers = self._request.infer([staged.numpy()], share_inputs=True, share_outputs=True)
        values.numpy()[:] = answers[0]


def translate(answering: Answering, example: Tensor) -> openvino.Model:
    """The network as OpenVINO's, with any number of images in a batch.

    Not by ``openvino.convert_model``, which reports each use of it to a server of Intel's.

    Args:
        answering: in eval mode, on the CPU.
        example: images to trace with, two or more: one would be taken for a constant.
    """
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
