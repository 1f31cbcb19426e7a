"""A network as an ONNX file: the fused graph, for any number of slices and any size of box.

ONNX (https://onnx.ai) is what ONNX Runtime and other engines read. The graph's one input is `slices`, float32
with axes (n, C, height, width) in network units, its one output is `logits`.
"""

from __future__ import annotations

import io
import warnings

import torch
from torch import nn

from slicemill.model.predicting.self_test import probe_input

#: Names of the graph's input and output.
INPUT, OUTPUT = "slices", "logits"

#: Version of the operators; one that runtimes have known for years.
OPSET = 17


def onnx_bytes(network: nn.Module, channels: int, size: int) -> bytes:
    """The ONNX file of a network in evaluation mode on the CPU, traced on an input of `size` pixels a side.

    Raises what torch's exporter raises for a network that can't be traced, ImportError without the package
    onnx.
    """
    sink = io.BytesIO()
    # Not from inference mode, whose tensors can't be traced; warnings are of the exporter's own age.
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (probe_input(channels, size),),
            sink,  # type: ignore[arg-type]  # a file object too, as its documentation says
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "n", 2: "height", 3: "width"}, OUTPUT: {0: "n"}},
        )
    return sink.getvalue()
