from __future__ import annotations

import json
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.badinput.damage import turn
from workers.clips import (
    WindowSet,
    build_windows,
    decode_grid,
    light_of_videos,
    open_windows,
    read_truth,
)
from workers.errors import BadTruthError, UnreadableVideoError
from workers.grid import FrameGrid
from workers.probe import probe_video


def write_video(
    path: Path,
    frames: int,
    fps: int,
    size: tuple[int, int] = (96, 160),
    b_frames: int = 0,
    sample_aspect: Fraction = Fraction(1),
) -> None:
    """Grey frames that carry their number: tens in the left half, ones in the right half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=fps, options={"crf": "10", "bf": str(b_frames), "threads": "1"}
        )
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        stream.time_base = Fraction(1, fps)
        stream.codec_context.sample_aspect_ratio = sample_aspect
        for number in range(frames):
            image = np.full((*size, 3), 20 * (number % 10) + 20, dtype=np.uint8)
            image[:, : size[1] // 2] = 20 * (number // 10) + 20
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def numbers(frames: np.ndarray) -> np.ndarray:
    """Read back which frame of the video each one is."""
    middle = frames.shape[2] // 2
    tens, ones = (half.mean(axis=(1, 2, 3)) / 20 - 1 for half in np.split(frames, [middle], axis=2))
    return 10 * tens.round() + ones.round()


FIRST, SECOND = "site/cam1/cam1_a.mp4", "site/cam2/cam2_b.mp4"
BIRD = "0.10,0.20,0.30,0.60"


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos of 3 s: five birds in the first, a deer and a bird in the second."""
    tmp_path = tmp_path_factory.mktemp("archive")
    write_video(tmp_path / "archive" / FIRST, 90, 30)
    write_video(tmp_path / "archive" / SECOND, 75, 25)
    truth = tmp_path / "truth"
    truth.mkdir()
    (truth / "boxes.csv").write_text(
        f"{FIRST},0.000000,{BIRD},1,11,0,0.0,1.0\n"
        f"{FIRST},1.066667,{BIRD},5,11,1,0.0,1.0\n"
        f"{FIRST},1.066667,0.50,0.50,0.60,0.70,6,12,1,0.66,1.0\n"  # too much of it is covered
        f"{FIRST},1.066667,0.90,0.50,1.00,0.70,6,13,1,0.10,0.59\n"  # too little of it is inside
        f"{FIRST},1.066667,0.70,0.50,0.80,0.70,4,14,0,0.65,0.60\n"  # just enough of both
        f"{SECOND},2.933333,{BIRD},2,21,0,0.0,1.0\n"
    )
    (truth / "others.csv").write_text(
        "video_id,timestamp,x1,y1,x2,y2,kind,mover_id\n"
        f"{SECOND},0.533333,0.40,0.40,0.60,0.60,deer,90\n"
        f"{SECOND},9.066667,0.40,0.40,0.60,0.60,deer,90\n"  # after the last frame
    )
    cameras = [{"camera": "cam1", "light": "infrared"}, {"camera": "cam2", "light": "dawn"}]
    (truth / "reserve.json").write_text(json.dumps({"cameras": cameras}))
    return tmp_path


@pytest.fixture
def archive(untouched: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(untouched, tmp_path / "archive"))


@pytest.fixture(scope="module")
def windows(untouched: Path) -> WindowSet:
    return build_windows(untouched, untouched / "windows", seed=3, frame_height=64, input_height=32)


@pytest.mark.parametrize(("fps", "b_frames"), [(30, 0), (30, 2), (25, 0)])
def test_decoded_grid_has_the_right_frames_at_the_asked_for_height(
    tmp_path: Path, fps: int, b_frames: int
) -> None:
    path = tmp_path / "video.mp4"
    write_video(path, 60, fps, b_frames=b_frames)
    probe = probe_video(path)
    frames = np.concatenate(list(decode_grid(path, probe, 48)))
    assert frames.shape[1:] == (48, 80, 3)
    assert numbers(frames).tolist() == FrameGrid.of(probe).frame_indices.tolist()


def test_slow_videos_repeat_frames_over_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.clips.PART_FRAMES", 4)
    path = tmp_path / "slow.mp4"
    write_video(path, 20, 10)
    probe = probe_video(path)
    frames = np.concatenate(list(decode_grid(path, probe, 48)))
    assert numbers(frames).tolist() == FrameGrid.of(probe).frame_indices.tolist()


@pytest.mark.parametrize("turned", [False, True])
def test_windows_show_videos_as_they_are_displayed(tmp_path: Path, turned: bool) -> None:
    """As boxes are drawn on them, and as a run decodes them: upright, and with square pixels."""
    path = tmp_path / "archive" / FIRST
    write_video(path, 30, 15, sample_aspect=Fraction(3, 2))
    if turned:
        turn(path, -1, 0, 0, -1)  # a camera that hangs upside down
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth" / "boxes.csv").write_text(f"{FIRST},0.8,{BIRD},1,11,0,0.0,1.0\n")
    listed = [{"camera": "cam1", "light": "day"}]
    (tmp_path / "truth" / "reserve.json").write_text(json.dumps({"cameras": listed}))
    windows = build_windows(tmp_path, tmp_path / "w", seed=1, frame_height=64, input_height=64)
    assert windows.frames.shape == (30, 64, 160, 3)
    first = windows.frames[12]  # tens in the left half, 1, and ones in the right half, 2
    left, right = (60, 40) if turned else (40, 60)
    assert (first[:, :70].mean().round(-1), first[:, 90:].mean().round(-1)) == (left, right)


