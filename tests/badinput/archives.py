"""Cases about names, places, times and reruns: the archive as a whole rather than one file's content."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from storage.catalog import Catalog, StorePin, pin_or_check
from storage.filesystem import open_filesystem
from storage.layout import CameraDay, detections_path, parse_path
from tests.badinput.case import Case, Found
from tests.badinput.reading import Expected, read_all, read_recording
from tests.numbered import write_video
from workers.archive import DEFAULT_PATTERN, group_camera_days, list_archive, place_recording
from workers.messages import ArchiveFile, Recording
from workers.probe import probe_video

EAST = CameraDay("marsh", "east", dt.date(2026, 3, 1))
BERLIN = "Europe/Berlin"
ODD_NAMES = (
    "dots..and more...mp4",
    "spaces and 'quotes' and \"double ones\".mp4",
    "line\nbreak.mp4",
    "鄱阳湖 大湖池 北岸.mp4",
    "журавль на рассвете.mp4",
    "concat:a.mp4|b.mp4",
    "file:%03d*?[x]#&=.mp4",
    f"{'鹤' * 80}.mp4",
    "-i.mp4",
)


def recorded(folder: Path, names: Sequence[str], zone: str = "UTC", frames: int = 30) -> list[Recording]:
    """Sound recordings at these paths, placed; in the order of their paths."""
    for name in names:
        write_video(folder / name, frames)
    return [place_recording(file, probe_video(file.path), zone=zone) for file in list_archive(str(folder))]


def told(recordings: Sequence[Recording]) -> Found:
    """Camera-days, the recordings' local starts in them, and the notes."""
    parts = [
        f"{day.camera} {day.date}: {', '.join(str(r.start_time) for r in day.recordings)} {day.note}"
        for day in group_camera_days(recordings)
    ]
    return Found("done", "; ".join(parts))


def odd_names(folder: Path) -> Found:
    """Each is read, and has a place in a store from which it is found again."""
    recordings = recorded(folder, ODD_NAMES, frames=20)
    for recording in recordings:
        found = read_recording(recording, Expected())
        day = CameraDay(recording.site, recording.camera, recording.date)
        path = Path(folder, "store", detections_path(day, recording.file.video_id))
        path.parent.mkdir(parents=True)
        path.touch()
        if found.outcome != "done" or parse_path(path.relative_to(folder / "store").as_posix()).day != day:
            return found
    return Found("done", f"{len({r.camera for r in recordings})} cameras")


def name_that_is_no_text(folder: Path) -> Found:
    path = write_video(folder / "a.mp4", 20)
    path.rename(os.fsdecode(os.fsencode(folder) + b"/cam\xff.mp4"))
    (file,) = list_archive(str(folder))
    file.uri.encode()
    probe_video(file.path)
    return Found("failed", "a name that is no text was opened")


def dots_that_lead_out(folder: Path) -> Found:
    write_video(folder / "outside.mp4", 20)
    (folder / "archive").mkdir()
    probe_video(folder / "archive" / ".." / "outside.mp4", folder / "archive")
    return Found("failed", "a file outside of the archive was opened")


def link_out(folder: Path) -> Found:
    outside = write_video(folder / "outside.mp4", 20)
    (folder / "archive").mkdir()
    (folder / "archive" / "a.mp4").symlink_to(outside)
    return read_all(folder / "archive")


