"""Probing: facts of generated videos, and files that must be refused in words."""

from __future__ import annotations

import datetime as dt
import os
import pickle
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from workers import probe as probe_module
from workers.containers import sniff_format
from workers.errors import (
    BadTimestampsError,
    DamagedVideoError,
    EmptyFileError,
    FrameTooLargeError,
    NotAVideoError,
    NoVideoStreamError,
    PlaylistError,
    TruncatedFileError,
    UnreadableVideoError,
    UnsafePathError,
    UnsupportedCodecError,
)
from workers.messages import scores_behaviour
from workers.probe import probe_video

WriteVideo = Callable[..., Path]


def test_an_ordinary_mp4(tmp_path: Path, write_video: WriteVideo) -> None:
    created = {"creation_time": "2024-05-17T03:20:00Z"}
    path = write_video(tmp_path / "a.mp4", 70, options={"bf": "2"}, metadata=created)
    probe = probe_video(path)
    assert (probe.container, probe.codec, probe.pixel_format) == ("mov", "h264", "yuv420p")
    assert (probe.height, probe.width, probe.rotation_deg) == (96, 160, 0)
    np.testing.assert_allclose(probe.times_s, np.arange(70) / 30, atol=1e-6)
    assert np.flatnonzero(probe.is_iframe).tolist() == [0, 15, 30, 45, 60]
    assert probe.fps == pytest.approx(30)
    assert probe.duration_s == pytest.approx(70 / 30, abs=1e-3)
    assert 0 < probe.packet_bytes.sum() < path.stat().st_size
    assert probe.packet_bytes[0] > 2 * np.median(probe.packet_bytes)
    assert probe.container_start == dt.datetime(2024, 5, 17, 3, 20, tzinfo=dt.UTC)
    assert probe.decoder == "decord"


def test_variable_rate_times_are_in_presentation_order(tmp_path: Path, write_video: WriteVideo) -> None:
    def times_ms(number: int) -> int:
        return 40 * number + 7 * (number % 3)

    path = write_video(tmp_path / "a.mkv", 40, options={"bf": "3"}, times_ms=times_ms)
    probe = probe_video(path)
    np.testing.assert_allclose(probe.times_s, [times_ms(number) / 1000 for number in range(40)], atol=1e-9)


def test_the_shape_of_pixels_that_only_the_container_states(tmp_path: Path, write_video: WriteVideo) -> None:
    plain, wide = write_video(tmp_path / "plain.mp4", 6), tmp_path / "wide.mp4"
    with av.open(str(plain)) as source, av.open(str(wide), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.sample_aspect_ratio = Fraction(4, 3)
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    assert (probe_video(plain).width, probe_video(plain).height) == (160, 96)
    assert (probe_video(wide).width, probe_video(wide).height) == (213, 96)


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("a.ts", {}, "mpegts"),
        ("a.avi", {"codec": "mpeg4"}, "avi"),
        ("a.asf", {"codec": "msmpeg4"}, "asf"),
        ("a.webm", {"codec": "libvpx", "options": {"deadline": "realtime"}}, "vp8"),
        ("a.mp4", {"pixel_format": "yuv444p"}, "yuv444p"),
        ("a.mp4", {"container_options": {"movflags": "frag_keyframe+empty_moov"}}, "fragmented"),
        ("a.mp4", {"options": {"x264-params": "open-gop=1:bframes=3:keyint=15:scenecut=0"}}, "not closed"),
        ("a.avi", {"options": {"bf": "2"}}, "counted"),
    ],
)
def test_what_pyav_reads(
    tmp_path: Path, write_video: WriteVideo, name: str, settings: dict[str, object], reason: str
) -> None:
    probe = probe_video(write_video(tmp_path / name, 40, **settings))
    assert probe.decoder == "pyav"
    assert reason in probe.decoder_reason
    assert probe.frame_count == 40


def test_other_machines_have_no_decord(
    tmp_path: Path, write_video: WriteVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_module.platform, "machine", lambda: "aarch64")
    probe = probe_video(write_video(tmp_path / "a.mp4", 5))
    assert probe.decoder == "pyav"
    assert "aarch64" in probe.decoder_reason


def test_intra_refresh_marks_no_iframes(tmp_path: Path, write_video: WriteVideo) -> None:
    settings = {"x264-params": "intra-refresh=1:keyint=20:bframes=0"}
    probe = probe_video(write_video(tmp_path / "a.mp4", 60, options=settings))
    assert np.flatnonzero(probe.is_iframe).tolist() == [0]


