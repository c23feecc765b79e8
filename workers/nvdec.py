"""Decode on the video engine of an NVIDIA GPU (NVDEC, by PyNvVideoCodec), held to what the demuxer found.

The packets are ours: each goes into the decoder with the index of its frame in place of a time, so that every picture
that comes out says which frame it is, and none may be missing. What NVDEC cannot take is left to the processors.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
import torch
from av.bitstream import BitStreamFilterContext
from numpy.typing import NDArray
from torch.utils.dlpack import from_dlpack

from workers.errors import DecodeMismatchError
from workers.messages import Probe
from workers.nv12 import COEFFICIENTS, Colour, nv12_to_rgb
from workers.probe import open_container, video_stream
from workers.pyav_reader import FramePlaces, decoded_size, iframe_before, seek_to_frame, upright

Surface = tuple[int, torch.Tensor]
"""Index of a frame and its NV12 bytes, shape ``(3 / 2 H, W)``; they hold until the decoder is given more."""
CODECS = ("h264", "hevc")
FULL_RANGE = 2


class NvdecError(Exception):
    """NVDEC does not take a video, or failed; the processors can decode it."""


class SurfaceDecoder(Protocol):
    """What turns packets into surfaces: the seam between this module and a GPU."""

    def feed(self, packet: bytes, frame: int) -> list[Surface]:
        """Give it the packet of one frame, as Annex B has it; returns what is ready, in the order of display."""

    def finish(self) -> list[Surface]:
        """The surfaces that it still holds."""


OpenDecoder = Callable[[str, int, int], SurfaceDecoder]
"""Makes a decoder for a codec and a height and width as coded. Raises ``NvdecError``."""


def nvdec_pictures(
    path: str,
    probe: Probe,
    wanted: NDArray[np.int64],
    frame_size: tuple[int, int],
    open_decoder: OpenDecoder,
    count: Callable[[], None],
) -> Iterator[NDArray[np.uint8]]:
    """Decode some frames of a video.

    Args:
        path: the file.
        probe: what the demuxer said about it.
        wanted: the frames, increasing, shape ``(N,)``.
        frame_size: height and width of the pictures in pixels, as displayed.
        open_decoder: makes the decoder.
        count: called for each frame that leaves it.

    Yields:
        RGB pixels ``(H, W, 3)`` of each.

    Raises:
        NvdecError: NVDEC does not take this video, or failed.
        DecodeMismatchError: it returned something else than the packets promised, or these are others than the
            probe found.
    """
    size = decoded_size(probe, frame_size)
    first, last = iframe_before(probe, int(wanted[0])), int(wanted[-1])
    needed = set(wanted.tolist())
    with open_container(path, probe.container) as container:
        stream = video_stream(container, path)
        context = stream.codec_context
        coded = (context.height, context.width)
        is_full = context.color_range == FULL_RANGE or probe.pixel_format == "yuvj420p"
        colour = Colour(context.colorspace, is_full)
        reason = why_not(probe, coded, size, colour)
        if reason:
            raise NvdecError(reason)
        surfaces = _surfaces(container, stream, probe, open_decoder(probe.codec, *coded), (first, last), path)
        for frame, surface in _in_order(surfaces, first, last, path):
            count()
            if frame in needed:
                yield upright(_picture(surface, coded, size, colour), probe.rotation_deg)


def why_not(probe: Probe, coded: tuple[int, int], size: tuple[int, int], colour: Colour) -> str:
    """Why NVDEC is not used for a video whose pictures are scaled from ``coded`` to ``size``; empty if it is."""
    checks = (
        (not probe.is_plain, probe.decoder_reason),
        (probe.codec not in CODECS, f"{probe.codec} is decoded by PyAV"),
        (colour.matrix not in COEFFICIENTS, f"colours by matrix {colour.matrix}"),
        (coded[0] % 2 or coded[1] % 2, f"odd size {coded[1]}x{coded[0]}"),
        (size[0] >= coded[0] or size[1] > coded[1], f"{coded[1]}x{coded[0]} is not scaled down"),
    )
    return "; ".join(reason for applies, reason in checks if applies)


def _surfaces(
    container: Any,
    stream: Any,
    probe: Probe,
    decoder: SurfaceDecoder,
    span: tuple[int, int],
    path: str,
) -> Iterator[Surface]:
    """Feed the packets from the I-frame ``span[0]`` on until those of all frames up to ``span[1]`` are in."""
    waiting = set(range(span[0], span[1] + 1))
    places = FramePlaces(probe)
    annex_b = BitStreamFilterContext(f"{probe.codec}_mp4toannexb", stream)
    if span[0] > 0:
        seek_to_frame(container, stream, probe, span[0])
    for packet in container.demux(stream):
        frame = places.index_of(packet, stream) if packet.size else None
        if frame is None or frame < span[0]:
            continue
        waiting.discard(frame)
        for filtered in annex_b.filter(packet):
            yield from decoder.feed(bytes(filtered), frame)
        if not waiting:
            break
    if waiting:
        raise DecodeMismatchError(
            f"{len(waiting)} frames that the probe found are gone; was the file replaced?", path
        )
    yield from decoder.finish()


def _in_order(surfaces: Iterator[Surface], first: int, last: int, path: str) -> Iterator[Surface]:
    """The surfaces of the frames ``first`` to ``last``, of which each must come, once and in its place."""
    due = first
    for frame, surface in surfaces:
        if frame != due:
            raise DecodeMismatchError(f"NVDEC returned frame {frame} where frame {due} was due", path)
        yield frame, surface
        due += 1
        if due > last:
            return
    raise DecodeMismatchError(f"NVDEC returned no frame from {due} on", path)


def _picture(
    surface: torch.Tensor, coded: tuple[int, int], size: tuple[int, int], colour: Colour
) -> NDArray[np.uint8]:
    """A picture in memory of its own, taken before the decoder may write to the surface again."""
    expected = (coded[0] * 3 // 2, coded[1])
    if tuple(surface.shape) != expected or surface.dtype != torch.uint8:
        raise NvdecError(
            f"NVDEC returned {surface.dtype} of shape {tuple(surface.shape)}, {expected} was due"
        )
    with _failures_of(RuntimeError):
        pixels: NDArray[np.uint8] = nv12_to_rgb(surface, size, colour).cpu().numpy()
    return pixels


def is_installed() -> bool:
    """Whether PyNvVideoCodec is there; whether it works is known only where a GPU is."""
    return find_spec("PyNvVideoCodec") is not None


def describe() -> str:
    """What the GPU of this machine decodes, in words.

    Raises:
        NvdecError: it decodes nothing here, and why.
    """
    parts = []
    for codec in CODECS:
        able = _capabilities(codec)
        parts.append(f"{codec} up to {able['width_max']}x{able['height_max']}")
    return f"{', '.join(parts)}; {able['num_decoder_engines']} engines"


def warm_up() -> None:
    """Start CUDA, whose address space then counts for what this process starts with; what fails is said later."""
    with suppress(NvdecError):
        _capabilities("h264")


def open_nvdec(codec: str, height: int, width: int) -> SurfaceDecoder:
    """A decoder on the GPU that this process was given.

    Raises:
        NvdecError: there is none, PyNvVideoCodec does not work here, or the GPU cannot decode this.
    """
    able = _capabilities(codec)
    smallest, largest = (able["height_min"], able["width_min"]), (able["height_max"], able["width_max"])
    blocks = -(-height // 16) * -(-width // 16)
    fits = smallest[0] <= height <= largest[0] and smallest[1] <= width <= largest[1]
    if not fits or blocks > able["mb_num_max"]:
        raise NvdecError(
            f"{width}x{height} {codec}: this GPU decodes {smallest[1]}x{smallest[0]} to {largest[1]}x{largest[0]}"
        )
    return _Nvdec(codec)


class _Nvdec:
    """PyNvVideoCodec's core decoder, fed by us."""

    def __init__(self, codec: str) -> None:
        self._library = library = _library()
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        with _failures_of(*_errors(library)):
            self._decoder = library.CreateDecoder(
                gpuid=torch.cuda.current_device(),
                codec=_kind(library, codec),
                cudacontext=_current_context(),
                cudastream=self._stream.cuda_stream,
                usedevicememory=True,
            )

    def feed(self, packet: bytes, frame: int) -> list[Surface]:
        """See ``SurfaceDecoder``."""
        content = np.frombuffer(packet, np.uint8)  # not to be freed before the call is over
        data = self._library.PacketData()
        data.bsl_data, data.bsl, data.pts = content.ctypes.data, len(packet), frame
        return self._decode(data)

    def finish(self) -> list[Surface]:
        """See ``SurfaceDecoder``; an empty packet is the end of the stream."""
        return self._decode(self._library.PacketData())

    def _decode(self, data: Any) -> list[Surface]:
        with _failures_of(*_errors(self._library)):
            frames = self._decoder.Decode(data)
            torch.cuda.current_stream().wait_stream(self._stream)  # on which they are written
            return [(frame.getPTS(), from_dlpack(frame)) for frame in frames]


