"""A small reserve with answers that can be worked out by hand."""

from __future__ import annotations

import dataclasses
import datetime as dt
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from storage.catalog import Catalog, StorePin, pin_or_check, video_details
from storage.filesystem import LocalFilesystem, StoreFilesystem, open_filesystem
from storage.layout import CameraDay, video_id_of
from storage.parquet import Footer
from storage.records import (
    DetectionColumns,
    EffortRecord,
    EventRecord,
    IndividualRecord,
    TrackRecord,
    VideoRecord,
)

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

BEHAVIOURS = ("feeding", "vigilance", "flight")
ZONES = {"lake": "Asia/Shanghai", "étang 1/2": "Europe/Paris"}
"""Eight hours ahead of UTC, and one (two in summer)."""


NORTH_1 = CameraDay("lake", "north", dt.date(2025, 11, 3))
NORTH_2 = CameraDay("lake", "north", dt.date(2025, 11, 4))
POND = CameraDay("étang 1/2", "_süd %41", dt.date(2025, 11, 3))


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def footer(**values: Any) -> Footer:
    given = {
        "table": "detections",
        "inputs": "in",
        "model_digest": "m1",
        "config_digest": "c1",
        "behaviours": BEHAVIOURS,
        "zone": "Asia/Shanghai",
        "revision": "r1",
    }
    return Footer(**{**given, **values})


def detections_footer(video_id: str, **values: Any) -> Footer:
    """A footer that describes the video, as that of every stored object of detections does."""
    described = dataclasses.replace(video("some.mp4", "2025-11-03T15:50:00"), video_id=video_id)
    return footer(**{"details": video_details(described, [(0.0, 60.0)]), **values})


def detections(video_id: str, rows: int, seed: int = 0) -> DetectionColumns:
    rng = np.random.default_rng(seed)
    scores = rng.random((rows, len(BEHAVIOURS)), dtype=np.float32)
    scores[::3] = np.nan
    return DetectionColumns(
        video_id=video_id,
        frame=np.arange(rows, dtype=np.int32) * 8,
        time_s=np.arange(rows) * 4 / 15,
        xyxy=rng.random((rows, 4), dtype=np.float32),
        box_score=rng.random(rows, dtype=np.float32),
        p_behaviour=scores,
        p_other=rng.random(rows, dtype=np.float32),
        p_dynamic=rng.random(rows, dtype=np.float32),
        embedding=rng.integers(-128, 128, (rows, 64)).astype(np.int8),
    )


def event(individual: str, behaviour: str, start: str, seconds: float, camera: str = "north") -> EventRecord:
    begin = utc(start)
    scored = behaviour in BEHAVIOURS
    score = 0.75 if scored else float("nan")
    return EventRecord(
        event_id=f"{individual}-{start}",
        camera=camera,
        video_id=video_id_of(camera),
        individual_id=individual,
        behaviour=behaviour,
        start_time=begin,
        end_time=begin + dt.timedelta(seconds=seconds),
        start_s=5.0,
        end_s=5.0 + seconds,
        start_frame=150,
        end_frame=150 + round(seconds * 30),
        duration_s=seconds,
        score_mean=score,
        score_peak=score,
        motion="static",
        p_dynamic=0.25,
        x1=0.125,
        y1=0.25,
        x2=0.5,
        y2=0.75,
        observations=3,
        model_digest="m1",
        config_digest="c1",
    )


def individual(name: str, start: str, seconds: float, camera: str = "north", kind: str = "subject") -> Any:
    begin = utc(start)
    return IndividualRecord(
        individual_id=name,
        camera=camera,
        kind=kind,
        first_seen=begin,
        last_seen=begin + dt.timedelta(seconds=seconds),
        visible_s=seconds,
        boxes=7,
        track_quality=0.5,
        p_other=0.125,
    )


def video(uri: str, start: str, camera: str = "north", status: str = "done", reason: str = "") -> VideoRecord:
    return VideoRecord(
        video_id=video_id_of(uri),
        uri=uri,
        camera=camera,
        start_time=utc(start),
        start_source="path",
        fps=29.97,
        frame_count=54_000,
        duration_s=1800.0,
        width=1920,
        height=1080,
        container="mp4",
        codec="h264",
        fingerprint="abc",
        status=status,
        reason=reason,
        frames_decoded=27_000,
        survey_mode="spans",
    )


def effort(start: str, minutes: float, most: int, camera: str = "north") -> EffortRecord:
    return EffortRecord(camera, utc(start), minutes, minutes, minutes, minutes / 2, minutes / 4, most)


def tables(
    videos: list[VideoRecord] | None = None,
    tracks: list[TrackRecord] | None = None,
    individuals: list[IndividualRecord] | None = None,
    hours: list[EffortRecord] | None = None,
    events: list[EventRecord] | None = None,
) -> dict[str, list[Any]]:
    return {
        "videos": videos or [],
        "tracks": tracks or [],
        "individuals": individuals or [],
        "effort": hours or [],
        "events": events or [],
    }


