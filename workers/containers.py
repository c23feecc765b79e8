"""What the first bytes and the boxes of a file tell, before any demuxer is trusted with it."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from workers.errors import (
    EmptyFileError,
    NotAVideoError,
    PlaylistError,
    TruncatedFileError,
)

HEAD_BYTES = 4096
LENGTH_SLACK_BYTES = 16
"""Some cameras count the header itself into the length that it states."""
TS_SYNC = 0x47
"""First byte of every packet of a transport stream."""
TS_MARKS = 8
"""So many sync bytes, a packet's length apart, tell a stream that was cut within a packet."""
MP4_BOXES = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"uuid"}
ASF_GUID = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
SCRIPT_MARKS = (b"#EXTM3U", b"ffconcat", b"v=0", b"<?xml", b"<MPD", b"[playlist]", b"<smil", b"file '")
OTHER_KINDS = (
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x89PNG", "a PNG picture"),
    (b"GIF8", "a GIF picture"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"ID3", "an MP3 sound file"),
    (b"FLV", "a Flash video"),
    (b"OggS", "an Ogg file"),
    (b"\x00\x00\x00\x01", "a raw H.264 or HEVC stream without times (wrap it into an MP4 file)"),
)


def sniff_format(path: Path) -> str:
    """Name the container by its first bytes: ``mov``, ``matroska``, ``avi``, ``asf``, ``mpegts`` or ``mpeg``.

    Raises:
        EmptyFileError: no bytes, or nothing but zeros.
        PlaylistError: a text that would make a reader open other files.
        NotAVideoError: anything else; the message names what it looks like.
    """
    with path.open("rb") as file:
        return sniff_head(file.read(HEAD_BYTES), path)


def sniff_head(head: bytes, path: Path) -> str:
    """As :func:`sniff_format`, by the first ``HEAD_BYTES`` of a file that is called ``path``."""
    if not head:
        raise EmptyFileError("the file is empty (0 bytes); copy it again from the camera's card", path)
    if not any(head):
        raise EmptyFileError("the file starts with nothing but zeros: the camera never wrote it", path)
    name = _container_of(head)
    if name is not None:
        return name
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if any(text[: len(mark)].lower() == mark.lower() for mark in SCRIPT_MARKS):
        raise PlaylistError(
            "this is a playlist or a script, not a video; such files are never followed", path
        )
    for mark, kind in OTHER_KINDS:
        if head.startswith(mark):
            raise NotAVideoError(f"this is {kind}, not a video that is read here", path)
    if _is_text(head):
        raise NotAVideoError("this is a text file with the name of a video", path)
    raise NotAVideoError(
        f"no known video container: the file starts with the bytes {head[:8].hex(' ')}; copy it again", path
    )


def looks_like_video(path: Path) -> bool:
    """Whether a file starts like a video container, whatever it is called."""
    with path.open("rb") as file:
        return starts_like_video(file.read(HEAD_BYTES))


def starts_like_video(head: bytes) -> bool:
    """Whether these are the first ``HEAD_BYTES`` of a video container."""
    return _container_of(head) is not None


def _container_of(head: bytes) -> str | None:
    if head[4:8] in MP4_BOXES and len(head) >= 8:
        return "mov"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    if head.startswith(b"RIFF") and head[8:12] in (b"AVI ", b"AVIX"):
        return "avi"
    if head.startswith(ASF_GUID):
        return "asf"
    for stride, first in ((188, 0), (192, 4), (204, 0)):
        marks = head[first::stride]
        if len(marks) >= 3 and set(marks[:TS_MARKS]) == {TS_SYNC}:
            return "mpegts"
    if head.startswith(b"\x00\x00\x01\xba"):
        return "mpeg"
    return "mpegts" if _is_cut_transport_stream(head) else None


def _is_cut_transport_stream(head: bytes) -> bool:
    """Whether packets of a transport stream follow the rest of one that lost its start."""
    starts = ((stride, first) for stride in (188, 192, 204) for first in range(1, stride))
    return not _is_text(head) and any(
        head[first : first + TS_MARKS * stride : stride] == bytes([TS_SYNC] * TS_MARKS)
        for stride, first in starts
    )


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:
            return False
        text = head[: error.start].decode("utf-8")
    return all(character.isprintable() or character in "\t\r\n\f" for character in text)


@dataclass(frozen=True, slots=True)
class Mp4Facts:
    """What the boxes of an MP4 file say about its first video track."""

    rotation_deg: int = 0
    """Degrees counter-clockwise by which a decoded picture is turned for display: 0, 90, 180 or 270."""
    edits: tuple[tuple[int, int], ...] = ()
    """The edit list: duration in the movie's time scale and start in the media's; -1 is an empty edit."""
    fragmented: bool = False


@dataclass(frozen=True, slots=True)
class _Box:
    kind: bytes
    start: int
    """Offset of the content."""
    end: int


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[_Box]:
    position = start
    while position + 8 <= end:
        file.seek(position)
        header = file.read(16)
        if len(header) < 8:
            return
        size, kind = struct.unpack(">I4s", header[:8])
        content = position + 8
        if size == 1 and len(header) == 16:
            size, content = struct.unpack(">Q", header[8:])[0], position + 16
        elif size == 0:
            size = end - position
        if size < content - position:
            return
        yield _Box(kind, content, position + size)
        position += size


