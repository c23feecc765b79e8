"""Decode: the frames of a video's 15 Hz grid, once, in order, scaled inside the decoder.

decord reads H.264 and HEVC with closed groups of pictures, from packets that were copied into memory; PyAV
reads everything else, and takes over where decord fails or returns something else than the probe found. Before
both comes a GPU's video engine, where that is asked for (``workers/nvdec.py``). Each frame is placed by its
presentation time, so that damage never shifts what follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import av.error
import numpy as np
from numpy.typing import NDArray

from workers.errors import DecodeMismatchError
from workers.grid import FrameGrid
from workers.messages import FrameChunk, GridSpan, Probe
from workers.pyav_reader import decode_iframes, decoded_size, read_frames, reading, to_rgb, upright
from workers.segments import decoded_from
from workers.spans import Piece, copy_pieces

if TYPE_CHECKING:
    from workers.nvdec import OpenDecoder

__all__ = ["DecodeTally", "decode_frames", "decode_iframes", "decode_span", "frame_size"]

MAX_HOLD_S = 1.0
"""A frame that is too damaged to decode is shown as the one before it, if that is not older than this."""
HELD_SHARE, HELD_FRAMES = 0.1, 4
"""Of a span at most this share of the frames, or so many, may be shown as their neighbours: a film of stills would
have every animal stand."""
BATCH_FRAMES = 16
NO_FAULTS = 1e-9
"""Share of frames that decord may make up: when a damaged one is lost it shifts all that follow by one, and
notices only at the end, where it goes back and shows a frame twice; with this it raises an error there."""


@dataclass(slots=True)
class DecodeTally:
    """What decoding a span took; filled while its chunks are taken."""

    frames_decoded: int = 0
    """Frames that went through the decoder, from the first group of pictures of the span to its last frame; without
    those before, where seeking is inexact."""
    frames_held: int = 0
    """Damaged frames for which a neighbour stands in."""
    decoder: str = ""
    """``nvdec``, ``decord`` or ``pyav``, and why where it is not the first choice, and how many frames were held."""
    progress: Callable[[], None] = lambda: None
    """Called whenever frames went through the decoder, wanted or not."""

    def count(self, frames: int = 1) -> None:
        """Count frames that went through the decoder."""
        self.frames_decoded += frames
        self.progress()


def frame_size(probe: Probe, frame_height: int) -> tuple[int, int]:
    """Height and width of decoded frames: never larger than the video, the aspect kept, both even."""
    height = min(frame_height, probe.height // 2 * 2)
    return height, max(2, round(height * probe.width / probe.height / 2) * 2)


def decode_frames(
    path: str, probe: Probe, indices: NDArray[np.int64], frame_size: tuple[int, int]
) -> Iterator[NDArray[np.uint8]]:
    """Decode some frames of a video, by PyAV, so that a training sees the same pixels on every machine.

    Args:
        path: the file.
        probe: what the demuxer said about it.
        indices: of the frames in the video, increasing.
        frame_size: height and width of the pictures in pixels, as displayed.

    Yields:
        RGB pixels ``(H, W, 3)`` of each; of one that is damaged those of a neighbour.

    Raises:
        DamagedVideoError: the container or the pictures cannot be read.
        DecodeMismatchError: too few of the frames that the probe found can be decoded.
    """
    yield from _cpu_pictures(path, replace(probe, decoder="pyav"), indices, frame_size, DecodeTally(), "")


def decode_span(
    path: str,
    probe: Probe,
    span: GridSpan,
    frame_size: tuple[int, int],
    *,
    video_id: str,
    chunk_frames: int = 64,
    tally: DecodeTally | None = None,
    nvdec: OpenDecoder | None = None,
) -> Iterator[FrameChunk]:
    """Decode the grid frames of a span.

    The pixels of a grid frame do not depend on the span in which it is decoded.

    Args:
        path: the file.
        probe: what the demuxer said about it.
        span: the grid points wanted.
        frame_size: height and width of the pictures in pixels, as displayed.
        video_id: goes into the chunks.
        chunk_frames: grid frames in each chunk; the last one may be shorter.
        tally: filled with what it took.
        nvdec: opens a GPU's decoder, which comes first; the processors decode what it does not take.

    Raises:
        DamagedVideoError: the container or the pictures cannot be read here.
        MemoryError: this process may not take as much memory as that needs.
        DecodeMismatchError: neither decoder returned the frames that the probe found, or too few of them.
    """
    grid = FrameGrid.of(probe)
    indices = grid.frames_of(span)
    wanted, tally = np.unique(indices), tally or DecodeTally()
    pictures = _pictures(path, probe, wanted, frame_size, tally, nvdec)
    picture = np.empty(0, np.uint8)
    shown = -1
    for first in range(span.first, span.stop, chunk_frames):
        count = min(chunk_frames, span.stop - first)
        frames = np.empty((count, *frame_size, 3), np.uint8)
        places = slice(first - span.first, first - span.first + count)
        for row, index in enumerate(indices[places].tolist()):
            if index != shown:
                picture, shown = next(pictures), index
            frames[row] = picture
        times_s = grid.times_s[first : first + count]
        yield FrameChunk(video_id, first, frames, times_s, indices[places])
    if tally.frames_held:
        tally.decoder += f"; {tally.frames_held} of {len(wanted)} frames are damaged and shown as a neighbour"


def _pictures(
    path: str,
    probe: Probe,
    wanted: NDArray[np.int64],
    frame_size: tuple[int, int],
    tally: DecodeTally,
    nvdec: OpenDecoder | None,
) -> Iterator[NDArray[np.uint8]]:
    """The RGB pictures of the frames wanted (increasing), by NVDEC, where it is asked for, as far as it gets."""
    done, note = 0, ""
    if nvdec is not None:
        from workers.nvdec import (
            NvdecError,
            nvdec_pictures,
        )  # here only: it brings torch, which takes seconds

        tally.decoder = "nvdec"
        try:
            for picture in nvdec_pictures(path, probe, wanted, frame_size, nvdec, tally.count):
                done += 1
                yield picture
        except (NvdecError, DecodeMismatchError, av.error.FFmpegError) as error:
            reason = error.reason if isinstance(error, DecodeMismatchError) else str(error)
            note = f"; not by NVDEC{f' from frame {wanted[done]} on' if done else ''}: {reason}"
    if done < len(wanted):
        yield from _cpu_pictures(path, probe, wanted[done:], frame_size, tally, note)


def _cpu_pictures(
    path: str,
    probe: Probe,
    wanted: NDArray[np.int64],
    frame_size: tuple[int, int],
    tally: DecodeTally,
    note: str,
) -> Iterator[NDArray[np.uint8]]:
    """The pictures of the frames wanted, by decord as far as it gets, else by PyAV; the note goes to the tally."""
    done = 0
    tally.decoder = f"pyav: {probe.decoder_reason}{note}"
    if probe.decoder == "decord":
        tally.decoder = f"decord{note}"
        try:
            for picture in _decord_pictures(path, probe, wanted, frame_size, tally):
                done += 1
                yield picture
        except (_DecordError, DecodeMismatchError, av.error.FFmpegError) as error:
            tally.decoder = f"pyav: decord failed at frame {wanted[done]}: {error}{note}"
    if done == len(wanted):
        return
    with reading(path):
        yield from _pyav_pictures(path, probe, wanted[done:], frame_size, tally)


class _DecordError(Exception):
    """decord raised an error of its own."""


def _decord_pictures(
    path: str, probe: Probe, wanted: NDArray[np.int64], frame_size: tuple[int, int], tally: DecodeTally
) -> Iterator[NDArray[np.uint8]]:
    for piece in copy_pieces(path, probe, int(wanted[0]), int(wanted[-1])):
        tally.count(int(np.count_nonzero(piece.frame_indices <= wanted[-1])))
        positions = np.flatnonzero(np.isin(piece.frame_indices, wanted))
        for picture in _read_piece(piece, probe, positions, decoded_size(probe, frame_size), path):
            yield upright(picture, probe.rotation_deg)


def _read_piece(
    piece: Piece, probe: Probe, positions: NDArray[np.int64], size: tuple[int, int], path: str
) -> list[NDArray[np.uint8]]:
    """Read some frames of a piece, and its last one, by which a lost frame is noticed."""
    import decord  # here only: it is built for x86-64, and no other stage may load its libraries

    failures = (decord.DECORDError, decord.DECORDLimitReachedError, RuntimeError, IndexError, AssertionError)
    decord.logging.set_level(decord.logging.QUIET)
    pictures: list[NDArray[np.uint8]] = []
    try:
        reader = decord.VideoReader(
            piece.data,
            ctx=decord.cpu(0),
            height=size[0],
            width=size[1],
            num_threads=1,
            fault_tol=NO_FAULTS,
        )
        _check_piece(reader, piece, probe, path)
        keys = np.array(reader.get_key_indices())
        requests = reads_without_seeks(positions, len(piece.frame_indices) - 1, keys)
        for start in range(0, len(requests), BATCH_FRAMES):
            batch = requests[start : start + BATCH_FRAMES]
            read = reader.get_batch([position for position, _ in batch]).asnumpy()
            pictures += [picture for picture, (_, is_wanted) in zip(read, batch, strict=True) if is_wanted]
    except failures as error:
        message = str(error).partition("\n")[0].rpartition("Check failed: ")[2]
        raise _DecordError(message or type(error).__name__) from error
    return pictures


def reads_without_seeks(
    positions: NDArray[np.int64], last: int, keys: NDArray[np.int64]
) -> list[tuple[int, bool]]:
    """The frames to ask decord for, up to the last one of a piece, and which of them are wanted.

    decord skips frames by decoding them without scaling, which saves half of the time; but where the skip
    passes an I-frame it seeks, and its seeks are not trusted. So every frame up to such an I-frame is read.
    """
    requests: list[tuple[int, bool]] = []
    current = 0
    wanted = set(positions.tolist())
    for position in sorted(wanted | {last}):
        passed = keys[(keys > current) & (keys <= position)]
        if passed.size:
            requests += [(frame, False) for frame in range(current, min(int(passed[-1]) + 1, position))]
        requests.append((position, position in wanted))
        current = position + 1
    return requests


def _check_piece(reader: Any, piece: Piece, probe: Probe, path: str) -> None:
    """Compare what decord found in a piece with the probe."""
    expected_s = probe.times_s[piece.frame_indices]
    if len(reader) != len(expected_s):
        raise DecodeMismatchError(f"decord found {len(reader)} frames instead of {len(expected_s)}", path)
    times_s = reader.get_frame_timestamp(range(len(reader)))[:, 0]
    gaps = np.diff(expected_s)
    off_s = np.abs((times_s - times_s[0]) - (expected_s - expected_s[0])).max()
    if off_s > (gaps.min() / 2 if gaps.size else 1e-3):
        raise DecodeMismatchError(f"decord's times are off by up to {off_s:.3f} s", path)


def _pyav_pictures(
    path: str, probe: Probe, wanted: NDArray[np.int64], frame_size: tuple[int, int], tally: DecodeTally
) -> Iterator[NDArray[np.uint8]]:
    pictures = read_frames(path, probe, int(wanted[0]), int(wanted[-1]))
    counted_from = decoded_from(probe, int(wanted[0]))
    before: tuple[int, Any] | None = None
    current: tuple[int, Any] | None = None
    for frame in wanted.tolist():
        while current is None or current[0] < frame:
            before, current = current or before, next(pictures, None)
            if current is None:
                break
            tally.count(int(current[0] >= counted_from))
        if current is not None and current[0] == frame:
            yield to_rgb(current[1], probe, frame_size)
        else:
            tally.frames_held += 1
            if tally.frames_held > max(HELD_FRAMES, HELD_SHARE * len(wanted)):
                raise DecodeMismatchError(
                    f"more than {HELD_SHARE:.0%} of the frames from {probe.times_s[wanted[0]]:.1f} s to "
                    f"{probe.times_s[wanted[-1]]:.1f} s cannot be decoded, or not in their order: the file is "
                    "damaged there; copy it again from the camera's card",
                    path,
                )
            yield to_rgb(_stand_in(frame, before, current, probe, path), probe, frame_size)


def _stand_in(
    frame: int, before: tuple[int, Any] | None, after: tuple[int, Any] | None, probe: Probe, path: str
) -> Any:
    """The neighbour of a frame that could not be decoded: the one before it, else the one after."""
    for neighbour in (before, after):
        if neighbour and abs(probe.times_s[neighbour[0]] - probe.times_s[frame]) <= MAX_HOLD_S:
            return neighbour[1]
    raise DecodeMismatchError(
        f"frame {frame} at {probe.times_s[frame]:.1f} s cannot be decoded, nor any within {MAX_HOLD_S:g} s "
        "of it: the file is damaged there; copy it again from the camera's card",
        path,
    )
