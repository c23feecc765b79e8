"""Reading pictures with PyAV: the I-frames alone, or every frame from an I-frame on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import av.error
import numpy as np
from av.video.reformatter import Interpolation
from numpy.typing import NDArray

from workers.errors import DamagedVideoError
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
        raise DamagedVideoError(
            "no I-frame can be decoded: the pictures are damaged; copy the file again", path
        )


class FramePlaces:
    """Finds the place of a decoded picture in the probe's list of frames by its presentation time."""

    def __init__(self, probe: Probe) -> None:
        self._times_s = probe.times_s
        self._origin_s = probe.origin_s
        gaps = np.diff(probe.times_s)
        gaps = gaps[gaps > 0]
        self._tolerance_s = float(gaps.min()) / 4 if gaps.size else 1e-3

    def index_of(self, frame: Any, stream: Any) -> int | None:
        """Index of the frame, ``None`` for one that the probe does not count (hidden, or damaged times)."""
        if frame.pts is None:
            return None
        time_s = frame.pts * float(frame.time_base or stream.time_base) - self._origin_s
        place = int(np.searchsorted(self._times_s, time_s - self._tolerance_s))
        if place < len(self._times_s) and abs(self._times_s[place] - time_s) <= self._tolerance_s:
            return place
        return None


def to_rgb(frame: Any, probe: Probe, frame_size: tuple[int, int]) -> NDArray[np.uint8]:
    """Scale a decoded picture, turn it as it is displayed, and return RGB pixels ``(H, W, 3)``."""
    height, width = frame_size
    if probe.rotation_deg in (90, 270):
        height, width = width, height
    scaled = frame.reformat(width=width, height=height, format="rgb24", interpolation=Interpolation.BICUBIC)
    return upright(scaled.to_ndarray(), probe.rotation_deg)


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
