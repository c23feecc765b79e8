"""Telling refreshing, intra and merely marked pictures apart by their bytes."""

from __future__ import annotations

import pytest

from workers.nal import key_kind, length_size

SEI = bytes([6, 5, 1, 0])


def units(*contents: bytes) -> memoryview:
    return memoryview(b"".join(len(content).to_bytes(4, "big") + content for content in contents))


def slice_unit(kind: int, bits: str) -> bytes:
    padded = bits.ljust(-(-len(bits) // 8) * 8, "0")
    return bytes([kind]) + int(padded, 2).to_bytes(len(padded) // 8, "big")


@pytest.mark.parametrize(
    ("unit", "kind"),
    [
        (slice_unit(5, "1" + "0001000"), "refresh"),  # IDR
        (slice_unit(1, "1" + "0001000"), "intra"),  # first block 0, slice type 7: I
        (slice_unit(1, "010" + "011"), "intra"),  # first block 1, slice type 2: I
        (slice_unit(1, "1" + "00110"), "predicted"),  # slice type 5: P
        (slice_unit(1, "1" + "1"), "predicted"),  # slice type 0: P
    ],
)
def test_h264_slices(unit: bytes, kind: str) -> None:
    assert key_kind("h264", units(SEI, unit), 4) == kind
    assert key_kind("h264", memoryview(b"\0\0\0\1" + SEI + b"\0\0\1" + unit), 0) == kind


@pytest.mark.parametrize(
    ("unit_type", "kind"), [(19, "refresh"), (20, "refresh"), (21, "intra"), (16, "intra")]
)
def test_hevc_pictures(unit_type: int, kind: str) -> None:
    parameter_set = bytes([32 << 1, 1, 0])
    assert key_kind("hevc", units(parameter_set, bytes([unit_type << 1, 1, 0])), 4) == kind


def test_other_codecs_are_believed() -> None:
    assert key_kind("mjpeg", memoryview(b"\xff\xd8\xff"), 0) == "refresh"


def test_length_size_comes_from_the_configuration() -> None:
    assert length_size("h264", bytes([1, 100, 0, 40, 0xFF, 0xE1])) == 4
    assert length_size("h264", bytes([0, 0, 0, 1, 103, 100])) == 0
    assert length_size("hevc", bytes([1, *[0] * 20, 0xF1, 0])) == 2
