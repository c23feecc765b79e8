"""Calls of an execution context, by one that computes on the processor: what no GPU is needed for."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from model.engines.tensorrt_engine import _Call
from model.pathways import to_pathways


class FakeContext:
    """Reads the inputs from their addresses and writes their sums to the output's, as an engine would."""

    def __init__(self) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.streams: list[int] = []
        self.read: dict[str, np.ndarray] = {}
        self.starts = True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> None:
        self.shapes[name] = shape

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        assert name == "maps"
        batch, _, _, height, width = self.shapes["fast"]
        return (batch, 7, height // 16, width // 16)

    def set_tensor_address(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def execute_async_v3(self, stream: int) -> bool:
        self.streams.append(stream)
        for name, shape in self.shapes.items():
            self.read[name] = self._at(name, shape).copy()
        self._at("maps", self.get_tensor_shape("maps"))[:] = self.read["slow"].sum()
        return self.starts

    def _at(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        kind = ctypes.c_float * int(np.prod(shape))
        return np.ctypeslib.as_array(kind.from_address(self.addresses[name])).reshape(shape)


@pytest.fixture
def context(monkeypatch: pytest.MonkeyPatch) -> FakeContext:
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=77))
    return FakeContext()


def test_the_pathways_lie_in_plain_order_where_the_engine_reads_them(context: FakeContext) -> None:
    clips = torch.randint(0, 256, (2, 16, 32, 48, 3), dtype=torch.uint8)
    call = _Call(context, clips.shape, torch.float32)
    maps = call(clips)
    slow, fast = to_pathways(clips)
    assert context.shapes == {"slow": (2, 3, 4, 32, 48), "fast": (2, 3, 16, 32, 48)}
    np.testing.assert_array_equal(context.read["slow"], slow.numpy())
    np.testing.assert_array_equal(context.read["fast"], fast.numpy())
    assert maps.shape == (2, 7, 2, 3)
    np.testing.assert_allclose(maps.numpy(), context.read["slow"].sum())
    assert context.streams == [77]


def test_maps_of_two_calls_do_not_share_memory(context: FakeContext) -> None:
    clips = torch.randint(0, 256, (1, 16, 32, 48, 3), dtype=torch.uint8)
    call = _Call(context, clips.shape, torch.float32)
    first, second = call(clips), call(255 - clips)
    assert not torch.equal(first, second)


def test_an_engine_that_does_not_start_is_an_error(context: FakeContext) -> None:
    context.starts = False
    clips = torch.zeros(1, 16, 32, 48, 3, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="TensorRT did not start"):
        _Call(context, clips.shape, torch.float32)(clips)


def test_whether_a_graph_can_be_recorded_is_asked_where_it_can_be_asked(context: FakeContext) -> None:
    call = _Call(context, torch.Size((1, 16, 32, 48, 3)), torch.float32)
    assert call.can_be_recorded(SimpleNamespace(cuda_stream=5))
    asked = []
    context.is_stream_capturable = lambda stream: bool(asked.append(stream))
    assert not call.can_be_recorded(SimpleNamespace(cuda_stream=5))
    assert asked == [5]
