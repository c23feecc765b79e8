"""The backbone as an engine of TensorRT, on a CUDA device."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from model.engines.choice import TensorRtName
from model.engines.cuda_engine import MOST_SHAPES
from model.engines.onnx_graph import DTYPES, INPUTS, OUTPUT, Precision
from model.engines.replay import Replay
from model.engines.tensorrt import load, new_logger
from model.errors import EngineArtifactError
from model.pathways import to_pathways


class TensorRtEngine:
    """A deserialised engine; each shape of batch has a context, and a CUDA graph where it can be recorded.

    Inputs and maps are tensors of torch, whose memory TensorRT reads and writes, on a stream of its own.
    """

    def __init__(
        self,
        package: TensorRtName,
        content: bytes,
        *,
        precision: Precision,
        most_clips: int,
        device: str = "cuda",
        graphs: bool = True,
    ) -> None:
        """Deserialise; the content must come from :func:`model.engines.artifact.read_engine`, since it is code.

        Args:
            package: the one that built it.
            content: the serialised engine.
            precision: of its inputs and output.
            most_clips: the largest batch that it was built for; larger ones are computed in parts.
            device: ``cuda``, or ``cuda:N``.
            graphs: whether calls are recorded as CUDA graphs.

        Raises:
            EngineMissingError: the package is not installed.
            EngineArtifactError: it was built for another version or another device.
        """
        self.device = torch.device(device)
        trt = load(package)
        self._logger = new_logger(trt)
        with torch.cuda.device(self.device):
            self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            self._runtime = trt.Runtime(self._logger)
            self._engine = self._runtime.deserialize_cuda_engine(content)
        if self._engine is None:
            raise EngineArtifactError(
                f"{package} {trt.__version__} does not load this engine on {torch.cuda.get_device_name(self.device)}: "
                f"{'; '.join(self._logger.said)}; run aviaflow export for this device"
            )
        self._dtype, self._most_clips, self._graphs = DTYPES[precision], most_clips, graphs
        self._calls: dict[torch.Size, Callable[[Tensor], Tensor]] = {}

    @torch.no_grad()
    def pooled_maps(self, clips: Tensor) -> Tensor:
        """As :meth:`model.engines.base.Engine.pooled_maps`; a batch that is too large is computed in parts."""
        with torch.cuda.device(self.device):
            clips = clips.to(self.device, non_blocking=True)
            current = torch.cuda.current_stream()
            self._stream.wait_stream(current)
            with torch.cuda.stream(self._stream):
                parts = torch.split(clips, self._most_clips)
                maps = torch.cat([self._call_for(part)(part).float() for part in parts])
            current.wait_stream(self._stream)
            # The allocator must not give their memory away before the other stream is done with it.
            clips.record_stream(self._stream)
            maps.record_stream(current)
            return maps

    def _call_for(self, clips: Tensor) -> Callable[[Tensor], Tensor]:
        if clips.shape not in self._calls:
            if len(self._calls) >= MOST_SHAPES:
                self._calls.pop(next(iter(self._calls)))
            call = _Call(self._engine.create_execution_context(), clips.shape, self._dtype)
            self._calls[clips.shape] = self._recorded(call, clips) if self._graphs else call
        return self._calls[clips.shape]

    def _recorded(self, call: _Call, clips: Tensor) -> Callable[[Tensor], Tensor]:
        call(clips)
        torch.cuda.synchronize()
        if not call.can_be_recorded(torch.cuda.current_stream()):
            self._say_unrecorded("TensorRT says that it cannot be")
            return call
        try:
            return Replay(call, clips)
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self._say_unrecorded(str(error).splitlines()[0])
            return call

    def _say_unrecorded(self, why: str) -> None:
        self._graphs = False
        warnings.warn(
            f"the engine runs without a CUDA graph, which was not recorded: {why}",
            RuntimeWarning,
            stacklevel=4,
        )


class _Call:
    """An execution context for batches of one shape."""

    def __init__(self, context: Any, shape: torch.Size, dtype: torch.dtype) -> None:
        self._context, self._dtype = context, dtype
        batch, frames, height, width, _ = shape
        for name, count in zip(INPUTS, (frames // 4, frames), strict=True):
            context.set_input_shape(name, (batch, 3, count, height, width))
        self._output_shape = tuple(context.get_tensor_shape(OUTPUT))

    def __call__(self, clips: Tensor) -> Tensor:
        """Maps of the clips, computed on the current stream."""
        pathways = [pathway.contiguous() for pathway in to_pathways(clips, self._dtype)]
        maps = torch.empty(self._output_shape, dtype=self._dtype, device=clips.device)
        for name, tensor in zip((*INPUTS, OUTPUT), (*pathways, maps), strict=True):
            self._context.set_tensor_address(name, tensor.data_ptr())
        if not self._context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
            raise RuntimeError("TensorRT did not start the engine")
        return maps

    def can_be_recorded(self, stream: torch.cuda.Stream) -> bool:
        """Whether a CUDA graph can be recorded; ``tensorrt`` has no such question, and always can."""
        ask = getattr(self._context, "is_stream_capturable", None)
        return True if ask is None else bool(ask(stream.cuda_stream))
