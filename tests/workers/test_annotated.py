from __future__ import annotations

import csv
import datetime as dt
import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from storage.formats.annotations import Annotation, NoVideo, VideoFacts
from workers.annotated import AnnotatedVideo, examine_video, find_video, write_annotated_truth
from workers.archive import list_archive
from workers.clips import light_of_videos, read_truth
from workers.messages import ArchiveFile


def file(uri: str) -> ArchiveFile:
    return ArchiveFile("0" * 16, uri, f"/archive/{uri}", 1, "", dt.datetime.now(dt.UTC))


FILES = [file(uri) for uri in ("s/cam1/a.mp4", "s/cam2/a.mp4", "s/cam2/b.v1.mp4", "c.mp4", "s/c.mp4")]


@pytest.mark.parametrize(
    ("name", "uri"),
    [
        ("s/cam2/a.mp4", "s/cam2/a.mp4"),
        ("cam2/a.mp4", "s/cam2/a.mp4"),
        ("cam2/a", "s/cam2/a.mp4"),
        ("b.v1", "s/cam2/b.v1.mp4"),
        ("file:///home/li/My%20videos/s/cam1/a.mp4", None),  # two files are called a.mp4
        ("file:///home/li/videos/b.v1.mp4", "s/cam2/b.v1.mp4"),
        ("C:\\videos\\b.v1.mp4", "s/cam2/b.v1.mp4"),
        ("c.mp4", "c.mp4"),  # this very path
        ("a.mp4", None),
        ("d.mp4", None),
    ],
)
def test_which_video_a_name_means(name: str, uri: str | None) -> None:
    found = find_video(name, FILES)
    if uri is None:
        assert isinstance(found, NoVideo)
        assert ("could be meant: s/cam1/a.mp4, s/cam2/a.mp4" in found.message) == ("a.mp4" in name)
    else:
        assert isinstance(found, ArchiveFile)
        assert found.uri == uri


def write_plain(path: Path, colour: tuple[int, int, int], fps: int = 25) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"threads": "1"})
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        image = np.full((64, 96, 3), colour, dtype=np.uint8)
        for _ in range(20):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def test_size_times_and_light_of_a_video(tmp_path: Path) -> None:
    write_plain(tmp_path / "day.mp4", (40, 120, 60))
    write_plain(tmp_path / "night.mp4", (90, 90, 90))
    write_plain(tmp_path / "slow.mp4", (90, 90, 90), fps=5)
    (tmp_path / "broken.mp4").write_bytes(b"\0\0\0\x18ftypisom" + b"\0" * 100)
    broken, day, night, slow = (examine_video(one, tmp_path) for one in list_archive(str(tmp_path)))
    assert isinstance(day, AnnotatedVideo)
    assert (day.light, day.facts.width, day.facts.height) == ("day", 96, 64)
    assert (day.facts.duration_s, day.facts.last_frame_s) == pytest.approx((0.8, 0.76), abs=1e-3)
    assert isinstance(night, AnnotatedVideo)
    assert night.light == "infrared"
    assert isinstance(slow, NoVideo)
    assert "5.00 frames a second" in slow.message
    assert isinstance(broken, NoVideo)
    assert broken.kind == "unreadable video"


def test_what_a_browser_makes_of_a_video(tmp_path: Path) -> None:
    """Pixels that are higher than wide make its picture higher; sound that comes first starts its clock."""
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        sound = container.add_stream("aac", rate=16000, layout="mono")
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(8, 9)
        for number in range(20):
            frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), 90, np.uint8), format="rgb24")
            frame.pts, frame.time_base = number + 20, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        silence.sample_rate, silence.pts = 16000, 0
        for encoded in (*sound.encode(silence), *sound.encode()):
            container.mux(encoded)
    (file,) = list_archive(str(tmp_path))
    video = examine_video(file, tmp_path)
    assert isinstance(video, AnnotatedVideo)
    assert (video.facts.width, video.facts.player_scale) == (85, pytest.approx(9 / 8))
    assert video.facts.player_start_s == pytest.approx(
        0.8, abs=0.07
    )  # an encoder of sound begins a little earlier


def annotation(video: str, time_s: float, behaviour: str, individual: str = "A", **more: float) -> Annotation:
    return Annotation("li", video, time_s, (0.1, 0.2, 0.3, 0.4), (behaviour,), True, individual, **more)


def test_truth_is_what_training_reads(tmp_path: Path) -> None:
    facts = VideoFacts("", 96, 64, 25.0, 2.0, last_frame_s=1.96)
    videos = {
        "s/cam/a.mp4": AnnotatedVideo(facts, "day"),
        "s/cam/b.mp4": AnnotatedVideo(facts, "infrared"),
        "t/cam/c.mp4": AnnotatedVideo(facts, "day"),
        "d.mp4": AnnotatedVideo(facts, "infrared"),
    }
    rows = [
        annotation("s/cam/a.mp4", 1.04, "fly", covered=0.7),
        annotation("s/cam/b.mp4", 2.0, "peck"),  # after the last moment of the grid, 29 / 15 s
        annotation("s/cam/b.mp4", 0.0, "peck", ""),
        annotation("s/cam/b.mp4", 0.0, "other", "deer"),
    ]
    write_annotated_truth(tmp_path, rows, videos, ("peck", "fly"))
    truth = read_truth(tmp_path)
    assert list(truth["s/cam/a.mp4"]) == [16]
    (flying,) = truth["s/cam/a.mp4"][16]
    assert (flying.label, flying.dynamic, flying.learnable, flying.individual) == (1, True, False, "1")
    assert {moment: [box.label for box in boxes] for moment, boxes in truth["s/cam/b.mp4"].items()} == {
        0: [0, -1],
        29: [0],
    }
    assert truth["s/cam/b.mp4"][29][0].individual == "2"
    with (tmp_path / "individual_names.csv").open() as names:
        assert [row[1:] for row in csv.reader(names)][1:3] == [["s/cam/a.mp4", "A"], ["s/cam/b.mp4", "A"]]
    assert light_of_videos(tmp_path / "reserve.json", list(videos)) == ["day", "infrared", "day", "infrared"]
    assert json.loads((tmp_path / "reserve.json").read_text())["simulated"] is False


def test_truth_has_one_behaviour_and_a_motion_state(tmp_path: Path) -> None:
    videos = {"a.mp4": AnnotatedVideo(VideoFacts("a.mp4", 96, 64, 25.0, 2.0, 1.96), "day")}
    two = Annotation("li", "a.mp4", 1.0, (0.1, 0.2, 0.3, 0.4), ("peck", "fly"), True, "A")
    with pytest.raises(ValueError, match="one behaviour and a motion state"):
        write_annotated_truth(tmp_path, [two], videos, ("peck", "fly"))
