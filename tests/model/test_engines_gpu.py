"""The engine of torch on a CUDA device; what it does is only ever true on one."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from model.checkpoint import embedded_checkpoint, load_checkpoint
from model.engines.cuda_engine import CudaEngine, CudaMode
from model.engines.memory import clips_that_fit, free_and_needed_bytes
from model.engines.transfer import PinnedUpload
from model.errors import DeviceMemoryError
from model.network import ActionNetwork
from model.parity import parity
from model.pathways import resize_frames, to_pathways

HAS_CARD = torch.cuda.is_available() or Path("/dev/nvidiactl").exists()
"""With a card whose driver or build of torch is broken the tests fail; they are not skipped."""
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not HAS_CARD, reason="there is no CUDA device")]
MODES: tuple[CudaMode, ...] = ("eager", "graph", "compiled-graph")


@pytest.fixture(scope="module")
def network() -> ActionNetwork:
    return load_checkpoint(embedded_checkpoint())[0].to("cuda")


def random_clips(count: int, seed: int = 0, size: tuple[int, int] = (160, 288)) -> torch.Tensor:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 16, *size, 3), np.uint8)
    return torch.from_numpy(pixels)


@pytest.mark.parametrize("mode", MODES)
def test_parity_with_single_precision_on_birds(network: ActionNetwork, mode: CudaMode) -> None:
    from workers.simulate.clips import sample_clips

    sample = sample_clips(16, 16, (160, 288), seed=11)
    clips = torch.from_numpy(sample.clips).cuda()
    boxes = torch.from_numpy(sample.xyxy).cuda(), torch.from_numpy(sample.clip_index).cuda()
    with torch.inference_mode():
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            expected = network.score_maps(network.backbone(*to_pathways(clips)), *boxes)
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # where it cannot be compiled the test fails
            maps = CudaEngine(network.backbone, mode=mode).pooled_maps(clips)
        found = network.score_maps(maps, *boxes)
    result = parity(expected, found)
    assert result.instances >= 30
    assert result.accepted, str(result)
    assert result.largest_difference > 0  # it did compute in another precision


def test_maps_stay_on_the_device_and_the_network_as_it_was(network: ActionNetwork) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    engine = CudaEngine(network.backbone, mode="graph")
    clips = random_clips(2).cuda()
    engine.pooled_maps(clips)
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiled:
        maps = engine.pooled_maps(clips)
        torch.cuda.synchronize()
    assert maps.device.type == "cuda"
    assert maps.dtype == torch.float32
    assert maps.shape == (2, network.architecture.channels, 10, 18)
    assert not [event.key for event in profiled.key_averages() if "DtoH" in event.key]
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_a_call_returns_before_the_device_has_computed(network: ActionNetwork) -> None:
    engine = CudaEngine(network.backbone, mode="graph")
    clips = random_clips(8).cuda()
    engine.pooled_maps(clips)
    torch.cuda.synchronize()
    torch.cuda._sleep(int(2e9))  # about a second of the device's clock
    engine.pooled_maps(clips)
    waiting = not torch.cuda.current_stream().query()
    torch.cuda.synchronize()
    assert waiting


def test_a_replayed_graph_equals_the_calls_that_it_recorded(network: ActionNetwork) -> None:
    eager = CudaEngine(network.backbone, mode="eager")
    graph = CudaEngine(network.backbone, mode="graph")
    kept = []
    for seed, count in ((1, 4), (2, 4), (3, 2), (4, 4)):
        clips = random_clips(count, seed)
        kept.append((graph.pooled_maps(clips), eager.pooled_maps(clips)))
    for replayed, called in kept:  # what was returned first is not overwritten by what came later
        torch.testing.assert_close(replayed, called, rtol=2e-2, atol=2e-2)
    assert not torch.allclose(kept[0][0], kept[1][0])


def test_batches_of_many_shapes_keep_few_graphs(network: ActionNetwork) -> None:
    engine = CudaEngine(network.backbone, mode="graph")
    for count in range(1, 7):
        engine.pooled_maps(random_clips(count))
    assert len(engine._calls) <= 4


def test_a_batch_that_does_not_fit_is_computed_in_parts(
    network: ActionNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = CudaEngine(network.backbone, mode="eager")
    clips = random_clips(6)
    expected = engine.pooled_maps(clips)
    inner, counts = engine._network.forward, []

    def short_of_memory(part: torch.Tensor) -> torch.Tensor:
        counts.append(len(part))
        if len(part) > 2:
            torch.empty(1 << 60, dtype=torch.uint8, device="cuda")  # raises what a full device raises
        return inner(part)

    monkeypatch.setattr(engine._network, "forward", short_of_memory)
    with pytest.warns(RuntimeWarning, match=r"6 clips at once .* set infer\.batch_clips to 3"):
        found = engine.pooled_maps(clips)
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)
    assert counts == [6, 3, 1, 1, 1, 1, 1, 1]
    assert engine.most_clips == 1


def test_a_clip_that_does_not_fit_is_named(network: ActionNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = CudaEngine(network.backbone, mode="eager")

    def full(part: torch.Tensor) -> torch.Tensor:
        return torch.empty(1 << 60, dtype=torch.uint8, device="cuda")

    monkeypatch.setattr(engine._network, "forward", full)
    with (
        pytest.warns(RuntimeWarning),
        pytest.raises(DeviceMemoryError, match=r"one clip of \(16, 160, 288, 3\)"),
    ):
        engine.pooled_maps(random_clips(2))


def test_frames_arrive_whole_while_the_buffers_take_turns() -> None:
    upload = PinnedUpload(torch.device("cuda"))
    rng = np.random.default_rng(5)
    arrays = [rng.integers(0, 256, (count, 54, 96, 3), np.uint8) for count in (3, 64, 1, 64, 7, 64)]
    there = [upload(array) for array in arrays]
    for array, tensor in zip(arrays, there, strict=True):
        assert tensor.device.type == "cuda"
        assert np.array_equal(tensor.cpu().numpy(), array)


def test_frames_are_resized_as_on_a_cpu_to_one_level() -> None:
    frames = torch.from_numpy(np.random.default_rng(6).integers(0, 256, (5, 216, 384, 3), np.uint8))
    for size in ((160, 288), (256, 448)):
        here, there = resize_frames(frames, size), resize_frames(frames.cuda(), size).cpu()
        assert there.dtype == torch.uint8
        assert (here.int() - there.int()).abs().max() <= 1


def test_a_batch_is_chosen_that_the_device_computes(network: ActionNetwork) -> None:
    clip = (network.architecture.clip_frames, 160, 288)
    network.backbone.cuda()
    free, needed = free_and_needed_bytes(network.backbone, clip, torch.device("cuda"))
    assert 0 < needed < free
    count = clips_that_fit(free, needed)
    CudaEngine(network.backbone, mode="graph").pooled_maps(torch.zeros((count, *clip, 3), dtype=torch.uint8))


def test_two_threads_of_a_scorer_fill_batches_together() -> None:
    from workers.infer import Scorer
    from workers.messages import Boxes

    frames = np.random.default_rng(8).integers(0, 256, (2, 48, 108, 192, 3), np.uint8)
    centres, box = (
        np.arange(0, 48, 4),
        Boxes(np.array([[0.2, 0.2, 0.6, 0.8]], np.float32), np.ones(1, np.float32)),
    )
    scorer = Scorer(embedded_checkpoint(), "cuda", batch_clips=8)
    alone = [scorer.score(one, centres, [box] * 12) for one in frames]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda one: scorer.score(one, centres, [box] * 12), frames))
    for first, second in zip(chain(*alone), chain(*together), strict=True):
        np.testing.assert_allclose(second.p_behaviour, first.p_behaviour, atol=0.01)


def test_a_scorer_on_the_device_says_what_one_on_the_cpu_says() -> None:
    from workers.infer import Scorer
    from workers.messages import Boxes

    rng = np.random.default_rng(7)
    frames = np.repeat(rng.integers(60, 90, (1, 108, 192, 3), np.uint8), 40, axis=0)
    for k in range(40):
        frames[k, 20:60, 3 * k : 3 * k + 24] = 230
    centres = np.arange(4, 40, 4)
    corners = np.sort(rng.random((len(centres), 3, 2, 2)), axis=2).reshape(-1, 3, 4).astype(np.float32)
    boxes = [Boxes(one, np.ones(3, np.float32)) for one in corners]
    on_cpu = Scorer(embedded_checkpoint(), "cpu").score(frames, centres, boxes)
    on_gpu = Scorer(embedded_checkpoint(), "cuda").score(frames, centres, boxes)
    for first, second in zip(on_cpu, on_gpu, strict=True):
        np.testing.assert_allclose(second.p_behaviour, first.p_behaviour, atol=0.03)
        np.testing.assert_allclose(second.p_other, first.p_other, atol=0.03)
        np.testing.assert_allclose(second.p_dynamic, first.p_dynamic, atol=0.03)
        assert np.array_equal(first.embedding, second.embedding)
