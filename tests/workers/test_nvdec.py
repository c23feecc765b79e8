"""The reader around NVDEC, with PyAV in place of the GPU: what it is fed, and that nothing is believed unseen."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from workers import nvdec
from workers.decode import DecodeTally, decode_span
from workers.errors import DecodeMismatchError
from workers.grid import FrameGrid
from workers.messages import GridSpan, Probe
from workers.nvdec import NvdecError, OpenDecoder, Surface, open_nvdec, warm_up
from workers.probe import probe_video
from workers.pyav_reader import upright

WriteVideo = Callable[..., Path]
ReadNumber = Callable[[NDArray[np.uint8]], int]
SIZE = (48, 80)
HEVC = {"codec": "libx265", "options": {"x265-params": "keyint=15:open-gop=0:log-level=none"}}

TAKEN: dict[str, dict[str, Any]] = {
    "plain.mp4": {"options": {"bf": "2"}},
    "no_bframes.mp4": {"options": {"bf": "0"}},
    "plain.mkv": {"options": {"bf": "2"}},
    "closed_hevc.mp4": HEVC,
    "film.mp4": {"rate": 24},
    "varying.mp4": {"times_ms": lambda number: 40 * number + 7 * (number % 3)},
}
LEFT: dict[str, tuple[dict[str, Any], str]] = {
    "full_colour.mp4": ({"pixel_format": "yuv444p"}, "yuv444p pixels"),
    "more_colour_hevc.mp4": ({**HEVC, "pixel_format": "yuv422p"}, "yuv422p pixels"),
    "deep_hevc.mp4": ({**HEVC, "pixel_format": "yuv420p10le"}, "yuv420p10le pixels"),
    "open.mp4": ({"options": {"x264-params": "open-gop=1:bframes=3:keyint=15:scenecut=0"}}, "not closed"),
    "stream.ts": ({}, "mpegts container"),
    "mpeg4.mp4": ({"codec": "mpeg4"}, "mpeg4 is decoded by PyAV"),
    "small.mp4": ({"size": SIZE}, "80x48 is not scaled down"),
}


class StandIn:
    """Decodes what NVDEC would be fed, with PyAV: Annex B without a container, frames by their tags."""

    def __init__(self, codec: str, height: int, width: int) -> None:
        self.context = av.CodecContext.create(codec, "r")
        self.size = (height, width)
        self.fed: list[int] = []
        self.packets: list[bytes] = []

    def feed(self, packet: bytes, frame: int) -> list[Surface]:
        assert packet.startswith((b"\0\0\0\1", b"\0\0\1"))
        self.fed.append(frame)
        self.packets.append(packet)
        filled = av.Packet(packet)
        filled.pts = frame
        return self._surfaces(filled)

    def finish(self) -> list[Surface]:
        return self._surfaces(None)

    def _surfaces(self, packet: av.Packet | None) -> list[Surface]:
        found = []
        for picture in self.context.decode(packet):  # type: ignore[attr-defined]
            assert (picture.height, picture.width) == self.size
            rows = picture.reformat(format="nv12").to_ndarray().reshape(-1, picture.width)
            found.append((picture.pts, torch.from_numpy(rows)))
        return found


class LateStandIn(StandIn):
    """Holds four surfaces back until it is at its end, as NVDEC does."""

    def __init__(self, codec: str, height: int, width: int) -> None:
        super().__init__(codec, height, width)
        self.held: list[Surface] = []

    def _surfaces(self, packet: av.Packet | None) -> list[Surface]:
        self.held += super()._surfaces(packet)
        ready = len(self.held) if packet is None else max(0, len(self.held) - 4)
        returned, self.held = self.held[:ready], self.held[ready:]
        return returned


def decode(
    path: Path,
    probe: Probe,
    opened: OpenDecoder | None = StandIn,
    span: GridSpan | None = None,
    size: tuple[int, int] = SIZE,
    tally: DecodeTally | None = None,
) -> NDArray[np.uint8]:
    span = span or GridSpan(0, FrameGrid.of(probe).length)
    chunks = decode_span(
        str(path), probe, span, size, video_id="0123456789abcdef", chunk_frames=7, tally=tally, nvdec=opened
    )
    return np.concatenate([chunk.frames for chunk in chunks])


def altered(change: Callable[[list[Surface]], list[Surface]]) -> OpenDecoder:
    """A stand-in that changes the surfaces that it returns."""

    class Altered(StandIn):
        def _surfaces(self, packet: av.Packet | None) -> list[Surface]:
            return change(super()._surfaces(packet))

    return Altered


@pytest.mark.parametrize("name", TAKEN)
def test_each_grid_point_shows_its_frame_whatever_the_cut(
    tmp_path: Path, write_video: WriteVideo, read_number: ReadNumber, name: str
) -> None:
    path = write_video(tmp_path / name, 70, **TAKEN[name])
    probe, tally = probe_video(path), DecodeTally()
    grid = FrameGrid.of(probe)
    whole = decode(path, probe, tally=tally)
    assert tally.decoder == "nvdec"
    assert tally.frames_decoded == grid.frame_indices[-1] + 1
    assert [read_number(picture) for picture in whole] == grid.frame_indices.tolist()
    for first in range(0, grid.length, 11):
        stop = min(first + 11, grid.length)
        tally = DecodeTally()
        part = decode(path, probe, span=GridSpan(first, stop), tally=tally)
        np.testing.assert_array_equal(part, whole[first:stop])
        assert tally.decoder == "nvdec"


def test_only_what_is_needed_is_fed(tmp_path: Path, write_video: WriteVideo) -> None:
    path = write_video(tmp_path / "a.mp4", 70, options={"bf": "0"})
    opened: list[StandIn] = []

    def opening(*arguments: Any) -> StandIn:
        opened.append(LateStandIn(*arguments))
        return opened[-1]

    tally = DecodeTally()
    decode(path, probe_video(path), opening, GridSpan(20, 25), tally=tally)  # frames 40 to 48
    assert [one.fed for one in opened] == [list(range(30, 49))]
    assert tally.frames_decoded == 19


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize(("matrix", "value_range"), [(2, 0), (1, 1), (1, 2), (6, 2)])
def test_the_pixels_are_pyavs(tmp_path: Path, codec: str, matrix: int, value_range: int) -> None:
    """With colours at every place; the tolerance is that of ``test_nv12.py``, which says why."""
    path = coloured_video(tmp_path / "a.mp4", codec, matrix, value_range)
    probe, tally = probe_video(path), DecodeTally()
    assert probe.is_plain
    found = decode(path, probe, size=(54, 96), tally=tally)
    assert tally.decoder == "nvdec"
    expected = decode(path, replace(probe, decoder="pyav"), None, size=(54, 96))
    difference = found.astype(int) - expected
    assert np.abs(difference).max() <= 4
    assert np.abs(difference).mean() < 0.05


def coloured_video(
    path: Path, codec: str, matrix: int, value_range: int, size: tuple[int, int] = (120, 208)
) -> Path:
    """Four frames of soft colours; matrix and range as ITU-T H.273 numbers them."""
    rng = np.random.default_rng(5)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=30)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        quiet = {"x265-params": "keyint=15:open-gop=0:log-level=none"} if codec == "libx265" else {}
        stream.options = {"crf": "10", "g": "15", **quiet}
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, value_range
        for _ in range(4):
            coarse = torch.from_numpy(rng.integers(0, 256, (1, 3, 10, 17)).astype(np.float32))
            soft = torch.nn.functional.interpolate(coarse, size=size, mode="bicubic")[0]
            pixels = soft.permute(1, 2, 0).clamp(0, 255).byte().numpy()
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("name", LEFT)
def test_what_nvdec_does_not_take_is_left_to_the_processors(
    tmp_path: Path, write_video: WriteVideo, read_number: ReadNumber, name: str
) -> None:
    how, why = LEFT[name]
    path = write_video(tmp_path / name, 40, **how)
    probe, tally = probe_video(path), DecodeTally()

    def refused(*arguments: Any) -> StandIn:
        raise AssertionError("no decoder is opened for it")

    shown = [read_number(picture) for picture in decode(path, probe, refused, tally=tally)]
    assert shown == FrameGrid.of(probe).frame_indices.tolist()
    by, _, note = tally.decoder.partition("; not by NVDEC: ")
    assert by.partition(":")[0] == probe.decoder
    assert why in note


def lost(frame: int) -> Callable[[list[Surface]], list[Surface]]:
    return lambda surfaces: [one for one in surfaces if one[0] != frame]


def shown_twice(frame: int) -> Callable[[list[Surface]], list[Surface]]:
    return lambda surfaces: [one for found in surfaces for one in [found] * (1 + (found[0] == frame))]


def early_from(frame: int) -> Callable[[list[Surface]], list[Surface]]:
    return lambda surfaces: [(number - (number >= frame), surface) for number, surface in surfaces]


@pytest.mark.parametrize(
    ("change", "at", "said"),
    [
        (lost(21), 22, "NVDEC returned frame 22 where frame 21 was due"),
        (shown_twice(22), 24, "NVDEC returned frame 22 where frame 23 was due"),
        (early_from(20), 20, "NVDEC returned frame 19 where frame 20 was due"),
        (lost(40), 40, "NVDEC returned no frame from 40 on"),
    ],
)
def test_a_frame_that_is_not_the_one_due_is_not_believed(
    tmp_path: Path,
    write_video: WriteVideo,
    read_number: ReadNumber,
    change: Callable[[list[Surface]], list[Surface]],
    at: int,
    said: str,
) -> None:
    path = write_video(tmp_path / "a.mp4", 41)
    probe, tally = probe_video(path), DecodeTally()
    shown = [read_number(picture) for picture in decode(path, probe, altered(change), tally=tally)]
    assert shown == list(range(0, 41, 2))
    assert tally.decoder == f"decord; not by NVDEC from frame {at} on: {said}"


def test_a_surface_of_another_size_is_not_believed(
    tmp_path: Path, write_video: WriteVideo, read_number: ReadNumber
) -> None:
    path = write_video(tmp_path / "a.mp4", 20)
    tally = DecodeTally()
    padded = altered(lambda surfaces: [(k, torch.nn.functional.pad(s, (0, 32))) for k, s in surfaces])
    shown = [read_number(picture) for picture in decode(path, probe_video(path), padded, tally=tally)]
    assert shown == list(range(0, 20, 2))
    assert tally.decoder.startswith("decord; not by NVDEC: NVDEC returned torch.uint8 of shape (144, 192)")


def test_the_processors_take_over_where_it_fails(
    tmp_path: Path, write_video: WriteVideo, read_number: ReadNumber
) -> None:
    path = write_video(tmp_path / "a.mp4", 41, options={"bf": "0"})
    probe, tally = probe_video(path), DecodeTally()

    class Failing(StandIn):
        def feed(self, packet: bytes, frame: int) -> list[Surface]:
            if frame == 20:
                raise NvdecError("the engine is gone")
            return super().feed(packet, frame)

    shown = [read_number(picture) for picture in decode(path, probe, Failing, tally=tally)]
    assert shown == list(range(0, 41, 2))
    assert tally.decoder.startswith("decord; not by NVDEC from frame ")
    assert tally.decoder.endswith(": the engine is gone")


@pytest.mark.parametrize(("rotation_deg", "shape"), [(90, (80, 48)), (180, (48, 80)), (270, (80, 48))])
def test_pictures_are_turned_as_they_are_displayed(
    tmp_path: Path, write_video: WriteVideo, rotation_deg: int, shape: tuple[int, int]
) -> None:
    path = write_video(tmp_path / "a.mp4", 12)
    probe = probe_video(path)
    turned = replace(probe, rotation_deg=rotation_deg)
    expected = upright(decode(path, probe, size=(48, 80)), rotation_deg)
    np.testing.assert_array_equal(decode(path, turned, size=shape), expected)


def test_a_file_that_was_replaced(tmp_path: Path, write_video: WriteVideo) -> None:
    path = write_video(tmp_path / "a.mp4", 60)
    probe = probe_video(path)
    write_video(path, 20)
    with pytest.raises(DecodeMismatchError):
        decode(path, probe, span=GridSpan(22, 30))


@pytest.mark.skipif(torch.cuda.is_available(), reason="what is said where there is no CUDA device")
def test_without_a_gpu_one_line_says_why_and_the_processors_decode(
    tmp_path: Path, write_video: WriteVideo, read_number: ReadNumber
) -> None:
    path = write_video(tmp_path / "a.mp4", 20)
    tally = DecodeTally()
    warm_up()
    shown = [read_number(picture) for picture in decode(path, probe_video(path), open_nvdec, tally=tally)]
    assert shown == list(range(0, 20, 2))
    assert tally.decoder.startswith("decord; not by NVDEC: ")
    assert "\n" not in tally.decoder


H100 = {
    "num_decoder_engines": 7,
    "width_min": 48,
    "height_min": 16,
    "width_max": 4096,
    "height_max": 4096,
    "mb_num_max": 65536,
}


@pytest.mark.parametrize(
    ("size", "able"),
    [
        ((2160, 4100), H100),
        ((10, 160), H100),
        ((96, 40), H100),
        ((96, 160), {**H100, "mb_num_max": 59}),  # 6 x 10 blocks
    ],
)
def test_a_size_beyond_the_gpu_is_refused(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], able: dict[str, int]
) -> None:
    monkeypatch.setattr(nvdec, "_capabilities", lambda codec: able)
    monkeypatch.setattr(nvdec, "_Nvdec", StandIn)
    with pytest.raises(NvdecError, match=f"{size[1]}x{size[0]} h264: this GPU decodes 48x16 to 4096x4096"):
        open_nvdec("h264", *size)


def test_a_size_that_the_gpu_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvdec, "_capabilities", lambda codec: {**H100, "mb_num_max": 60})
    monkeypatch.setattr(nvdec, "_Nvdec", lambda codec: codec)
    assert open_nvdec("hevc", 96, 160) == "hevc"


class LibraryStandIn:
    """The names of PyNvVideoCodec that are used, over a decoder that reads the packet where its address says."""

    class PyNvVCException(Exception):  # noqa: N818 - its name there
        pass

    class PyNvVCExceptionUnsupported(Exception):  # noqa: N818
        pass

    class PacketData:
        bsl_data, bsl, pts = 0, 0, 0

    cudaVideoCodec = SimpleNamespace(__members__={"H264": 4})  # noqa: N815
    broken = False

    def __init__(self) -> None:
        self.waited: list[Any] = []

    def CreateDecoder(self, **options: Any) -> LibraryStandIn:  # noqa: N802
        assert options == {
            "gpuid": 0,
            "codec": 4,
            "cudacontext": 77,
            "cudastream": 5,
            "usedevicememory": True,
        }
        self.decoder = StandIn("h264", 96, 160)
        return self

    def Decode(self, data: PacketData) -> list[Any]:  # noqa: N802
        if self.broken:
            raise self.PyNvVCExceptionUnsupported("no such profile\nand a stack")
        if not data.bsl:
            return [FrameStandIn(*one) for one in self.decoder.finish()]
        packet = ctypes.string_at(data.bsl_data, data.bsl)
        return [FrameStandIn(*one) for one in self.decoder.feed(packet, data.pts)]


class FrameStandIn:
    def __init__(self, frame: int, surface: torch.Tensor) -> None:
        self.frame, self.surface = frame, surface

    def getPTS(self) -> int:  # noqa: N802
        return self.frame

    def __dlpack__(self, **options: Any) -> Any:
        return self.surface.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.surface.__dlpack_device__()


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> LibraryStandIn:
    there = LibraryStandIn()
    monkeypatch.setattr(nvdec, "_library", lambda: there)
    monkeypatch.setattr(nvdec, "_current_context", lambda: 77)
    monkeypatch.setattr(nvdec, "_capabilities", lambda codec: H100)
    decodes_on = SimpleNamespace(cuda_stream=5)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: decodes_on)
    current = SimpleNamespace(wait_stream=there.waited.append)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: current)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    return there


def test_the_adapter_hands_over_each_packet_and_its_frame(
    tmp_path: Path, write_video: WriteVideo, read_number: ReadNumber, library: LibraryStandIn
) -> None:
    path = write_video(tmp_path / "a.mp4", 41)
    tally = DecodeTally()
    shown = [read_number(picture) for picture in decode(path, probe_video(path), open_nvdec, tally=tally)]
    assert shown == list(range(0, 41, 2))
    assert tally.decoder == "nvdec"
    assert sorted(library.decoder.fed) == list(range(41))
    assert {stream.cuda_stream for stream in library.waited} == {5}  # surfaces are read once they are written
    straight: list[StandIn] = []
    decode(path, probe_video(path), lambda *size: straight.append(StandIn(*size)) or straight[0])
    assert library.decoder.packets == straight[0].packets


def test_what_the_library_raises_is_one_line(
    tmp_path: Path, write_video: WriteVideo, library: LibraryStandIn
) -> None:
    library.broken = True
    path, tally = write_video(tmp_path / "a.mp4", 20), DecodeTally()
    decode(path, probe_video(path), open_nvdec, tally=tally)
    assert tally.decoder == "decord; not by NVDEC: no such profile"
