"""Stages that are replayed on the videos of a store."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pytest

from flows.nightly.context import RunContext, open_context
from flows.nightly.night import video_record
from flows.replay.videos import replay_decode, stored_videos
from flows.settings import DecodeSettings, Settings
from storage.catalog import video_details
from storage.layout import CameraDay
from storage.parquet import Footer
from tests.numbered import write_video
from workers.archive import list_archive, place_recording
from workers.messages import Presence
from workers.probe import probe_video
from workers.score import join_rows


def context_of(folder: Path, segment_seconds: float | None) -> RunContext:
    decode = DecodeSettings(segment_seconds=segment_seconds)
    return open_context(str(folder / "archive"), str(folder / "store"), Settings(decode=decode))


@pytest.mark.parametrize("segment_seconds", [None, 4.0, 2.5])
def test_frames_that_segments_decode_twice_are_no_difference(
    tmp_path: Path, segment_seconds: float | None
) -> None:
    write_video(tmp_path / "archive" / "marsh/east/east_20260301T100000Z.mp4", 360)
    context = context_of(tmp_path, segment_seconds)
    (file,) = list_archive(context.archive)
    spans_s, names = [(0.0, 12.0)], context.ethogram.names
    # The last of the 15 Hz grid is frame 358.
    record = video_record(
        place_recording(file, probe_video(file.path)),
        "east",
        359,
        "decord",
        Presence(np.array(spans_s), "spans", ""),
    )
    footer = Footer("detections", "", "m", "c", names, "UTC", details=video_details(record, spans_s))
    day = CameraDay("marsh", "east", dt.date(2026, 3, 1))
    context.catalog.write_detections(day, join_rows(file.video_id, [], len(names)), footer)
    found = replay_decode(context, stored_videos(context, None))
    assert (found.items, found.different, found.examples) == (1, 0, ())
