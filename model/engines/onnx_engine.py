"""The backbone in onnxruntime, on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.engines.onnx_graph import INPUTS, OUTPUT, need
from model.pathways import to_pathways


class OnnxEngine:
    """An ONNX graph of :func:`model.engines.onnx_graph.onnx_graph`; its maps go on to torch on the CPU."""

    def __init__(self, graph: bytes, threads: int) -> None:
        """Load the graph.

        Args:
            graph: the ONNX model, serialised.
            threads: processors that it may use.

        Raises:
            EngineMissingError: onnxruntime is not installed.
        """
        need("onnxruntime")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Threads that spin while they wait would take the processors that decoding needs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session: Any = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        half = self._session.get_inputs()[0].type == "tensor(float16)"
        self._dtype = torch.float16 if half else torch.float32
        self.device = torch.device("cpu")

    @torch.inference_mode()
    def pooled_maps(self, clips: Tensor) -> Tensor:
        """As :meth:`model.engines.base.Engine.pooled_maps`."""
        pathways = to_pathways(clips.to(self.device), self._dtype)
        feed = {name: clip.contiguous().numpy() for name, clip in zip(INPUTS, pathways, strict=True)}
        (maps,) = self._session.run([OUTPUT], feed)
        return torch.from_numpy(np.asarray(maps, dtype=np.float32))
