"""The truth of the benchmark: consistent, as hard as it should be, and frozen."""

import csv
import hashlib
import io
import itertools
from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
import pytest

from workers.simulate.behaviour import LABEL_NAMES
from workers.simulate.bird import Pose, Shape
from workers.simulate.cast import SHARES, Bird
from workers.simulate.motion import Track
from workers.simulate.tables import HEADERS, keyframe_times
from workers.simulate.truth import KEYFRAME_S, MOTION_THRESHOLD, clip_box, clip_motion, travel

FROZEN_DIGEST = "1caaefa5fd9b3bfcabcbeda5edc6ebbbf4beef57d51dfd1fe2dc92127396456f"
"""sha256 over all tables of the benchmark's reserves. It changes only when the benchmark is meant to change;
then every figure that was measured on it has to be measured again."""


@dataclass(frozen=True)
class Row:
    uri: str
    time_s: float
    xyxy: tuple[float, float, float, float]
    label: int
    individual: int
    motion: int
    covered: float
    inside: float


@pytest.fixture(scope="module")
def boxes(benchmark_truth) -> list[Row]:
    return [
        Row(str(r[0]), float(r[1]), tuple(float(v) for v in r[2:6]), int(r[6]), int(r[7]), int(r[8]),
            float(r[9]), float(r[10]))
        for r in benchmark_truth.rows("boxes")
    ]  # fmt: skip


@pytest.fixture(scope="module")
def events(benchmark_truth) -> list[dict[str, str]]:
    found = []
    for seed, tables in benchmark_truth.tables.items():
        rows = csv.DictReader(io.StringIO(tables.as_text("events")))
        found += [{**row, "seed": str(seed)} for row in rows]
    return found


def iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def test_the_benchmark_is_frozen(benchmark_truth):
    text = "".join(t.as_text(name) for t in benchmark_truth.tables.values() for name in HEADERS)
    assert hashlib.sha256(text.encode()).hexdigest() == FROZEN_DIGEST


def test_boxes_lie_in_the_frame_and_on_keyframes(boxes: list[Row]):
    corners = np.array([row.xyxy for row in boxes])
    assert corners.min() >= 0
    assert corners.max() <= 1
    assert (corners[:, 2] >= corners[:, 0]).all()
    assert (corners[:, 3] >= corners[:, 1]).all()
    steps = np.array([row.time_s for row in boxes]) / KEYFRAME_S
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-4)
    assert all(0 <= row.covered <= 1 and 0 <= row.inside <= 1 for row in boxes)
    assert {row.label for row in boxes} == set(LABEL_NAMES)


def test_labels_agree_with_the_bouts(boxes: list[Row], events, benchmark_truth):
    bouts = defaultdict(list)
    for event in events:
        bouts[event["seed"], int(event["individual_id"])].append(event)
    starts = {
        camera.uri(f"reserve-{seed}", k): k * camera.seconds
        for seed, cameras in benchmark_truth.cameras.items()
        for camera in cameras
        for k in range(camera.recordings)
    }  # fmt: skip
    for row in boxes[::7]:
        seed = row.uri.split("/")[0].split("-")[1]
        at = starts[row.uri] + row.time_s
        names = []
        for event in bouts[seed, row.individual]:
            passed_s = at - starts[event["video_id"]] + 1e-4
            if float(event["start_s"]) <= passed_s < float(event["end_s"]):
                names.append(event["behaviour"])
        assert names == [LABEL_NAMES[row.label]], row


def test_bouts_of_one_individual_never_overlap(events):
    series = defaultdict(list)
    for event in events:
        series[event["seed"], event["individual_id"]].append((event["start_time"], event["end_time"]))
    for spans in series.values():
        spans.sort()
        assert all(start < stop for start, stop in spans)
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))


def test_bouts_fill_the_time_in_which_an_individual_is_visible(events, benchmark_truth):
    seconds = Counter()
    for event in events:
        seconds[event["seed"], int(event["individual_id"])] += float(event["duration_s"])
    for seed, tables in benchmark_truth.tables.items():
        for row in tables.rows["individuals"]:
            assert seconds[str(seed), row[0]] == pytest.approx(float(row[4]), abs=1e-3)


def test_some_individuals_go_on_in_the_next_recording(boxes: list[Row]):
    videos = defaultdict(set)
    for row in boxes:
        videos[row.uri.split("/")[0], row.individual].add(row.uri)
    assert max(len(uris) for uris in videos.values()) == 2
    assert sum(len(uris) == 2 for uris in videos.values()) >= 10


def test_behaviours_have_natures_shares(boxes: list[Row]):
    found = Counter(row.label for row in boxes)
    for label, share in SHARES.items():
        assert found[label] / len(boxes) == pytest.approx(share, abs=0.02), LABEL_NAMES[label]


