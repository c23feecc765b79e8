"""Segments cut a video without changing which keyframes are scored, or from which frames."""

from __future__ import annotations

import datetime as dt
import heapq
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.grid import FrameGrid
from workers.messages import (
    CLIP_AFTER,
    CLIP_BEFORE,
    GRID_HZ,
    ArchiveFile,
    FrameChunk,
    Presence,
    Probe,
    Recording,
)
from workers.segments import (
    CHUNK_FRAMES,
    IDLE_SHARE,
    MIN_PIECE_S,
    Segment,
    cut_to_fill,
    keyframe_indices,
    places_to_score,
    plan_day,
    plan_segments,
)


def recording_of(seconds: float, fps: float = 30.0, gop: int = 30, name: str = "0" * 16) -> Recording:
    """A recording of the given length that nobody decodes."""
    count = round(seconds * fps)
    probe = Probe(
        container="mov",
        codec="h264",
        pixel_format="yuv420p",
        width=640,
        height=360,
        rotation_deg=0,
        fps=fps,
        times_s=np.arange(count) / fps,
        is_iframe=np.arange(count) % gop == 0,
        packet_bytes=np.full(count, 100),
        duration_s=seconds,
        container_start=None,
        decoder="decord",
        decoder_reason="",
    )
    start = dt.datetime(2025, 11, 3, 6, tzinfo=dt.UTC)
    file = ArchiveFile(name, "a/b/c.mp4", "c.mp4", 1, "f", start)
    return Recording(file, probe, "a", "b", start, "path", start.date())


def presence_of(*spans_s: tuple[float, float]) -> Presence:
    return Presence(np.array(spans_s, np.float64).reshape(-1, 2), "spans", "")


def scored(segments: list[Segment]) -> list[int]:
    """All keyframes that the chunks of the segments complete, in order."""
    return [
        k
        for segment in segments
        for chunk in range(segment.chunk_count)
        if (span := segment.keyframes_ready(chunk)) is not None
        for k in keyframe_indices(span)
    ]


def test_a_whole_video_has_a_keyframe_every_four_grid_steps() -> None:
    segments = plan_segments(recording_of(10.0), presence_of((0.0, 10.0)), segment_s=300.0)
    # 10 s at 30 fps end at 9.967 s: grid points 0 to 149, keyframes 0, 4, ..., 148.
    assert scored(segments) == list(range(0, 150, 4))
    assert [(s.frames.first, s.frames.stop) for s in segments] == [(0, 150)]


def scored_frames(segments: list[Segment]) -> list[int]:
    """The frames that are scored in the chunks of the segments, in order."""
    frames: list[int] = []
    for segment in segments:
        grid = FrameGrid.of(segment.recording.probe)
        shown = grid.frames_of(segment.frames)
        times_s = grid.times_s[segment.frames.first : segment.frames.stop]
        for number in range(segment.chunk_count):
            if (ready := segment.keyframes_ready(number)) is not None:
                first = max(0, number - 1) * CHUNK_FRAMES
                part = slice(first, (number + 1) * CHUNK_FRAMES)
                pixels = np.zeros((len(shown[part]), 1, 1, 3), np.uint8)
                chunk = FrameChunk("v", segment.frames.first + first, pixels, times_s[part], shown[part])
                frames += shown[part][places_to_score(ready, chunk)].tolist()
    return frames


@pytest.mark.parametrize("segment_s", [None, 4.0, 7.0, 30.0])
@pytest.mark.parametrize(
    ("fps", "span_s", "frames"),
    [
        (1.0, (0.0, 60.0), range(60)),
        (1.0, (9.9, 23.2), range(10, 24)),
        (1.0, (10.8, 23.2), range(11, 24)),
        (0.2, (14.0, 40.0), range(3, 9)),  # the frame at 15 s is nearest from 12.5 s on
        (3.75, (0.0, 20.0), range(76)),
        (15.0, (0.0, 20.0), range(0, 301, 4)),
    ],
)
def test_each_frame_is_scored_once_whatever_the_cut(
    fps: float, span_s: tuple[float, float], frames: range, segment_s: float | None
) -> None:
    recording = recording_of(60.0, fps=fps, gop=1)
    assert scored_frames(plan_segments(recording, presence_of(span_s), segment_s)) == list(frames)


def test_the_frame_after_a_pause_is_scored_at_its_own_moment() -> None:
    """A pause of ten minutes: the frame after it is the nearest one to half of the pause."""
    recording = recording_of(40.0, fps=15.0, gop=15)
    times_s = recording.probe.times_s + np.where(recording.probe.times_s < 20.0, 0.0, 600.0)
    recording = replace(recording, probe=replace(recording.probe, times_s=times_s, duration_s=640.0))
    segments = plan_segments(recording, presence_of((10.0, 20.0), (620.0, 630.0)))
    assert [(s.keyframes.first / GRID_HZ, (s.keyframes.stop - 1) / GRID_HZ) for s in segments] == [
        (pytest.approx(10.0, abs=0.27), pytest.approx(20.0, abs=0.27)),
        (pytest.approx(620.0, abs=0.27), pytest.approx(630.0, abs=0.27)),
    ]
    frames = scored_frames(segments)
    assert frames == [*range(148, 300, 4), 299, *range(300, 456, 4)]


