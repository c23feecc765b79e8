"""Plans: a file that has come to belong to another camera-day leaves nothing in the one where it was."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.errors import SettingsError
from flows.nightly.attempts import MOST_RUNS, TRIED_IN_RUNS
from flows.nightly.context import open_context
from flows.nightly.digests import Digests
from flows.nightly.failures import describe_damaged
from flows.nightly.night import Night, video_record
from flows.nightly.plan import DayPlan, look_up, plan_days, quarantined_record, sites_of
from flows.nightly.progress import Progress
from flows.nightly.summary import describe_run
from flows.settings import ArchiveSettings, Settings
from storage.catalog import Catalog, StorePin, pin_or_check, video_details
from storage.filesystem import open_filesystem
from storage.layout import CAMERA_DAY_TABLES, CameraDay, detections_path
from storage.parquet import Footer
from workers.archive import list_archive, place_recording
from workers.fingerprint import UNREADABLE
from workers.messages import ArchiveFile, Presence, Probe, Quarantined, Recording
from workers.score import join_rows

NAMES = ("feeding", "walk")
DIGESTS = Digests("model", "detections", "events", 10.0)
DAY = dt.date(2026, 3, 1)


def probe(height: int, started: dt.datetime | None = None) -> Probe:
    times_s = np.arange(90) / 30.0
    return Probe(
        container="mov",
        codec="h264",
        pixel_format="yuv420p",
        width=640,
        height=height,
        rotation_deg=0,
        fps=30.0,
        times_s=times_s,
        is_iframe=times_s % 1 == 0,
        packet_bytes=np.full(90, 1000),
        duration_s=3.0,
        container_start=started,
        decoder="decord",
        decoder_reason="",
    )


def keep(
    catalog: Catalog, day: CameraDay, file: ArchiveFile, found: Probe, placed: Recording | None = None
) -> None:
    """Store a video of a camera-day as one in which nothing was seen."""
    recording, nothing = placed or place_recording(file, found), Presence(np.zeros((0, 2)), "spans", "")
    record = video_record(recording, day.camera, 90, "decord", nothing)
    footer = Footer(
        "detections", "", DIGESTS.model, DIGESTS.detections, NAMES, "UTC", details=video_details(record, [])
    )
    catalog.write_detections(day, join_rows(file.video_id, [], len(NAMES)), footer)


def plans(
    archive: Path, catalog: Catalog, probes: dict[str, Probe | Quarantined]
) -> dict[CameraDay, DayPlan]:
    def probe_files(files: Sequence[ArchiveFile]) -> list[Probe | Quarantined]:
        return [probes[Path(file.uri).name] for file in files]

    lookup = look_up(str(archive), catalog, DIGESTS, False)
    made = plan_days(lookup, catalog, DIGESTS, ArchiveSettings(), False, probe_files)
    return {plan.day: plan for plan in made}


def write(archive: Path, name: str, text: str) -> ArchiveFile:
    path = archive / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return next(file for file in list_archive(str(archive)) if file.uri == name)


def test_a_late_file_of_another_size_moves_those_after_it_to_a_camera_of_their_own(tmp_path: Path) -> None:
    archive, catalog = tmp_path / "archive", Catalog(open_filesystem(tmp_path / "store"))
    base = CameraDay("marsh", "east", DAY)
    second = write(archive, "marsh/east/east_20260301T100000Z.mp4", "second")
    keep(catalog, base, second, probe(480))
    first = write(archive, "marsh/east/east_20260301T090000Z.mp4", "first")
    probes: dict[str, Probe | Quarantined] = {
        Path(first.uri).name: probe(360),
        Path(second.uri).name: probe(480),
    }
    made = plans(archive, catalog, probes)
    own = dataclasses.replace(base, camera="east~2")
    assert set(made) == {base, own}
    assert made[base].misplaced == {second.video_id}
    assert [r.file for r in made[base].to_score] == [first]
    assert [r.file for r in made[own].to_score] == [second]
    assert made[own].misplaced == frozenset()


@pytest.mark.parametrize(
    ("stored", "late"), [("CAM~1", "CAM~1"), ("CAM~1~2", "CAM~1"), ("CAM~2", "CAM"), ("CAM", "CAM~2")]
)
def test_a_camera_whose_own_name_looks_like_a_split_one_is_looked_at_with_its_late_file(
    tmp_path: Path, stored: str, late: str
) -> None:
    archive, catalog = tmp_path / "archive", Catalog(open_filesystem(tmp_path / "store"))
    own = late if stored == "CAM~1~2" else stored
    first = write(archive, f"marsh/{own}/{own}_20260301T090000Z.mp4", "first")
    keep(catalog, CameraDay("marsh", stored, DAY), first, probe(480))
    second = write(archive, f"marsh/{late}/{late}_20260301T100000Z.mp4", "second")
    probes: dict[str, Probe | Quarantined] = {Path(f.uri).name: probe(480) for f in (first, second)}
    seen = {r.file for plan in plans(archive, catalog, probes).values() for r in plan.surveyed_with}
    assert seen == {first, second}


def test_a_video_stored_in_two_camera_days_is_looked_at_again(tmp_path: Path) -> None:
    archive, catalog = tmp_path / "archive", Catalog(open_filesystem(tmp_path / "store"))
    file = write(archive, "marsh/east/east_20260301T100000Z.mp4", "content")
    here, there = CameraDay("marsh", "east", DAY), CameraDay("marsh", "east~2", DAY)
    for day in (here, there):
        keep(catalog, day, file, probe(480))
    made = plans(archive, catalog, {Path(file.uri).name: probe(480)})
    assert made[here].to_score == ()
    assert made[there].misplaced == {file.video_id}


def test_what_cannot_be_read_today_keeps_the_result_of_the_same_content(tmp_path: Path) -> None:
    archive, catalog = tmp_path / "archive", Catalog(open_filesystem(tmp_path / "store"))
    base = CameraDay("marsh", "east", DAY)
    done = write(archive, "marsh/east/east_20260301T100000Z.mp4", "done")
    keep(catalog, base, done, probe(480))
    late = write(archive, "marsh/east/east_20260301T110000Z.mp4", "late")
    made = plans(
        archive,
        catalog,
        {Path(done.uri).name: Quarantined(done, "the disk does not answer"), Path(late.uri).name: probe(480)},
    )
    assert made[base].quarantined == ()
    assert [video.video_id for video in made[base].done] == [done.video_id]


def test_only_sites_of_which_the_archive_has_files_are_held_to_its_zone(tmp_path: Path) -> None:
    """Another archive's days may be derived anew by this run, in their own zone."""
    archive, catalog = tmp_path / "archive", Catalog(open_filesystem(tmp_path / "store"))
    pin_or_check(catalog.fs, StorePin(NAMES, ArchiveSettings().path_pattern, {"pond": "Asia/Shanghai"}))
    elsewhere = ArchiveFile("f" * 16, "pond/west/w.mp4", "/gone/w.mp4", 1, "x", dt.datetime.now(dt.UTC))
    keep(catalog, CameraDay("pond", "west", DAY), elsewhere, probe(480))
    late = write(archive, "marsh/east/east_20260301T110000Z.mp4", "late")
    lookup = look_up(str(archive), catalog, DIGESTS, False)
    assert lookup.stored_sites == []
    made = plan_days(
        lookup, catalog, DIGESTS, ArchiveSettings(), False, lambda files: [probe(480) for _ in files]
    )
    assert {plan.day.site for plan in made} == {"marsh", "pond"}
    assert sites_of(made, lookup) == ["marsh"]
    keep(catalog, CameraDay("marsh", "east", DAY), late, probe(480))
    assert look_up(str(archive), catalog, DIGESTS, False).stored_sites == ["marsh"]


