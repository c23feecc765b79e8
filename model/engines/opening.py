"""Opening the engine that the settings name, for the sizes of clips that come."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from model.checkpoint import CheckpointInfo
from model.cost import scene_size
from model.engines.artifact import locked
from model.engines.base import Engine
from model.engines.build import Source, is_built, onnx_artifact, open_tensorrt
from model.engines.choice import Choice, EngineSpec, TensorRtName, choose, default_folder
from model.engines.onnx_engine import OnnxEngine
from model.engines.onnx_graph import Precision
from model.engines.torch_engine import computes_bf16, torch_engine
from model.network import ActionNetwork
from model.parity import Sampler

PRECISION_ON_CPU: Precision = "fp32"
PRECISION_ON_CUDA: Precision = "fp16"


class EnginePerSize:
    """Engines that are made for one size of clips, each opened when the first clips of its size come."""

    def __init__(self, device: torch.device, open_for: Callable[[tuple[int, int]], Engine]) -> None:
        self.device = device
        self._open_for = open_for
        self._engines: dict[tuple[int, int], Engine] = {}

    def pooled_maps(self, clips: Tensor) -> Tensor:
        """As :meth:`model.engines.base.Engine.pooled_maps`; raises what opening an engine raises."""
        size = (clips.shape[2], clips.shape[3])
        if size not in self._engines:
            self._engines[size] = self._open_for(size)
        return self._engines[size].pooled_maps(clips)


def open_engine(
    spec: EngineSpec, network: ActionNetwork, info: CheckpointInfo, device: str, sampler: Sampler
) -> tuple[Engine, Choice]:
    """The engine for a network, and why it is this one.

    Args:
        spec: what the settings say.
        network: of the checkpoint, in single precision; its heads are used beside the engine.
        info: of the checkpoint.
        device: ``cpu`` or ``cuda``.
        sampler: brings clips on which a new engine is held against the network.

    Raises:
        EngineMissingError: the engine that is wanted is not installed, or does not run on this device.
    """
    folder = spec.folder or default_folder()
    source = Source(network, info, scene_size(network.architecture), folder, sampler)

    def has_engine(package: TensorRtName) -> bool:
        return is_built(source, package, PRECISION_ON_CUDA, device)

    kind = torch.device(device).type
    choice = choose(spec.name, info.architecture, kind, has_bf16=computes_bf16(device), is_built=has_engine)
    if choice.name == "torch":
        return torch_engine(network.backbone, device), choice
    package = choice.name

    def opened(size: tuple[int, int]) -> Engine:
        of_size = dataclasses.replace(source, size=size)
        with locked(folder):
            if package == "onnxruntime":
                return OnnxEngine(onnx_artifact(of_size, PRECISION_ON_CPU)[0], torch.get_num_threads())
            return open_tensorrt(of_size, package, PRECISION_ON_CUDA, device)

    return EnginePerSize(torch.device(device), opened), choice