def test_a_video_that_cannot_be_read_is_named(archive: Path) -> None:
    (archive / "archive" / SECOND).write_bytes(b"no video")
    with pytest.raises(UnreadableVideoError, match=r"cam2_b\.mp4"):
        build_windows(archive, archive / "w", seed=1, frame_height=64, input_height=32)


def test_truth_is_read_by_video_and_moment(archive: Path) -> None:
    truth = read_truth(archive / "truth")
    assert sorted(truth) == [FIRST, SECOND]
    assert list(truth[FIRST]) == [0, 16]
    assert list(truth[SECOND]) == [8, 44, 136]
    walking, hidden, outside, resting = truth[FIRST][16]
    assert (walking.label, walking.dynamic, walking.individual) == (4, True, "11")
    assert (resting.label, resting.dynamic) == (3, False)
    assert [box.learnable for box in (walking, hidden, outside, resting)] == [True, False, False, True]
    (deer,) = truth[SECOND][8]
    assert (deer.label, deer.learnable) == (-1, False)


def test_windows_hold_frames_boxes_and_light(windows: WindowSet) -> None:
    assert windows.frames.shape == (45 + 45, 32, 48, 3)  # 160 / 96 * 32 = 53.3 pixels, 3.3 columns of 16
    assert windows.video_start.tolist() == [0, 45, 90]
    assert windows.light.tolist() == ["infrared", "dawn"]
    assert list(zip(windows.video.tolist(), windows.grid.tolist(), strict=True)) == [
        (0, 0),
        (0, 16),
        (1, 8),
        (1, 44),
    ]
    truth_rows = windows.label >= 0
    assert windows.label[truth_rows].tolist() == [0, 4, 5, 5, 3, 1]
    assert windows.dynamic[truth_rows].tolist() == [0, 1, 1, 1, 0, 0]
    assert windows.learnable[truth_rows].tolist() == [True, True, False, False, True, True]
    assert windows.individual[windows.boxes_of(0)][0] == "11"
    assert windows.other.sum() == (windows.label == -1).sum() >= 1
    np.testing.assert_allclose(windows.xyxy[windows.boxes_of(2)][0], [0.4, 0.4, 0.6, 0.6], atol=1e-6)


def test_a_window_is_sixteen_frames_around_its_keyframe(windows: WindowSet) -> None:
    assert numbers(windows.window(1)).tolist() == list(range(16, 48, 2))
    assert numbers(windows.single_frame_window(1)).tolist() == [32] * 16


def test_beyond_the_video_its_edge_frame_is_repeated_not_its_neighbours(
    windows: WindowSet, untouched: Path
) -> None:
    assert numbers(windows.window(0)).tolist() == [0] * 8 + list(range(0, 16, 2))
    of_second = FrameGrid.of(probe_video(untouched / "archive" / SECOND)).frame_indices
    assert numbers(windows.window(3)).tolist() == of_second[np.minimum(np.arange(36, 52), 44)].tolist()


def test_windows_are_the_same_when_opened_again_and_for_the_same_seed(
    windows: WindowSet, untouched: Path, tmp_path: Path
) -> None:
    again = open_windows(untouched / "windows")
    other = build_windows(untouched, tmp_path, seed=3, frame_height=64, input_height=32)
    for set_of in (again, other):
        assert np.array_equal(set_of.frames, windows.frames)
        assert np.array_equal(set_of.xyxy, windows.xyxy)


def test_boxes_of_the_empty_scene_touch_nothing(archive: Path) -> None:
    rows = "".join(f"{FIRST},{4 * k / 15:.6f},0.00,0.00,0.50,1.00,1,1,0,0,1\n" for k in range(11))
    (archive / "truth" / "boxes.csv").write_text(rows)
    windows = build_windows(archive, archive / "w", seed=1, frame_height=64, input_height=32)
    empty = windows.xyxy[windows.other & (windows.xyxy[:, 0] != np.float32(0.4))]
    assert len(empty) >= 1
    on_first = empty[: np.count_nonzero(windows.other[: windows.box_start[11]])]
    assert (on_first[:, 0] >= 0.5).all()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (f"{FIRST},zero,{BIRD},1,1,0,0,1\n", "row 1 cannot be read"),
        (f"{FIRST},0.0,{BIRD},1\n", "row 1 cannot be read"),
        (f"site/cam7/x.mp4,0.0,{BIRD},1,1,0,0,1\n", "cam7"),
    ],
)
def test_bad_truth_is_named(archive: Path, row: str, message: str) -> None:
    (archive / "truth" / "boxes.csv").write_text(row)
    with pytest.raises(BadTruthError, match=message):
        build_windows(archive, archive / "w", seed=1, frame_height=64, input_height=32)


def test_videos_of_different_shape_are_not_mixed(archive: Path) -> None:
    write_video(archive / "archive" / SECOND, 75, 25, size=(96, 96))
    with pytest.raises(BadTruthError, match="aspect ratio"):
        build_windows(archive, archive / "w", seed=1, frame_height=64, input_height=32)


def test_light_is_a_videos_own_where_it_is_listed(tmp_path: Path) -> None:
    listed = [
        {"camera": "cam", "light": "day", "videos": ["a/cam/1.mp4"]},
        {"camera": "cam", "light": "infrared", "videos": ["b/cam/1.mp4"]},
        {"camera": "pond", "light": "dawn"},
    ]
    (tmp_path / "reserve.json").write_text(json.dumps({"cameras": listed}))
    videos = ["a/cam/1.mp4", "b/cam/1.mp4", "a/pond/2.mp4"]
    assert light_of_videos(tmp_path / "reserve.json", videos) == ["day", "infrared", "dawn"]