def test_most_instances_are_static_and_both_kinds_are_in_most_behaviours(boxes: list[Row]):
    assert np.mean([row.motion == 0 for row in boxes]) == pytest.approx(0.706, abs=0.03)
    for label in (1, 2, 3, 4, 5):
        dynamic = np.mean([row.motion for row in boxes if row.label == label])
        assert 0.04 < dynamic < 0.96, LABEL_NAMES[label]


def test_sizes_range_from_25_to_80_pixels(benchmark_truth):
    sizes = [float(row[6]) for row in benchmark_truth.rows("individuals")]
    assert min(sizes) >= 25
    assert max(sizes) <= 80
    assert min(sizes) < 32
    assert max(sizes) > 70


def test_birds_overlap_and_cross(boxes: list[Row]):
    frames = defaultdict(list)
    for row in boxes:
        frames[row.uri, row.time_s].append(row)
    crowded = [rows for rows in frames.values() if any(
        iou(a.xyxy, b.xyxy) > 0.2 for k, a in enumerate(rows) for b in rows[k + 1 :])]  # fmt: skip
    assert len(crowded) > 0.02 * len(frames)
    assert sum(row.covered > 0.3 for row in boxes) > 100
    assert any(row.covered > 0.65 for row in boxes)


def test_flights_cross_two_body_lengths_a_keyframe(benchmark_truth):
    speeds = []
    for cameras in benchmark_truth.cameras.values():
        for bird in (b for camera in cameras for b in camera.birds):
            flying = bird.track.poses[bird.track.labels == 6]
            if len(flying) > 20:
                speeds.append(np.median(np.abs(np.diff(flying[:, 0]))) * 8 / bird.height)
    assert max(speeds) > 2.0
    assert max(speeds) < 3.5
    assert np.mean(np.array(speeds) < 1.0) > 0.2


def test_some_visits_last_two_seconds(benchmark_truth):
    visible = sorted(float(row[4]) for row in benchmark_truth.rows("individuals"))
    assert sum(1.5 < seconds < 3.0 for seconds in visible) >= 5


def test_some_birds_rest_through_a_whole_video(boxes: list[Row], benchmark_truth):
    labels = defaultdict(list)
    for row in boxes:
        labels[row.uri, row.individual].append((row.label, row.motion))
    every = len(keyframe_times(90.0))
    resting = [seen for seen in labels.values() if seen == [(4, 0)] * every]
    assert len(resting) >= 2
    assert any(row[5] == 0 for row in benchmark_truth.rows("individuals"))
    assert any(row[5] == 1 for row in benchmark_truth.rows("individuals"))


def test_other_movers_come_through_and_some_scenes_are_empty_for_a_while(benchmark_truth):
    assert len({row[6] for row in benchmark_truth.rows("others")}) >= 2
    spans = benchmark_truth.rows("presence")
    assert all(0 <= float(start) < float(stop) <= 90 for _, start, stop in spans)
    assert sum(float(stop) - float(start) for _, start, stop in spans) < 16 * 90 - 20


def test_every_box_lies_in_a_presence_span(boxes: list[Row], benchmark_truth):
    spans = defaultdict(list)
    for uri, start, stop in benchmark_truth.rows("presence"):
        spans[uri].append((float(start), float(stop)))
    for row in boxes[::5]:
        assert any(start - 1e-4 <= row.time_s < stop + 1e-4 for start, stop in spans[row.uri])


def test_motion_is_the_extent_of_the_path_within_the_clip():
    poses = np.zeros((120, 15), np.float32)
    poses[:, Pose._fields.index("x")] = np.linspace(0, 119 / 30, 120) * 0.1
    bird = Bird(1, 0.2, 0.8, {}, 0, Track(poses, np.ones(120, np.int8)))
    # 16 grid frames are 15 steps of 1/15 s apart: 1 s at 0.1 frame heights a second, half a bird of 0.2.
    assert clip_motion(bird, 2.0, 0.0, 4.0) == pytest.approx(0.5, abs=1e-4)
    assert clip_motion(bird, 2.0, 1.9, 4.0) == pytest.approx(0.5 * 9 / 15, abs=0.034)
    assert travel(poses[:1], 0.2) == 0.0
    assert 0.1 < MOTION_THRESHOLD < 0.5


def test_a_box_is_clipped_to_the_frame():
    outline = [(-0.1, 0.2), (0.3, 0.2), (0.3, 0.6)]
    xyxy, inside = clip_box([Shape("body", outline)])
    assert xyxy == pytest.approx((0.0, 0.2, 0.3 * 9 / 16, 0.6))
    assert inside == pytest.approx(0.75)
    assert clip_box([Shape("body", [(-0.3, 0.1), (-0.1, 0.1), (-0.2, 0.4)])])[1] == 0.0
