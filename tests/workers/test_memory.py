"""Memory stays flat: decoding and scoring many videos in one process takes no more than a few."""

from __future__ import annotations

import gc
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.checkpoint import embedded_checkpoint
from model.engines.choice import EngineSpec
from tests.badinput.sandbox import in_sandbox
from tests.numbered import write_video
from workers.archive import list_archive, place_recording
from workers.decode import decode_span
from workers.detectors import DetectorSpec
from workers.grid import FrameGrid
from workers.messages import GridSpan
from workers.probe import probe_video
from workers.score import FrameScorer, ScorerSpec
from workers.survey import camera_day_plates, survey_video

SIZE, FRAMES = (96, 160), 40
WARM_UP, VIDEOS = 10, 50
MAX_GROWTH = 0.01
KINDS: dict[str, dict[str, Any]] = {
    "decord.mp4": {"options": {"bf": "2"}},
    "counted.avi": {"options": {"bf": "2"}},
    "old.avi": {"codec": "mpeg4"},
    "stream.ts": {},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": "keyint=15:open-gop=0:log-level=none"}},
}


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def sizes_after_each(folder: Path) -> tuple[list[int], int]:
    """Resident memory after each video, and how many boxes were scored."""
    for name, settings in KINDS.items():
        write_video(folder / name, FRAMES, **settings)
    files = list_archive(str(folder))
    boxes = folder / "boxes.csv"
    lines = [
        f"{file.uri},{time_s:.6f},0.2,0.2,0.6,0.9,,\n" for file in files for time_s in (0.0, 4 / 15, 8 / 15)
    ]
    boxes.write_text("".join(lines))
    uris = tuple((file.video_id, file.uri) for file in files)
    detector = DetectorSpec("given", boxes_csv=boxes, uris=uris)
    scorer = FrameScorer(ScorerSpec(embedded_checkpoint(), detector, "cpu", EngineSpec("torch"), 4, 1, 6))
    sizes, rows = [], 0
    for number in range(WARM_UP + VIDEOS):
        file = files[number % len(files)]
        recording = place_recording(file, probe_video(file.path))
        survey_video(recording, camera_day_plates([recording], SIZE), SIZE)
        span = GridSpan(0, FrameGrid.of(recording.probe).length)
        for chunk in decode_span(file.path, recording.probe, span, SIZE, video_id=file.video_id):
            keyframes = GridSpan(chunk.first_grid, chunk.stop_grid)
            rows += len(scorer.score(None, chunk, keyframes, ()).rows.frame)
        gc.collect()
        sizes.append(resident_bytes())
    return sizes, rows


@pytest.mark.slow
def test_fifty_videos_take_no_more_memory_than_ten(tmp_path: Path) -> None:
    result = in_sandbox(sizes_after_each, (tmp_path,), timeout_s=540, is_limited=False)
    assert isinstance(result, tuple), result
    sizes, rows = result
    assert rows == 3 * (WARM_UP + VIDEOS)
    after = np.array(sizes[WARM_UP:])
    growth = (np.median(after[-10:]) / np.median(after[:10]) - 1) / (VIDEOS - 10)
    assert growth <= MAX_GROWTH, f"{growth:.2%} a video: {[f'{size >> 20} MiB' for size in after]}"
