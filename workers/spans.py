"""Copy stretches of packets into MP4 files in memory, so that a decoder reads them from their start.

Nothing is decoded or coded again. This is how a span in the middle of a file is reached without a seek in
decord, whose seeks are not trusted; the copy also has plain timestamps and nothing but the pictures.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from workers.containers import clear_rotation
from workers.errors import DecodeMismatchError
from workers.messages import Probe
from workers.probe import open_container, video_stream
from workers.pyav_reader import FramePlaces, iframe_before, seek_to_frame

PIECE_FRAMES = 60
"""A piece ends at the first I-frame after this many frames: few enough to hold until they are verified."""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Some whole groups of pictures of one video, as an MP4 file in memory."""

    data: io.BytesIO
    frame_indices: NDArray[np.int64]
    """Index in the video of each frame, in presentation order, shape ``(N,)``; the first is an I-frame."""


def copy_pieces(path: str, probe: Probe, first_frame: int, last_frame: int) -> Iterator[Piece]:
    """Copy the packets from the I-frame before ``first_frame`` up to ``last_frame``.

    Each piece starts with an I-frame and, but for the last, ends before one, the first after
    ``PIECE_FRAMES`` frames. The groups must be closed, as the probe has found.

    Raises:
        DecodeMismatchError: the packets are not those that the probe found.
    """
    start = iframe_before(probe, first_frame)
    waiting = set(range(start, last_frame + 1))
    with open_container(path, probe.container) as container:
        stream = video_stream(container, path)
        places = FramePlaces(probe)
        if start > 0:
            seek_to_frame(container, stream, probe, start)
        packets: list[Any] = []
        indices: list[int] = []
        for packet in container.demux(stream):
            index = places.index_of(packet, stream) if packet.size else None
            if index is None or index < start:
                continue
            if packet.is_keyframe and len(packets) >= PIECE_FRAMES:
                yield _wrap(stream, packets, indices, path)
                packets, indices = [], []
            packets.append(packet)
            indices.append(index)
            waiting.discard(index)
            if not waiting:
                break
        if waiting:
            raise DecodeMismatchError(
                f"{len(waiting)} frames that the probe found are gone; was the file replaced?", path
            )
        yield _wrap(stream, packets, indices, path)


def _wrap(stream: Any, packets: list[Any], indices: list[int], path: str) -> Piece:
    """Write packets into an MP4 file whose first frame is at 0 and whose decoding times are derived."""
    order = np.sort(np.array(indices, np.int64))
    if indices[0] != order[0] or not packets[0].is_keyframe or len(np.unique(order)) != len(order):
        raise DecodeMismatchError(
            f"the packets around frame {indices[0]} are not a closed group of pictures", path
        )
    pts = np.array([packet.pts for packet in packets], np.int64)
    pts -= pts[0]
    dts = np.sort(pts)
    dts -= max(0, int((dts - pts).max()))
    data = io.BytesIO()
    time_base = Fraction(stream.time_base)
    with av.open(data, "w", format="mp4") as output:
        target = output.add_stream_from_template(stream)
        for packet, shown, decoded in zip(packets, pts.tolist(), dts.tolist(), strict=True):
            packet.pts, packet.dts, packet.time_base = shown, decoded, time_base
            packet.stream = target
            output.mux(packet)
    # The copy would be turned by decord, and then once more by who reads it.
    clear_rotation(data)
    data.seek(0)
    return Piece(data, order)