@pytest.mark.parametrize(
    ("times_s", "fps", "is_scored"),
    [
        (np.delete(np.arange(601) / 10, 77), 599 / 60, True),
        (np.delete(np.arange(601) / 10, np.arange(5, 600, 10)), 9.0, False),
        (np.concatenate([np.arange(30) / 15, 62.0 + np.arange(31) / 15]), 15.0, True),
        (np.arange(60) * 5.0, 0.2, False),
        (np.repeat(np.arange(100) / 8, 2), 8.0, False),
        ((np.arange(40)[:, None] * 0.5 + np.arange(3) / 30).ravel(), 119 / (19.5 + 2 / 30), False),
    ],
    ids=["a lost frame", "many lost", "a pause", "stills", "two of a time", "bursts"],
)
def test_the_rate_is_that_of_what_was_recorded(
    times_s: NDArray[np.float64], fps: float, is_scored: bool
) -> None:
    found, _ = probe_module._rate(times_s, 0.0, None)
    assert found == pytest.approx(fps)
    assert scores_behaviour(found) is is_scored


def test_one_frame(tmp_path: Path, write_video: WriteVideo) -> None:
    probe = probe_video(write_video(tmp_path / "a.mp4", 1, rate=5))
    assert (probe.frame_count, probe.times_s.tolist()) == (1, [0.0])
    assert probe.duration_s == pytest.approx(0.2)
    assert probe.fps == pytest.approx(5)


