"""What the quantisation leaves in float32."""

import numpy as np
from openvino import Model, opset13

from benchmarks.int8 import only_for_gates


def test_what_only_gates_need_is_left_alone() -> None:
    image = opset13.parameter([1, 4], np.float32, name="image")
    features = opset13.relu(image, name="features")
    summed = opset13.exp(features, name="summed")
    gate = opset13.sigmoid(summed, name="gate")
    gated = opset13.multiply(features, gate, name="gated")
    model = Model([opset13.concat([gated, gate], 1, name="answer")], [image])
    assert set(only_for_gates(model)) == {"summed", "gate"}