def test_margins_reach_as_far_as_the_clips_and_no_further() -> None:
    (segment,) = plan_segments(recording_of(60.0), presence_of((20.0, 24.0)), segment_s=300.0)
    assert (segment.keyframes.first, segment.keyframes.stop) == (300, 361)
    assert segment.frames.first == 300 - CLIP_BEFORE
    assert segment.frames.stop == 360 + CLIP_AFTER


def test_longer_clips_bring_wider_margins() -> None:
    (segment,) = plan_segments(recording_of(60.0), presence_of((20.0, 24.0)), segment_s=300.0, clip_reach=16)
    assert (segment.frames.first, segment.frames.stop) == (300 - 16, 360 + 16)


def test_an_empty_video_needs_no_segment() -> None:
    assert plan_segments(recording_of(10.0), presence_of(), segment_s=10.0) == []


def done_after(pieces_s: list[list[float]], workers: int) -> float:
    """When the last worker is done, if whoever is free takes the next piece."""
    free_s = [0.0] * workers
    for piece_s in (piece for work in pieces_s for piece in work):
        heapq.heapreplace(free_s, free_s[0] + piece_s)
    return max(free_s)


@pytest.mark.parametrize(
    ("lengths_s", "workers", "pieces_s"),
    [
        ([600.0] * 4, 2, [[600.0]] * 4),  # enough for all
        ([600.0] * 3, 2, [[600.0], [600.0], [300.0, 300.0]]),
        ([900.0], 3, [[300.0] * 3]),
        ([100.0, 900.0], 2, [[100.0], [500.0, 400.0]]),
        (
            [1000.0, 1060.0],
            2,
            [[1000.0], [1060.0]],
        ),  # an idle worker for 3 % of the time costs less than a cut
        ([30.0], 4, [[30.0]]),
        ([50.0], 4, [[20.0, 30.0]]),
        ([], 4, []),
    ],
)
def test_only_what_would_leave_a_worker_idle_is_cut(
    lengths_s: list[float], workers: int, pieces_s: list[list[float]]
) -> None:
    assert cut_to_fill(lengths_s, workers) == pieces_s


@given(lengths_s=st.lists(st.floats(0.1, 2000.0), min_size=1, max_size=30), workers=st.integers(1, 20))
def test_workers_are_done_at_about_the_same_time_with_fewer_cuts_than_workers(
    lengths_s: list[float], workers: int
) -> None:
    pieces_s = cut_to_fill(lengths_s, workers)
    even_s = sum(lengths_s) / workers
    assert [sum(work) for work in pieces_s] == pytest.approx(lengths_s)
    assert sum(len(work) - 1 for work in pieces_s) < workers
    assert done_after(pieces_s, workers) <= max((1 + IDLE_SHARE) * even_s, even_s + 2 * MIN_PIECE_S) + 1e-6


def frames_read(segments: list[Segment]) -> int:
    """Frames that a decoder goes through from the I-frame before each segment to its last frame."""
    total = 0
    for segment in segments:
        probe = segment.recording.probe
        first, *_, last = FrameGrid.of(probe).frames_of(segment.frames).tolist()
        total += last + 1 - int(np.flatnonzero(probe.is_iframe[: first + 1])[-1])
    return total


def test_with_enough_videos_none_is_cut_and_the_last_one_too_many_is_cut_before_an_iframe() -> None:
    names = [f"{number:016x}" for number in range(3)]
    days = [(recording_of(120.0, name=name), presence_of((0.0, 120.0))) for name in names]
    assert [len(segments) for segments in plan_day(days[:2], workers=2).values()] == [1, 1]
    planned = plan_day(days, workers=2)
    assert list(planned) == names
    assert [len(segments) for segments in planned.values()] == [1, 1, 2]
    first, second = planned[names[2]]
    assert first.seconds == pytest.approx(60.0, abs=6.0)
    # Of the I-frames, one a second, every fourth lies where a keyframe's clip begins: 15 k + 8 is a multiple of 4.
    entry = int(FrameGrid.of(second.recording.probe).frame_indices[second.frames.first])
    assert second.recording.probe.is_iframe[entry]
    assert second.repeats == frames_read([first, second]) - frames_read(plan_segments(*days[2]))
    assert second.repeats == 2 * (2 * CLIP_AFTER - 4) - 1  # 12 grid points, each second frame


