"""NVDEC itself against PyAV: which frame comes out, with which pixels, and within which limits of a process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.workers.test_nv12 import noisy_frame, surface_of
from tests.workers.test_nvdec import TAKEN, coloured_video, decode
from workers.decode import DecodeTally
from workers.grid import FrameGrid
from workers.messages import GridSpan
from workers.nv12 import Colour, nv12_to_rgb
from workers.nvdec import describe, open_nvdec
from workers.probe import probe_video

HAS_CARD = torch.cuda.is_available() or Path("/dev/nvidiactl").exists()
"""With a card whose driver is broken, or without PyNvVideoCodec, the tests fail; they are not skipped."""
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not HAS_CARD, reason="there is no CUDA device")]
WriteVideo = Callable[..., Path]
ReadNumber = Callable[[NDArray[np.uint8]], int]
CODED, SIZE = (192, 320), (96, 160)
"""HEVC below 144 lines is not for NVDEC."""


def test_the_card_decodes_both_codecs() -> None:
    assert "h264 up to " in describe()
    assert "hevc up to" in describe()


@pytest.mark.parametrize("name", TAKEN)
def test_every_frame_is_pyavs_in_time_and_pixels_whatever_the_cut(
    tmp_path: Path, write_video: WriteVideo, read_number: ReadNumber, name: str
) -> None:
    path = write_video(tmp_path / name, 70, **{**TAKEN[name], "size": CODED})
    probe, tally = probe_video(path), DecodeTally()
    grid = FrameGrid.of(probe)
    whole = decode(path, probe, open_nvdec, size=SIZE, tally=tally)
    assert tally.decoder == "nvdec"
    assert tally.frames_decoded == grid.frame_indices[-1] + 1
    assert [read_number(picture) for picture in whole] == grid.frame_indices.tolist()
    expected = decode(path, replace(probe, decoder="pyav"), None, size=SIZE)
    difference = np.abs(whole.astype(int) - expected)
    assert difference.max() <= 4
    assert difference.mean() < 0.05
    for first in range(0, grid.length, 11):
        stop = min(first + 11, grid.length)
        tally = DecodeTally()
        part = decode(path, probe, open_nvdec, GridSpan(first, stop), SIZE, tally)
        np.testing.assert_array_equal(part, whole[first:stop])
        assert tally.decoder == "nvdec"


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize(("matrix", "value_range"), [(2, 0), (1, 1), (1, 2), (6, 2)])
@pytest.mark.parametrize("coded", [(240, 416), (1080, 1920)])
def test_colours_are_pyavs(
    tmp_path: Path, codec: str, matrix: int, value_range: int, coded: tuple[int, int]
) -> None:
    """1080 lines are coded as 1088: what is cropped is not scaled in."""
    path = coloured_video(tmp_path / "a.mp4", codec, matrix, value_range, coded)
    probe, tally = probe_video(path), DecodeTally()
    found = decode(path, probe, open_nvdec, size=(216, 384), tally=tally)
    assert tally.decoder == "nvdec"
    expected = decode(path, replace(probe, decoder="pyav"), None, size=(216, 384))
    difference = found.astype(int) - expected
    assert np.abs(difference).max() <= 4
    assert np.abs(difference).mean() < 0.05


@pytest.mark.parametrize("matrix", [1, 2])
def test_the_conversion_on_the_device_is_that_of_the_cpu(matrix: int) -> None:
    surface = surface_of(noisy_frame((540, 960), matrix, 1))
    here, there = (
        nv12_to_rgb(one, (216, 384), Colour(matrix)).cpu().int() for one in (surface, surface.cuda())
    )
    assert (here - there).abs().max() <= 4
    assert (here != there).float().mean() < 0.002


def test_damage_shifts_nothing_that_follows(
    tmp_path: Path, write_video: WriteVideo, read_number: ReadNumber
) -> None:
    """A frame's unit that NVDEC does not know is a frame that it leaves out; the others say which they are."""
    import av

    options = {"x265-params": "keyint=15:open-gop=0:bframes=0:log-level=none"}
    path = write_video(tmp_path / "a.mp4", 120, codec="libx265", options=options, size=CODED)
    with av.open(str(path)) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    content[places[20] + 4] = 48 << 1
    path.write_bytes(content)
    tally = DecodeTally()
    probe = replace(probe_video(path), decoder="pyav")
    found = decode(path, probe, open_nvdec, size=SIZE, tally=tally)
    shown = [read_number(picture) for picture in found]
    assert shown[:10] == list(range(0, 20, 2))
    assert shown[15:] == list(range(30, 120, 2))
    assert "not by NVDEC from frame 20 on" in tally.decoder


def test_decoders_leave_no_memory_behind(tmp_path: Path, write_video: WriteVideo) -> None:
    path = write_video(tmp_path / "a.mp4", 40, size=(1080, 1920))
    probe = probe_video(path)
    decode(path, probe, open_nvdec, size=(216, 384))
    before, _ = torch.cuda.mem_get_info()
    for _ in range(8):
        decode(path, probe, open_nvdec, size=(216, 384))
    after, _ = torch.cuda.mem_get_info()
    assert before - after < 100 * 2**20


TASK = """
import sys
from workers.decode import DecodeTally, decode_span
from workers.grid import FrameGrid
from workers.limits import limit_address_space, limit_open_files
from workers.messages import GridSpan
from workers.nvdec import open_nvdec, warm_up
from workers.probe import probe_video

probe, tally = probe_video(sys.argv[1]), DecodeTally()
warm_up()  # as workers.actors has it, which brings Ray
limit_address_space(int(1.5 * 2**30))
limit_open_files(256)
span = GridSpan(0, FrameGrid.of(probe).length)
chunks = decode_span(sys.argv[1], probe, span, (216, 384), video_id="x", tally=tally, nvdec=open_nvdec)
print(sum(len(chunk.frames) for chunk in chunks), tally.decoder)
"""


def test_a_decode_process_keeps_within_its_limits(tmp_path: Path, write_video: WriteVideo) -> None:
    """Less than half of the address space that the settings allow it beyond what CUDA reserves at its start."""
    path = write_video(tmp_path / "a.mp4", 90, size=(1080, 1920))
    done: Any = subprocess.run(
        [sys.executable, "-c", TASK, str(path)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "45 nvdec"
