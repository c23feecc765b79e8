"""Scores of a small store whose agreement with the truth can be worked out by hand.

One camera, one video of 100 keyframes. Three cranes stand apart; a fourth never moves; a deer passes.
"""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flows.errors import TruthMissingError
from flows.evaluation.score import describe_score, score_store, time_budget_similarity
from storage.catalog import Catalog, StorePin, pin_or_check
from storage.filesystem import LocalFilesystem
from storage.layout import CameraDay, video_id_of
from storage.parquet import Footer
from storage.queries import Store
from storage.records import DetectionColumns, EventRecord, IndividualRecord, TrackRecord, VideoRecord

STEP_S = 4 / 15
START = dt.datetime(2026, 1, 10, 8, 0, tzinfo=dt.UTC)
URI = "marsh/cam01/cam01_20260110T080000Z.mp4"
VIDEO = video_id_of(URI)
NAMES = ("feeding", "vigilance", "flight")
FEEDING, VIGILANCE, FLIGHT = 1, 2, 3


@dataclasses.dataclass(frozen=True)
class Seen:
    """A box of one keyframe; ``who`` is a person of the truth or an individual of the store."""

    keyframe: int
    x: float
    who: str
    label: int = FEEDING
    covered: float = 0.0
    inside: float = 1.0
    p: tuple[float, float, float] = (0.9, 0.1, 0.1)
    p_other: float = 0.0

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        return (self.x, 0.5, self.x + 0.1, 0.8)


@dataclasses.dataclass(frozen=True)
class Bout:
    who: str
    behaviour: str
    start_s: float
    end_s: float


def write_truth(folder: Path, boxes: list[Seen], bouts: list[Bout], still: set[str]) -> None:
    folder.mkdir(parents=True)
    with (folder / "boxes.csv").open("w", newline="") as file:
        for b in boxes:
            corners = (f"{value:.5f}" for value in b.xyxy)
            row = (URI, f"{b.keyframe * STEP_S:.6f}", *corners, b.label, b.who, 0, b.covered, b.inside)
            csv.writer(file).writerow(row)
    columns = ["individual_id", "video_id", "camera", "behaviour", "start_time", "end_time"]
    columns += ["start_s", "end_s", "duration_s"]
    rows = [
        (
            b.who,
            URI,
            "cam01",
            b.behaviour,
            utc(b.start_s),
            utc(b.end_s),
            b.start_s,
            b.end_s,
            b.end_s - b.start_s,
        )
        for b in bouts
    ]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "events.csv", index=False)
    people = sorted({b.who for b in boxes})
    individuals = pd.DataFrame({"individual_id": people, "moves": [int(who not in still) for who in people]})
    individuals.to_csv(folder / "individuals.csv", index=False)


def utc(seconds: float) -> str:
    return (START + dt.timedelta(seconds=seconds)).isoformat(timespec="microseconds")


def columns_of(found: list[Seen]) -> DetectionColumns:
    return DetectionColumns(
        video_id=VIDEO,
        frame=np.array([8 * s.keyframe for s in found], np.int32),
        # Presentation times are those of the nearest frame, not exactly on the grid.
        time_s=np.array([s.keyframe * STEP_S + 0.01 for s in found]),
        xyxy=np.array([s.xyxy for s in found], np.float32).reshape(-1, 4),
        box_score=np.full(len(found), 0.9, np.float32),
        p_behaviour=np.array([s.p for s in found], np.float32).reshape(-1, 3),
        p_other=np.array([s.p_other for s in found], np.float32),
        p_dynamic=np.zeros(len(found), np.float32),
        embedding=np.zeros((len(found), 64), np.int8),
    )


