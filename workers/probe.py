"""Probe: what a demuxer knows about a file, and which decoder may be trusted with it. No pixel is decoded."""

from __future__ import annotations

import datetime as dt
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from workers.containers import Mp4Facts, check_length, read_mp4, sniff_format
from workers.errors import (
    BadTimestampsError,
    DamagedVideoError,
    FrameTooLargeError,
    NoVideoStreamError,
    UnsafePathError,
    UnsupportedCodecError,
)
from workers.messages import FIRST_YEAR, DecoderName, Probe
from workers.packets import DEFAULT_FRAME_S, PacketTable, read_packets

CODECS = {
    "h264",
    "hevc",
    "mpeg4",
    "msmpeg4",
    "msmpeg4v1",
    "msmpeg4v2",
    "msmpeg4v3",
    "mjpeg",
    "vp8",
    "vp9",
    "av1",
}
DECODER_ALIASES = {"libdav1d": "av1", "libaom-av1": "av1", "libvpx": "vp8", "libvpx-vp9": "vp9"}
MAX_SIDE_PX = 4096
MAX_DURATION_S = 48 * 3600.0
MAX_GAP_S = 3600.0
MISSING_SHARE = 0.1
"""Headers round their lengths; what is missing beyond this share is told."""
MAX_REORDERED = 32
"""No codec shows a frame after one that is decoded so many frames later: at most 16 may wait for their turn."""
MAX_FREEZE_S, FREEZE_FRAMES = 2.0, 4
"""Longer without a frame, and than so many usual steps between frames: the camera recorded nothing."""
MAX_GROUP_FRAMES = 600
"""decord's frames are held until their group of pictures is verified."""
DECORD_FORMATS = {"yuv420p", "yuvj420p"}
OPEN_OPTIONS = {
    "protocol_whitelist": "file",
    "codec_whitelist": ",".join(sorted(CODECS | set(DECODER_ALIASES))),
}


def probe_video(
    path: str | Path, root: str | Path | None = None, progress: Callable[[], None] = lambda: None
) -> Probe:
    """Read the packets of a video: times, I-frames, sizes, and the decoder to use.

    Args:
        path: the file.
        root: the folder that the resolved path must not leave; by default the folder that the file is in.
        progress: called for every packet.

    Raises:
        UnreadableVideoError: one of its named kinds, with a reason for the archive's keeper.
    """
    file = _safe_file(Path(path), root)
    container = sniff_format(file)
    mp4 = Mp4Facts()
    if container == "mov":
        mp4 = read_mp4(file)
    else:
        check_length(file, container)
    try:
        with open_container(file, container) as opened:
            return _probe_stream(file, container, opened, mp4, progress)
    except av.error.FFmpegError as error:
        raise DamagedVideoError(
            f"the {container} container cannot be read ({error.strerror}); copy the file again", file
        ) from error


def open_container(file: str | Path | BinaryIO, container: str) -> Any:
    """Open a file with a forced format and only local files and accepted codecs allowed."""
    source = str(file) if isinstance(file, (str, Path)) else file
    return av.open(source, format=container, options=dict(OPEN_OPTIONS), metadata_errors="replace")


def video_stream(container: Any, path: str | Path) -> Any:
    """Return the first stream of moving pictures; cover pictures do not count.

    Raises:
        NoVideoStreamError: there is none.
    """
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
    raise NoVideoStreamError(f"the file holds no video stream, only {kinds}", path)


