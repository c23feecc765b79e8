"""The stream: what is scored, in which order, and what happens when a decoder dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray

import workers.stream as stream_module
from flows.cluster import ray_cluster
from storage.records import EMBEDDING_SIZE, DetectionColumns
from workers.actors import DecodeLimits, DecodeReport
from workers.errors import DamagedVideoError
from workers.messages import FrameChunk, GridSpan
from workers.score import ScoredKeyframes
from workers.scratch import Scratch
from workers.segments import CHUNK_FRAMES, Segment, keyframe_indices
from workers.stream import CameraDayStream, FailedVideo, ScoredVideo, StreamLimits

LIMITS = StreamLimits(2, DecodeLimits(2**32, 30.0, Scratch(Path("scratch"), 2**20)), (4, 6))


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    with ray_cluster():
        yield


@ray.remote(max_calls=1, max_retries=1)
def decode_numbers(segment: Segment, size: tuple[int, int], limits: DecodeLimits) -> Iterator[Any]:
    """Frames whose pixels are their grid index; videos of some names fail in the second chunk, once only once."""
    name = segment.recording.file.video_id
    for first in range(segment.frames.first, segment.frames.stop, CHUNK_FRAMES):
        if first > segment.frames.first:
            if name == "bad":
                raise DamagedVideoError("the pictures end here", "bad.mp4")
            if name == "dead" or (name == "once" and not Path(segment.recording.file.path).exists()):
                Path(segment.recording.file.path).touch()
                os.kill(os.getpid(), signal.SIGALRM)
            if name == "large":
                raise MemoryError
            if name == "odd":
                raise KeyError("something nobody thought of")
        grid = np.arange(first, min(first + CHUNK_FRAMES, segment.frames.stop))
        frames = np.broadcast_to((grid % 251).astype(np.uint8)[:, None, None, None], (len(grid), *size, 3))
        yield FrameChunk(name, first, np.array(frames), grid / 15.0, grid)
    yield DecodeReport(len(range(segment.frames.first, segment.frames.stop)), "decord", 0.5)


@ray.remote(num_cpus=0)
class OneBoxPerKeyframe:
    """Checks that each clip is whole, and returns one box whose height tells the pixel of the keyframe."""

    def score(
        self,
        previous: FrameChunk | None,
        chunk: FrameChunk,
        keyframes: GridSpan,
        plates: Any,
        behaviour: bool,
    ) -> ScoredKeyframes:
        """One row per keyframe."""
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
        return ScoredKeyframes(keyframes, rows, 0.1, 0.2)


def recording(name: str, fps: float = 30.0, path: Path | None = None) -> Any:
    file = SimpleNamespace(video_id=name, path=str(path or "/dev/null"))
    return SimpleNamespace(file=file, probe=SimpleNamespace(fps=fps))


def outcomes(
    monkeypatch: pytest.MonkeyPatch, names: list[str], fps: float = 30.0, path: Path | None = None
) -> dict[str, Any]:
    monkeypatch.setattr(stream_module, "decode_segment", decode_numbers)
    recordings = [recording(name, fps, path) for name in names]
    segments = {
        r.file.video_id: [
            Segment(r, GridSpan(0, 208), GridSpan(0, 200)),
            Segment(r, GridSpan(192, 300), GridSpan(200, 300)),
        ]
        for r in recordings
    }
    stream = CameraDayStream(segments, recordings, (), [OneBoxPerKeyframe.remote()], LIMITS, 2)
    return {outcome.recording.file.video_id: outcome for outcome in stream}


def test_every_keyframe_is_scored_once_in_order_from_its_own_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    done = outcomes(monkeypatch, ["one", "two"])
    for name in ("one", "two"):
        video = done[name]
        assert isinstance(video, ScoredVideo)
        assert video.rows.frame.tolist() == list(range(0, 300, 4))
        np.testing.assert_allclose(video.rows.xyxy[:, 3] * 255, video.rows.frame % 251, atol=1e-3)
        assert (video.keyframes, video.frames_decoded, video.decode_s) == (75, 208 + 108, 1.0)


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
    assert reason in done[name].reason
    assert isinstance(done["one"], ScoredVideo)
    assert isinstance(done["two"], ScoredVideo)


def test_a_decoder_that_dies_once_costs_a_retry_and_no_row(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    died = tmp_path / "died"
    done = outcomes(monkeypatch, ["one", "once"], path=died)
    assert died.exists()
    for name in ("one", "once"):
        assert done[name].rows.frame.tolist() == list(range(0, 300, 4))
        np.testing.assert_allclose(done[name].rows.xyxy[:, 3] * 255, done[name].rows.frame % 251, atol=1e-3)


def test_slow_video_is_detected_and_its_behaviour_not_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    video = outcomes(monkeypatch, ["one"], fps=9.0)["one"]
    assert np.isnan(video.rows.p_behaviour).all()
    assert len(video.rows.frame) == 75


def test_nothing_to_decode_is_a_video_without_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "decode_segment", decode_numbers)
    empty = recording("empty")
    (video,) = CameraDayStream({"empty": []}, [empty], (), [], LIMITS, 2)
    assert isinstance(video, ScoredVideo)
    assert video.rows.p_behaviour.shape == (0, 2)
