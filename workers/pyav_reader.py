"""Reading pictures with PyAV: the I-frames alone, or every frame from an I-frame on."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any

import av.error
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from workers.errors import DamagedVideoError, DecodeMismatchError
from workers.messages import Probe
from workers.probe import open_container, video_stream

_OF_THREAD = threading.local()


@contextmanager
def reading(path: str) -> Iterator[None]:
    """What FFmpeg raises in the block is the file's fault, or this process lacks memory.

    Raises:
        DamagedVideoError: the file cannot be read on: it is damaged, or gone, or another one by now.
        MemoryError: this process may not take as much memory as that needs.
    """
    try:
        yield
    except av.error.MemoryError as error:
        raise MemoryError(error.strerror) from error  # not the file's fault, and this one can be pickled
    except av.error.FFmpegError as error:
        raise DamagedVideoError(
            f"reading it stops early: {error.strerror}; copy the file again", path
        ) from error


def decode_iframes(
    path: str, probe: Probe, frame_size: tuple[int, int], wanted: Collection[int] | None = None
) -> Iterator[tuple[int, float, NDArray[np.uint8]]]:
    """Decode the I-frames alone, in order.

    Args:
        path: the file.
        probe: what the demuxer said about it.
        frame_size: height and width of the pictures in pixels, as displayed.
        wanted: indices in the video of those to decode; by default all.

    Yields:
        Index of the frame in the video, its time in seconds from the start, RGB pixels ``(H, W, 3)``.

    Raises:
        DamagedVideoError: the file cannot be read, or not one I-frame could be decoded.
    """
    count = 0
    with reading(path), open_container(path, probe.container) as container:
        stream = video_stream(container, path)
        context = stream.codec_context
        context.thread_count = 1
        # Not stream.discard: with it the MP4 demuxer was seen to give I-frames the times of other frames.
        for index, packet in _keys(container.demux(stream), stream, probe):
            if index is None or not probe.is_iframe[index] or (wanted is not None and index not in wanted):
                continue
            # Each alone: in a row they are taken for frames of one group, and come out in another order.
            pictures = list(_pictures([packet, None], context))
            context.flush_buffers()
            for picture in pictures[:1]:
                count += 1
                yield index, float(probe.times_s[index]), to_rgb(picture, probe, frame_size)
    if count == 0:
        raise DamagedVideoError("no I-frame can be decoded: the pictures are damaged", path)


def _keys(packets: Iterable[Any], stream: Any, probe: Probe) -> Iterator[tuple[int | None, Any]]:
    """The packets marked as keys, each with the index of its frame in the video."""
    places = FramePlaces(probe)
    iframes = iter(np.flatnonzero(probe.is_iframe).tolist())
    for packet in packets:
        if packet.size and packet.is_keyframe:
            index = places.index_of(packet, stream) if probe.has_frame_times else next(iframes, None)
            yield index, packet


def read_frames(path: str, probe: Probe, first_frame: int, last_frame: int) -> Iterator[tuple[int, Any]]:
    """Decode every frame from the I-frame before ``first_frame`` on, in order, up to ``last_frame``.

    Yields:
        Index of the frame in the video and the picture as decoded. Those before the I-frame may be broken,
        and damaged ones may be missing.

    Raises:
        DamagedVideoError: the file cannot be read.
        DecodeMismatchError: the size of the pictures changes.
    """
    for entry in _entries(probe, first_frame):
        with reading(path), open_container(path, probe.container) as container:
            stream = video_stream(container, path)
            context = stream.codec_context
            context.thread_count = 1
            context.copy_opaque = not probe.has_frame_times
            size = (context.width, context.height)
            packets = _packets_from(container, stream, probe, entry)
            if packets is not None:
                pictures = _pictures(_tagged(packets, probe), context)
                yield from _placed(pictures, stream, probe, last_frame, size, path)
                return


def _entries(probe: Probe, first_frame: int) -> list[int]:
    """I-frames to try to enter at: where seeking is inexact, as in MPEG-TS, an earlier one helps."""
    if not probe.has_frame_times:
        return [0]
    nearest = iframe_before(probe, first_frame)
    earlier_s = (float(probe.times_s[nearest]) - back_s for back_s in (2.0, 10.0))
    earlier = (iframe_before(probe, int(np.searchsorted(probe.times_s, time_s))) for time_s in earlier_s)
    return list(dict.fromkeys((nearest, *earlier, 0)))


def _tagged(packets: Iterable[Any], probe: Probe) -> Iterator[Any]:
    """Where frames are counted, give I-frames their index, so that a lost frame shifts one group at most."""
    iframes = iter(np.flatnonzero(probe.is_iframe).tolist())
    for packet in packets:
        if packet.size and packet.is_keyframe and not probe.has_frame_times:
            packet.opaque = next(iframes, None)
        yield packet


def _packets_from(container: Any, stream: Any, probe: Probe, start: int) -> Iterable[Any] | None:
    """Packets from an I-frame at or before frame ``start`` on; ``None`` if seeking leads behind it."""
    if start == 0:
        return container.demux(stream)  # type: ignore[no-any-return]
    # The first packet may hold what later ones need: H.264 4:4:4 decodes wrong without the encoder's mark.
    next(_pictures(islice(container.demux(stream), 1), stream.codec_context), None)
    seek_to_frame(container, stream, probe, start)
    places = FramePlaces(probe)
    packets = container.demux(stream)
    for packet in packets:
        if packet.size and packet.is_keyframe:
            index = places.index_of(packet, stream)
            return None if index is None or index > start else chain([packet], packets)
    return None


def _placed(
    pictures: Iterable[Any],
    stream: Any,
    probe: Probe,
    last_frame: int,
    size: tuple[int, int],
    path: str,
) -> Iterator[tuple[int, Any]]:
    """Find each picture's index; stop after the last frame wanted."""
    places = FramePlaces(probe)
    previous = -1
    for picture in pictures:
        if probe.has_frame_times:
            index = places.index_of(picture, stream)
        else:
            index = previous + 1 if picture.opaque is None else picture.opaque
        if (picture.width, picture.height) != size:
            raise DecodeMismatchError(
                f"the size of the pictures changes {size[0]}x{size[1]} to {picture.width}x{picture.height} "
                "within the file; split it there",
                path,
            )
        if index is None or index <= previous or index >= probe.frame_count:
            continue
        previous = index
        yield index, picture
        if index >= last_frame:
            return