def set_matrix(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Write a rotation into the track's header."""
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    struct.pack_into(">iiiii", content, matrix, a << 16, b << 16, 0, c << 16, d << 16)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("matrix", "rotation_deg", "shape"),
    [
        ((0, 1, -1, 0), 270, (160, 96)),  # a phone held upright
        ((0, -1, 1, 0), 90, (160, 96)),
        ((-1, 0, 0, -1), 180, (96, 160)),
    ],
)
def test_rotation(
    tmp_path: Path,
    write_video: WriteVideo,
    matrix: tuple[int, int, int, int],
    rotation_deg: int,
    shape: tuple[int, int],
) -> None:
    path = write_video(tmp_path / "a.mp4", 3)
    set_matrix(path, *matrix)
    probe = probe_video(path)
    assert probe.rotation_deg == rotation_deg
    assert (probe.height, probe.width) == shape


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (b"", EmptyFileError, "0 bytes"),
        (bytes(5000), EmptyFileError, "zeros"),
        (b"field notes\n" * 9, NotAVideoError, "text file"),
        ("Kraniche am Fluß\n".encode() * 400, NotAVideoError, "text file"),
        (b"#EXTM3U\nfile:///etc/hostname\n", PlaylistError, "never followed"),
        (b"ffconcat version 1.0\nfile 'other.mp4'\n", PlaylistError, "never followed"),
        (b"v=0\no=- 0 0 IN IP4 127.0.0.1\n", PlaylistError, "never followed"),
        (b"\xff\xd8\xff\xe0" + bytes(50), NotAVideoError, "JPEG"),
        (b"\x00\x00\x00\x01\x67\x64" + bytes(range(50)), NotAVideoError, "raw H.264"),
        (bytes(range(128, 256)) * 3, NotAVideoError, "80 81 82"),
        (b"\x00\x00\x00\x10ftypisom\x00\x00\x00\x00", TruncatedFileError, "moov"),
        (b"\x1a\x45\xdf\xa3" + bytes(range(1, 200)), DamagedVideoError, "matroska"),
    ],
)
def test_refused_in_words(tmp_path: Path, content: bytes, error: type[Exception], words: str) -> None:
    path = tmp_path / "named_like_a_video.mp4"
    path.write_bytes(content)
    with pytest.raises(error, match=words) as raised:
        probe_video(path)
    assert isinstance(raised.value, UnreadableVideoError)
    assert "named_like_a_video.mp4" in str(raised.value)
    assert "named_like_a_video.mp4" not in raised.value.reason


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("a.mp4", {}),
        ("a.mp4", {"container_options": {"movflags": "faststart"}}),
        ("a.mkv", {}),
        ("a.avi", {"codec": "mpeg4"}),
        ("a.asf", {"codec": "msmpeg4"}),
    ],
)
def test_half_a_file_is_cut_off(
    tmp_path: Path, write_video: WriteVideo, name: str, settings: dict[str, object]
) -> None:
    whole = write_video(tmp_path / name, 40, **settings)
    half = tmp_path / f"half_{name}"
    content = whole.read_bytes()
    half.write_bytes(content[: len(content) // 2])
    with pytest.raises(TruncatedFileError, match="cut off"):
        probe_video(half)


@pytest.mark.parametrize(
    ("name", "settings"),
    [("a.ts", {}), ("a.mp4", {"container_options": {"movflags": "frag_keyframe+empty_moov"}})],
)
def test_half_a_stream_is_read_as_far_as_it_goes(
    tmp_path: Path, write_video: WriteVideo, name: str, settings: dict[str, object]
) -> None:
    whole = write_video(tmp_path / name, 60, **settings)
    half = tmp_path / f"half_{name}"
    content = whole.read_bytes()
    half.write_bytes(content[: len(content) // 2])
    probe = probe_video(half)
    assert 10 < probe.frame_count < 50
    np.testing.assert_allclose(probe.times_s, np.arange(probe.frame_count) / 30, atol=1e-3)


def test_other_codecs_are_named(tmp_path: Path, write_video: WriteVideo) -> None:
    path = write_video(tmp_path / "a.mkv", 3, codec="ffv1")
    with pytest.raises(UnsupportedCodecError, match=r"ffv1.*H\.264"):
        probe_video(path)


def test_frames_beyond_the_limit(tmp_path: Path, write_video: WriteVideo) -> None:
    path = write_video(tmp_path / "a.mp4", 1, size=(16, 4112), options={"preset": "ultrafast"})
    with pytest.raises(FrameTooLargeError, match="4112x16"):
        probe_video(path)


def test_sound_alone(tmp_path: Path) -> None:
    import av

    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(NoVideoStreamError, match="no video stream, only audio"):
        probe_video(path)


def test_a_clock_that_jumps(tmp_path: Path, write_video: WriteVideo) -> None:
    path = write_video(
        tmp_path / "a.mkv", 20, times_ms=lambda number: 40 * number + (7_200_000 if number > 9 else 0)
    )
    with pytest.raises(BadTimestampsError, match=r"jumps by 7,200 s after 0\.4 s"):
        probe_video(path)


def test_a_clock_that_goes_back(tmp_path: Path, write_video: WriteVideo) -> None:
    path = write_video(tmp_path / "a.ts", 60)
    path.write_bytes(2 * path.read_bytes())
    with pytest.raises(BadTimestampsError, match=r"goes back by 1\.5 s after 1\.5 s.*set back"):
        probe_video(path)


def test_reordered_frames_are_no_clock_that_goes_back(tmp_path: Path, write_video: WriteVideo) -> None:
    options = {"x264-params": "bframes=16:b-adapt=0:b-pyramid=normal:keyint=60:open-gop=1"}
    probe = probe_video(write_video(tmp_path / "a.mkv", 70, options=options))
    np.testing.assert_allclose(probe.times_s, np.arange(70) / 30, atol=1e-3)


def test_bytes_before_and_after_a_stream(tmp_path: Path, write_video: WriteVideo) -> None:
    stream, film = write_video(tmp_path / "a.ts", 40), write_video(tmp_path / "a.mp4", 40)
    stream.write_bytes(stream.read_bytes()[100:])
    film.write_bytes(film.read_bytes() + b"\x7f\xff\xff\xffjunk")
    assert probe_video(stream).frame_count >= 24
    assert probe_video(film).frame_count == 40


def test_a_link_out_of_the_folder_is_not_opened(tmp_path: Path, write_video: WriteVideo) -> None:
    outside = write_video(tmp_path / "outside.mp4", 3)
    archive = tmp_path / "archive"
    archive.mkdir()
    (archive / "link.mp4").symlink_to(outside)
    with pytest.raises(UnsafePathError, match="leads out"):
        probe_video(archive / "link.mp4", archive)
    with pytest.raises(UnsafePathError, match="leads out"):
        probe_video(archive / "link.mp4")
    assert probe_video(outside, tmp_path).frame_count == 3


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(UnsafePathError, match="no regular file"):
        probe_video(tmp_path / "a.mp4")


def test_the_name_does_not_decide(tmp_path: Path, write_video: WriteVideo) -> None:
    path = write_video(tmp_path / "a.mkv", 3).rename(tmp_path / "a.mp4")
    assert sniff_format(path) == "matroska"
    assert probe_video(path).frame_count == 3


def test_errors_travel_between_processes() -> None:
    error = EmptyFileError("nothing in it", "/archive/a.mp4")
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.reason) == (EmptyFileError, "a.mp4: nothing in it", "nothing in it")
