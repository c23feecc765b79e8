"""Does with one video what a run does, and checks every frame that comes out against the packets, against a
plain sequential decode by PyAV, and against the number that the frame shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from tests.badinput.case import Found
from tests.numbered import BITS, read_number
from workers.archive import list_archive, place_recording
from workers.decode import DecodeTally, decode_span
from workers.grid import FrameGrid
from workers.messages import GridSpan, Probe, Recording
from workers.probe import probe_video
from workers.pyav_reader import to_rgb
from workers.segments import plan_segments
from workers.survey import camera_day_plates, survey_video

NumberAt = Callable[[float], int]
FRAME_HEIGHT = 48
SAME_TIME_S = 1.5e-3
"""Clocks of containers tick in milliseconds or finer."""
SAME_PIXELS = 2.0
"""Mean difference in grey levels: decord and PyAV scale differently in the last bit."""


def at_30_fps(time_s: float) -> int:
    """Number of the frame shown at a time from the first one on, at 30 frames a second."""
    return round(time_s * 30)


@dataclass(frozen=True, slots=True)
class Expected:
    """What the pictures of a readable video must show."""

    number_at: NumberAt = at_30_fps
    misread: int = 0
    """How many grid frames damage may make unreadable, or be replaced by a neighbour."""
    turned_deg: int = 0
    """How far counter-clockwise the pictures are turned for display."""
    grid_frames: int = 1
    """At least so many grid frames must come out."""


def read_all(archive: Path, expected: Expected | None = None) -> Found:
    """List, probe, survey and decode the only file of an archive.

    Raises:
        UnreadableVideoError: as a run quarantines it.
    """
    (file,) = list_archive(str(archive))
    probe = probe_video(file.path)
    return read_recording(place_recording(file, probe), expected or Expected())


def read_recording(recording: Recording, expected: Expected) -> Found:
    """Survey and decode a recording as a run does; and once more from end to end, to check every frame."""
    probe, path = recording.probe, recording.file.path
    size = (FRAME_HEIGHT, max(2, round(FRAME_HEIGHT * probe.width / probe.height / 2) * 2))
    plates = camera_day_plates([recording], size)
    presence = survey_video(recording, plates, size)
    shown = _decode(recording, GridSpan(0, FrameGrid.of(probe).length), size)
    for segment in plan_segments(recording, presence, 2.0):
        again = _decode(recording, segment.frames, size)
        before = shown.frames[segment.frames.first : segment.frames.stop]
        other = int((_apart(again.frames, before) > (SAME_PIXELS if expected.misread else 0.0)).sum())
        if other > expected.misread:
            return Found(
                "misaligned", f"{other} frames of {segment.frames} have other pixels than in the whole"
            )
    problem = _misalignment(path, probe, shown, size, expected)
    if problem:
        return Found("misaligned", problem)
    return Found("done", f"{len(shown.times_s)} grid frames by {shown.decoder}")


@dataclass(frozen=True, slots=True, eq=False)
class _Shown:
    frames: NDArray[np.uint8]
    times_s: NDArray[np.float64]
    indices: NDArray[np.int64]
    decoder: str


def _decode(recording: Recording, span: GridSpan, size: tuple[int, int]) -> _Shown:
    tally = DecodeTally()
    file = recording.file
    chunks = list(decode_span(file.path, recording.probe, span, size, video_id=file.video_id, tally=tally))
    return _Shown(
        np.concatenate([chunk.frames for chunk in chunks]),
        np.concatenate([chunk.times_s for chunk in chunks]),
        np.concatenate([chunk.frame_indices for chunk in chunks]),
        tally.decoder,
    )


def _misalignment(path: str, probe: Probe, shown: _Shown, size: tuple[int, int], expected: Expected) -> str:
    """What is wrong with the frames, in words; empty if nothing is."""
    if len(shown.times_s) < expected.grid_frames:
        return f"{len(shown.times_s)} grid frames instead of {expected.grid_frames} or more"
    times_s, pictures = _sequential(path, probe, set(shown.indices.tolist()), size)
    if times_s is not None:
        off_s = _distance(shown.times_s, np.sort(times_s))
        if off_s.max() > SAME_TIME_S:
            at_s = shown.times_s[off_s.argmax()]
            return f"the frame at {at_s:.3f} s is {off_s.max():.3f} s from any packet"
    wrong = []
    for time_s, index, frame in zip(shown.times_s, shown.indices.tolist(), shown.frames, strict=True):
        upright = np.rot90(frame, -expected.turned_deg // 90)
        number, wanted = read_number(upright), expected.number_at(float(time_s)) % (1 << BITS)
        plain = pictures.get(index)
        apart = 0.0 if plain is None else float(_apart(frame[None], plain[None])[0])
        if number != wanted or apart > SAME_PIXELS or plain is None:
            wrong.append(f"{time_s:.3f} s shows {number}, not {wanted}; {apart:.1f} from a plain decode")
    if len(wrong) > expected.misread:
        return f"{len(wrong)} of {len(shown.times_s)} grid frames are wrong, the first at {wrong[0]}"
    return ""


def _apart(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean difference of each of some pictures."""
    return np.asarray(np.abs(one.astype(np.int16) - other).mean(axis=(1, 2, 3)))


def _distance(values: NDArray[np.float64], among: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each value is from the nearest of some sorted ones."""
    after = np.searchsorted(among, values).clip(max=len(among) - 1)
    nearest = np.stack([among[after], among[(after - 1).clip(min=0)]])
    return np.asarray(np.abs(nearest - values).min(axis=0))


def _sequential(
    path: str, probe: Probe, wanted: set[int], size: tuple[int, int]
) -> tuple[NDArray[np.float64] | None, dict[int, NDArray[np.uint8]]]:
    """Times of all packets from the probe's first frame on, and the pictures of some frames by their index, as
    the plainest loop there is reads them; no times where packets have none of their own.
    """
    pictures: dict[int, NDArray[np.uint8]] = {}
    times: list[float] = []
    with av.open(path, format=probe.container, metadata_errors="replace") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        time_base = float(stream.time_base)
        for count, (packet_times, frame) in enumerate(_plain_loop(container, stream)):
            times += [tick * time_base - probe.origin_s for tick in packet_times]
            if frame is None:
                continue
            index = count
            if probe.has_frame_times and frame.pts is not None:
                index = int(np.abs(probe.times_s - (frame.pts * time_base - probe.origin_s)).argmin())
            if index in wanted and index not in pictures:
                pictures[index] = to_rgb(frame, probe, size)
    return (np.array(times) if probe.has_frame_times else None), pictures


def _plain_loop(container: Any, stream: Any) -> Iterator[tuple[list[int], Any]]:
    """Times of the packets taken since the last picture, and each picture; at the end times without one."""
    ticks: list[int] = []
    try:
        for packet in container.demux(stream):
            if packet.pts is not None:
                ticks.append(packet.pts)
            try:
                for frame in stream.codec_context.decode(packet):
                    yield ticks, frame
                    ticks = []
            except av.error.InvalidDataError:
                continue
    except av.error.FFmpegError:
        pass
    yield ticks, None