def _capabilities(codec: str) -> dict[str, int]:
    """What the GPU says that it decodes of 8-bit 4:2:0; starts CUDA."""
    library = _library()
    with _failures_of(
        *_errors(library), AssertionError
    ):  # which torch raises where it was built without CUDA
        torch.zeros(1, device="cuda")
        chroma = library.cudaVideoChromaFormat.__members__["420"]
        able: dict[str, int] = library.GetDecoderCaps(
            gpuid=torch.cuda.current_device(), codec=_kind(library, codec), chromaformat=chroma, bitdepth=8
        )
    if not able.get("num_decoder_engines"):
        raise NvdecError(f"this GPU does not decode {codec}")
    return able


def _library() -> Any:
    """PyNvVideoCodec, which is imported here only: it wants the driver's libraries."""
    with _failures_of(ImportError, OSError, RuntimeError):
        import PyNvVideoCodec

        return PyNvVideoCodec


def _errors(library: Any) -> tuple[type[Exception], ...]:
    return RuntimeError, ValueError, library.PyNvVCException, library.PyNvVCExceptionUnsupported


def _kind(library: Any, codec: str) -> Any:
    return library.cudaVideoCodec.__members__[codec.upper()]


def _current_context() -> int:
    """Handle of the CUDA context that torch works in, so that it can read what the decoder writes."""
    context = ctypes.c_void_p()
    ctypes.CDLL("libcuda.so.1").cuCtxGetCurrent(ctypes.byref(context))
    return context.value or 0


@contextmanager
def _failures_of(*kinds: type[Exception]) -> Iterator[None]:
    """Raise the errors of a library as ours, with their first line."""
    try:
        yield
    except kinds as error:
        raise NvdecError(str(error).strip().partition("\n")[0] or type(error).__name__) from error
