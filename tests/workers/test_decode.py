"""Decoding: every grid point shows its own frame, with the same pixels whatever the span."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from workers import decode as decode_module
from workers import spans
from workers.decode import DecodeTally, decode_iframes, decode_span, reads_without_seeks
from workers.errors import DecodeMismatchError
from workers.grid import FrameGrid
from workers.messages import ArchiveFile, FrameChunk, GridSpan, Presence, Probe, Recording
from workers.probe import probe_video
from workers.pyav_reader import to_rgb, upright
from workers.segments import Segment, plan_segments

WriteVideo = Callable[..., Path]
ReadNumber = Callable[[NDArray[np.uint8]], int]
SIZE = (48, 80)
DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "videos"
REAL = sorted(path.relative_to(DATA).as_posix() for path in DATA.rglob("*.*")) or ["zamba_chimp.mp4"]

CONTAINERS = {
    "plain.mp4": {"options": {"bf": "2"}},
    "no_bframes.mp4": {"options": {"bf": "0"}},
    "plain.mkv": {"options": {"bf": "2"}},
    "closed_hevc.mp4": {
        "codec": "libx265",
        "options": {"x265-params": "keyint=15:open-gop=0:log-level=none"},
    },
    "open_hevc.mp4": {"codec": "libx265", "options": {"x265-params": "keyint=15:log-level=none"}},
    "open.mp4": {"options": {"x264-params": "open-gop=1:bframes=3:keyint=15:scenecut=0"}},
    "refresh.mp4": {"options": {"x264-params": "intra-refresh=1:keyint=15:bframes=0"}},
    "stream.ts": {"options": {"bf": "2"}},
    "fragments.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "full_colour.mp4": {"pixel_format": "yuv444p"},
    "odd.mp4": {"pixel_format": "yuv444p", "size": (97, 163)},
    "mpeg4.avi": {"codec": "mpeg4"},
    "mpeg4_reordered.avi": {"codec": "mpeg4", "options": {"bf": "2"}},
    "h264_reordered.avi": {"options": {"bf": "2"}},
    "jpeg.avi": {"codec": "mjpeg", "pixel_format": "yuvj420p"},
    "old.asf": {"codec": "msmpeg4"},
    "vp8.webm": {"codec": "libvpx", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "slow.mp4": {"rate": 10},
    "film.mp4": {"rate": 24},
    "fast.mp4": {"rate": 60},
    "varying.mp4": {"times_ms": lambda number: 40 * number + 7 * (number % 3)},
}
BY_DECORD = {
    "plain.mp4",
    "no_bframes.mp4",
    "plain.mkv",
    "closed_hevc.mp4",
    "slow.mp4",
    "film.mp4",
    "fast.mp4",
    "varying.mp4",
}


def decode(
    path: Path,
    probe: Probe,
    span: GridSpan | None = None,
    size: tuple[int, int] = SIZE,
    tally: DecodeTally | None = None,
    chunk_frames: int = 7,
) -> list[FrameChunk]:
    span = span or GridSpan(0, FrameGrid.of(probe).length)
    chunks = decode_span(
        str(path), probe, span, size, video_id="0123456789abcdef", chunk_frames=chunk_frames, tally=tally
    )
    return list(chunks)


def pixels(chunks: list[FrameChunk]) -> NDArray[np.uint8]:
    return np.concatenate([chunk.frames for chunk in chunks])


@pytest.mark.parametrize("name", CONTAINERS)
def test_each_grid_point_shows_its_frame_whatever_the_cut(
    tmp_path: Path, write_video: WriteVideo, read_number: ReadNumber, name: str
) -> None:
    path = write_video(tmp_path / name, 70, **CONTAINERS[name])
    probe = probe_video(path)
    grid, tally = FrameGrid.of(probe), DecodeTally()
    chunks = decode(path, probe, tally=tally)
    whole = pixels(chunks)
    assert [read_number(picture) for picture in whole] == grid.frame_indices.tolist()
    assert np.concatenate([chunk.frame_indices for chunk in chunks]).tolist() == grid.frame_indices.tolist()
    np.testing.assert_array_equal(np.concatenate([chunk.times_s for chunk in chunks]), grid.times_s)
    assert tally.decoder.partition(":")[0] == ("decord" if name in BY_DECORD else "pyav")
    assert tally.frames_held == 0
    for first in range(0, grid.length, 11):
        stop = min(first + 11, grid.length)
        np.testing.assert_array_equal(pixels(decode(path, probe, GridSpan(first, stop))), whole[first:stop])


def test_chunks_are_consecutive(tmp_path: Path, write_video: WriteVideo) -> None:
    path = write_video(tmp_path / "a.mp4", 70)
    chunks = decode(path, probe_video(path), GridSpan(5, 26), chunk_frames=8)
    assert [(chunk.first_grid, chunk.stop_grid) for chunk in chunks] == [(5, 13), (13, 21), (21, 26)]
    assert {chunk.frames.shape[1:] for chunk in chunks} == {(*SIZE, 3)}
    assert {chunk.video_id for chunk in chunks} == {"0123456789abcdef"}


def test_frames_decoded_start_at_the_iframe_before(tmp_path: Path, write_video: WriteVideo) -> None:
    path = write_video(tmp_path / "a.mp4", 70, options={"bf": "0"})
    probe, tally = probe_video(path), DecodeTally()
    decode(path, probe, GridSpan(20, 25), tally=tally)  # frames 40 to 48, from the I-frame at 30
    assert tally.frames_decoded == 19
    tally = DecodeTally()
    decode(path, replace(probe, decoder="pyav"), GridSpan(20, 25), tally=tally)
    assert tally.frames_decoded == 19


@pytest.mark.parametrize("name", ["plain.mp4", "no_bframes.mp4", "open.mp4", "stream.ts", "mpeg4.avi"])
def test_segments_of_a_span_repeat_as_many_frames_as_they_say(
    tmp_path: Path, write_video: WriteVideo, name: str
) -> None:
    path = write_video(tmp_path / name, 140, **CONTAINERS[name])
    moment = dt.datetime(2025, 11, 3, 6, tzinfo=dt.UTC)
    file = ArchiveFile("0" * 16, name, str(path), path.stat().st_size, "f", moment)
    recording = Recording(file, probe_video(path), "a", "b", moment, "path", moment.date())
    middle = Presence(np.array([[1.0, 4.5]]), "spans", "")

    def frames_decoded(segments: list[Segment]) -> int:
        tally = DecodeTally()
        for segment in segments:
            decode(path, recording.probe, segment.frames, tally=tally)
        return tally.frames_decoded

    cut = plan_segments(recording, middle, 1.1)
    assert len(cut) > 2
    repeats = sum(segment.repeats for segment in cut)
    assert repeats > 0
    assert frames_decoded(cut) - repeats == frames_decoded(plan_segments(recording, middle))


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_very_short_videos(
    tmp_path: Path, write_video: WriteVideo, read_number: ReadNumber, frames: int
) -> None:
    path = write_video(tmp_path / "a.mp4", frames)
    shown = [read_number(picture) for picture in pixels(decode(path, probe_video(path)))]
    assert shown == ([0, 2] if frames == 3 else [0])


def test_small_pieces_give_the_same_pixels(
    tmp_path: Path, write_video: WriteVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.mp4", 70)
    probe = probe_video(path)
    whole = pixels(decode(path, probe))
    monkeypatch.setattr(spans, "PIECE_FRAMES", 1)
    pieces = [piece.frame_indices.tolist() for piece in spans.copy_pieces(str(path), probe, 20, 69)]
    assert [(piece[0], piece[-1]) for piece in pieces] == [(15, 29), (30, 44), (45, 59), (60, 69)]
    np.testing.assert_array_equal(pixels(decode(path, probe)), whole)


def test_decord_and_pyav_agree(tmp_path: Path, write_video: WriteVideo) -> None:
    path = write_video(tmp_path / "a.mp4", 40)
    probe = probe_video(path)
    by_pyav = decode(path, replace(probe, decoder="pyav"))
    difference = np.abs(pixels(decode(path, probe)).astype(int) - pixels(by_pyav))
    assert difference.mean() < 0.3


def test_pyav_takes_over_where_decord_fails(
    tmp_path: Path, write_video: WriteVideo, read_number: ReadNumber, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.mp4", 70)
    probe, tally = probe_video(path), DecodeTally()
    whole = decode_module._read_piece

    def failing(piece: spans.Piece, *rest: object) -> object:
        if piece.frame_indices[0] >= 30:
            raise decode_module._DecordError("it broke")
        return whole(piece, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(spans, "PIECE_FRAMES", 1)
    monkeypatch.setattr(decode_module, "_read_piece", failing)
    shown = [read_number(picture) for picture in pixels(decode(path, probe, tally=tally))]
    assert shown == list(range(0, 70, 2))
    assert tally.decoder == "pyav: decord failed at frame 30: it broke"


def test_a_decoder_that_finds_something_else_is_not_believed(
    tmp_path: Path, write_video: WriteVideo, read_number: ReadNumber, monkeypatch: pytest.MonkeyPatch
) -> None:
    import decord

    path = write_video(tmp_path / "a.mp4", 41)
    probe, tally = probe_video(path), DecodeTally()

    class Short(decord.VideoReader):  # type: ignore[misc]
        def __len__(self) -> int:
            return super().__len__() - 1

    monkeypatch.setattr(decord, "VideoReader", Short)
    shown = [read_number(picture) for picture in pixels(decode(path, probe, tally=tally))]
    assert shown == list(range(0, 41, 2))
    assert "decord found 40 frames instead of 41" in tally.decoder


def test_reads_never_pass_an_iframe() -> None:
    keys = np.array([0, 5, 10])

    def reads(*positions: int, last: int) -> tuple[list[int], list[int]]:
        requests = reads_without_seeks(np.array(positions), last, keys)
        wanted = [frame for frame, is_wanted in requests if is_wanted]
        return [frame for frame, _ in requests], wanted

    assert reads(0, 2, 4, last=4) == ([0, 2, 4], [0, 2, 4])
    assert reads(0, 2, last=4) == ([0, 2, 4], [0, 2])
    assert reads(3, 5, last=5) == ([3, 4, 5], [3, 5])
    assert reads(3, 7, last=7) == ([3, 4, 5, 7], [3, 7])
    assert reads(4, 7, last=7) == ([4, 7], [4, 7])  # after 4 the I-frame is next: nothing is passed
    assert reads(12, last=14) == ([*range(11), 12, 14], [12])


@pytest.mark.parametrize("bframes", ["0", "2"])
def test_an_edit_list_that_cuts_the_start(
    tmp_path: Path, write_video: WriteVideo, read_number: ReadNumber, bframes: str
) -> None:
    source = write_video(tmp_path / "a.mp4", 60, options={"bf": bframes})
    path = tmp_path / "cut.mp4"
    with av.open(str(source)) as opened, av.open(str(path), "w") as output:
        stream = opened.streams.video[0]
        target = output.add_stream_from_template(stream)
        shift = round(7 / 30 / float(stream.time_base))
        for packet in opened.demux(stream):
            if packet.size:
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, target
                output.mux(packet)
    probe = probe_video(path)
    assert "edit list" in probe.decoder_reason
    assert probe.frame_count == 53
    assert [read_number(picture) for picture in pixels(decode(path, probe))] == list(range(7, 60, 2))


@pytest.mark.parametrize(("rotation_deg", "shape"), [(90, (80, 48)), (270, (80, 48)), (180, (48, 80))])
def test_pictures_are_turned_as_they_are_displayed(
    tmp_path: Path, write_video: WriteVideo, rotation_deg: int, shape: tuple[int, int]
) -> None:
    path = write_video(tmp_path / "a.mp4", 12)
    probe = probe_video(path)
    flat = pixels(decode(path, probe, size=(48, 80)))
    turned = replace(probe, rotation_deg=rotation_deg, width=probe.height, height=probe.width)
    for decoder in ("decord", "pyav"):
        upright_pixels = pixels(decode(path, replace(turned, decoder=decoder), size=shape))
        expected = upright(flat, rotation_deg)
        assert upright_pixels.shape == expected.shape
        assert np.abs(upright_pixels.astype(int) - expected).mean() < 0.5


def test_turning_is_counter_clockwise() -> None:
    picture = np.zeros((2, 3, 3), np.uint8)
    picture[0, 2] = 9  # top right
    assert upright(picture, 90)[0, 0, 0] == 9  # becomes top left
    assert upright(picture, 270)[2, 1, 0] == 9  # becomes bottom right


def damage(path: Path, first_byte: int, count: int) -> Path:
    content = bytearray(path.read_bytes())
    content[first_byte : first_byte + count] = np.random.default_rng(3).bytes(count)
    damaged = path.with_stem(f"{path.stem}_damaged")
    damaged.write_bytes(content)
    return damaged


def packet_place(path: Path, frame: int) -> tuple[int, int]:
    """Offset and size of a frame's packet in a file without reordered frames."""
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][frame]
        assert packet.pos is not None
        return packet.pos, packet.size