def test_a_file_that_cannot_be_opened_any_more_keeps_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that was moved to an archive tier, or that its disk refuses: nothing is known of its content."""
    archive, catalog = tmp_path / "archive", Catalog(open_filesystem(tmp_path / "store"))
    base = CameraDay("marsh", "east", DAY)
    done = write(archive, "marsh/east/east_20260301T100000Z.mp4", "done")
    keep(catalog, base, done, probe(480))
    closed = dataclasses.replace(done, fingerprint=UNREADABLE)
    monkeypatch.setattr("flows.nightly.plan.list_archive", lambda _: [closed])
    assert look_up(str(archive), catalog, DIGESTS, False).new == ()
    late = write(archive, "marsh/east/east_20260301T110000Z.mp4", "late")
    monkeypatch.setattr("flows.nightly.plan.list_archive", lambda _: [closed, late])
    probes = {
        Path(done.uri).name: Quarantined(closed, "it cannot be opened"),
        Path(late.uri).name: probe(480),
    }
    made = plans(archive, catalog, probes)
    assert made[base].quarantined == ()
    assert [video.video_id for video in made[base].done] == [done.video_id]
    # Of a file that was never read it is said that it cannot be.
    monkeypatch.setattr("flows.nightly.plan.list_archive", lambda _: [closed])
    fresh = Catalog(open_filesystem(tmp_path / "other"))
    assert [one.video_id for one in plans(archive, fresh, probes)[base].quarantined] == [done.video_id]


def quarantined(catalog: Catalog, file: ArchiveFile, details: dict[str, Any]) -> None:
    """Store a camera-day whose one video could not be used."""
    record = quarantined_record(file, "why", "east", dt.datetime(2026, 3, 1, 10, tzinfo=dt.UTC), "path", None)
    rows = {table: [record] if table == "videos" else [] for table in CAMERA_DAY_TABLES}
    footer = Footer("", "", "", DIGESTS.events, NAMES, "UTC", details=details)
    catalog.write_camera_day(CameraDay("marsh", "east", DAY), rows, footer)


@pytest.mark.parametrize(
    ("details", "is_tried_again"),
    [
        ({TRIED_IN_RUNS: 1}, True),
        ({TRIED_IN_RUNS: MOST_RUNS - 1}, True),
        ({TRIED_IN_RUNS: MOST_RUNS}, False),
        ({}, False),
    ],
)
def test_a_video_whose_process_was_ended_is_tried_again_a_bounded_number_of_times_and_a_bad_file_is_not(
    tmp_path: Path, details: dict[str, int], is_tried_again: bool
) -> None:
    archive, catalog = tmp_path / "archive", Catalog(open_filesystem(tmp_path / "store"))
    file = write(archive, "marsh/east/east_20260301T100000Z.mp4", "content")
    quarantined(catalog, file, {name: {file.video_id: runs} for name, runs in details.items()})
    assert look_up(str(archive), catalog, DIGESTS, False).new == ((file,) if is_tried_again else ())
    assert look_up(str(archive), catalog, DIGESTS, True).new == (file,)


def test_a_video_that_was_read_before_the_run_was_killed_is_kept_without_its_archive(tmp_path: Path) -> None:
    """Another archive's run derives the day: the row of the quarantine is of content that was replaced since."""
    archive, store = tmp_path / "archive", tmp_path / "store"
    catalog, day = Catalog(open_filesystem(store)), CameraDay("marsh", "east", DAY)
    quarantined(catalog, write(tmp_path / "gone", "marsh/east/east_20260301T100000Z.mp4", "bad"), {})
    good = write(tmp_path / "gone", "marsh/east/east_20260301T100000Z.mp4", "good")
    keep(catalog, day, good, probe(480))
    write(archive, "pond/west/west_20260301T100000Z.mp4", "another")
    plan = plans(archive, catalog, {"west_20260301T100000Z.mp4": probe(480)})[day]
    night = Night(open_context(str(archive), str(store), Settings()), False, Progress())
    assert night._clear(plan) == ()
    assert list(catalog.finished_detections(day)) == [good.video_id]


