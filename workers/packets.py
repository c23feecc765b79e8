"""The packets of a video as a table: the times, kinds and sizes of its frames, without decoding a pixel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.errors import DamagedVideoError
from workers.nal import key_kind, length_size

DEFAULT_FRAME_S = 1 / 25
"""Assumed length of a frame of a file that states none."""


@dataclass(frozen=True, slots=True)
class PacketTable:
    """The frames' packets, in decoding order."""

    times: NDArray[np.int64]
    """Presentation time in the stream's time base."""
    keys: NDArray[np.bool_]
    sizes: NDArray[np.int64]
    has_times: bool
    only_idr: bool
    """Whether every key packet is an instantaneous refresh."""
    dropped: int
    """Frames before the first I-frame, which nobody can decode."""
    hidden: int
    """Frames that an edit list keeps from being shown."""
    last_duration: int

    @property
    def longest_group(self) -> int:
        """Most frames from one I-frame to the next."""
        return int(np.diff(np.flatnonzero(self.keys), prepend=0, append=len(self.keys)).max())

    @property
    def has_leading_frames(self) -> bool:
        """Whether a frame is shown before the I-frame that precedes it in decoding order."""
        places = np.maximum.accumulate(np.where(self.keys, np.arange(len(self.keys)), 0))
        return bool((self.times < self.times[places]).any())


def read_packets(
    opened: Any, stream: Any, container: str, codec: str, file: Path, progress: Callable[[], None]
) -> PacketTable:
    """Demux a whole video; ``progress`` is called for every packet.

    Raises:
        DamagedVideoError: there is no frame after which the others could be decoded.
    """
    pts: list[int | None] = []
    dts: list[int | None] = []
    keys: list[bool] = []
    sizes: list[int] = []
    dropped, hidden, last_duration, only_idr, started = 0, 0, 0, True, False
    prefix_bytes = length_size(codec, stream.codec_context.extradata or b"")
    for packet in opened.demux(stream):
        progress()
        if packet.size == 0:
            continue
        kind = key_kind(codec, memoryview(packet), prefix_bytes) if packet.is_keyframe else "predicted"
        started = started or packet.is_keyframe
        only_idr = only_idr and not (packet.is_keyframe and kind != "refresh")
        if packet.is_discard:
            hidden += 1
            continue
        if not started:
            dropped += 1
            continue
        pts.append(packet.pts)
        dts.append(packet.dts)
        keys.append(kind != "predicted")
        sizes.append(packet.size)
        last_duration = packet.duration or last_duration
        last_is_corrupt = packet.is_corrupt
    if sizes and last_is_corrupt:  # the file ends in the middle of this frame
        for column in (pts, dts, keys, sizes):
            column.pop()
    if not sizes:
        raise DamagedVideoError("the file holds no frame that could be decoded", file)
    times, has_times = _frame_ticks(pts, dts, stream)
    has_times = has_times and not (container == "avi" and _avi_times_mislead(stream, pts))
    key_array, size_array = np.array(keys, np.bool_), np.array(sizes, np.int64)
    if has_times and keys[0]:  # shown before the first I-frame but predicted from a frame that is not there
        decodable = times >= times[0]
        dropped += int((~decodable).sum())
        times, key_array, size_array = times[decodable], key_array[decodable], size_array[decodable]
    return PacketTable(times, key_array, size_array, has_times, only_idr, dropped, hidden, last_duration)


def _frame_ticks(pts: list[int | None], dts: list[int | None], stream: Any) -> tuple[NDArray[np.int64], bool]:
    """Times in the stream's time base, and whether they are the frames' own."""
    if all(tick is not None for tick in pts):
        return np.array(pts, np.int64), True
    if all(tick is not None for tick in dts) and len(set(dts)) == len(dts):
        return np.sort(np.array(dts, np.int64)), False
    rate = stream.average_rate or stream.guessed_rate or 1 / DEFAULT_FRAME_S
    return np.rint(np.arange(len(pts)) / float(rate * stream.time_base)).astype(np.int64), False


def _avi_times_mislead(stream: Any, pts: list[int | None]) -> bool:
    """AVI stores no times: reordered frames get those of decoding, and damage shifts all that follow."""
    listed = sum(entry.size > 0 for entry in stream.index_entries)
    is_reordered = bool(stream.codec_context.has_b_frames) and pts == sorted(pts, key=lambda tick: tick or 0)
    return is_reordered or (listed > 0 and listed != len(pts))
