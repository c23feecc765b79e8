"""What decoders and actors ask Ray for where they share a GPU, and in which order a decode process limits itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from flows.cluster import check_gpus
from flows.errors import ClusterError
from flows.settings import DecodeSettings
from workers import actors, nvdec
from workers.actors import GPU_SHARE_BESIDE_NVDEC, DecodeLimits, DecodeReport, start_inference_actors
from workers.archive import list_archive, place_recording
from workers.probe import probe_video
from workers.scratch import Scratch
from workers.segments import plan_segments
from workers.survey import whole_video


@pytest.mark.parametrize(
    ("device", "share", "gpus"), [("cuda", 1.0, 1.0), ("cuda", 0.6, 0.6), ("cpu", 0.6, 0)]
)
def test_an_actor_takes_its_share(
    monkeypatch: pytest.MonkeyPatch, device: str, share: float, gpus: float
) -> None:
    asked: list[dict[str, Any]] = []

    def options(**given: Any) -> Any:
        asked.append(dict(given))
        return SimpleNamespace(remote=lambda spec: "actor")

    monkeypatch.setattr(actors, "InferenceActor", SimpleNamespace(options=options))
    spec: Any = SimpleNamespace(device=device)
    reserved: list[Any] = []
    monkeypatch.setattr(actors, "placement_group", lambda bundles: reserved.append(bundles) or "group")
    monkeypatch.setattr(actors, "PlacementGroupSchedulingStrategy", lambda group, place: (group, place))
    given_back: list[Any] = []
    ended: list[Any] = []
    monkeypatch.setattr(actors.ray, "kill", ended.append)
    monkeypatch.setattr(actors, "remove_placement_group", given_back.append)
    started = start_inference_actors(spec, 2, share)
    assert started.handles == ["actor", "actor"]
    assert [(one["num_cpus"], one["num_gpus"]) for one in asked] == [(0, gpus)] * 2
    # What a restarted actor needs is kept for it where decoders, which wait for it, could take it.
    is_shared = device == "cuda" and share < 1
    assert reserved == ([[{"GPU": 0.6}] * 2] if is_shared else [])
    places = [one.get("scheduling_strategy") for one in asked]
    assert places == ([("group", 0), ("group", 1)] if is_shared else [None, None])
    started.give_back()
    assert ended == ["actor", "actor"]
    assert given_back == (["group"] if is_shared else [])


def test_two_actors_never_share_a_gpu_and_decoders_always_find_room() -> None:
    assert 2 * GPU_SHARE_BESIDE_NVDEC > 1
    largest = next(m.le for m in DecodeSettings.model_fields["gpu_share"].metadata if hasattr(m, "le"))
    assert largest + GPU_SHARE_BESIDE_NVDEC <= 1


@pytest.mark.parametrize("share", [0.0, 0.05])
def test_cuda_is_started_before_address_space_is_limited(
    tmp_path: Path, write_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    order: list[str] = []
    write_video(tmp_path / "lake" / "north" / "north_20251103T155000Z.mp4")
    (file,) = list_archive(str(tmp_path))
    recording = place_recording(file, probe_video(file.path))
    (segment,) = plan_segments(recording, whole_video(recording, "all of it"), 300.0)
    monkeypatch.setattr(nvdec, "warm_up", lambda: order.append("warm up"))
    monkeypatch.setattr(actors, "limit_address_space", lambda count: order.append("limit"))
    monkeypatch.setattr(actors, "limit_open_files", lambda count: None)

    def opened(*arguments: Any) -> Any:
        order.append("open")
        raise nvdec.NvdecError("not here")

    monkeypatch.setattr(nvdec, "open_nvdec", opened)
    limits = DecodeLimits(2**33, 60.0, Scratch(tmp_path / "scratch", 2**20), gpu_share=share)
    *_, report = actors.decode_segment._function(segment, (48, 80), limits)
    assert isinstance(report, DecodeReport)
    assert order == (["warm up", "limit", "open"] if share else ["limit"])
    assert report.decoder == ("decord; not by NVDEC: not here" if share else "decord")


@pytest.mark.parametrize("gpus", [0, 2])
def test_a_cluster_without_a_gpu_is_refused_before_tasks_wait_for_one(
    monkeypatch: pytest.MonkeyPatch, gpus: int
) -> None:
    resources = {"CPU": 4.0, **({"GPU": float(gpus)} if gpus else {})}
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": resources}])
    if gpus:
        check_gpus(2, "two are wanted", "take one")
    with pytest.raises(
        ClusterError, match=f"three are wanted, but the Ray cluster has {gpus or 'no'} GPU; take one"
    ):
        check_gpus(3, "three are wanted", "take one")