def test_damage_shifts_nothing_that_follows(
    tmp_path: Path, write_video: WriteVideo, read_number: ReadNumber
) -> None:
    whole = write_video(tmp_path / "a.mp4", 70, options={"bf": "0"})
    place, count = packet_place(whole, 20)
    damaged = damage(whole, place, count)
    probe, tally = probe_video(damaged), DecodeTally()
    shown = [read_number(picture) for picture in pixels(decode(damaged, probe, tally=tally))]
    assert shown[:10] == list(range(0, 20, 2))
    assert shown[15:] == list(range(30, 70, 2))  # from the next I-frame on


def test_a_frame_that_decord_loses_without_a_word(
    tmp_path: Path, write_video: WriteVideo, read_number: ReadNumber
) -> None:
    """An unknown kind of unit is no error; decord would show every later frame one too early."""
    options = {"x265-params": "keyint=15:open-gop=0:bframes=0:log-level=none"}
    path = write_video(tmp_path / "a.mp4", 120, codec="libx265", options=options)
    place, _ = packet_place(path, 20)
    content = bytearray(path.read_bytes())
    content[place + 4] = 48 << 1
    path.write_bytes(content)
    probe, tally = probe_video(path), DecodeTally()
    assert probe.decoder == "decord"
    shown = [read_number(picture) for picture in pixels(decode(path, probe, tally=tally))]
    assert shown[:10] == list(range(0, 20, 2))
    assert shown[15:] == list(range(30, 120, 2))
    assert tally.decoder.startswith("pyav: decord failed at frame")


