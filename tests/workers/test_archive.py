"""Listing an archive, and placing its recordings in space and time."""

from __future__ import annotations

import datetime as dt
import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from storage.layout import video_id_of
from workers.archive import CameraDay, group_camera_days, list_archive, place_file, place_recording
from workers.errors import ArchiveError, UnsafePathError
from workers.messages import ArchiveFile, Probe, Recording
from workers.probe import probe_video

WriteVideo = Callable[..., Path]
FILE_TIME = dt.datetime(2020, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


def file_at(uri: str) -> ArchiveFile:
    return ArchiveFile(video_id_of(uri), uri, f"/archive/{uri}", 1000, "00ff", FILE_TIME)


def probe_of(seconds: float = 60.0, width: int = 160, container_start: dt.datetime | None = None) -> Probe:
    times_s = np.arange(int(seconds)) * 1.0
    return Probe(
        container="mov",
        codec="h264",
        pixel_format="yuv420p",
        width=width,
        height=96,
        rotation_deg=0,
        fps=1.0,
        times_s=times_s,
        is_iframe=np.ones(len(times_s), np.bool_),
        packet_bytes=np.ones(len(times_s), np.int64),
        duration_s=seconds,
        container_start=container_start,
        decoder="decord",
        decoder_reason="",
    )


def recording(uri: str, zone: str = "UTC", **facts: object) -> Recording:
    return place_recording(file_at(uri), probe_of(**facts), zone=zone)  # type: ignore[arg-type]


def utc(*parts: int) -> dt.datetime:
    return dt.datetime(*parts, tzinfo=dt.UTC)  # type: ignore[arg-type, misc]


# Listing


def test_what_is_listed(tmp_path: Path, write_video: WriteVideo) -> None:
    write_video(tmp_path / "marsh" / "north" / "b.mp4", 2)
    write_video(tmp_path / "a.mkv", 2).rename(tmp_path / "marsh" / "no_suffix")
    (tmp_path / "marsh" / "EMPTY.AVI").write_bytes(b"")
    (tmp_path / "marsh" / "text.mp4").write_text("not a video")
    (tmp_path / "marsh" / "notes.txt").write_text("cranes at dawn")
    (tmp_path / "marsh" / "strange.bin").write_bytes(bytes(range(200)))
    (tmp_path / ".hidden.mp4").write_bytes(b"x")
    (tmp_path / ".Trash").mkdir()
    (tmp_path / ".Trash" / "gone.mp4").write_bytes(b"x")
    files = list_archive(str(tmp_path))
    assert [file.uri for file in files] == [
        "marsh/EMPTY.AVI",
        "marsh/no_suffix",
        "marsh/north/b.mp4",
        "marsh/text.mp4",
    ]
    assert [file.video_id for file in files] == [video_id_of(file.uri) for file in files]
    assert files[0].size_bytes == 0
    assert all(Path(file.path).read_bytes()[:1] == b"" or file.size_bytes > 0 for file in files)


def test_fingerprint_is_of_the_content_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    content = bytearray(np.random.default_rng(5).bytes(400_000))

    def fingerprint() -> str:
        path.write_bytes(content)
        return list_archive(str(tmp_path))[0].fingerprint

    first = fingerprint()
    os.utime(path, (1, 1))
    assert list_archive(str(tmp_path))[0].fingerprint == first
    seen = {first}
    for place in (0, 200_000, 399_999):
        content[place] ^= 1
        seen.add(fingerprint())
    content.append(0)
    seen.add(fingerprint())
    assert len(seen) == 5


def test_links(tmp_path: Path, write_video: WriteVideo) -> None:
    archive = tmp_path / "archive"
    inside = write_video(archive / "a.mp4", 2)
    outside = write_video(tmp_path / "outside.mp4", 2)
    (archive / "same.mp4").symlink_to(inside)
    (archive / "out.mp4").symlink_to(outside)
    (archive / "broken.mp4").symlink_to(tmp_path / "nothing.mp4")
    files = {file.uri: file for file in list_archive(str(archive))}
    assert sorted(files) == ["a.mp4", "broken.mp4", "out.mp4"]
    for uri in ("out.mp4", "broken.mp4"):
        with pytest.raises(UnsafePathError):
            probe_video(files[uri].path)


def test_no_archive(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="no such folder"):
        list_archive(str(tmp_path / "nowhere"))
    with pytest.raises(ArchiveError, match="an archive is a folder or s3://"):
        list_archive("gs://reserve/videos")


# Placing


def test_the_path_says_where_and_when() -> None:
    placed = recording("marsh/north/north_20240517T032000Z.mp4", "Asia/Shanghai")
    assert (placed.site, placed.camera, placed.start_source) == ("marsh", "north", "path")
    assert placed.start_time == utc(2024, 5, 17, 3, 20)
    assert placed.date == dt.date(2024, 5, 17)
    assert placed.end_time == utc(2024, 5, 17, 3, 21)


def test_deeper_folders_match_too() -> None:
    place = place_file(file_at("2024/may/marsh/north/north_20240517T032000Z.mp4"), None)
    assert (place.site, place.camera) == ("marsh", "north")


@pytest.mark.parametrize(
    ("stamp", "zone", "start", "date"),
    [
        ("20240517T200000Z", "Asia/Shanghai", utc(2024, 5, 17, 20), dt.date(2024, 5, 18)),
        ("20240517T200000", "Asia/Shanghai", utc(2024, 5, 17, 12), dt.date(2024, 5, 17)),
        ("20240331T013000", "Europe/Berlin", utc(2024, 3, 31, 0, 30), dt.date(2024, 3, 31)),
        ("20240331T033000", "Europe/Berlin", utc(2024, 3, 31, 1, 30), dt.date(2024, 3, 31)),
        ("20241027T023000", "Europe/Berlin", utc(2024, 10, 27, 0, 30), dt.date(2024, 10, 27)),
    ],
)
def test_zones_and_summer_time(stamp: str, zone: str, start: dt.datetime, date: dt.date) -> None:
    placed = recording(f"marsh/north/north_{stamp}.mp4", zone)
    assert (placed.start_time, placed.date) == (start, date)


def test_without_a_match_a_file_is_its_own_camera() -> None:
    made = utc(2017, 9, 26, 16, 57, 49)
    names = []
    for uri in ("clip.mp4", "trap/clip.mp4", "trap/left/clip.mp4"):
        placed = place_recording(file_at(uri), probe_of(container_start=made), site="lagoon")
        assert (placed.site, placed.start_time, placed.start_source) == ("lagoon", made, "container")
        names.append(placed.camera)
    assert names == ["clip", "trap.clip", "trap.left.clip"]


def test_the_file_time_is_the_last_resort() -> None:
    placed = recording("clip.mp4")
    assert (placed.start_time, placed.start_source) == (FILE_TIME, "file_time")


def test_another_pattern() -> None:
    pattern = r"(?P<camera>CAM\d+)/VID_(?P<time>[\d-]+_[\d-]+)\.AVI"
    place = place_file(file_at("CAM07/VID_2024-05-17_06-30-15.AVI"), None, pattern, "UTC", "delta")
    assert (place.site, place.camera, place.start_time) == ("delta", "CAM07", utc(2024, 5, 17, 6, 30, 15))


def test_an_impossible_time_in_the_path_is_not_used() -> None:
    placed = recording("marsh/north/north_20241399T032000Z.mp4")
    assert (placed.camera, placed.start_source) == ("north", "file_time")


@pytest.mark.parametrize("stamp", ["19700101T000012Z", "19800101T000000", "19040101T000000Z"])
def test_a_clock_that_was_never_set_says_nothing(stamp: str) -> None:
    placed = recording(f"marsh/north/north_{stamp}.mp4", "Asia/Shanghai")
    assert (placed.camera, placed.start_time, placed.start_source) == ("north", FILE_TIME, "file_time")


def test_a_name_that_is_no_text_has_a_path_that_is(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"cam\xff.mp4")).write_bytes(b"x")
    (file,) = list_archive(str(tmp_path))
    assert file.uri == r"cam\xff.mp4"
    assert file.video_id == video_id_of("cam\udcff.mp4")
    with pytest.raises(UnsafePathError, match=r"no valid text.*rename"):
        probe_video(file.path)


