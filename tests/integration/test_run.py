"""The whole job on a tiny simulated archive: what a user is promised about a run."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flows.nightly.recompute import recompute_events
from flows.nightly.surveying import plates_used
from flows.replay.run import replay
from flows.settings import Settings, load_settings
from model.errors import EngineArtifactError
from storage import Store
from storage.catalog import Catalog
from storage.errors import ObjectWriteError
from storage.filesystem import open_filesystem

Run = Callable[..., dict[str, Any]]
Same = Callable[[Path, Path], None]
Rows = Callable[[Path, str], pd.DataFrame]
TABLES = ("videos", "tracks", "individuals", "effort", "events")


def test_the_summary_names_every_video_and_counts_what_is_stored(
    first_run: tuple[Path, dict[str, Any]], reserve: Path, rows: Rows
) -> None:
    store, summary = first_run
    uris = {path.relative_to(reserve / "archive").as_posix() for path in (reserve / "archive").rglob("*.mp4")}
    assert {video["uri"] for video in summary["videos"]} == uris
    assert {video["status"] for video in summary["videos"]} == {"done"}
    assert summary["frames_decoded"] > 0
    scale, stages = summary["scale"], summary["profile"]["stages"]
    assert (scale["files"], scale["videos"], scale["camera_days"]) == (2, 2, 1)
    assert scale["segments"] >= 2
    assert scale["present_s"] == pytest.approx(stages[1]["items"] * 4 / 15, abs=0.001)
    assert 0 < scale["survey_busy_s"] < scale["phase_sums_s"]["survey"] * scale["cpus"]
    assert all(stage["peak_mb"] > 50 for stage in stages)
    assert summary["events"] == len(rows(store, "events")) > 0
    assert summary["individuals"] == len(rows(store, "individuals")) > 0
    assert "simulated birds" in summary["note"]


def test_birds_are_found_where_they_are(first_run: tuple[Path, dict[str, Any]], reserve: Path) -> None:
    store, _ = first_run
    truth = pd.read_csv(reserve / "truth" / "boxes.csv", header=None)
    plain = truth[(truth[9] <= 0.3) & (truth[10] >= 0.9)]
    found = Store(store).detections()
    videos = Store(store).videos().set_index("uri")["video_id"]
    hit = 0
    for row in plain.itertuples(index=False):
        near = found[(found.video_id == videos[row[0]]) & ((found.time_s - row[1]).abs() < 0.07)]
        width = np.minimum(near.x2, row[4]) - np.maximum(near.x1, row[2])
        height = np.minimum(near.y2, row[5]) - np.maximum(near.y1, row[3])
        shared = width.clip(lower=0) * height.clip(lower=0)
        union = (near.x2 - near.x1) * (near.y2 - near.y1) + (row[4] - row[2]) * (row[5] - row[3]) - shared
        hit += bool((shared / union >= 0.5).any())
    assert hit / len(plain) > 0.8


def test_an_identity_goes_on_into_the_next_recording(
    first_run: tuple[Path, dict[str, Any]], rows: Rows
) -> None:
    store, _ = first_run
    tracks = rows(store, "tracks")
    in_both = tracks.groupby("individual_id")["video_id"].nunique()
    assert (in_both == 2).any()


def test_bouts_and_states_of_an_individual_fill_its_span_without_overlap(
    first_run: tuple[Path, dict[str, Any]], rows: Rows
) -> None:
    events = rows(first_run[0], "events").sort_values(["individual_id", "start_time"])
    for _, own in events.groupby("individual_id"):
        assert (own["start_time"].iloc[1:].to_numpy() == own["end_time"].iloc[:-1].to_numpy()).all()


def test_a_second_run_decodes_nothing(
    first_run: tuple[Path, dict[str, Any]], reserve: Path, run: Run
) -> None:
    store, first = first_run
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*.parquet")}
    again = run(reserve / "archive", store, Settings())
    assert again["frames_decoded"] == 0
    assert again["camera_days"] == 0
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*.parquet")} == before
    assert (again["events"], again["individuals"]) == (first["events"], first["individuals"])


def test_the_cut_changes_no_result(
    first_run: tuple[Path, dict[str, Any]], reserve: Path, tmp_path: Path, run: Run, same_results: Same
) -> None:
    settings = load_settings(None, {"decode": {"segment_seconds": 4.0, "workers": 2}})
    summary = run(reserve / "archive", tmp_path, settings)
    assert summary["scale"]["cuts"] > 0
    same_results(first_run[0], tmp_path)


def test_events_are_recomputed_without_the_videos(
    first_run: tuple[Path, dict[str, Any]], tmp_path: Path, same_results: Same
) -> None:
    store = tmp_path / "copy"
    shutil.copytree(first_run[0], store)
    for table in TABLES:
        if table != "videos":
            shutil.rmtree(store / table)
    summary = recompute_events(str(store), Settings())
    assert summary["camera_days"] == 1
    same_results(first_run[0], store)


def test_bad_files_are_quarantined_and_the_good_ones_done(reserve: Path, tmp_path: Path, run: Run) -> None:
    archive = tmp_path / "archive"
    shutil.copytree(reserve / "archive", archive)
    good = sorted(archive.rglob("*.mp4"))
    folder = good[0].parent
    good[1].unlink()
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "notes.mp4").write_text("these are notes, not a video\n" * 200)
    data = good[0].read_bytes()
    (folder / "half.mp4").write_bytes(data[: len(data) // 2])
    summary = run(archive, tmp_path / "store", Settings())
    status = {Path(video["uri"]).name: video for video in summary["videos"]}
    assert status.pop(good[0].name)["status"] == "done"
    assert set(status) == {"empty.mp4", "notes.mp4", "half.mp4"}
    for video in status.values():
        assert video["status"] == "quarantined"
        assert len(video["reason"].split()) >= 3
    again = run(archive, tmp_path / "store", Settings())
    assert again["camera_days"] == 0
    assert again["frames_decoded"] == 0


def test_a_video_whose_process_was_ended_is_tried_again_by_the_runs_after(
    first_run: tuple[Path, dict[str, Any]], reserve: Path, tmp_path: Path, run: Run, same_results: Same
) -> None:
    patient = Settings()
    decode = patient.decode.model_copy(update={"stall_seconds": 0.001})
    hasty, store = patient.model_copy(update={"decode": decode}), tmp_path / "store"
    summary = run(reserve / "archive", store, hasty)
    assert {video["status"] for video in summary["videos"]} == {"quarantined"}
    for video in summary["videos"]:
        assert "ended twice: it made no progress" in video["reason"]
        assert video["reason"].endswith("; the next run tries it again (1 of 3 did)")
    recompute_events(str(store), patient)  # which forgets nothing of that
    summary = run(reserve / "archive", store, patient)
    assert {(video["status"], video["reason"]) for video in summary["videos"]} == {("done", "")}
    same_results(first_run[0], store)
    assert run(reserve / "archive", store, patient)["camera_days"] == 0


def test_a_late_video_gets_plates_of_the_whole_day_and_leaves_the_others_alone(
    reserve: Path, tmp_path: Path, run: Run
) -> None:
    """Of a first hour at night the empty scene is that of the night."""
    archive, store = tmp_path / "archive", tmp_path / "store"
    shutil.copytree(reserve / "archive", archive)
    late = sorted(archive.rglob("*.mp4"))[1]
    late.rename(tmp_path / "late.mp4")
    run(archive, store, Settings())
    published = {path: path.read_bytes() for path in (store / "detections").rglob("*.*")}
    catalog = Catalog(open_filesystem(store))
    (day,) = catalog.camera_days()
    (before,) = (set(plates_used(footer)) for footer in catalog.finished_detections(day).values())
    assert before == {plate.plate_id for plate in catalog.read_plates(day) or ()}
    (tmp_path / "late.mp4").rename(late)
    summary = run(archive, store, Settings())
    assert len(summary["videos"]) == 2
    assert {path: path.read_bytes() for path in published} == published
    used = {video_id: plates_used(footer) for video_id, footer in catalog.finished_detections(day).items()}
    (after,) = (set(plates) for plates in used.values() if set(plates) != before)
    assert after.isdisjoint(before)
    assert {plate.plate_id for plate in catalog.read_plates(day) or ()} == before | after
    found = replay(["detect"], str(store), str(archive), Settings())
    assert [(stage.different, stage.items > 0) for stage in found] == [(0, True)]


def test_a_disk_that_is_full_in_the_middle_ends_the_run_and_the_next_one_finishes(
    first_run: tuple[Path, dict[str, Any]],
    reserve: Path,
    tmp_path: Path,
    run: Run,
    same_results: Same,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replace, published = os.replace, []

    def full_after_one_video(source: Path, target: Path) -> None:
        if "detections" in target.parts and published:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)
        if "detections" in target.parts:
            published.append(target)

    with monkeypatch.context() as patch:
        patch.setattr("storage.filesystem.os.replace", full_after_one_video)
        with pytest.raises(
            ObjectWriteError, match=r"\.parquet: could not be written: No space left on device; make"
        ):
            run(reserve / "archive", tmp_path, Settings())
    assert list(tmp_path.rglob("*.parquet")) == published
    assert len(Store(tmp_path).detections()) > 0
    assert list((tmp_path / ".staging").iterdir()) == []
    again = run(reserve / "archive", tmp_path, Settings())
    assert 0 < again["frames_decoded"] < first_run[1]["frames_decoded"]
    same_results(first_run[0], tmp_path)


def test_onnxruntime_finds_the_events_that_torch_finds(
    first_run: tuple[Path, dict[str, Any]], reserve: Path, tmp_path: Path, run: Run, rows: Rows
) -> None:
    """To a keyframe: where torch computes in bf16 a probability differs in the third digit."""
    engines = tmp_path / "engines"
    settings = load_settings(None, {"infer": {"engine": "onnxruntime", "engine_dir": str(engines)}})
    run(reserve / "archive", tmp_path / "store", settings)
    expected, found = (
        rows(store, "events").sort_values(["individual_id", "behaviour", "start_time"], ignore_index=True)
        for store in (first_run[0], tmp_path / "store")
    )
    pd.testing.assert_frame_equal(
        expected[["individual_id", "behaviour"]], found[["individual_id", "behaviour"]]
    )
    for moment in ("start_time", "end_time"):
        assert ((expected[moment] - found[moment]).dt.total_seconds().abs() < 0.28).all()
    (graph,) = engines.glob("*.onnx")
    graph.write_bytes(graph.read_bytes()[:-1])
    with pytest.raises(EngineArtifactError, match="does not match the digest"):
        run(reserve / "archive", tmp_path / "other", settings)
    assert not list((tmp_path / "other" / "detections").rglob("*.parquet"))  # and no video is to blame
