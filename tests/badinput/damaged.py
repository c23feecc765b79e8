"""Cases of one video file that is cut off, damaged or disguised."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.badinput import damage
from tests.badinput.files import MPEG4, REORDERED, TABLES, Make, content, numbered, of, place, video
from tests.badinput.reading import Expected
from tests.numbered import write_video

FRAGMENTED = {"container_options": {"movflags": "frag_keyframe+empty_moov"}}
INDEX_FIRST = {"container_options": {"movflags": "faststart"}}

# Cut off


def avi_without_power(path: Path) -> None:
    """The camera lost power: no index, and lengths that were never written."""
    damage.cut(path, 0.6)
    damage.overwrite(path, 4, bytes(4))
    data = path.read_bytes()
    damage.overwrite(path, data.index(b"movi") - 8, b"LIST" + bytes(4))


CUT_OFF = [
    video("mp4 cut in the middle", of(".mp4", damage.cut), "quarantined", "cut off.*copy it again"),
    video(
        "mp4 cut, index first", of(".mp4", damage.cut, INDEX_FIRST), "quarantined", "cut off.*bytes are there"
    ),
    video("mkv cut in the middle", of(".mkv", damage.cut), "quarantined", "cut off.*bytes are there"),
    video("ts cut in the middle", of(".ts", damage.cut), "done", "mpegts", Expected(grid_frames=10)),
    video(
        "fragmented mp4 cut",
        of(".mp4", damage.cut, FRAGMENTED),
        "done",
        "fragmented",
        Expected(grid_frames=7),
    ),
    video("avi cut in the middle", of(".avi", damage.cut, MPEG4), "quarantined", "cut off"),
    video(
        "avi of a camera that lost power",
        of(".avi", avi_without_power, MPEG4),
        "done",
        "avi container",
        Expected(grid_frames=10),
    ),
    video(
        "ts that begins within a group of pictures",
        of(".ts", lambda path: damage.cut(path, 1.0, 0.1), REORDERED),
        "done",
        "mpegts",
        Expected(lambda time_s: 15 + round(time_s * 30), grid_frames=20),
    ),
    video(
        "mp4 without its index",
        of(".mp4", lambda path: damage.rename_box(path, [b"moov"], b"free")),
        "quarantined",
        "'moov' box.*missing",
    ),
    video("no bytes", content(".mp4", b""), "quarantined", "0 bytes"),
    video("nothing but zeros", content(".mp4", bytes(50_000)), "quarantined", "nothing but zeros"),
    video(
        "first bytes of an mp4 alone", content(".mp4", b"\0\0\0\x10ftypisom\0\0\0\0"), "quarantined", "moov"
    ),
]

# Damaged


def zeroed(path: Path) -> Path:
    """A stretch of pictures that never reached the card."""
    start, end = damage.find_box(path.read_bytes(), b"mdat")
    first = start + (end - start) // 2
    return damage.overwrite(path, first, bytes((end - start) // 10))


def in_box(kinds: tuple[bytes, ...], count: int, seed: int) -> Callable[[Path], object]:
    return lambda path: damage.flip_bits_of_box(path, kinds, count, seed)


def in_share(first: float, last: float, count: int, seed: int) -> Callable[[Path], object]:
    return lambda path: damage.flip_bits_of_share(path, first, last, count, seed)


def in_avi_index(path: Path) -> None:
    data = path.read_bytes()
    damage.flip_bits(path, data.rindex(b"idx1") + 8, len(data), 12, 5)


DAMAGED = [
    video(
        "bit flips in the mp4's header",
        of(".mp4", in_box((*TABLES, b"stsd"), 6, 1)),
        "quarantined",
        "cannot be read",
    ),
    video(
        "bit flips in the mp4's table of times",
        of(".mp4", in_box((*TABLES, b"stts"), 2, 2)),
        "quarantined",
        "cannot be read",
    ),
    video(
        "bit flips in the mp4's table of sizes",
        of(".mp4", in_box((*TABLES, b"stsz"), 4, 3)),
        "quarantined",
        r"lists 60 pictures, only \d",
    ),
    video(
        "bit flips in the mp4's table of places",
        of(".mp4", in_box((*TABLES, b"stco"), 4, 4)),
        "quarantined",
        "no frame that could",
    ),
    video(
        "bit flips in the mp4's order of display",
        of(".mp4", in_box((*TABLES, b"ctts"), 4, 4), REORDERED),
        "quarantined",
        "cannot be decoded, or not in their order",
    ),
    video(
        "bit flips in the mp4's pictures",
        of(".mp4", in_box((b"mdat",), 4, 5), frames=90),
        "done",
        "",
        Expected(misread=30),
    ),
    video("bit flips in the mkv's header", of(".mkv", in_share(0, 0.05, 4, 6)), "done", ""),
    video(
        "bit flips in the mkv's pictures",
        of(".mkv", in_share(0.3, 0.7, 6, 7), frames=90),
        "done",
        "",
        Expected(misread=30),
    ),
    video(
        "bit flips in the ts",
        of(".ts", in_share(0.2, 0.8, 8, 8), frames=90),
        "done",
        "",
        Expected(misread=30),
    ),
    video("bit flips in the avi's index", of(".avi", in_avi_index, MPEG4), "done", ""),
    video(
        "zeros in the middle of an mp4",
        of(".mp4", zeroed, frames=90),
        "quarantined",
        "more than 10%.*damaged there",
    ),
    video(
        "ts with a stretch lost",
        of(".ts", lambda path: damage.without(path, 0.45, 0.55), frames=90),
        "done",
        "mpegts",
        Expected(misread=10),
    ),
    video(
        "bytes after the end of an mp4",
        of(".mp4", lambda path: path.write_bytes(path.read_bytes() + bytes(range(1, 200)))),
        "done",
        "decord",
    ),
    video(
        "mp4 that says it is encrypted",
        of(".mp4", lambda path: damage.overwrite(path, path.read_bytes().rindex(b"avc1"), b"encv")),
        "quarantined",
        "encrypted",
    ),
]

# Disguised


def listed(suffix: str, script: str) -> Make:
    """A script that would have a reader open a recording which is not of the archive, since its folder is hidden."""

    def make(folder: Path) -> None:
        (folder / ".hidden").mkdir()
        other = write_video(folder / ".hidden" / "other.ts", 30)
        place(folder, suffix).write_text(script.format(other))

    return make


HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1.0,\n{}\n#EXT-X-ENDLIST\n"
DISGUISED = [
    video("HLS playlist called mp4", listed(".mp4", HLS), "quarantined", "playlist.*never followed"),
    video(
        "HLS playlist called ts, after blank lines",
        listed(".ts", f"\n \n{HLS}"),
        "quarantined",
        "never followed",
    ),
    video(
        "ffconcat script called mp4",
        listed(".mp4", "ffconcat version 1.0\nfile '{}'\n"),
        "quarantined",
        "playlist or a script",
    ),
    video("text called mp4", content(".mp4", b"field notes of the day\n" * 90), "quarantined", "text file"),
    video(
        "picture called avi", content(".avi", b"\xff\xd8\xff\xe0" + bytes(500)), "quarantined", "JPEG picture"
    ),
    video(
        "mkv called mp4",
        lambda folder: numbered(folder, ".mkv").rename(place(folder, ".mp4")),
        "done",
        "decord",
    ),
    video(
        "mp4 called dat",
        lambda folder: numbered(folder, ".mp4").rename(place(folder, ".dat")),
        "done",
        "decord",
    ),
]

DAMAGED_VIDEOS = [*CUT_OFF, *DAMAGED, *DISGUISED]
