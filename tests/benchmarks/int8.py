"""``python -m tests.benchmarks.int8``: the embedded checkpoint in INT8, and in OpenVINO, against torch and the gate.

OpenVINO is no dependency of the project; its rows come where it is installed.
"""

from __future__ import annotations

import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.checkpoint import embedded_checkpoint, load_checkpoint
from model.cost import scene_size
from model.engines.base import Engine
from model.engines.onnx_engine import OnnxEngine
from model.engines.onnx_graph import INPUTS, onnx_graph
from model.engines.torch_engine import TorchEngine
from model.parity import compare
from model.pathways import to_pathways
from tests.benchmarks.timing import one_s
from workers.simulate.clips import gate_clips, sample_clips

CLIPS, ROUNDS, CALIBRATION_CLIPS, CALIBRATION_SEED = 4, 7, 48, 99


class CalibrationClips:
    """Clips one by one, as onnxruntime's quantiser reads them."""

    def __init__(self, clips: Tensor) -> None:
        self._left = iter(clips)

    def get_next(self) -> dict[str, Any] | None:
        clip = next(self._left, None)
        return None if clip is None else _feed(clip[None])


class OpenVinoEngine:
    """An ONNX graph in OpenVINO, on the CPU."""

    def __init__(self, graph: Path, threads: int) -> None:
        import openvino

        settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        self._compiled = openvino.Core().compile_model(str(graph), "CPU", settings)
        self.device = torch.device("cpu")

    def pooled_maps(self, clips: Tensor) -> Tensor:
        return torch.from_numpy(next(iter(self._compiled(_feed(clips)).values())).copy())


def quantised(graph: Path, out: Path, clips: Tensor) -> Path:
    """The graph with 8-bit weights per channel and 8-bit maps, calibrated on clips."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = out.with_name("prepared.onnx")
    quant_pre_process(graph, prepared)
    quantize_static(
        prepared,
        out,
        CalibrationClips(clips),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return out


def main() -> None:
    """Make the engines, hold each against the checkpoint, and let them take turns."""
    warnings.simplefilter("ignore")
    network, info = load_checkpoint(embedded_checkpoint())
    size, threads = scene_size(network.architecture), torch.get_num_threads()
    calibration = sample_clips(CALIBRATION_CLIPS, info.clip_frames, size, seed=CALIBRATION_SEED)
    with tempfile.TemporaryDirectory(prefix="aviaflow-bench-") as folder:
        single = Path(folder) / "single.onnx"
        single.write_bytes(onnx_graph(network.backbone, size, "fp32"))
        eight = quantised(single, Path(folder) / "int8.onnx", torch.from_numpy(calibration.clips))
        engines: dict[str, Engine] = {
            "torch": TorchEngine(network.backbone, "cpu"),
            "onnxruntime": OnnxEngine(single.read_bytes(), threads),
            "onnxruntime, INT8": OnnxEngine(eight.read_bytes(), threads),
        }
        if find_spec("openvino") is not None:
            engines["OpenVINO"] = OpenVinoEngine(single, threads)
            engines["OpenVINO, INT8"] = OpenVinoEngine(eight, threads)
        print_rows(engines, network, gate_clips(info.clip_frames, size))


def print_rows(engines: dict[str, Engine], network: Any, sample: Any) -> None:
    batch = torch.from_numpy(sample.clips[:CLIPS])
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for turn in range(ROUNDS + 1):
        for name, engine in engines.items():
            spent_s = one_s(lambda engine=engine: engine.pooled_maps(batch), engine.device)
            if turn:  # the first one warms up
                seconds[name].append(spent_s / CLIPS)
    of_torch = float(np.median(seconds["torch"]))
    for name, engine in engines.items():
        result = compare(network, engine, sample)
        clip_s = float(np.median(seconds[name]))
        passes = "passes" if result.accepted else "does not pass"
        print(
            f"{name:18} {1000 * clip_s:7.1f} ms a clip, {clip_s / of_torch:5.2f} of torch; {passes}: {result}"
        )


def _feed(clips: Tensor) -> dict[str, Any]:
    return {name: part.contiguous().numpy() for name, part in zip(INPUTS, to_pathways(clips), strict=True)}


if __name__ == "__main__":
    main()
