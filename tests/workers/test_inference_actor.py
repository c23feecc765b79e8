"""An inference actor whose engine fails, as devices do: no chunk is lost, and none gets another's scores."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from torch import Tensor

from flows.cluster import ray_cluster
from model.checkpoint import embedded_checkpoint
from model.engines.choice import EngineSpec
from workers.actors import Inference
from workers.detectors import DetectorSpec
from workers.messages import FrameChunk, GridSpan
from workers.pool import CHUNKS_AT_ONCE
from workers.score import ScoredKeyframes, ScorerSpec

CHUNKS = 4
MARK = 255
"""A clip with such a pixel in its corner spoils its batch."""


class FaultyEngine:
    """An engine that fails once, as ``fault`` says, and is a cheap one else."""

    def __init__(self, fault: str, trace: Path, channels: int) -> None:
        self.device = torch.device("cpu")
        self._fault, self._trace, self._channels = fault, trace, channels

    def pooled_maps(self, clips: Tensor) -> Tensor:
        """Maps that follow from each clip's own pixels."""
        first = not self._trace.exists()
        with self._trace.open("a") as trace:
            trace.write(f"{len(clips)}\n")
        is_marked = (clips[:, :, 0, 0] == MARK).flatten(1).any(dim=1)
        if self._fault == "killed" and first:
            os.kill(os.getpid(), 9)
        if self._fault == "cuda" and first:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
        if self._fault == "memory" and len(clips) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8 GiB")
        if self._fault == "poison" and bool(is_marked.any()):
            raise RuntimeError("the kernel met a value that it does not know")
        maps = clips.float().mean(dim=(1, 2, 3, 4)).div(255)[:, None, None, None]
        maps = maps.expand(-1, self._channels, 10, 18).clone()
        if self._fault == "spoilt" and first:
            maps[:] = torch.nan
        if self._fault == "nan":
            maps[is_marked] = torch.nan
        return maps


@ray.remote(max_restarts=2, max_concurrency=CHUNKS_AT_ONCE, num_cpus=0)
class FaultyInference(Inference):
    """The actor of a run with an engine that fails."""

    def __init__(self, spec: ScorerSpec, fault: str, trace: Path) -> None:
        super().__init__(spec)
        scorer: Any = self._scorer._scorer
        scorer._engine = FaultyEngine(fault, trace, scorer._network.architecture.channels)


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    with ray_cluster():
        yield


def chunk_of(number: int) -> FrameChunk:
    """A chunk of a video of its own, brighter than the one before; that of number 2 is marked."""
    frames = np.full((32, 54, 96, 3), 20 * (number + 1), np.uint8)
    frames[:, 0:3, 0:3] = MARK if number == 2 else 0
    grid = np.arange(32)
    return FrameChunk(f"video-{number}", 0, frames, grid / 15, grid)


def scored(fault: str, folder: Path) -> list[ScoredKeyframes | Exception]:
    """What one actor makes of some chunks at once; each has 5 keyframes."""
    csv = folder / "boxes.csv"
    lines = [f"video-{n}.mp4,{k * 4 / 15:.6f},0.1,0.1,0.5,0.6,1,-1" for n in range(CHUNKS) for k in range(6)]
    csv.write_text("\n".join(lines) + "\n")
    uris = tuple((f"video-{number}", f"video-{number}.mp4") for number in range(CHUNKS))
    detector = DetectorSpec("given", boxes_csv=csv, uris=uris)
    spec = ScorerSpec(embedded_checkpoint(), detector, "cpu", EngineSpec("torch"), 4, 1, 6)
    actor = FaultyInference.remote(spec, fault, folder / "batches")  # type: ignore[attr-defined]
    chunks = [ray.put(chunk_of(number)) for number in range(CHUNKS)]
    outcomes: dict[int, ScoredKeyframes | Exception] = {}
    while left := [number for number in range(CHUNKS) if number not in outcomes]:
        ray.get(actor.node.remote(), timeout=240)  # as workers.stream waits for one that died
        waiting = {n: actor.score.remote(None, chunks[n], GridSpan(0, 20), (), True) for n in left}
        for number, one in waiting.items():
            with suppress(ray.exceptions.RayActorError):
                outcomes[number] = outcome_of(one)
    ray.kill(actor)
    return [outcomes[number] for number in range(CHUNKS)]


def outcome_of(scored: Any) -> ScoredKeyframes | Exception:
    try:
        return ray.get(scored, timeout=240)
    except ray.exceptions.RayTaskError as error:
        return error


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What an engine without a fault gives."""
    return scored("none", tmp_path_factory.mktemp("sound"))


def assert_same(found: ScoredKeyframes | Exception, expected: ScoredKeyframes) -> None:
    assert isinstance(found, ScoredKeyframes), found
    assert len(found.rows.frame) == len(expected.rows.frame) == 5
    assert found.rows.video_id == expected.rows.video_id
    np.testing.assert_allclose(found.rows.p_behaviour, expected.rows.p_behaviour, atol=1e-5)


def test_every_chunk_gets_its_own_scores(sound: list[Any], tmp_path: Path) -> None:
    firsts = [one.rows.p_behaviour[0, 0] for one in sound]
    assert len(set(firsts)) == CHUNKS
    assert [one.rows.video_id for one in sound] == [f"video-{number}" for number in range(CHUNKS)]


@pytest.mark.parametrize("fault", ["killed", "cuda", "memory", "spoilt"])
def test_a_fault_of_the_device_costs_no_chunk(fault: str, sound: list[Any], tmp_path: Path) -> None:
    for found, expected in zip(scored(fault, tmp_path), sound, strict=True):
        assert_same(found, expected)
    sizes = [int(line) for line in (tmp_path / "batches").read_text().split()]
    assert (set(sizes) == {4, 2}) == (fault == "memory")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("poison", "a value that it does not know"), ("nan", r"no finite numbers at 0\.00 s")],
)
def test_a_clip_that_spoils_its_batch_costs_its_own_chunk_only(
    fault: str, reason: str, sound: list[Any], tmp_path: Path
) -> None:
    found = scored(fault, tmp_path)
    assert re.search(reason, str(found.pop(2)))
    for one, expected in zip(found, [*sound[:2], sound[3]], strict=True):
        assert_same(one, expected)
