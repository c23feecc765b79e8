"""Segments cut a video without changing which keyframes are scored, or from which frames."""

from __future__ import annotations

import datetime as dt

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from workers.messages import CLIP_AFTER, CLIP_BEFORE, ArchiveFile, Presence, Probe, Recording
from workers.segments import CHUNK_FRAMES, Segment, keyframe_indices, plan_segments


def recording_of(seconds: float, fps: float = 30.0) -> Recording:
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
        is_iframe=np.arange(count) % 30 == 0,
        packet_bytes=np.full(count, 100),
        duration_s=seconds,
        container_start=None,
        decoder="decord",
        decoder_reason="",
    )
    start = dt.datetime(2025, 11, 3, 6, tzinfo=dt.UTC)
    file = ArchiveFile("0" * 16, "a/b/c.mp4", "c.mp4", 1, "f", start)
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
                assert segment.frames.stop >= min(k + reach, 1050)
