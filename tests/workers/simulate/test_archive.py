"""Archives on disk."""

import csv
import datetime as dt
import hashlib
import json
from pathlib import Path

import av
import pytest

from workers.simulate.archive import simulate_archive


def digest(root: Path) -> str:
    parts = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        parts.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return parts.hexdigest()


def packets(path: Path) -> list[tuple[float, bool]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        found = [(float(p.pts * stream.time_base), p.is_keyframe) for p in container.demux(stream) if p.size]
    return sorted(found)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tiny")
    result = simulate_archive(root, videos=3, seconds=3, seed=11, workers=1)
    assert (result.videos, result.seconds, result.archive) == (3, 9, root / "archive")
    return root


def test_the_result_does_not_depend_on_the_number_of_workers(tiny: Path, tmp_path: Path):
    simulate_archive(tmp_path, videos=3, seconds=3, seed=11, workers=2)
    assert digest(tmp_path) == digest(tiny)


def test_videos_have_exact_times_and_the_cameras_rate(tiny: Path):
    cameras = json.loads((tiny / "truth" / "reserve.json").read_text())["cameras"]
    for camera in cameras:
        assert camera["fps"] in (24, 25, 30)
        for uri in camera["videos"]:
            times = [time for time, _ in packets(tiny / "archive" / uri)]
            assert times == pytest.approx([k / camera["fps"] for k in range(3 * camera["fps"])], abs=1e-4)


def test_names_carry_the_start_of_each_recording(tiny: Path):
    names = sorted(p.stem for p in (tiny / "archive").rglob("*.mp4"))
    starts = [dt.datetime.strptime(name.split("_")[1], "%Y%m%dT%H%M%SZ") for name in names]
    assert [name.split("_")[0] for name in names] == ["cam01", "cam01", "cam02"]
    assert (starts[1] - starts[0]).total_seconds() == 3.0
    assert {p.parent.parent.name for p in (tiny / "archive").rglob("*.mp4")} == {"reserve-11"}


def test_iframes_lie_as_far_apart_as_the_camera_says(tmp_path: Path):
    seen = set()
    for seed in (1, 3):
        simulate_archive(tmp_path / str(seed), videos=1, seconds=9, seed=seed, workers=1, videos_per_camera=1)
        camera = json.loads((tmp_path / str(seed) / "truth" / "reserve.json").read_text())["cameras"][0]
        found = [time for time, key in packets(tmp_path / str(seed) / "archive" / camera["videos"][0]) if key]
        expected = [k * camera["keyint_s"] for k in range(9) if k * camera["keyint_s"] < 9]
        assert found == pytest.approx(expected, abs=1e-4)
        seen.add(camera["keyint_s"])
    assert all(1.0 <= keyint_s <= 10.0 for keyint_s in seen)


def test_the_distance_of_iframes_and_the_size_can_be_given(tmp_path: Path):
    simulate_archive(tmp_path, videos=1, seconds=5, seed=1, workers=1, keyint_s=2.0, frame_height=180)
    (path,) = (tmp_path / "archive").rglob("*.mp4")
    assert [time for time, key in packets(path) if key] == pytest.approx([0.0, 2.0, 4.0], abs=1e-4)
    with av.open(str(path)) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (320, 180)


def test_every_table_names_the_videos_that_are_there(tiny: Path):
    uris = {p.relative_to(tiny / "archive").as_posix() for p in (tiny / "archive").rglob("*.mp4")}
    with (tiny / "truth" / "boxes.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows
    assert {row[0] for row in rows} <= uris
    assert {len(row) for row in rows} == {11}
    for name in ("events", "presence"):
        with (tiny / "truth" / f"{name}.csv").open() as file:
            assert {row["video_id"] for row in csv.DictReader(file)} <= uris
    assert json.loads((tiny / "truth" / "reserve.json").read_text())["simulated"] is True


def test_a_fraction_of_a_second_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="whole number"):
        simulate_archive(tmp_path, videos=1, seconds=2.5, seed=1, workers=1)