def _safe_file(path: Path, root: str | Path | None) -> Path:
    if not _is_text(str(path)):
        raise UnsafePathError(
            "the name of the file or of its folder is no valid text (UTF-8); rename it", path
        )
    resolved = path.resolve()
    if not resolved.is_relative_to(Path(path.parent if root is None else root).resolve()):
        raise UnsafePathError("the path leads out of the archive; put the file itself into the archive", path)
    if not resolved.is_file():
        raise UnsafePathError("there is no regular file at this path", path)
    return resolved


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _probe_stream(
    file: Path, container: str, opened: Any, mp4: Mp4Facts, progress: Callable[[], None]
) -> Probe:
    stream = video_stream(opened, file)
    codec = _codec_name(stream, file)
    context = stream.codec_context
    _check_size(context.width, context.height, file)
    packets = read_packets(opened, stream, container, codec, file, progress)
    time_base = float(stream.time_base)
    order = np.argsort(packets.times, kind="stable")
    ticks = packets.times[order]
    times_s = (ticks - ticks[0]) * time_base
    _check_times(times_s, file)
    if packets.has_times:
        _check_order(packets, ticks[0], time_base, file)
    fps, last_s = _rate(times_s, packets.last_duration * time_base, stream)
    missing = _missing_part(opened, float(times_s[-1]) + last_s)
    if missing and container == "mov" and not mp4.fragmented:
        _check_count(len(times_s) + packets.hidden + packets.dropped, stream.frames, file)
    reasons = _pyav_reasons(container, codec, str(context.pix_fmt), packets, mp4)
    reasons += [missing] if missing else []
    decoder, reason = _choose_decoder(container, codec, reasons)
    width, height = _displayed_size(stream, mp4.rotation_deg)
    return Probe(
        container=container,
        codec=codec,
        pixel_format=str(context.pix_fmt),
        width=width,
        height=height,
        rotation_deg=mp4.rotation_deg,
        fps=fps,
        times_s=times_s,
        is_iframe=packets.keys[order],
        packet_bytes=packets.sizes[order],
        duration_s=float(times_s[-1]) + last_s,
        container_start=creation_time(opened, stream),
        decoder=decoder,
        decoder_reason=reason,
        origin_s=float(ticks[0]) * time_base,
        has_frame_times=packets.has_times,
        is_plain=not reasons,
    )


def _codec_name(stream: Any, file: Path) -> str:
    context = stream.codec_context
    if context is None:
        raise UnsupportedCodecError(
            "the codec of the pictures is unknown here, or they are encrypted; convert the file to H.264 in MP4",
            file,
        )
    name = DECODER_ALIASES.get(context.codec.name, context.codec.name)
    if name not in CODECS:
        raise UnsupportedCodecError(
            f"the video is coded as {name}, which is not accepted; convert it to H.264 in MP4", file
        )
    return str(name)


def _check_size(width: int, height: int, file: Path) -> None:
    if width < 1 or height < 1:
        raise DamagedVideoError(
            "the size of the pictures cannot be found: the stream's header is damaged", file
        )
    if max(width, height) > MAX_SIDE_PX:
        raise FrameTooLargeError(
            f"the frames are {width}x{height}, at most {MAX_SIDE_PX}x{MAX_SIDE_PX} is read; scale it down",
            file,
        )


def _check_times(times_s: NDArray[np.float64], file: Path) -> None:
    gaps = np.diff(times_s)
    if gaps.size and gaps.max() > MAX_GAP_S:
        place = int(gaps.argmax())
        raise BadTimestampsError(
            f"the clock of the recording jumps by {gaps[place]:,.0f} s after {times_s[place]:,.1f} s; "
            "split the file there",
            file,
        )
    if times_s[-1] > MAX_DURATION_S:
        raise BadTimestampsError(
            f"the frames span {times_s[-1] / 3600:,.1f} hours, more than {MAX_DURATION_S / 3600:.0f}: "
            "the times in the file are wrong, or it must be split",
            file,
        )


def _check_count(found: int, listed: int, file: Path) -> None:
    """Refuse an MP4 file of which reading stops early, as it does where its index is damaged."""
    if found < listed * (1 - MISSING_SHARE):
        raise DamagedVideoError(
            f"the file's index lists {listed:,} pictures, only {found:,} can be reached: the index is damaged; "
            "copy the file again",
            file,
        )


def _check_order(packets: PacketTable, first: int, time_base: float, file: Path) -> None:
    """Refuse a clock that goes back: frames of two moments would have the same time."""
    times, iframes = packets.times, packets.times[packets.keys]
    back = np.maximum.accumulate(times)[:-MAX_REORDERED] - times[MAX_REORDERED:]
    iframes_back = iframes[:-1] - iframes[1:]
    for steps, until in ((iframes_back, iframes[:-1]), (back, times[:-MAX_REORDERED])):
        if steps.size and steps.max() > 0:
            place = int(np.argmax(steps > 0))
            raise BadTimestampsError(
                f"the clock of the recording goes back by {steps[place] * time_base:,.1f} s after "
                f"{(until[place] - first) * time_base:,.1f} s: it was set back, or the file's index is damaged; "
                "split the file there, or copy it again",
                file,
            )