def growing(folder: Path) -> Found:
    """Half of the file is there when it is listed, more when it is probed, all when it is decoded."""
    path = write_video(folder / "a.ts", 90)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 3])
    (listed,) = list_archive(str(folder))
    path.write_bytes(whole[: len(whole) // 2])
    recording = place_recording(listed, probe_video(listed.path))
    path.write_bytes(whole)
    found = read_recording(recording, Expected(grid_frames=15))
    (later,) = list_archive(str(folder))
    if later.fingerprint == listed.fingerprint:
        return Found("failed", "the next run would not see that the file has grown")
    return found


def clock_at_1970(folder: Path) -> Found:
    write_video(
        folder / "marsh" / "north" / "north_19700101T000012Z.mp4",
        20,
        metadata={"creation_time": "1970-01-01T00:00:12Z"},
    )
    (file,) = list_archive(str(folder))
    recording = place_recording(file, probe_video(file.path))
    return Found("done", f"{recording.start_source}, the year is {recording.start_time.year}")


def late(folder: Path) -> Found:
    """One recording was done the night before; another one of that day arrives."""
    (folder / "marsh" / "east").mkdir(parents=True)
    catalog, _ = done_before(folder, ["east_20260301T100000Z.mp4"])
    (folder / "marsh" / "east" / "east_20260301T090000Z.mp4").write_text("late")
    return what_is_planned(folder, catalog)


def renamed(folder: Path, new: str, finished: bool = False) -> Found:
    """A file that is done gets another name; with ``finished`` a run was killed before it cleared the old one."""
    from tests.flows.nightly.test_plan import keep, probe

    (folder / "marsh" / "east").mkdir(parents=True)
    catalog, (file,) = done_before(folder, ["east_20260301T100000Z.mp4"])
    Path(file.path).rename(Path(file.path).with_name(new))
    if finished:
        keep(catalog, EAST, list_archive(str(folder))[0], probe(480))
    return what_is_planned(folder, catalog)


def done_before(folder: Path, names: Sequence[str]) -> tuple[Catalog, list[ArchiveFile]]:
    from tests.flows.nightly.test_plan import (
        keep,
        probe,
    )  # here only: it brings torch, which no other case needs

    for name in names:
        (folder / "marsh" / "east" / name).write_text(name)
    files = list_archive(str(folder))
    catalog = Catalog(open_filesystem(folder / ".store"))
    for file in files:
        keep(catalog, EAST, file, probe(480))
    return catalog, files


def what_is_planned(folder: Path, catalog: Catalog) -> Found:
    from tests.flows.nightly.test_plan import plans, probe

    probes = {Path(file.uri).name: probe(480) for file in list_archive(str(folder))}
    made = plans(folder, catalog, probes)  # type: ignore[arg-type]
    parts = [
        f"{day.date}: {len(plan.to_score)} to read, {len(plan.done)} kept, {len(plan.misplaced)} to remove"
        for day, plan in sorted(made.items())
    ]
    return Found("done", "; ".join(parts))


def other_pin(changed: Mapping[str, object], folder: Path) -> Found:
    fs = open_filesystem(folder)
    values = {"behaviours": ("walk",), "path_pattern": DEFAULT_PATTERN, "zones": {"marsh": "Asia/Shanghai"}}
    pin_or_check(fs, StorePin(**values))  # type: ignore[arg-type]
    pin_or_check(fs, StorePin(**{**values, **changed}))  # type: ignore[arg-type]
    return Found("failed", "the change was not noticed")


def north(*stamps: str) -> list[str]:
    return [f"marsh/north/north_{stamp}.mp4" for stamp in stamps]


def placed(names: Sequence[str], zone: str = "UTC", frames: int = 30) -> Callable[[Path], Found]:
    return lambda folder: told(recorded(folder, names, zone, frames))


ARCHIVES = [
    Case(
        "odd names: dots, quotes, line breaks, other letters", odd_names, "done", f"{len(ODD_NAMES)} cameras"
    ),
    Case("a name that is no text", name_that_is_no_text, "quarantined", "no valid text.*rename"),
    Case("a name with .. that leads out", dots_that_lead_out, "quarantined", "leads out of the archive"),
    Case("link out of the archive", link_out, "quarantined", "leads out of the archive"),
    Case(
        "two files with the same name",
        placed(["card1/north/north_20240517T032000Z.mp4", "card2/north/north_20240517T032000Z.mp4"]),
        "done",
        "north 2024-05-17: .*; north 2024-05-17: ",
    ),
    Case(
        "the same site, camera and time twice",
        placed(
            ["a/marsh/north/north_20240517T032000Z.mp4", "b/marsh/north/north_20240517T032000Z.mp4"],
            frames=120,
        ),
        "done",
        "north~2 2024-05-17: .*overlaps .*taken as two cameras",
    ),
    Case("a file that grows while it is read", growing, "done", "mpegts"),
    Case("camera clock at 1970", clock_at_1970, "done", "file_time, the year is 2"),
    Case(
        "night on which summer time begins",
        placed(north("20240331T015959", "20240331T030001"), BERLIN, 60),
        "done",
        r"north 2024-03-31: 2024-03-31 00:59:59\+00:00, 2024-03-31 01:00:01\+00:00 $",
    ),
    Case(
        "night on which summer time ends",
        placed(north("20241027T023000", "20241027T030000"), BERLIN),
        "done",
        r"north 2024-10-27: 2024-10-27 00:30:00\+00:00, 2024-10-27 02:00:00\+00:00 $",
    ),
    Case(
        "recording over midnight",
        placed(north("20240516T155959Z", "20240516T160001Z"), "Asia/Shanghai", 60),
        "done",
        "north 2024-05-16: 2024-05-16 15:59:59.*; north 2024-05-17: 2024-05-16 16:00:01",
    ),
    Case(
        "a video a day late", late, "done", "^2026-03-01: 1 to read, 1 kept, 0 to remove$", brings_torch=True
    ),
    Case(
        "a file renamed after it was done",
        partial(renamed, new="east_20260301T110000Z.mp4"),
        "done",
        "^2026-03-01: 1 to read, 0 kept, 1 to remove$",
        brings_torch=True,
    ),
    Case(
        "a file renamed to another day",
        partial(renamed, new="east_20260302T100000Z.mp4"),
        "done",
        "^2026-03-01: 0 to read, 0 kept, 1 to remove; 2026-03-02: 1 to read, 0 kept, 0 to remove$",
        brings_torch=True,
    ),
    Case(
        "a renamed file, and a run killed in between",
        partial(renamed, new="east_20260301T110000Z.mp4", finished=True),
        "done",
        "^2026-03-01: 0 to read, 1 kept, 1 to remove$",
        brings_torch=True,
    ),
    Case(
        "another time zone than before",
        partial(other_pin, {"zones": {"marsh": "UTC"}}),
        "refused",
        "begun with time zone of site marsh 'Asia/Shanghai', this run wants 'UTC'",
    ),
    Case(
        "another path pattern than before",
        partial(other_pin, {"path_pattern": "(?P<camera>.*)"}),
        "refused",
        "begun with path pattern",
    ),
]