def read_mp4(path: Path) -> Mp4Facts:
    """Read rotation, edit list and fragmentation from an MP4 or QuickTime file.

    Raises:
        TruncatedFileError: the index (``moov``) is missing, or the pictures end before they should.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        top = list(_boxes(file, 0, size))
        index = next((box for box in top if box.kind == b"moov"), None)
        if index is None or index.end > size:
            raise TruncatedFileError(
                "the file is cut off: its index (the 'moov' box, which cameras write last) is missing, "
                "so no picture can be found; copy it again from the camera's card",
                path,
            )
        fragmented = any(box.kind == b"moof" for box in top)
        for box in top:
            # What follows the last picture may be anything: some cameras leave bytes of an older file there.
            if box.end > size and not fragmented and box.kind in MP4_BOXES:
                raise _cut_off(path, size, box.end)
        tracks = (box for box in _boxes(file, index.start, index.end) if box.kind == b"trak")
        for track in tracks:
            facts = _video_track(file, track, fragmented)
            if facts is not None:
                return facts
    return Mp4Facts(fragmented=fragmented)


def _cut_off(path: Path, have: int, need: int) -> TruncatedFileError:
    return TruncatedFileError(
        f"the file is cut off: {have:,} of {need:,} bytes are there; copy it again from the camera's card",
        path,
    )


def _video_track(file: BinaryIO, track: _Box, fragmented: bool) -> Mp4Facts | None:
    handler, rotation_deg = b"", 0
    edits: tuple[tuple[int, int], ...] = ()
    for box in _boxes(file, track.start, track.end):
        file.seek(box.start)
        if box.kind == b"tkhd":
            rotation_deg = _rotation(file.read(min(box.end - box.start, 128)))
        elif box.kind == b"edts":
            for inner in _boxes(file, box.start, box.end):
                if inner.kind == b"elst":
                    file.seek(inner.start)
                    edits = _edit_list(file.read(min(inner.end - inner.start, 1 << 16)))
        elif box.kind == b"mdia":
            for inner in _boxes(file, box.start, box.end):
                if inner.kind == b"hdlr":
                    file.seek(inner.start)
                    handler = file.read(12)[8:12]
    return Mp4Facts(rotation_deg, edits, fragmented) if handler == b"vide" else None


def _rotation(header: bytes) -> int:
    """Angle of a track header's matrix ``[a b u; c d v; x y w]`` (ISO 14496-12, 8.3.2)."""
    first = 52 if header[:1] == b"\x01" else 40
    if len(header) < first + 8:
        return 0
    a, b = struct.unpack(">ii", header[first : first + 8])
    if a == b == 0:
        return 0
    return round(-math.degrees(math.atan2(b, a)) / 90) * 90 % 360


def clear_rotation(file: BinaryIO) -> None:
    """Have the tracks of an MP4 file shown as they are coded, in place."""
    for index in _boxes(file, 0, file.seek(0, os.SEEK_END)):
        for track in _boxes(file, index.start, index.end) if index.kind == b"moov" else ():
            for box in _boxes(file, track.start, track.end):
                if box.kind == b"tkhd":
                    file.seek(box.start)
                    file.seek(box.start + (52 if file.read(1) == b"\x01" else 40))
                    file.write(struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30))


def _edit_list(content: bytes) -> tuple[tuple[int, int], ...]:
    if len(content) < 8:
        return ()
    form = ">Qqi" if content[0] == 1 else ">Iii"
    count = min(struct.unpack(">I", content[4:8])[0], (len(content) - 8) // struct.calcsize(form))
    edits = (struct.unpack_from(form, content, 8 + row * struct.calcsize(form)) for row in range(count))
    return tuple((duration, start) for duration, start, _ in edits)


def check_length(path: Path, container: str) -> None:
    """Compare the length that an AVI, ASF or Matroska header promises with the file's.

    A header without a length (a camera that lost power, a live stream) is accepted: what is there is read.

    Raises:
        TruncatedFileError: bytes are missing.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    promised = 0
    if container == "avi":
        riff_bytes = struct.unpack("<I", head[4:8])[0]
        promised = riff_bytes + 8 if 0 < riff_bytes < 0xFFFFFFF0 else 0
    elif container == "asf":
        promised = _asf_length(head)
    elif container == "matroska":
        promised = _matroska_length(head)
    if promised > size + LENGTH_SLACK_BYTES:
        raise _cut_off(path, size, promised)


def _asf_length(head: bytes) -> int:
    place = head.find(ASF_FILE_PROPERTIES)
    if place < 0 or len(head) < place + 92:
        return 0
    is_broadcast = struct.unpack_from("<I", head, place + 88)[0] & 1
    return 0 if is_broadcast else int(struct.unpack_from("<Q", head, place + 40)[0])


def _matroska_length(head: bytes) -> int:
    """End of the segment (EBML id 0x18538067), 0 where its size is unknown."""
    place = head.find(b"\x18\x53\x80\x67")
    if place < 0 or len(head) < place + 12:
        return 0
    first = head[place + 4]
    if first == 0:
        return 0
    width = 9 - first.bit_length()
    raw = int.from_bytes(head[place + 4 : place + 4 + width], "big")
    value = raw & ((1 << 7 * width) - 1)
    return 0 if value == (1 << 7 * width) - 1 else place + 4 + width + value