def pauses(times_s: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.float64], float]:
    """Frames after which nothing was recorded, for how long each time, and the usual time between frames."""
    steps_s = np.diff(times_s)
    usual_s = float(np.median(steps_s)) if steps_s.size else 0.0
    after = np.flatnonzero(steps_s > max(MAX_FREEZE_S, FREEZE_FRAMES * usual_s))
    return after, steps_s[after] - usual_s, usual_s


def _rate(times_s: NDArray[np.float64], last_s: float, stream: Any) -> tuple[float, float]:
    """Frames a second while the camera recorded, and the length of the last frame in seconds."""
    moments_s = np.unique(times_s)  # of two frames of one time the grid shows one
    if moments_s.size > 1:
        _, lost_s, usual_s = pauses(moments_s)
        return (moments_s.size - 1) / float(moments_s[-1] - lost_s.sum()), usual_s
    stated = stream.average_rate or stream.guessed_rate
    length_s = last_s or (1 / float(stated) if stated else DEFAULT_FRAME_S)
    return 1 / length_s, length_s


def _displayed_size(stream: Any, rotation_deg: int) -> tuple[int, int]:
    width, height = int(stream.codec_context.width), int(stream.codec_context.height)
    aspect = stream.sample_aspect_ratio  # of the container where it states one, else of the codec
    if aspect and 0.25 <= aspect <= 4:
        width = round(width * float(aspect))
    return (height, width) if rotation_deg in (90, 270) else (width, height)


def _missing_part(opened: Any, found_s: float) -> str:
    """Where the header states clearly more than there are pictures for, how much; else empty."""
    stated_s = (opened.duration or 0) / 1e6
    if stated_s <= found_s * (1 + MISSING_SHARE) + 1.0:
        return ""
    return f"the header states {stated_s:,.1f} s, there are pictures for {found_s:,.1f} s"


def creation_time(opened: Any, stream: Any) -> dt.datetime | None:
    """When a container says that it was made (UTC); None where it does not, or its clock was never set."""
    for metadata in (opened.metadata, stream.metadata):
        text = metadata.get("creation_time") or metadata.get("date") or ""
        try:
            moment = dt.datetime.fromisoformat(text)
        except ValueError:
            continue
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=dt.UTC)
        if moment.year >= FIRST_YEAR:
            return moment.astimezone(dt.UTC)
    return None


def _choose_decoder(container: str, codec: str, reasons: list[str]) -> tuple[DecoderName, str]:
    machine = platform.machine()
    if machine not in ("x86_64", "AMD64"):
        reasons = [*reasons, f"decord is not built for {machine}"]
    if reasons:
        return "pyav", "; ".join(reasons)
    return "decord", f"{codec} with closed groups of pictures in {container}"


def _pyav_reasons(
    container: str, codec: str, pixel_format: str, packets: PacketTable, mp4: Mp4Facts
) -> list[str]:
    has_twins = len(np.unique(packets.times)) < len(packets.times)
    checks = (
        (packets.dropped > 0, f"{packets.dropped} frames before the first I-frame cannot be decoded"),
        (not packets.has_times, "packets without trustworthy times, frames are counted instead"),
        (container not in ("mov", "matroska"), f"{container} container"),
        (mp4.fragmented, "fragmented MP4"),
        (packets.hidden > 0 or _shifts_start(mp4), "an edit list moves the start or cuts the recording"),
        (codec not in ("h264", "hevc"), f"{codec} is decoded by PyAV"),
        (pixel_format not in DECORD_FORMATS, f"{pixel_format} pixels"),
        (not packets.keys[0], "the first shown frame is no I-frame"),
        (not packets.only_idr or packets.has_leading_frames, "groups of pictures that are not closed"),
        (packets.longest_group > MAX_GROUP_FRAMES, "I-frames that are too far apart"),
        (has_twins, "two frames have the same time"),
    )
    return [reason for applies, reason in checks if applies]


def _shifts_start(mp4: Mp4Facts) -> bool:
    """An encoder's usual edit list is one entry that skips the reordering delay; anything else is a cut."""
    return len(mp4.edits) > 1 or any(start < 0 for _, start in mp4.edits)