@pytest.mark.parametrize(
    ("before", "content", "outlook"),
    [
        (1, "content", "the next run tries it again (2 of 3 did)"),
        (2, "content", "3 runs tried it, and only --reprocess does again"),
        (2, "another", "the next run tries it again (1 of 3 did)"),
    ],
)
def test_runs_that_tried_a_video_are_counted_as_long_as_it_is_the_same(
    tmp_path: Path, before: int, content: str, outlook: str
) -> None:
    archive, store = tmp_path / "archive", tmp_path / "store"
    file = write(archive, "marsh/east/east_20260301T100000Z.mp4", "content")
    quarantined(Catalog(open_filesystem(store)), file, {TRIED_IN_RUNS: {file.video_id: before}})
    file = write(archive, file.uri, content)
    night = Night(open_context(str(archive), str(store), Settings()), False, Progress())
    assert night.may_pass(file, "why") == night.may_pass(file, "why") == f"why; {outlook}"


def renamed(archive: Path, catalog: Catalog) -> tuple[ArchiveFile, ArchiveFile]:
    """A file that is stored, and the same file under its later name."""
    old = write(archive, "marsh/east/east_20260301T100000Z.mp4", "content")
    keep(catalog, CameraDay("marsh", "east", DAY), old, probe(480))
    Path(old.path).rename(archive / "marsh/east/east_20260302T100000Z.mp4")
    (new,) = list_archive(str(archive))
    return old, new