def write_store(folder: Path, found: list[Seen], bouts: list[Bout], others: set[str] = frozenset()) -> Store:
    """``who`` may be empty: a box of no individual."""
    found = sorted(found, key=lambda s: (s.keyframe, s.x))
    fs = LocalFilesystem(folder)
    pin_or_check(fs, StorePin(NAMES, "pattern", {"marsh": "UTC"}))
    catalog, day = Catalog(fs), CameraDay("marsh", "cam01", START.date())
    footer = Footer(
        table="detections",
        inputs="in",
        model_digest="m",
        config_digest="c",
        behaviours=NAMES,
        zone="UTC",
        revision="r",
    )
    catalog.write_detections(day, columns_of(found), footer)
    who = sorted({s.who for s in found} - {""})
    tables = {
        "videos": [
            VideoRecord(VIDEO, URI, "cam01", START, "path", 30.0, 800, 26.7, 64, 36, "mp4", "h264", "f",
                        "done", "", 800, "whole")
        ],
        "tracks": [TrackRecord(VIDEO, row, 8 * s.keyframe, s.who) for row, s in enumerate(found) if s.who],
        "individuals": [
            IndividualRecord(name, "cam01", _kind(name, others), START, START, 1.0, 1, 1.0, 0)
            for name in who
        ],
        "effort": [],
        "events": [event(b, k) for k, b in enumerate(bouts)],
    }  # fmt: skip
    catalog.write_camera_day(day, tables, footer)
    return Store(folder)


def _kind(name: str, others: set[str]) -> str:
    return "other" if name in others else "subject"


def event(bout: Bout, number: int) -> EventRecord:
    start, end = (START + dt.timedelta(seconds=s) for s in (bout.start_s, bout.end_s))
    return EventRecord(
        str(number), "cam01", VIDEO, bout.who, bout.behaviour, start, end, bout.start_s, bout.end_s, 0, 0,
        bout.end_s - bout.start_s, 0.9, 0.9, "static", 0.0, 0.1, 0.1, 0.2, 0.2, 1, "m", "c",
    )  # fmt: skip


def run(keyframes: range, x: float, who: str, **values: object) -> list[Seen]:
    return [Seen(k, x, who, **values) for k in keyframes]  # type: ignore[arg-type]


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    boxes = [
        *run(range(100), 0.05, "1"),
        *run(range(40), 0.25, "2"),
        *run(range(40, 100), 0.25, "2", label=VIGILANCE),
        *run(range(10), 0.45, "3", label=FLIGHT),
        *run(range(100), 0.65, "4", label=VIGILANCE),  # never moves
        *run(range(30), 0.85, "5", covered=0.9),  # hidden
        *run(range(30, 50), 0.85, "5", inside=0.5),  # at the edge
    ]
    bouts = [
        Bout("1", "feeding", 0.0, 20.0),
        Bout("2", "feeding", 0.0, 10.0),
        Bout("2", "vigilance", 10.0, 26.0),
        Bout("3", "flight", 0.0, 3.0),
        Bout("4", "vigilance", 0.0, 26.0),
        Bout("5", "feeding", 0.0, 13.0),  # nowhere asked for: not counted
    ]
    write_truth(tmp_path / "truth", boxes, bouts, still={"4"})
    return tmp_path / "truth"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = [
        *run(range(80), 0.05, "a"),  # misses the last 20 of person 1
        *run(range(60), 0.25, "b", p=(0.8, 0.2, 0.1)),  # person 2, who then changes identity
        *run(range(60, 100), 0.25, "c", p=(0.2, 0.8, 0.1)),
        *run(range(8), 0.45, "d", p=(0.1, 0.1, 0.9)),  # person 3: 8 of 10, in two identities
        *run(range(8, 10), 0.45, "e", p=(0.1, 0.1, 0.9)),
        *run(range(50), 0.65, "f"),  # half of the bird that never moves
        *run(range(50), 0.85, "g"),  # where nothing was asked
        *run(range(20), 0.15, "h"),  # false: there is nobody
        *run(range(10), 0.55, "deer"),
        *run(range(10), 0.35, ""),  # in no individual
        *run(range(10), 0.75, "", p_other=0.9),  # in no individual, and no crane
    ]
    bouts = [
        Bout("a", "feeding", 0.0, 16.0),  # 16 of 20 s
        Bout("b", "feeding", 0.0, 12.0),  # 10 of 12 s
        Bout("b", "vigilance", 12.0, 16.0),  # 4 of 16 s
        Bout("c", "vigilance", 16.0, 26.0),  # the partner of nobody
        Bout("d", "flight", 0.0, 3.0),
        Bout("f", "vigilance", 0.0, 13.0),  # of the bird that never moves: not counted
        Bout("g", "feeding", 0.0, 13.0),  # where nothing was asked: not counted
    ]
    return write_store(tmp_path / "store", found, bouts, others={"deer"})


