"""The backbone as an ONNX graph, which onnxruntime runs and from which TensorRT builds."""

from __future__ import annotations

import io
import warnings
from importlib.util import find_spec
from typing import Literal

import torch

from model.backbones import Backbone
from model.engines.folding import folded
from model.errors import EngineMissingError, how_to_install

Precision = Literal["fp32", "fp16"]
OPSET = 18
INPUTS, OUTPUT = ("slow", "fast"), "maps"
DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16}
_TRACED_CLIPS = 2
"""A batch of one would be taken for a constant."""


def onnx_graph(backbone: Backbone, size: tuple[int, int], precision: Precision) -> bytes:
    """The graph from ``slow`` and ``fast`` to ``maps``, for any number of clips of one size.

    Everything in it has the precision that is asked for, inputs and output included: TensorRT builds it as a
    strongly typed network, the only kind that its version 11 has. ROI Align and the heads stay outside.

    Args:
        backbone: in single precision; it is not changed.
        size: height and width of the clips.
        precision: of weights, feature maps, inputs and output.

    Raises:
        EngineMissingError: onnx or onnxscript is not installed.
    """
    need("onnx", "onnxscript")
    dtype = DTYPES[precision]
    network = folded(backbone).cpu().to(dtype)
    slow_frames, fast_frames = backbone.architecture.slow_frames, backbone.architecture.clip_frames
    clips = tuple(
        torch.zeros(_TRACED_CLIPS, 3, frames, *size, dtype=dtype) for frames in (slow_frames, fast_frames)
    )
    batch = torch.export.Dim("batch", min=1, max=4096)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        program = torch.onnx.export(
            network,
            clips,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(INPUTS),
            output_names=[OUTPUT],
            dynamic_shapes=({0: batch}, {0: batch}),
            verbose=False,
        )
    assert program is not None  # with dynamo=True it never is
    buffer = io.BytesIO()
    buffer.write(program.model_proto.SerializeToString())
    return buffer.getvalue()


def need(*packages: str) -> None:
    """Raise :class:`EngineMissingError` where one of the packages is not installed."""
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise EngineMissingError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed; "
            f"{how_to_install('onnx')}, or set infer.engine to torch"
        )