def test_a_cut_is_where_the_nearest_iframe_is_and_nowhere_if_there_is_none() -> None:
    far_apart = recording_of(120.0, gop=30 * 50)  # at 0, 50 and 100 s
    first, second = plan_day([(far_apart, presence_of((0.0, 120.0)))], workers=2)["0" * 16]
    assert second.keyframes.first == first.keyframes.stop + 3 == 15 * 50 + 10
    at_start_only = recording_of(120.0, gop=30 * 120)
    assert len(plan_day([(at_start_only, presence_of((0.0, 120.0)))], workers=2)["0" * 16]) == 1
    counted = recording_of(120.0)
    counted = replace(
        counted, probe=replace(counted.probe, has_frame_times=False)
    )  # is always read from 0 on
    assert len(plan_day([(counted, presence_of((0.0, 120.0)))], workers=2)["0" * 16]) == 1


def test_a_longest_segment_that_is_given_is_all_that_counts() -> None:
    day = [(recording_of(120.0), presence_of((0.0, 120.0)))]
    assert len(plan_day(day, workers=2, segment_s=300.0)["0" * 16]) == 1
    assert len(plan_day(day, workers=2, segment_s=32.0)["0" * 16]) == 4


def test_no_fixed_cut_has_two_pieces_read_from_the_same_iframe_on() -> None:
    presence = presence_of((0.0, 120.0))
    far_apart = recording_of(120.0, gop=30 * 50)  # at 0, 50 and 100 s
    pieces = plan_segments(far_apart, presence, segment_s=8.0)
    assert [piece.keyframes.first / GRID_HZ for piece in pieces] == [0.0, 56.0, 104.0]
    counted = recording_of(120.0)
    counted = replace(counted, probe=replace(counted.probe, has_frame_times=False))  # read from 0 on
    assert len(plan_segments(counted, presence, segment_s=8.0)) == 1


@settings(deadline=None, max_examples=30)
@given(
    workers=st.integers(1, 7),
    reach=st.sampled_from((8, 16)),
    gop=st.sampled_from((7, 30, 250)),
    lengths_s=st.lists(st.floats(1.0, 300.0), min_size=1, max_size=3),
)
def test_the_automatic_cut_changes_no_keyframe_and_counts_what_it_repeats(
    workers: int, reach: int, gop: int, lengths_s: list[float]
) -> None:
    day = []
    for number, length_s in enumerate(lengths_s):
        recording = recording_of(length_s, gop=gop, name=f"{number:016x}")
        spans = [(0.0, 0.3 * length_s), (0.45 * length_s, length_s)]
        day.append((recording, presence_of(*spans)))
    planned = plan_day(day, workers, clip_reach=reach)
    for recording, presence in day:
        whole, cut = plan_segments(recording, presence, None, reach), planned[recording.file.video_id]
        assert scored(cut) == scored(whole)
        assert_clips_are_whole(cut, reach, FrameGrid.of(recording.probe).length)
        assert frames_read(cut) - sum(segment.repeats for segment in cut) == frames_read(whole)


@given(
    segment_s=st.floats(2.0, 80.0),
    reach=st.sampled_from((8, 16)),
    spans=st.lists(st.tuples(st.floats(0, 60), st.floats(0.1, 30)), min_size=1, max_size=3),
)
def test_the_cut_changes_no_keyframe_and_every_clip_is_whole(
    segment_s: float, reach: int, spans: list[tuple[float, float]]
) -> None:
    recording = recording_of(70.0)
    ends = sorted((start, min(70.0, start + length)) for start, length in spans)
    presence = presence_of(
        *(s for i, s in enumerate(ends) if s[0] > max((e[1] for e in ends[:i]), default=-1.0))
    )
    whole = plan_segments(recording, presence, 1e6, reach)
    cut = plan_segments(recording, presence, segment_s, reach)
    assert scored(cut) == scored(whole)
    assert_clips_are_whole(cut, reach, 1050)
    assert frames_read(cut) - sum(segment.repeats for segment in cut) == frames_read(whole)


def assert_clips_are_whole(cut: list[Segment], reach: int, grid_stop: int) -> None:
    """Each keyframe's clip lies within the chunk that completes it and the one before."""
    for segment in cut:
        for chunk in range(segment.chunk_count):
            ready = segment.keyframes_ready(chunk)
            if ready is None:
                continue
            first = max(segment.frames.first, segment.frames.first + (chunk - 1) * CHUNK_FRAMES)
            stop = min(segment.frames.stop, segment.frames.first + (chunk + 1) * CHUNK_FRAMES)
            for k in keyframe_indices(ready):
                assert first <= max(k - reach, 0)
                assert stop >= min(k + reach, segment.frames.stop)
                assert segment.frames.stop >= min(k + reach, grid_stop)