def iframe_before(probe: Probe, frame: int) -> int:
    """The last I-frame at or before a frame; 0 if there is none, as after a cut by an edit list."""
    iframes = np.flatnonzero(probe.is_iframe[: frame + 1])
    return int(iframes[-1]) if iframes.size else 0


def seek_to_frame(container: Any, stream: Any, probe: Probe, frame: int) -> None:
    """Move the demuxer to the packet of an I-frame, or to an I-frame before it."""
    time_s = probe.origin_s + float(probe.times_s[frame])
    container.seek(round(time_s / float(stream.time_base)), stream=stream)


class FramePlaces:
    """Finds the place of a packet or a picture in the probe's list of frames by its presentation time."""

    def __init__(self, probe: Probe) -> None:
        self._times_s = probe.times_s
        self._origin_s = probe.origin_s
        gaps = np.diff(probe.times_s)
        gaps = gaps[gaps > 0]
        self._tolerance_s = float(gaps.min()) / 4 if gaps.size else 1e-3

    def index_of(self, item: Any, stream: Any) -> int | None:
        """Index of the frame, ``None`` for one that the probe does not count (hidden, or damaged times)."""
        if item.pts is None:
            return None
        time_s = item.pts * float(stream.time_base) - self._origin_s
        place = int(np.searchsorted(self._times_s, time_s - self._tolerance_s))
        if place < len(self._times_s) and abs(self._times_s[place] - time_s) <= self._tolerance_s:
            return place
        return None


def to_rgb(frame: Any, probe: Probe, frame_size: tuple[int, int]) -> NDArray[np.uint8]:
    """Scale a decoded picture, turn it as it is displayed, and return RGB pixels ``(H, W, 3)``."""
    height, width = decoded_size(probe, frame_size)
    # Bilinear, as decord does it: the two then agree to the pixel on most files.
    scaled = _scaler().reformat(
        frame, width=width, height=height, format="rgb24", interpolation=Interpolation.BILINEAR, threads=1
    )
    pixels: Any = scaled.to_ndarray()  # bytes, as rgb24 has them
    return upright(pixels, probe.rotation_deg)


def _scaler() -> VideoReformatter:
    """One of this thread's own: making one anew for each picture takes twice as long as scaling it."""
    if not hasattr(_OF_THREAD, "scaler"):
        _OF_THREAD.scaler = VideoReformatter()
    scaler: VideoReformatter = _OF_THREAD.scaler
    return scaler


def decoded_size(probe: Probe, frame_size: tuple[int, int]) -> tuple[int, int]:
    """Height and width to which a picture is scaled before it is turned."""
    return (frame_size[1], frame_size[0]) if probe.rotation_deg in (90, 270) else frame_size


def upright(pixels: NDArray[np.uint8], rotation_deg: int) -> NDArray[np.uint8]:
    """Turn pixels ``(..., H, W, 3)`` counter-clockwise by a multiple of 90 degrees."""
    if rotation_deg == 0:
        return pixels
    return np.ascontiguousarray(np.rot90(pixels, rotation_deg // 90, axes=(-3, -2)))


def _pictures(packets: Iterable[Any], context: Any) -> Iterator[Any]:
    """Decode packet by packet; a packet that cannot be decoded is left out, as a damaged file has some."""
    for packet in packets:
        try:
            yield from context.decode(packet)
        except av.error.InvalidDataError:
            continue