# Grouping


def summary(days: list[CameraDay]) -> list[tuple[str, str, list[str]]]:
    return [(day.camera, day.date.isoformat(), [r.file.uri[-11:-5] for r in day.recordings]) for day in days]


def test_camera_days() -> None:
    names = [
        "north_20240517T100000Z",
        "north_20240516T100000Z",
        "south_20240517T100000Z",
        "north_20240517T090000Z",
    ]
    days = group_camera_days(recording(f"marsh/{name[:5]}/{name}.mp4") for name in names)
    assert summary(days) == [
        ("north", "2024-05-16", ["100000"]),
        ("north", "2024-05-17", ["090000", "100000"]),
        ("south", "2024-05-17", ["100000"]),
    ]
    assert [day.note for day in days] == ["", "", ""]
    assert days[1].key.camera == "north"


def test_a_second_of_overlap_is_the_clock() -> None:
    first = recording("marsh/north/north_20240517T100000Z.mp4", seconds=61)
    then = recording("marsh/north/north_20240517T100100Z.mp4")
    assert len(group_camera_days([then, first])) == 1


def test_overlapping_recordings_are_two_cameras() -> None:
    first = recording("marsh/north/north_20240517T100000Z.mp4", seconds=120)
    overlapping = recording("marsh/north/north_20240517T100100Z.mp4")
    later = recording("marsh/north/north_20240517T100300Z.mp4")
    days = group_camera_days([later, overlapping, first])
    assert summary(days) == [
        ("north", "2024-05-17", ["100000", "100300"]),
        ("north~2", "2024-05-17", ["100100"]),
    ]
    assert "overlaps" in days[1].note
    assert "by 60 s" in days[1].note
    assert {r.camera for r in days[1].recordings} == {"north~2"}


