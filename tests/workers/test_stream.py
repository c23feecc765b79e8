"""The stream: what is scored, in which order, and what happens when a decoder, a node or an actor dies."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray
from ray.exceptions import NodeDiedError, ObjectLostError

import workers.stream as stream_module
from flows.cluster import ray_cluster
from storage.records import EMBEDDING_SIZE, DetectionColumns
from workers.actors import DecodeLimits, DecodeReport
from workers.errors import DamagedVideoError, UnstableClusterError
from workers.messages import FrameChunk, GridSpan
from workers.pool import SharedActors
from workers.score import ScoredKeyframes
from workers.scratch import Scratch
from workers.segments import CHUNK_FRAMES, Segment, keyframe_indices
from workers.stream import ACTOR_ENDED, CameraDayStream, FailedVideo, ScoredVideo, StreamLimits

LIMITS = StreamLimits(2, DecodeLimits(2**32, 30.0, Scratch(Path("scratch"), 2**20)), (4, 6))


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    with ray_cluster():
        yield


def attempt(segment: Segment) -> int:
    """Which attempt at the segment this is, from 1."""
    marks = Path(f"{segment.recording.file.path}.{segment.recording.file.video_id}.{segment.keyframes.first}")
    with marks.open("a") as file:
        file.write(".")
    return len(marks.read_text())


@ray.remote(max_calls=1, max_retries=0)
def decode_numbers(segment: Segment, size: tuple[int, int], limits: DecodeLimits) -> Iterator[Any]:
    """Frames whose pixels are their grid index; videos of some names fail in the second chunk, some only at first."""
    name = segment.recording.file.video_id
    for first in range(segment.frames.first, segment.frames.stop, CHUNK_FRAMES):
        if first == segment.frames.first + CHUNK_FRAMES:
            if name == "bad":
                raise DamagedVideoError("the pictures end here", "bad.mp4")
            number = attempt(segment) if name in ("once", "moving") else 0
            if name == "dead" or (name, number) in (("once", 1), ("moving", 2)):
                os.kill(os.getpid(), signal.SIGALRM)
            if name == "nodes" or (name == "moving" and number < 4):
                raise NodeDiedError("the node that it ran on is dead")
            if name == "large":
                raise MemoryError
            if name == "odd":
                raise KeyError("something nobody thought of")
        grid = np.arange(first, min(first + CHUNK_FRAMES, segment.frames.stop))
        frames = np.broadcast_to((grid % 251).astype(np.uint8)[:, None, None, None], (len(grid), *size, 3))
        yield FrameChunk(name, first, np.array(frames), grid / 15.0, grid)
    yield DecodeReport(
        len(range(segment.frames.first, segment.frames.stop)),
        "decord",
        0.5,
        100,
        7000 + segment.keyframes.first,
    )


@ray.remote(num_cpus=0, max_restarts=20, max_concurrency=3)
class OneBoxPerKeyframe:
    """Checks that each clip is whole, and returns one box whose height tells the pixel of the keyframe.

    Chunks of a video called "lost" are not to be had the first time; one called "deadly" ends the process.
    """

    def __init__(self) -> None:
        self._scored: list[tuple[str, int]] = []

    @ray.method(max_task_retries=-1)
    def node(self) -> str:
        """As :meth:`workers.actors.Inference.node`."""
        return str(ray.get_runtime_context().get_node_id())

    def scored(self) -> list[tuple[str, int]]:
        """Video and first frame of the chunks that were scored, in order."""
        return self._scored

    def score(
        self,
        previous: FrameChunk | None,
        chunk: FrameChunk,
        keyframes: GridSpan,
        plates: Any,
        behaviour: bool,
    ) -> ScoredKeyframes:
        """One row per keyframe."""
        if chunk.video_id == "deadly":
            time.sleep(0.2)  # others are with it by then
            os.kill(os.getpid(), signal.SIGKILL)
        self._scored.append((chunk.video_id, chunk.first_grid))
        if chunk.video_id == "lost" and self._scored.count(self._scored[-1]) == 1:
            raise ObjectLostError("ab" * 28, None, "")
        joined = chunk.frames if previous is None else np.concatenate([previous.frames, chunk.frames])
        first = chunk.first_grid if previous is None else previous.first_grid
        grid = np.array(keyframe_indices(keyframes))
        pixel = joined[grid - first, 0, 0, 0]
        boxes = np.zeros((len(grid), 4), np.float32)
        boxes[:, 3] = pixel / 255
        rows = DetectionColumns(
            chunk.video_id,
            grid.astype(np.int32),
            grid / 15.0,
            boxes,
            np.ones(len(grid), np.float32),
            np.full((len(grid), 2), 0.5 if behaviour else np.nan, np.float32),
            np.zeros(len(grid), np.float32),
            np.zeros(len(grid), np.float32),
            np.zeros((len(grid), EMBEDDING_SIZE), np.int8),
        )
        return ScoredKeyframes(keyframes, len(grid), rows, 0.1, 0.2, 9000 + keyframes.first)


def recording(name: str, fps: float = 30.0, path: Path | None = None) -> Any:
    file = SimpleNamespace(video_id=name, path=str(path), uri=f"{name}.mp4")
    return SimpleNamespace(file=file, probe=SimpleNamespace(fps=fps))


def outcomes(
    monkeypatch: pytest.MonkeyPatch,
    names: list[str],
    fps: float = 30.0,
    path: Path | None = None,
    actor: Any = None,
) -> dict[str, Any]:
    stream = stream_of(monkeypatch, names, fps, path, actor)
    return {outcome.recording.file.video_id: outcome for outcome in stream}


def stream_of(
    monkeypatch: pytest.MonkeyPatch,
    names: list[str],
    fps: float = 30.0,
    path: Path | None = None,
    actor: Any = None,
    actors: SharedActors | None = None,
) -> CameraDayStream:
    monkeypatch.setattr(stream_module, "decode_segment", decode_numbers)
    recordings = [recording(name, fps, path) for name in names]
    segments = {
        r.file.video_id: [
            Segment(r, GridSpan(0, 208), GridSpan(0, 200)),
            Segment(r, GridSpan(192, 300), GridSpan(200, 300)),
        ]
        for r in recordings
    }
    actors = actors or SharedActors([actor or OneBoxPerKeyframe.remote()])
    return CameraDayStream(segments, recordings, (), actors, LIMITS, 2)


def test_every_keyframe_is_scored_once_in_order_from_its_own_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    done = outcomes(monkeypatch, ["one", "two"])
    for name in ("one", "two"):
        video = done[name]
        assert_whole(video)
        assert (video.decode_s, video.segments) == (1.0, 2)
        assert video.decode_peak_bytes == 7200
        assert video.actor_peak_bytes > 9200


@pytest.mark.parametrize(("name", "expected"), [("one", [0.25, 0.25]), ("once", [0.0, 0.0, 0.25, 0.25])])
def test_a_decoder_asks_for_its_share_of_a_gpu_and_for_none_after_its_process_was_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, expected: list[float]
) -> None:
    stream = stream_of(monkeypatch, [name], path=tmp_path / "a.mp4")
    asked = []

    def options(num_gpus: float, **others: Any) -> Any:
        asked.append(num_gpus)
        return decode_numbers.options(**others)

    monkeypatch.setattr(stream_module, "decode_segment", SimpleNamespace(options=options))
    decode = dataclasses.replace(LIMITS.decode, gpu_share=0.25)
    stream._limits = dataclasses.replace(LIMITS, decode=decode)
    (video,) = stream
    assert_whole(video)
    assert sorted(asked) == expected


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("bad", "the pictures end here"),
        ("dead", "made no progress, or needed more memory"),
        ("large", r"more memory than one process may use; raise decode.memory_gib"),
        ("odd", "something nobody thought of"),
    ],
)
def test_a_decoder_that_fails_costs_its_video_and_no_other(
    monkeypatch: pytest.MonkeyPatch, name: str, reason: str
) -> None:
    done = outcomes(monkeypatch, ["one", name, "two"])
    assert isinstance(done[name], FailedVideo)
    assert done[name].may_pass is (name == "dead")
    assert reason in done[name].reason
    assert isinstance(done["one"], ScoredVideo)
    assert isinstance(done["two"], ScoredVideo)


def test_a_decoder_that_dies_once_costs_a_retry_and_no_row(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done = outcomes(monkeypatch, ["one", "once"], path=tmp_path / "died")
    assert (tmp_path / "died.once.0").read_text() == ".."
    for name in ("one", "once"):
        assert_whole(done[name])


def assert_whole(video: Any) -> None:
    """All rows of a video are there once, in order, each from its own frame."""
    assert isinstance(video, ScoredVideo)
    assert video.rows.frame.tolist() == list(range(0, 300, 4))
    np.testing.assert_allclose(video.rows.xyxy[:, 3] * 255, video.rows.frame % 251, atol=1e-3)
    assert (video.keyframes, video.frames_decoded) == (75, 208 + 108)


def test_nodes_that_die_cost_neither_a_video_nor_a_row_nor_a_chunk_scored_twice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    actor = OneBoxPerKeyframe.remote()
    done = outcomes(monkeypatch, ["one", "moving"], path=tmp_path / "tries", actor=actor)
    assert (tmp_path / "tries.moving.0").read_text() == "...."
    assert_whole(done["one"])
    assert_whole(done["moving"])
    scored = ray.get(actor.scored.remote())
    firsts = {name: sorted(first for video, first in scored if video == name) for name in ("one", "moving")}
    assert firsts["moving"] == firsts["one"]


def test_a_chunk_that_was_lost_before_it_was_scored_is_decoded_and_scored_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    actor = OneBoxPerKeyframe.remote()
    done = outcomes(monkeypatch, ["lost", "one"], actor=actor)
    assert_whole(done["lost"])
    assert_whole(done["one"])
    scored = [video for video, _ in ray.get(actor.scored.remote())]
    assert scored.count("lost") > scored.count("one")


def test_a_cluster_whose_nodes_keep_dying_is_no_video_to_quarantine(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnstableClusterError, match=r"nodes that worked on it died .* run again"):
        outcomes(monkeypatch, ["nodes"])


def test_actors_that_stay_dead_are_no_video_to_quarantine_and_leave_no_decoder_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UnstableClusterError, match="the actors that score keep dying; run again") as raised:
        outcomes(monkeypatch, ["deadly"], actor=OneBoxPerKeyframe.options(max_restarts=1).remote())
    assert_no_decoder_waits()
    assert raised.value.__traceback__ is not None  # which holds the stream


def test_a_chunk_that_ends_its_actor_costs_its_video_and_none_of_those_that_died_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = outcomes(monkeypatch, ["one", "deadly", "two", "three"])
    assert isinstance(done["deadly"], FailedVideo)
    assert done["deadly"].reason == ACTOR_ENDED
    assert done["deadly"].may_pass
    for name in ("one", "two", "three"):
        assert_whole(done[name])


def test_camera_days_that_share_an_actor_do_not_answer_for_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shared = SharedActors([OneBoxPerKeyframe.remote()])
    days = [stream_of(monkeypatch, names, actors=shared) for names in (["deadly"], ["one", "two", "three"])]
    with ThreadPoolExecutor(2) as pool:
        outcomes = [outcome for day in pool.map(list, days) for outcome in day]
    done = {outcome.recording.file.video_id: outcome for outcome in outcomes}
    assert isinstance(done["deadly"], FailedVideo)
    for name in ("one", "two", "three"):
        assert_whole(done[name])
    assert shared.is_idle(0)
    assert shared.claim(0, "somebody else")


def assert_no_decoder_waits() -> None:
    until_s = time.monotonic() + 30.0
    while ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"]:
        assert time.monotonic() < until_s, "decoders wait for somebody who takes their chunks"
        time.sleep(0.1)


def test_a_stream_that_is_closed_leaves_no_decoder_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes_of = iter(stream_of(monkeypatch, ["one", "two", "three", "four"]))
    assert isinstance(next(outcomes_of), ScoredVideo)
    outcomes_of.close()
    assert_no_decoder_waits()


def test_slow_video_is_detected_and_its_behaviour_not_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    video = outcomes(monkeypatch, ["one"], fps=9.0)["one"]
    assert np.isnan(video.rows.p_behaviour).all()
    assert len(video.rows.frame) == 75


def test_nothing_to_decode_is_a_video_without_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "decode_segment", decode_numbers)
    empty = recording("empty")
    (video,) = CameraDayStream({"empty": []}, [empty], (), SharedActors([]), LIMITS, 2)
    assert isinstance(video, ScoredVideo)
    assert video.rows.p_behaviour.shape == (0, 2)
