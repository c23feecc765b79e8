"""Cases of one video file that is sound and unusual, or whose header or clock says something odd."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import av
import numpy as np

from tests.badinput import damage
from tests.badinput.files import MPEG4, NO_REORDERING, REORDERED, TABLES, numbered, of, place, sound, video
from tests.badinput.reading import Expected
from tests.numbered import write_video

OPEN_H264 = {"options": {"x264-params": "open-gop=1:bframes=3:keyint=15:scenecut=0"}}
OPEN_HEVC = {"codec": "libx265", "options": {"x265-params": "keyint=15:log-level=none"}}

# Unusual


def audio_alone(folder: Path) -> None:
    with av.open(str(place(folder, ".mp4")), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def remuxed(path: Path, shift_s: float, suffix: str) -> Path:
    """The same packets with other times."""
    target = path.with_name(f"shifted{suffix}")
    with av.open(str(path)) as opened, av.open(str(target), "w") as output:
        stream = opened.streams.video[0]
        copy = output.add_stream_from_template(stream)
        shift = round(shift_s / float(stream.time_base))
        for packet in opened.demux(stream):
            if packet.size and packet.pts is not None and packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, copy
                output.mux(packet)
    return target.rename(path.with_suffix(suffix))


def states_too_many_frames(path: Path) -> None:
    data = path.read_bytes()
    damage.overwrite(path, data.index(b"avih") + 8 + 16, struct.pack("<I", 6000))
    damage.overwrite(path, data.index(b"strh") + 8 + 32, struct.pack("<I", 6000))


def states_too_long(path: Path) -> None:
    for kinds, field in (
        ((b"mvhd",), 16),
        ((b"trak", b"tkhd"), 20),
        ((b"trak", b"mdia", b"mdhd"), 16),
    ):
        start, _ = damage.find_box(path.read_bytes(), b"moov", *kinds)
        old = struct.unpack_from(">I", path.read_bytes(), start + field)[0]
        damage.overwrite(path, start + field, struct.pack(">I", old * 20))
    damage.set_edit_list(path, [(40_000, 0)])


def states_other_size(path: Path) -> None:
    start, _ = damage.find_box(path.read_bytes(), *TABLES, b"stsd")
    damage.overwrite(path, start + 8 + 32, struct.pack(">HH", 4096, 4096))


def cut_in_the_middle(path: Path) -> None:
    ticks = 15360 // 30
    damage.set_edit_list(path, [(1000, 0), (500, 45 * ticks)])


def two_sizes(folder: Path) -> None:
    first, second = numbered(folder, ".ts", frames=40), write_video(folder / "b.ts", 40, size=(192, 320))
    second = remuxed(second, 2.0, ".ts")
    first.write_bytes(first.read_bytes() + second.read_bytes())
    second.unlink()


UNUSUAL = [
    video(
        "edit list that cuts the start",
        of(".mp4", lambda path: remuxed(path, -7 / 30, ".mp4"), NO_REORDERING),
        "done",
        "edit list",
        Expected(lambda time_s: 7 + round(time_s * 30)),
    ),
    video(
        "edit list that delays the start",
        of(".mp4", lambda path: remuxed(path, 2.0, ".mp4")),
        "done",
        "edit list",
    ),
    video(
        "edit list that cuts the middle",
        of(".mp4", cut_in_the_middle, NO_REORDERING),
        "done",
        "edit list",
        Expected(lambda time_s: round(time_s * 30) + (15 if time_s > 0.99 else 0)),
    ),
    video(
        "variable frame rate",
        sound(".mp4", {"times_ms": lambda number: 20 * number + 7 * (number % 3)}),
        "done",
        "decord",
        Expected(lambda time_s: round((time_s * 1000 - 7) / 20)),
    ),
    video("open groups of pictures, H.264", sound(".mp4", OPEN_H264), "done", "not closed"),
    video("open groups of pictures, HEVC", sound(".mp4", OPEN_HEVC), "done", "not closed|first I-frame"),
    video("H.264 4:4:4", sound(".mp4", {"pixel_format": "yuv444p"}), "done", "yuv444p pixels"),
    video(
        "odd size, 4:2:0",
        sound(".avi", {"codec": "mjpeg", "pixel_format": "yuvj420p", "size": (97, 163)}),
        "done",
        "avi",
    ),
    video(
        "odd size, 4:4:4", sound(".mp4", {"pixel_format": "yuv444p", "size": (97, 163)}), "done", "yuv444p"
    ),
    video("reordered frames in an avi", sound(".avi", REORDERED), "done", "avi"),
    video("avi that states too many frames", of(".avi", states_too_many_frames, MPEG4), "done", "avi"),
    video("mp4 that states too many seconds", of(".mp4", states_too_long), "done", "pyav|decord"),
    video("mp4 that states another size", of(".mp4", states_other_size), "done", "decord"),
    video("sound alone", audio_alone, "quarantined", "no video stream, only audio"),
    video("one frame", sound(".mp4", frames=1), "done", "1 grid frames"),
    video(
        "turned by 90 degrees",
        of(".mp4", lambda path: damage.turn(path, 0, 1, -1, 0)),
        "done",
        "decord",
        Expected(turned_deg=270),
    ),
    video(
        "turned upside down",
        of(".mp4", lambda path: damage.turn(path, -1, 0, 0, -1)),
        "done",
        "decord",
        Expected(turned_deg=180),
    ),
    video(
        "frames of 16K",
        sound(".mp4", {"size": (64, 16_384), "options": {"preset": "ultrafast"}}, 2),
        "quarantined",
        "16384x64.*scale it down",
    ),
    video(
        "16,384 frames in a small file",
        sound(".mp4", {"size": (64, 96), "options": {"preset": "ultrafast", "g": "250"}}, 16_384),
        "done",
        "decord",
        Expected(grid_frames=8192),
        slow=True,
    ),
    video("the size changes within the file", two_sizes, "quarantined", "size of the pictures changes"),
    video("codec that is not accepted", sound(".mkv", {"codec": "ffv1"}, 3), "quarantined", r"ffv1.*H\.264"),
    video(
        "10 frames a second",
        sound(".mp4", {"rate": 10}),
        "done",
        "decord",
        Expected(lambda time_s: round(time_s * 10)),
    ),
]

# Times


def with_jump(jump_ms: int) -> Mapping[str, object]:
    return {"times_ms": lambda number: 40 * number + (jump_ms if number >= 30 else 0)}


def clock_set_back(folder: Path) -> None:
    first, second = numbered(folder, ".ts", frames=45), write_video(folder / "b.ts", 45, first=45)
    moved = remuxed(second, -0.5, ".ts")
    first.write_bytes(first.read_bytes() + moved.read_bytes())
    moved.unlink()


def at_25_with_pause(pause_s: float) -> Callable[[float], int]:
    return lambda time_s: round((time_s - (pause_s if time_s > 1.3 else 0.0)) * 25)


TIMES = [
    video(
        "clock that jumps by two hours",
        sound(".mkv", with_jump(7_200_000)),
        "quarantined",
        "jumps by 7,200 s",
    ),
    video(
        "clock that jumps by ten seconds",
        sound(".mkv", with_jump(10_000)),
        "done",
        "decord",
        Expected(at_25_with_pause(10.0)),
    ),
    video("clock that is set back", clock_set_back, "quarantined", "back"),
    video(
        "clock of a ts that wraps round",
        of(".ts", lambda path: remuxed(path, 2**33 / 90_000 - 1.0 - 1.4, ".ts"), REORDERED),
        "done",
        "mpegts",
    ),
]

UNUSUAL_VIDEOS = [*UNUSUAL, *TIMES]