def test_recordings_of_another_size_are_another_camera() -> None:
    days = group_camera_days(
        [
            recording("marsh/north/north_20240517T100000Z.mp4"),
            recording("marsh/north/north_20240517T110000Z.mp4", width=320),
            recording("marsh/north/north_20240517T120000Z.mp4"),
        ]
    )
    assert summary(days)[1] == ("north~2", "2024-05-17", ["110000"])
    assert "320x96" in days[1].note


def test_a_camera_that_is_split_takes_no_name_that_another_one_has() -> None:
    """As FAT shortens names: CAMERA~1, CAMERA~2."""
    days = group_camera_days(
        [
            recording("marsh/cam/cam_20240517T100000Z.mp4"),
            recording("marsh/cam/cam_20240517T110000Z.mp4", width=320),
            recording("marsh/cam~2/cam~2_20240517T100000Z.mp4"),
            recording("marsh/cam~2/cam~2_20240517T110000Z.mp4", width=320),
        ]
    )
    assert summary(days) == [
        ("cam", "2024-05-17", ["100000"]),
        ("cam~2", "2024-05-17", ["100000"]),
        ("cam~2~2", "2024-05-17", ["110000"]),
        ("cam~3", "2024-05-17", ["110000"]),
    ]


def test_what_cannot_be_opened_or_listed_costs_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A stray file of an unknown kind, one that is renamed while it is listed, a folder without permission."""
    for name in ("a.mp4", "notes.bak", "b.mp4.part"):
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.setattr("workers.archive.looks_like_video", refused)
    assert [file.uri for file in list_archive(str(tmp_path))] == ["a.mp4"]

    def walk(folder: Path, onerror: Callable[[OSError], None]) -> list[tuple[str, list[str], list[str]]]:
        onerror(PermissionError(errno.EACCES, "Permission denied", str(folder / "cam7")))
        return [(str(folder), [], ["a.mp4"])]

    monkeypatch.setattr("workers.archive.os.walk", walk)
    assert [file.uri for file in list_archive(str(tmp_path))] == ["a.mp4"]
    assert f"{tmp_path / 'cam7'} cannot be listed (Permission denied)" in caplog.text


def refused(path: Path) -> bool:
    raise PermissionError(errno.EACCES, "Permission denied", str(path))