def fill(fs: StoreFilesystem) -> Catalog:
    """Three camera-days of two sites; ``NORTH_1`` goes on after local midnight, which is 16:00 UTC."""
    pin_or_check(fs, StorePin(BEHAVIOURS, "pattern", ZONES))
    catalog = Catalog(fs)
    late = tables(
        videos=[
            video("lake/north/1.mp4", "2025-11-03T15:50:00"),
            video("x.txt", "2025-11-03T01:00:00", status="quarantined", reason="no video"),
        ],
        tracks=[TrackRecord(video_id_of("lake/north/1.mp4"), row, row * 8, "a") for row in range(4)],
        individuals=[
            individual("a", "2025-11-03T15:50:00", 1200),
            individual("b", "2025-11-03T16:10:00", 60),
            individual("deer", "2025-11-03T15:51:00", 30, kind="other"),
        ],
        hours=[effort("2025-11-03T15:00:00", 10, 1), effort("2025-11-03T16:00:00", 20, 2)],
        events=[
            event("a", "feeding", "2025-11-03T15:50:00", 300),
            event("a", "unscored", "2025-11-03T15:55:00", 60),
            event("a", "vigilance", "2025-11-03T15:56:00", 480),  # 240 s before midnight, 240 s after
            event("a", "not_visible", "2025-11-03T16:04:00", 120),
            event("a", "feeding", "2025-11-03T16:06:00", 240),
            event("b", "flight", "2025-11-03T16:10:00", 60),
            event("deer", "other", "2025-11-03T15:51:00", 30),
        ],
    )
    catalog.write_camera_day(NORTH_1, late, footer())
    catalog.write_camera_day(
        NORTH_2,
        tables(
            videos=[video("lake/north/2.mp4", "2025-11-04T00:00:00")],
            individuals=[individual("c", "2025-11-04T00:00:00", 100)],
            hours=[effort("2025-11-04T00:00:00", 30, 1)],
            events=[event("c", "feeding", "2025-11-04T00:00:00", 100)],
        ),
        footer(revision="r2"),
    )
    catalog.write_camera_day(
        POND,
        tables(
            videos=[video("pond/1.mp4", "2025-11-03T09:00:00", POND.camera)],
            individuals=[individual("d", "2025-11-03T09:00:00", 40, POND.camera)],
            hours=[effort("2025-11-03T09:00:00", 30, 1, POND.camera)],
            events=[event("d", "vigilance", "2025-11-03T09:00:00", 40, POND.camera)],
        ),
        footer(zone="Europe/Paris", revision="r3"),
    )
    for day, uri, rows in (
        (NORTH_1, "lake/north/1.mp4", 5),
        (NORTH_2, "lake/north/2.mp4", 0),
        (POND, "pond/1.mp4", 3),
    ):
        video_id = video_id_of(uri)
        catalog.write_detections(day, detections(video_id, rows), detections_footer(video_id))
    return catalog


def copied(source: LocalFilesystem, target: StoreFilesystem) -> StoreFilesystem:
    """The target, with all objects of the source."""
    if isinstance(target, LocalFilesystem):
        shutil.copytree(source.root, target.root)
    else:
        for entry in source.list(""):
            target.write_atomic(entry.path, source.read_bytes(entry.path))
    return target


class Reserve:
    """The functions and constants above, for tests: a conftest cannot be imported."""

    behaviours, zones = BEHAVIOURS, ZONES
    north_1, north_2, pond = NORTH_1, NORTH_2, POND
    utc, footer, detections = staticmethod(utc), staticmethod(footer), staticmethod(detections)
    detections_footer = staticmethod(detections_footer)
    event, individual, video = staticmethod(event), staticmethod(individual), staticmethod(video)
    effort, tables, fill = staticmethod(effort), staticmethod(tables), staticmethod(fill)


@pytest.fixture(scope="session")
def reserve() -> type[Reserve]:
    return Reserve


@pytest.fixture
def local(tmp_path: Path) -> LocalFilesystem:
    """An empty folder below one whose name looks like a partition."""
    return LocalFilesystem(tmp_path / "site=elsewhere" / "a store")


@pytest.fixture
def s3(s3_prefix: str) -> StoreFilesystem:
    """An empty prefix of an S3 store on loopback."""
    return open_filesystem(s3_prefix)


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3)])
def fs(request: pytest.FixtureRequest) -> Any:
    """Each kind of filesystem in turn, empty."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> LocalFilesystem:
    """The three camera-days, written once: not to be changed."""
    made = LocalFilesystem(tmp_path_factory.mktemp("written"))
    fill(made)
    return made


@pytest.fixture(scope="session")
def written_s3(written: LocalFilesystem, s3_bucket: Callable[[str], str]) -> StoreFilesystem:
    """The same objects on S3: not to be changed."""
    return copied(written, open_filesystem(f"{s3_bucket('written')}/site=elsewhere/a store"))


@pytest.fixture(params=["written", pytest.param("written_s3", marks=pytest.mark.s3)])
def written_fs(request: pytest.FixtureRequest) -> Any:
    """The three camera-days on each kind of filesystem in turn: not to be changed."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def filled(local: LocalFilesystem, written: LocalFilesystem) -> Catalog:
    """A local store with the three camera-days."""
    shutil.copytree(written.root, local.root)
    return Catalog(local)


@pytest.fixture
def filled_fs(fs: StoreFilesystem, written: LocalFilesystem) -> StoreFilesystem:
    """The same objects on each kind of filesystem."""
    return copied(written, fs)


@pytest.fixture
def fail_before_publishing(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes the step that publishes fail from now on, as a kill or a full disk just before it would."""

    def arm() -> None:
        def refuse(source: object, target: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("storage.filesystem.os.replace", refuse)

    return arm


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are repeated without a pause."""
    monkeypatch.setattr(
        "botocore.retries.standard.ExponentialBackoff.delay_amount", lambda self, context: 0.0
    )
