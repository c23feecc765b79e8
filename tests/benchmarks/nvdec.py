"""``python -m tests.benchmarks.nvdec [VIDEO]``: frames a second by NVDEC, decord and PyAV, one process each."""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from tests.numbered import write_video
from workers.decode import DecodeTally, decode_span
from workers.grid import FrameGrid
from workers.messages import GridSpan, Probe
from workers.nvdec import OpenDecoder, describe, open_nvdec, warm_up
from workers.probe import probe_video

SIZE = (216, 384)
FRAMES = 900


def main() -> None:
    """Each decoder once to warm up, and once to be timed."""
    started = time.perf_counter()
    warm_up()
    print(f"CUDA and PyNvVideoCodec start in {time.perf_counter() - started:.2f} s, torch's import left out")
    print(describe())
    with tempfile.TemporaryDirectory() as folder:
        given = Path(sys.argv[1]) if len(sys.argv) > 1 else None
        path = given or write_video(Path(folder) / "a.mp4", FRAMES, size=(1080, 1920))
        probe = probe_video(path)
        print(f"{path.name}: {probe.width}x{probe.height} {probe.codec}, {probe.frame_count} frames")
        for name, wanted, opened in (
            ("nvdec", probe, open_nvdec),
            ("decord", probe, None),
            ("pyav", replace(probe, decoder="pyav"), None),
        ):
            timed(path, wanted, opened, min(300, FrameGrid.of(probe).length))
            tally, seconds = timed(path, wanted, opened, FrameGrid.of(probe).length)
            print(f"{name:<7} {tally.frames_decoded / seconds:7.0f} frames/s, by {tally.decoder}")


def timed(path: Path, probe: Probe, opened: OpenDecoder | None, stop: int) -> tuple[DecodeTally, float]:
    tally, started = DecodeTally(), time.perf_counter()
    for _ in decode_span(str(path), probe, GridSpan(0, stop), SIZE, video_id="x", tally=tally, nvdec=opened):
        pass
    return tally, time.perf_counter() - started


if __name__ == "__main__":
    main()
