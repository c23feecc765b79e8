"""Recomputing events: what would have no effect is refused, and a run that was killed doubles nothing."""

from __future__ import annotations

import dataclasses
import datetime as dt
from pathlib import Path

import numpy as np
import pytest

from flows.errors import SettingsError, UnfinishedRunError
from flows.nightly.attempts import TRIED_IN_RUNS
from flows.nightly.recompute import recompute_events
from flows.settings import CONFIGS, Settings, load_ethogram, load_settings
from model.refiner import Refiner, RefinerShape, save_refiner
from storage.catalog import Catalog, StorePin, pin_or_check, video_details
from storage.filesystem import open_filesystem
from storage.layout import CAMERA_DAY_TABLES, CameraDay, detections_path, video_id_of
from storage.parquet import Footer
from storage.records import VideoRecord
from workers.score import join_rows

NAMES = load_ethogram(CONFIGS / "ethogram_crane.yaml").names
DAY = CameraDay("marsh", "east", dt.date(2026, 3, 1))


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    catalog = Catalog(open_filesystem(tmp_path / "store"))
    pin_or_check(catalog.fs, StorePin(NAMES, Settings().archive.path_pattern, {"marsh": "UTC"}))
    return catalog


def video(hour: int, status: str) -> VideoRecord:
    uri = f"marsh/east/east_20260301T{hour:02}0000Z.mp4"
    return VideoRecord(
        video_id=video_id_of(uri),
        uri=uri,
        camera="east",
        start_time=dt.datetime(2026, 3, 1, hour, tzinfo=dt.UTC),
        start_source="path",
        fps=30.0,
        frame_count=3600,
        duration_s=120.0,
        width=640,
        height=480,
        container="mov",
        codec="h264",
        fingerprint=f"content of {hour}",
        status=status,
        reason="",
        frames_decoded=0,
        survey_mode="",
    )


def keep(catalog: Catalog, day: CameraDay, record: VideoRecord) -> None:
    """Store the detections of a video in which nothing was seen."""
    footer = Footer("detections", "", "model", "config", NAMES, "UTC", details=video_details(record, []))
    catalog.write_detections(day, join_rows(record.video_id, [], len(NAMES)), footer)


def test_a_video_that_was_read_before_the_run_was_killed_is_not_quarantined_too(catalog: Catalog) -> None:
    again, bad = video(9, "quarantined"), video(10, "quarantined")
    rows = {table: [again, bad] if table == "videos" else [] for table in CAMERA_DAY_TABLES}
    tried = {TRIED_IN_RUNS: {again.video_id: 1, bad.video_id: 2}}
    catalog.write_camera_day(DAY, rows, Footer("", "", "", "events", NAMES, "UTC", details=tried))
    keep(catalog, DAY, dataclasses.replace(again, status="done"))
    recompute_events(catalog.fs.uri, Settings())
    videos = catalog.read_records("videos", DAY)
    assert {(one.video_id, one.status) for one in videos} == {
        (again.video_id, "done"),
        (bad.video_id, "quarantined"),
    }
    assert len(videos) == 2
    assert sum(row.recorded_min for row in catalog.read_records("effort", DAY)) == pytest.approx(4.0)
    assert catalog.camera_day_footers(DAY)["videos"].details[TRIED_IN_RUNS] == {bad.video_id: 2}


def test_a_video_that_a_killed_run_left_in_two_camera_days_is_not_counted_twice(catalog: Catalog) -> None:
    there = dataclasses.replace(DAY, camera="east~2")
    for day in (DAY, there):
        keep(catalog, day, video(9, "done"))
    with pytest.raises(
        UnfinishedRunError, match=r"east_20260301T090000Z\.mp4 is stored for .*camera east, .*east~2"
    ):
        recompute_events(catalog.fs.uri, Settings())
    assert catalog.camera_day_footers(DAY) == {}


def test_a_refiner_that_reads_none_of_the_scores_is_refused(tmp_path: Path) -> None:
    names, shape, path = (
        load_ethogram(CONFIGS / "ethogram_crane.yaml").names,
        RefinerShape(),
        tmp_path / "r.safetensors",
    )
    tensors = {name: np.zeros(size, np.float32) for name, size in shape.tensors(len(names)).items()}
    save_refiner(Refiner(shape, tensors), path, names, reads="f" * 64, trained_on="toys")
    store = str(tmp_path / "store")
    pin_or_check(open_filesystem(store), StorePin(names, Settings().archive.path_pattern, {"site": "UTC"}))
    assert recompute_events(store, Settings())["camera_days"] == 0
    with pytest.raises(SettingsError, match=r"checkpoint ffffffffffffffff, .* has those of none"):
        recompute_events(store, load_settings(None, {"segment": {"refiner": path}}))


def test_a_camera_day_of_which_detections_are_damaged_is_left_as_it_is(
    catalog: Catalog, capsys: pytest.CaptureFixture[str]
) -> None:
    after, there = (dataclasses.replace(DAY, date=dt.date(2026, 3, day)) for day in (2, 3))
    for day, hour in ((DAY, 9), (DAY, 10), (after, 11), (there, 12)):
        keep(catalog, day, video(hour, "done"))
    recompute_events(catalog.fs.uri, Settings())
    before = catalog.camera_day_footers(DAY)["events"]
    path = detections_path(DAY, video(9, "done").video_id)
    catalog.fs.write_atomic(path, b"damaged")
    assert recompute_events(catalog.fs.uri, Settings())["camera_days"] == 1
    assert catalog.camera_day_footers(DAY)["events"] == before
    said = capsys.readouterr().err
    assert said.startswith(f"{catalog.fs.uri}/{path}: ")
    assert "site marsh, camera east, 2026-03-01 and the day after are left as they are" in said
    catalog.fs.delete(path)
    assert recompute_events(catalog.fs.uri, Settings())["camera_days"] == 3
    assert catalog.camera_day_footers(DAY)["events"] != before
