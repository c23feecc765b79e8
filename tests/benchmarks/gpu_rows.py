"""The measurements of ``make bench-gpu``, one function a row."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model.backbones import Architecture, Backbone
from model.checkpoint import embedded_checkpoint, load_checkpoint, save_checkpoint
from model.cost import scene_size
from model.engines.base import Engine
from model.engines.cuda_engine import CudaEngine, CudaMode
from model.engines.torch_engine import TorchEngine
from model.network import ActionNetwork, ActionOutput
from model.parity import parity
from model.pathways import to_pathways
from tests.benchmarks.timing import median_s, one_s, synchronise


@dataclass(frozen=True, slots=True)
class Variant:
    """One way of running a backbone."""

    name: str
    mode: CudaMode
    swept: bool = False
    """Whether it is measured at all batch sizes."""


VARIANTS = (
    Variant("eager", "eager", swept=True),
    Variant("graph", "graph", swept=True),
    Variant("compiled-graph", "compiled-graph"),
)
TUNED = Variant("tuned-graph", "tuned-graph")
"""Measured last: its kernels are chosen for minutes."""


def engine_for(architecture: Architecture, variant: Variant, device: torch.device) -> Engine:
    """A backbone with random weights."""
    torch.manual_seed(0)
    return _engine(architecture.build(), variant, device)


def _engine(backbone: Backbone, variant: Variant, device: torch.device) -> Engine:
    if device.type == "cuda":
        if variant.mode.startswith(("compiled", "tuned")):
            torch._dynamo.reset()  # shapes of the rows before would count against the limit of recompilations
        return CudaEngine(backbone, str(device), variant.mode)
    return TorchEngine(backbone, str(device))


def throughput_row(
    engine: Engine, architecture: Architecture, size: tuple[int, int], batch: int
) -> dict[str, Any]:
    """Clips per second of bytes that are on the device already, and the memory that it took."""
    device = engine.device
    clips = torch.randint(
        0, 256, (batch, architecture.clip_frames, *size, 3), dtype=torch.uint8, device=device
    )
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    first_s = one_s(lambda: engine.pooled_maps(clips), device)
    seconds = median_s(lambda: engine.pooled_maps(clips), device)
    row = {"clips_per_s": batch / seconds, "batch_s": seconds, "first_s": first_s}
    if device.type == "cuda":
        row["peak_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
    return row


def parity_row(variant: Variant, clips: int, device: torch.device) -> dict[str, Any]:
    """The embedded checkpoint in a variant against itself in single precision, on the same device."""
    from workers.simulate.clips import sample_clips

    network, info = load_checkpoint(embedded_checkpoint())
    sample = sample_clips(clips, info.clip_frames, scene_size(network.architecture), seed=4711)
    pixels = torch.from_numpy(sample.clips).to(device)
    boxes = torch.from_numpy(sample.xyxy).to(device), torch.from_numpy(sample.clip_index).to(device)
    network.to(device)
    expected = single_precision(network, pixels, *boxes)
    engine = _engine(network.backbone, variant, device)
    with torch.inference_mode():
        found = network.score_maps(engine.pooled_maps(pixels), *boxes)
    result = parity(expected, found)
    return {
        "largest_difference": result.largest_difference,
        "agreement": result.agreement,
        "boxes": result.instances,
        "accepted": result.accepted,
    }


@torch.inference_mode()
def single_precision(
    network: ActionNetwork, clips: torch.Tensor, boxes: torch.Tensor, index: torch.Tensor
) -> ActionOutput:
    """What the network says in float32, without TF32."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        return network.score_maps(network.backbone(*to_pathways(clips)), boxes, index)


def scorer_row(
    architecture: Architecture, batch: int, device: torch.device, size: tuple[int, int]
) -> dict[str, Any]:
    """Clips per second of a ``Scorer``: frames in the host's memory to probabilities, three boxes to a clip."""
    from workers.infer import Scorer
    from workers.messages import Boxes

    with tempfile.TemporaryDirectory(prefix="aviaflow-bench-") as folder:
        checkpoint = Path(folder) / "random.safetensors"
        save_checkpoint(
            ActionNetwork(architecture, ("a", "b", "c", "d", "e", "f")),
            checkpoint,
            trained_on="-",
            ethogram="-",
        )
        scorer = Scorer(checkpoint, device=str(device), batch_clips=batch)
    keyframes = 4 * batch
    shape = (4 * keyframes, 216 * size[0] // 256, 384 * size[0] // 256, 3)
    frames = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    three = Boxes(np.tile(np.array([[0.2, 0.2, 0.4, 0.6]], np.float32), (3, 1)), np.ones(3, np.float32))
    centres = np.arange(0, len(frames), 4)
    boxes = [three] * keyframes
    first_s = one_s(lambda: scorer.score(frames, centres, boxes), device)
    seconds = median_s(lambda: scorer.score(frames, centres, boxes), device, warm_up=1, rounds=3, limit_s=3)
    return {"clips_per_s": keyframes / seconds, "first_s": first_s}


def profile_table(
    architecture: Architecture, size: tuple[int, int], batch: int, device: torch.device, variant: int = 0
) -> str:
    """The kernels that take longest in one variant."""
    from torch.profiler import ProfilerActivity, profile

    engine = engine_for(architecture, VARIANTS[variant], device)
    clips = torch.randint(
        0, 256, (batch, architecture.clip_frames, *size, 3), dtype=torch.uint8, device=device
    )
    engine.pooled_maps(clips)
    synchronise(device)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=activities, record_shapes=True) as profiled:
        engine.pooled_maps(clips)
        synchronise(device)
    order = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
    table: str = profiled.key_averages(group_by_input_shape=True).table(
        sort_by=order, row_limit=30, max_name_column_width=60, max_shapes_column_width=90
    )
    return table
