"""What the first picture of an H.264 or HEVC packet is: the container's key flag alone does not tell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

KeyKind = Literal["refresh", "intra", "predicted"]
"""An instantaneous refresh (IDR), another intra picture, or a predicted one that is only marked as a key."""
H264_PICTURES, H264_IDR = frozenset({1, 5}), 5
HEVC_PICTURES, HEVC_IDR = frozenset(range(32)), frozenset({19, 20})
H264_INTRA_SLICES = frozenset({2, 4, 7, 9})


def length_size(codec: str, extradata: bytes) -> int:
    """Bytes of the length before each unit, from the codec's configuration; 0 for start codes (Annex B)."""
    if codec == "h264" and len(extradata) > 4 and extradata[0] == 1:
        return (extradata[4] & 3) + 1
    if codec == "hevc" and len(extradata) > 21 and extradata[0] == 1:
        return (extradata[21] & 3) + 1
    return 0


def key_kind(codec: str, data: memoryview, prefix_bytes: int) -> KeyKind:
    """Look at the first picture in a packet that is marked as a key.

    Intra refresh, which spreads the intra blocks over many pictures, marks predicted ones as keys: such a
    picture alone shows nothing. Codecs without such units are taken as they are marked.
    """
    if codec not in ("h264", "hevc"):
        return "refresh"
    for unit in _units(data, prefix_bytes):
        if codec == "h264" and (kind := unit[0] & 31) in H264_PICTURES:
            if kind == H264_IDR:
                return "refresh"
            return "intra" if _slice_type(bytes(unit[1:16])) in H264_INTRA_SLICES else "predicted"
        if codec == "hevc" and (kind := unit[0] >> 1 & 63) in HEVC_PICTURES:
            return "refresh" if kind in HEVC_IDR else "intra"
    return "predicted"


def _units(data: memoryview, prefix_bytes: int) -> Iterator[memoryview]:
    if prefix_bytes == 0:
        content = bytes(data)
        place = content.find(b"\x00\x00\x01")
        while 0 <= place < len(data) - 3:
            yield data[place + 3 :]
            place = content.find(b"\x00\x00\x01", place + 3)
        return
    position = 0
    while position + prefix_bytes < len(data):
        length = int.from_bytes(data[position : position + prefix_bytes], "big")
        yield data[position + prefix_bytes :]
        position += prefix_bytes + length


def _slice_type(header: bytes) -> int:
    """Second Exp-Golomb code of a slice header, after the number of its first block (H.264, 7.3.3)."""
    bits = "".join(f"{byte:08b}" for byte in header)
    place = 0
    value = 0
    for _ in range(2):
        zeros = len(bits) - place - len(bits[place:].lstrip("0"))
        code = bits[place + zeros : place + 2 * zeros + 1]
        value = int(code or "0", 2) - 1
        place += 2 * zeros + 1
    return value