def test_a_renamed_file_is_read_anew_and_what_its_old_name_had_is_removed(tmp_path: Path) -> None:
    archive, catalog = tmp_path / "archive", Catalog(open_filesystem(tmp_path / "store"))
    old, new = renamed(archive, catalog)
    made = plans(archive, catalog, {Path(new.uri).name: probe(480)})
    here = CameraDay("marsh", "east", DAY)
    there = dataclasses.replace(here, date=dt.date(2026, 3, 2))
    assert set(made) == {here, there}
    assert [r.file for r in made[there].to_score] == [new]
    assert (made[here].to_score, made[here].done, made[here].misplaced) == ((), (), {old.video_id})


def test_what_an_old_name_had_is_removed_after_a_kill_too(tmp_path: Path) -> None:
    archive, catalog = tmp_path / "archive", Catalog(open_filesystem(tmp_path / "store"))
    old, new = renamed(archive, catalog)
    here = CameraDay("marsh", "east", DAY)
    keep(catalog, dataclasses.replace(here, date=dt.date(2026, 3, 2)), new, probe(480))
    lookup = look_up(str(archive), catalog, DIGESTS, False)
    assert lookup.new == ()
    assert not lookup.nothing_to_do
    made = plans(archive, catalog, {})
    assert made[here].misplaced == {old.video_id}


def test_a_renamed_file_that_cannot_be_read_today_costs_nothing(tmp_path: Path) -> None:
    archive, catalog = tmp_path / "archive", Catalog(open_filesystem(tmp_path / "store"))
    old, new = renamed(archive, catalog)
    made = plans(archive, catalog, {Path(new.uri).name: Quarantined(new, "the disk does not answer")})
    assert [video.video_id for video in made[CameraDay("marsh", "east", DAY)].done] == [old.video_id]
    assert not any(plan.misplaced for plan in made.values())


def test_a_file_that_left_the_archive_keeps_its_rows(tmp_path: Path) -> None:
    archive, catalog = tmp_path / "archive", Catalog(open_filesystem(tmp_path / "store"))
    old, new = renamed(archive, catalog)
    Path(new.path).write_text("other content")
    made = plans(archive, catalog, {Path(new.uri).name: probe(480)})
    assert [video.video_id for video in made[CameraDay("marsh", "east", DAY)].done] == [old.video_id]
    assert not any(plan.misplaced for plan in made.values())