def test_boxes_and_identities_are_counted_by_hand(truth: Path, store: Store) -> None:
    scores = score_store(store, truth)
    # Asked: 100 + 100 + 10. Found and counted: 80 + 60 + 40 + 8 + 2 right ones, 20 false ones.
    assert scores["box_recall"] == pytest.approx(190 / 210)
    assert scores["box_precision"] == pytest.approx(190 / 210)
    # Partners: 1 and a (80), 2 and b (60), 3 and d (8).
    assert scores["idf1"] == pytest.approx(2 * 148 / (210 + 210))
    assert scores["idf1_flight"] == pytest.approx(2 * 8 / (10 + 10))
    assert scores["never_moving"] == {"individuals": 1, "boxes": 100, "box_recall": 0.5}


def test_time_budgets_and_bouts_are_compared_between_partners(truth: Path, store: Store) -> None:
    scores = score_store(store, truth)
    assert scores["true_seconds"] == {"feeding": 30.0, "vigilance": 16.0, "flight": 3.0}
    similarity = scores["time_budget_similarity"]
    assert similarity["feeding"] == pytest.approx((16 + 10) / (20 + 12))
    assert similarity["vigilance"] == pytest.approx((4 + 0) / (16 + 10))
    assert similarity["flight"] == pytest.approx(1.0)
    assert similarity["overall"] == pytest.approx((26 + 4 + 3) / (32 + 26 + 3))
    # Right: feeding of 1 and 2, flight of 3. Vigilance of 2: 4 s in common of 16 s. 4 true and 5 found bouts.
    assert scores["bout_f1"] == pytest.approx(2 * 3 / (4 + 5))


def test_frame_map_uses_every_crane_box_that_counts(truth: Path, store: Store) -> None:
    scores = score_store(store, truth)
    per_class = scores["per_class"]["frame_map_detected"]
    assert per_class["flight"] == pytest.approx(1.0)
    # Vigilance, best first: 40 right boxes of "c" (0.8), then b's 60 (0.2) of which 20 are right, then the
    # rest (0.1). 60 true boxes; precision at the second tie is 60 / 100.
    assert per_class["vigilance"] == pytest.approx(40 / 60 * 1.0 + 20 / 60 * 60 / 100)
    assert scores["frame_map_detected"] == pytest.approx(np.mean(list(per_class.values())))


def test_without_scores_on_true_boxes_their_maps_are_unknown(truth: Path, store: Store) -> None:
    scores = score_store(store, truth)
    assert scores["frame_map_true"] is None
    assert scores["paper_map"] is None


def test_scores_on_true_boxes_give_the_maps_over_instances_and_frames(tmp_path: Path, truth: Path) -> None:
    good, bad = (0.9, 0.1, 0.1), (0.1, 0.9, 0.1)
    on_true = [
        *run(range(100), 0.05, "", p=good),
        *run(range(40), 0.25, "", p=good),
        *run(range(40, 100), 0.25, "", p=bad),
        *run(range(10), 0.45, "", p=(0.1, 0.1, 0.9)),
        *run(range(100), 0.65, "", p=bad),
        *run(range(30), 0.85, "", p=(0.9, 0.9, 0.9)),  # mostly hidden: not asked for
    ]
    perfect = score_store(write_store(tmp_path / "s", [], []), truth, frame_of(on_true))
    assert (perfect["paper_map"], perfect["frame_map_true"]) == (1.0, 1.0)
    # Half of the flight instances have no score, and 100 of vigilance are as sure of feeding as feeding is.
    worse = [s for s in on_true if not (s.x == 0.45 and s.keyframe >= 5)]
    worse = [dataclasses.replace(s, p=(0.9, 0.9, 0.1)) if s.x == 0.65 else s for s in worse]
    scores = score_store(write_store(tmp_path / "w", [], []), truth, frame_of(worse))
    instances = scores["per_class"]["paper_map"]
    assert instances["flight"] == pytest.approx(0.5 + 0.5 * 10 / 310)
    assert instances["feeding"] == pytest.approx(140 / 240)
    assert instances["vigilance"] == pytest.approx(1.0)
    assert scores["per_class"]["frame_map_true"]["flight"] == pytest.approx(0.5)