def test_a_hole_that_is_too_long_is_said(tmp_path: Path, write_video: WriteVideo) -> None:
    whole = write_video(tmp_path / "a.mp4", 90, rate=5, options={"bf": "0"})
    first, _ = packet_place(whole, 15)
    last, count = packet_place(whole, 29)
    damaged = damage(whole, first, last + count - first)
    with pytest.raises(DecodeMismatchError, match=r"frame \d+ at [34]\.\d s cannot be decoded"):
        decode(damaged, probe_video(damaged))


def test_a_file_that_was_replaced(tmp_path: Path, write_video: WriteVideo) -> None:
    path = write_video(tmp_path / "a.mp4", 60)
    probe = probe_video(path)
    write_video(path, 20)
    with pytest.raises(DecodeMismatchError):
        decode(path, probe, GridSpan(22, 30))


@pytest.mark.parametrize(
    "name", ["plain.mp4", "open.mp4", "stream.ts", "h264_reordered.avi", "full_colour.mp4"]
)
def test_iframes(tmp_path: Path, write_video: WriteVideo, read_number: ReadNumber, name: str) -> None:
    path = write_video(tmp_path / name, 50, **CONTAINERS[name])
    probe = probe_video(path)
    found = list(decode_iframes(str(path), probe, SIZE))
    expected = np.flatnonzero(probe.is_iframe).tolist()
    assert len(expected) == 4
    assert [index for index, _, _ in found] == expected
    assert [read_number(picture) for _, _, picture in found] == expected
    assert [time_s for _, time_s, _ in found] == probe.times_s[expected].tolist()


@pytest.mark.skipif(not DATA.exists(), reason="the real videos in ../shared/data are absent")
@pytest.mark.parametrize("name", REAL)
def test_real_videos_match_a_plain_decode(name: str) -> None:
    """The first frames, and a span from the middle, are those of a sequential decode by PyAV."""
    path = DATA / name
    probe = probe_video(path)
    grid = FrameGrid.of(probe)
    middle = min(grid.length // 2, 200)
    near = GridSpan(0, min(20, grid.length))
    for span in (near, GridSpan(middle, min(middle + 20, grid.length))):
        wanted = grid.frames_of(span)
        shown = pixels(decode(path, probe, span))
        expected = plain_decode(path, probe, wanted)
        difference = np.abs(shown.astype(np.int16) - expected).mean(axis=(1, 2, 3))
        assert difference.max() < 1.0, (span, difference)


def plain_decode(path: Path, probe: Probe, wanted: NDArray[np.int64]) -> NDArray[np.int16]:
    found = {}
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index in set(wanted.tolist()):
                found[index] = to_rgb(frame, probe, SIZE)
            if index >= wanted[-1]:
                break
    return np.array([found[index] for index in wanted.tolist()], np.int16)