def test_a_stored_object_that_cannot_be_used_is_made_again_and_named(tmp_path: Path) -> None:
    archive, catalog = tmp_path / "archive", Catalog(open_filesystem(tmp_path / "store"))
    base = CameraDay("marsh", "east", DAY)
    files = [write(archive, f"marsh/east/east_20260301T{hour}0000Z.mp4", f"{hour}") for hour in (10, 11)]
    for file in files:
        keep(catalog, base, file, probe(480))
    damaged = tmp_path / "store" / detections_path(base, files[1].video_id)
    damaged.write_bytes(damaged.read_bytes()[:-9])
    again = Catalog(catalog.fs)
    lookup = look_up(str(archive), again, DIGESTS, False)
    assert lookup.new == (files[1],)
    (reason,) = lookup.damaged
    assert reason.startswith(f"{damaged}: ")
    made = plans(archive, again, {Path(file.uri).name: probe(480) for file in files})
    assert [r.file for r in made[base].to_score] == [files[1]]
    said = describe_damaged([f"object {number}" for number in range(7)], shown=2).splitlines()
    assert said[0].startswith("7 stored objects cannot be used")
    assert said[1:] == ["  object 0", "  object 1", "  and 5 more"]


def test_a_camera_day_is_left_alone_where_a_damaged_object_cannot_be_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive, store = tmp_path / "archive", tmp_path / "store"
    catalog, day = Catalog(open_filesystem(store)), CameraDay("marsh", "east", DAY)
    gone, other = (
        write(archive, f"marsh/east/east_20260301T{hour}0000Z.mp4", f"{hour}") for hour in (10, 11)
    )
    for file in (gone, other):
        keep(catalog, day, file, probe(480))
    damaged = store / detections_path(day, gone.video_id)
    good = damaged.read_bytes()
    damaged.write_bytes(good[:-9])
    Path(gone.path).unlink()
    lookup = look_up(str(archive), Catalog(catalog.fs), DIGESTS, False)
    assert lookup.nothing_to_do
    assert lookup.damaged == ()
    assert [reason.split(": ")[0] for reason in lookup.lost] == [str(damaged)]
    late = write(archive, "marsh/east/east_20260301T120000Z.mp4", "late")
    probes: dict[str, Probe | Quarantined] = {Path(file.uri).name: probe(480) for file in (other, late)}
    assert plans(archive, Catalog(catalog.fs), probes) == {}
    night = Night(open_context(str(archive), str(store), Settings()), False, Progress())
    night.say_what_was_seen()
    assert f"\n  {damaged}: " in capsys.readouterr().err
    assert night.settle_following() == []
    damaged.write_bytes(good)
    made = plans(archive, Catalog(catalog.fs), probes)[day]
    assert [r.file for r in made.to_score] == [late]
    assert {video.video_id for video in made.done} == {gone.video_id, other.video_id}


def test_what_is_split_from_a_camera_that_is_left_alone_waits_with_it(tmp_path: Path) -> None:
    archive, store = tmp_path / "archive", tmp_path / "store"
    catalog, day = Catalog(open_filesystem(store)), CameraDay("marsh", "east", DAY)
    own, after = (dataclasses.replace(day, **change) for change in (
        {"camera": "east~2"}, {"date": DAY + dt.timedelta(days=1)},
    ))  # fmt: skip
    gone, beside = (
        write(archive, f"marsh/east/east_20260301T{clock}Z.mp4", clock) for clock in ("235950", "235951")
    )
    keep(catalog, day, gone, probe(480))
    keep(catalog, own, beside, probe(480))
    morning = write(archive, "marsh/east/east_20260302T000000Z.mp4", "morning")
    keep(catalog, after, morning, probe(480))
    damaged = store / detections_path(day, gone.video_id)
    damaged.write_bytes(damaged.read_bytes()[:-9])
    Path(gone.path).unlink()
    late = write(archive, "marsh/east/east_20260301T120000Z.mp4", "late")
    lookup = look_up(str(archive), Catalog(catalog.fs), DIGESTS, False)
    # What would be derived anew of the day after lacks who was there at midnight.
    assert lookup.unsettled == ()
    assert lookup.left_alone == {day, own}
    probes: dict[str, Probe | Quarantined] = {Path(file.uri).name: probe(480) for file in (beside, late)}
    assert plans(archive, Catalog(catalog.fs), probes) == {}


