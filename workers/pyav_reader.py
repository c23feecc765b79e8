"""Reading pictures with PyAV: the I-frames alone, or every frame from an I-frame on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

import av.error
import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from workers.errors import DamagedVideoError, DecodeMismatchError
from workers.messages import Probe
from workers.probe import open_container, video_stream


def decode_iframes(
    path: str, probe: Probe, frame_size: tuple[int, int]
) -> Iterator[tuple[int, float, NDArray[np.uint8]]]:
    """Decode the I-frames alone, in order.

    Args:
        path: the file.
        probe: what the demuxer said about it.
        frame_size: height and width of the pictures in pixels, as displayed.

    Yields:
        Index of the frame in the video, its time in seconds from the start, RGB pixels ``(H, W, 3)``.

    Raises:
        DamagedVideoError: not one I-frame could be decoded.
    """
    places = FramePlaces(probe)
    iframes = np.flatnonzero(probe.is_iframe)
    count = 0
    with open_container(path, probe.container) as container:
        stream = video_stream(container, path)
        stream.codec_context.thread_count = 1
        # Not stream.discard: with it the MP4 demuxer was seen to give I-frames the times of other frames.
        packets = (packet for packet in container.demux(stream) if packet.is_keyframe or packet.size == 0)
        for frame in _pictures(packets):
            if probe.has_frame_times:
                index = places.index_of(frame, stream)
            else:
                index = int(iframes[count]) if count < len(iframes) else None
            if index is None:
                continue
            count += 1
            yield index, float(probe.times_s[index]), to_rgb(frame, probe, frame_size)
    if count == 0:
        raise DamagedVideoError("no I-frame can be decoded: the pictures are damaged", path)


def read_frames(path: str, probe: Probe, first_frame: int, last_frame: int) -> Iterator[tuple[int, Any]]:
    """Decode every frame from the I-frame before ``first_frame`` on, in order, up to ``last_frame``.

    Yields:
        Index of the frame in the video and the picture as decoded. Those before the I-frame may be broken,
        and damaged ones may be missing.

    Raises:
        DecodeMismatchError: the size of the pictures changes.
    """
    start = iframe_before(probe, first_frame) if probe.has_frame_times else 0
    for entry in dict.fromkeys((start, 0)):
        with open_container(path, probe.container) as container:
            stream = video_stream(container, path)
            context = stream.codec_context
            context.thread_count = 1
            size = (context.width, context.height)
            packets = _packets_from(container, stream, probe, entry)
            if packets is not None:
                yield from _placed(_pictures(packets), stream, probe, last_frame, size, path)
                return


def _packets_from(container: Any, stream: Any, probe: Probe, start: int) -> Iterable[Any] | None:
    """Packets from an I-frame at or before frame ``start`` on; ``None`` if seeking leads behind it."""
    if start == 0:
        return container.demux(stream)  # type: ignore[no-any-return]
    # The first packet may hold what later ones need: H.264 4:4:4 decodes wrong without the encoder's mark.
    next(_pictures(islice(container.demux(stream), 1)), None)
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
    for count, picture in enumerate(pictures):
        index = places.index_of(picture, stream) if probe.has_frame_times else count
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
    scaled = frame.reformat(width=width, height=height, format="rgb24", interpolation=Interpolation.BICUBIC)
    return upright(scaled.to_ndarray(), probe.rotation_deg)


def decoded_size(probe: Probe, frame_size: tuple[int, int]) -> tuple[int, int]:
    """Height and width to which a picture is scaled before it is turned."""
    return (frame_size[1], frame_size[0]) if probe.rotation_deg in (90, 270) else frame_size


def upright(pixels: NDArray[np.uint8], rotation_deg: int) -> NDArray[np.uint8]:
    """Turn pixels ``(..., H, W, 3)`` counter-clockwise by a multiple of 90 degrees."""
    if rotation_deg == 0:
        return pixels
    return np.ascontiguousarray(np.rot90(pixels, rotation_deg // 90, axes=(-3, -2)))


def _pictures(packets: Iterable[Any]) -> Iterator[Any]:
    """Decode packet by packet; a packet that cannot be decoded is left out, as a damaged file has some."""
    for packet in packets:
        try:
            yield from packet.decode()
        except av.error.InvalidDataError:
            continue
