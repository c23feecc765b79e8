from __future__ import annotations

import onnx
import pytest
import torch

from model.checkpoint import CheckpointInfo
from model.engines.onnx_engine import OnnxEngine
from model.engines.onnx_graph import Precision, onnx_graph
from model.errors import EngineMissingError
from model.network import ActionNetwork
from model.pathways import to_pathways

Loaded = tuple[ActionNetwork, CheckpointInfo]


def random_clips(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 16, 48, 80, 3), dtype=torch.uint8)


@pytest.mark.parametrize(("precision", "most"), [("fp32", 1e-5), ("fp16", 3e-3)])
def test_a_graph_says_what_the_backbone_says_for_any_batch(
    loaded: Loaded, precision: Precision, most: float
) -> None:
    backbone = loaded[0].backbone
    engine = OnnxEngine(onnx_graph(backbone, (48, 80), precision), threads=1)
    for count in (1, 3):
        clips = random_clips(count)
        with torch.inference_mode():
            expected = backbone(*to_pathways(clips))
        maps = engine.pooled_maps(clips)
        assert maps.dtype == torch.float32
        assert maps.shape == (count, 576, 3, 5)
        assert float((maps - expected).norm() / expected.norm()) < most


@pytest.mark.parametrize(
    ("precision", "kind"), [("fp32", onnx.TensorProto.FLOAT), ("fp16", onnx.TensorProto.FLOAT16)]
)
def test_all_of_a_graph_has_one_precision_and_the_backbone_alone_is_in_it(
    loaded: Loaded, precision: Precision, kind: int
) -> None:
    graph = onnx.load_from_string(onnx_graph(loaded[0].backbone, (48, 80), precision)).graph
    ends = [*graph.input, *graph.output]
    assert [value.name for value in ends] == ["slow", "fast", "maps"]
    assert {value.type.tensor_type.elem_type for value in ends} == {kind}
    assert {weights.data_type for weights in graph.initializer if weights.dims} - {
        onnx.TensorProto.INT64
    } == {kind}
    assert not {"RoiAlign", "BatchNormalization", "Cast"} & {node.op_type for node in graph.node}
    batch = [value.type.tensor_type.shape.dim[0].dim_param for value in ends]
    assert batch[0] != ""
    assert set(batch) == {batch[0]}


def test_the_backbone_is_left_as_it_was(loaded: Loaded) -> None:
    backbone = loaded[0].backbone
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    onnx_graph(backbone, (48, 80), "fp16")
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())


def test_a_missing_package_is_named(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.engines.onnx_graph.find_spec", lambda name: None)
    with pytest.raises(
        EngineMissingError, match=r"onnx and onnxscript are not installed; run .* install -e '\.\[onnx\]'"
    ):
        onnx_graph(loaded[0].backbone, (48, 80), "fp32")
    with pytest.raises(EngineMissingError, match="onnxruntime is not installed"):
        OnnxEngine(b"", threads=1)
