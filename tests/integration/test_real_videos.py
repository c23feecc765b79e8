"""Real recordings of other people: every file is read or named, and what moves is followed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flows.settings import Settings
from storage import Store

Run = Callable[[Path, Path, Settings], dict[str, Any]]
FEW = (
    "birdwatcher_zebrafinch_movementclip.webm",
    "zamba_small/zamba_chimpandsee_PICT0021.ASF",
    "zamba_small/zamba_chimpandsee_EK000018.AVI",
)

PEOPLE_S = ((8, 19), (25, 44), (52, 69), (76, 85), (94, 118), (126, 134))
EMPTY_S = ((0, 5), (46, 49), (72, 74), (88, 91), (122, 123), (137, 139))
"""Whole seconds in which somebody stands in the clip of people, and in which nobody is near; by eye."""


def test_vp9_avi_and_asf_are_read_and_share_nothing(videos_of_others: Path, tmp_path: Path, run: Run) -> None:
    archive = tmp_path / "archive"
    for name in FEW:
        (archive / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(videos_of_others / name, archive / name)
    summary = run(archive, tmp_path / "store", Settings())
    assert {video["uri"] for video in summary["videos"]} == set(FEW)
    assert {video["status"] for video in summary["videos"]} == {"done"}
    store = Store(tmp_path / "store")
    assert store.videos()["camera"].nunique() == 3
    assert len(list((tmp_path / "store" / "plates").rglob("*.npz"))) == 3
    slow = store.videos().set_index("uri").loc[FEW[1]]
    assert slow["fps"] < 10
    assert "behaviour not scored" in slow["reason"]


@pytest.fixture(scope="module")
def everything(
    videos_of_others: Path, tmp_path_factory: pytest.TempPathFactory, run: Run
) -> tuple[Store, dict[str, Any]]:
    """A store of all 23 files, and the summary."""
    folder = tmp_path_factory.mktemp("real")
    summary = run(videos_of_others, folder, Settings())
    return Store(folder), summary


def detections_of(store: Store, name: str) -> tuple[pd.Series[Any], pd.DataFrame]:
    """The row of a video and its detections with the individual of each."""
    video = store.videos().set_index("uri").loc[name]
    boxes = store.detections().query("video_id == @video.video_id").reset_index(drop=True)
    boxes["row"] = np.arange(len(boxes))
    tracks = store.tracks().query("video_id == @video.video_id")
    return video, boxes.merge(tracks[["row", "individual_id"]], on="row", how="left")


@pytest.mark.slow
def test_every_file_is_done_or_quarantined_with_a_reason(everything: tuple[Store, dict[str, Any]]) -> None:
    _, summary = everything
    assert len(summary["videos"]) == 23
    for video in summary["videos"]:
        assert video["status"] == "done" or len(video["reason"].split()) >= 3


def followed_by(boxes: pd.DataFrame) -> pd.Series[Any]:
    """Keyframes in which each individual that moves is followed, the longest first."""
    placed = boxes.dropna(subset="individual_id").assign(
        x=lambda row: (row["x1"] + row["x2"]) / 2, y=lambda row: (row["y1"] + row["y2"]) / 2
    )
    by_individual = placed.groupby("individual_id")
    moves = by_individual[["x", "y"]].std().max(axis=1) > 0.02
    return by_individual["frame"].nunique()[moves].sort_values(ascending=False)


@pytest.mark.slow
def test_the_mouse_is_followed_throughout(everything: tuple[Store, dict[str, Any]]) -> None:
    video, boxes = detections_of(everything[0], "tracktor_mouse.mp4")
    longest = followed_by(boxes).index[:4]
    keyframes = video["duration_s"] * 3.75
    assert boxes[boxes["individual_id"].isin(longest)]["frame"].nunique() >= 0.95 * keyframes


@pytest.mark.slow
def test_both_flies_are_found_and_nothing_else(everything: tuple[Store, dict[str, Any]]) -> None:
    video, boxes = detections_of(everything[0], "sleap_flies_tracks_clip.mp4")
    keyframes = video["duration_s"] * 3.75
    assert (boxes.groupby("frame").size() == 2).sum() >= 0.9 * keyframes
    assert boxes["individual_id"].nunique() <= 3


@pytest.mark.slow
def test_people_are_found_and_the_empty_room_is_not(everything: tuple[Store, dict[str, Any]]) -> None:
    video, boxes = detections_of(everything[0], "intel_one-by-one-person.mp4")
    assert video["survey_mode"] == "spans"
    assert video["frames_decoded"] < 0.97 * video["frame_count"]
    seconds = boxes["time_s"].astype(int)
    for start_s, stop_s in PEOPLE_S:
        assert set(range(start_s, stop_s)) <= set(seconds)
    for start_s, stop_s in EMPTY_S:
        assert not set(range(start_s, stop_s)) & set(seconds)