def frame_of(boxes: list[Seen]) -> pd.DataFrame:
    columns = columns_of(boxes)
    frame = pd.DataFrame(columns.xyxy, columns=["x1", "y1", "x2", "y2"])
    frame[[f"p_{name}" for name in NAMES]] = columns.p_behaviour
    return frame.assign(video_id=VIDEO, time_s=columns.time_s)


def test_a_perfect_store_scores_one_throughout(tmp_path: Path, truth: Path) -> None:
    boxes = [
        *run(range(100), 0.05, "a"),
        *run(range(40), 0.25, "b"),
        *run(range(40, 100), 0.25, "b", p=(0.1, 0.9, 0.1)),
        *run(range(10), 0.45, "c", p=(0.1, 0.1, 0.9)),
    ]
    bouts = [
        Bout("a", "feeding", 0.0, 20.0),
        Bout("b", "feeding", 0.0, 10.0),
        Bout("b", "vigilance", 10.0, 26.0),
        Bout("c", "flight", 0.0, 3.0),
    ]
    scores = score_store(write_store(tmp_path / "store", boxes, bouts), truth)
    for key in ("box_recall", "box_precision", "idf1", "idf1_flight", "frame_map_detected", "bout_f1"):
        assert scores[key] == 1.0, key
    assert set(scores["time_budget_similarity"].values()) == {1.0}
    assert scores["never_moving"]["box_recall"] == 0.0


def test_an_empty_store_scores_nothing_and_is_json(tmp_path: Path, truth: Path) -> None:
    scores = score_store(write_store(tmp_path / "store", [], []), truth)
    assert scores["box_recall"] == scores["idf1"] == scores["bout_f1"] == 0.0
    assert scores["box_precision"] is None
    assert scores["time_budget_similarity"] == {
        "feeding": 0.0,
        "vigilance": 0.0,
        "flight": 0.0,
        "overall": 0.0,
    }
    json.dumps(scores, allow_nan=False)


def test_a_video_that_the_store_lacks_is_missed(tmp_path: Path, truth: Path) -> None:
    with (truth / "boxes.csv").open("a") as file:
        file.write("marsh/cam02/other.mp4,0.000000,0.1,0.1,0.2,0.2,1,9,0,0.0,1.0\n")
    boxes = [*run(range(100), 0.05, "a"), *run(range(100), 0.25, "b"), *run(range(10), 0.45, "c")]
    scores = score_store(write_store(tmp_path / "store", boxes, []), truth)
    assert scores["box_recall"] == pytest.approx(210 / 211)
    assert scores["box_precision"] == 1.0


def test_the_keys_are_those_of_the_contract(truth: Path, store: Store) -> None:
    scores = score_store(store, truth)
    assert list(scores) == [
        "box_recall",
        "box_precision",
        "idf1",
        "idf1_flight",
        "time_budget_similarity",
        "frame_map_detected",
        "frame_map_true",
        "paper_map",
        "bout_f1",
        "true_seconds",
        "never_moving",
        "per_class",
    ]


def test_the_description_shows_every_figure(truth: Path, store: Store) -> None:
    text = describe_score(score_store(store, truth))
    for part in ("0.905", "0.705", "1, counted apart", "feeding", "30.0", "0.812", "overall"):
        assert part in text, part


def test_missing_truth_is_said_in_words(tmp_path: Path, store: Store) -> None:
    with pytest.raises(TruthMissingError, match=r"boxes\.csv: there is no such file"):
        score_store(store, tmp_path / "nowhere")


def test_similarity_counts_unmatched_seconds_of_both_sides_as_different() -> None:
    true = pd.DataFrame({"who": ["1", "2"], "behaviour": ["feeding"] * 2, "duration_s": [10.0, 5.0]})
    found = pd.DataFrame({"who": ["2", "x"], "behaviour": ["feeding"] * 2, "duration_s": [8.0, 3.0]})
    # The found individual named "2" is the partner of true "1"; its name must not be taken for true "2".
    result = time_budget_similarity(true, found, {"1": "2"}, ("feeding",))
    assert result["feeding"] == pytest.approx(8 / (10 + 5 + 3))