def card(archive: Path, contents: str) -> list[ArchiveFile]:
    """A memory card: files that are numbered as on every other one."""
    return [write(archive, f"DCIM/IMAG{n:04}.AVI", content) for n, content in enumerate(contents)]


def kept_card(store: Path, files: Sequence[ArchiveFile]) -> None:
    for file in files:
        keep(Catalog(open_filesystem(store)), CameraDay("site", file.uri, DAY), file, probe(480))


@pytest.mark.parametrize(
    ("first", "second"), [("abcd", "123d"), ("abcd", "1234xyz"), ("ab", "12"), ("abcd", "12")]
)
def test_another_memory_card_with_the_same_paths_is_refused(tmp_path: Path, first: str, second: str) -> None:
    store = tmp_path / "store"
    kept_card(store, card(tmp_path / "first", first))
    card(tmp_path / "second", second)
    context = open_context(str(tmp_path / "second"), str(store), Settings())
    with pytest.raises(
        SettingsError, match=r"/second: of [24] files .* [2-4] have .* first is DCIM/IMAG0000.AVI"
    ):
        Night(context, False, Progress())
    Night(context, True, Progress())


@pytest.mark.parametrize(
    ("first", "second", "changed"), [("abcd", "12cd", 2), ("a", "1", 1), ("abcd", "abcdx", 0)]
)
def test_files_that_were_copied_again_are_read_anew_and_counted(
    tmp_path: Path, first: str, second: str, changed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    archive, store = tmp_path / "card", tmp_path / "store"
    kept_card(store, card(archive, first))
    card(archive, second)
    night = Night(open_context(str(archive), str(store), Settings()), False, Progress())
    night.say_what_was_seen()
    said = capsys.readouterr().err
    assert said.endswith(f"are read anew: {changed}, first DCIM/IMAG0000.AVI\n" if changed else "")
    assert bool(said) == bool(changed)


@pytest.mark.parametrize(("site", "is_refused"), [("marsh", False), ("pond", True)])
def test_recordings_whose_paths_say_their_time_may_have_grown_unless_they_are_of_another_site(
    tmp_path: Path, site: str, is_refused: bool
) -> None:
    archive, store = tmp_path / "archive", tmp_path / "store"
    settings = ArchiveSettings(path_pattern=r"(?P<camera>\w+)/(?P<time>\d{8}T\d{6})\.mp4", site=site)
    for name in ("east", "west"):
        file = write(archive, f"{name}/20260301T100000.mp4", name)
        record = place_recording(file, probe(480), settings.path_pattern, site="marsh")
        keep(Catalog(open_filesystem(store)), CameraDay("marsh", name, DAY), file, probe(480), record)
        write(archive, file.uri, f"{name} an hour later")
    context = open_context(str(archive), str(store), Settings(archive=settings))
    with pytest.raises(SettingsError) if is_refused else nullcontext():
        Night(context, False, Progress())


def test_a_video_whose_iframes_are_too_far_apart_says_so_in_its_row_and_in_the_report(tmp_path: Path) -> None:
    file = write(tmp_path / "archive", "marsh/east/east_20260301T100000Z.mp4", "a")
    blind = Presence(np.array([[0.0, 3.0]]), "whole", "I-frames are 2.5 s apart", blind_s=1.5)
    record = video_record(place_recording(file, probe(480)), "east", 90, "decord", blind)
    assert record.reason == (
        "50% of it was decoded to see what comes between its I-frames: I-frames are 2.5 s apart"
    )
    run: dict[str, Any] = {
        "videos": [],
        "individuals": 0,
        "events": 0,
        "store": "s",
        "video_s": 0,
        "camera_days": 0,
    }
    run |= {"outdated": 0, "profile": {"stages": []}, "time_budget": [], "note": "", "blind_videos": 3}
    assert "3 videos have I-frames too far apart for survey.recall_target" in describe_run(run)
    assert "recall_target" not in describe_run({**run, "blind_videos": 0})
