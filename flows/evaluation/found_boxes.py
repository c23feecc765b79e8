"""What detector and network find in an archive, in this process: the pipeline's stages without its cluster.

Nothing is skipped: the survey's empty spans are looked at too, so that what a detector finds where nothing is
counts against it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from workers.archive import CameraDay, group_camera_days, list_archive, place_recording
from workers.decode import decode_span, frame_size
from workers.detect import Detector
from workers.detectors import DetectorSpec
from workers.errors import UnreadableVideoError
from workers.grid import FrameGrid
from workers.infer import Scorer
from workers.messages import FrameChunk, GridSpan, Keyframes, Plate, Recording
from workers.probe import probe_video
from workers.score import join_chunks
from workers.segments import CHUNK_FRAMES
from workers.survey import camera_day_plates

BIRD_AT_MOST = 0.5
"""A box whose reject probability is at least this is no bird of the taxon, as in a run."""


@dataclass(frozen=True, slots=True, eq=False)
class FoundBoxes:
    """N boxes found in one video."""

    keyframes: int
    """Keyframes that were looked at."""
    grid: NDArray[np.int64]
    """Grid index of the keyframe of each, shape ``(N,)``."""
    xyxy: NDArray[np.float32]
    """Fractions of width and height, shape ``(N, 4)``."""
    probabilities: NDArray[np.float32]
    """Of the behaviours, shape ``(N, C)``."""


Moments = Callable[[str, int], NDArray[np.int64]]
"""From a video's path in the archive and its number of grid points to the grid indices to look at, ascending."""


def find_boxes(
    archive: Path,
    scorer: Scorer,
    detector: DetectorSpec,
    moments: Moments,
    *,
    device: str,
    frame_height: int,
    videos: Collection[str] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, FoundBoxes]:
    """Boxes that are taken for birds of the taxon, by the video's path in the archive.

    Args:
        archive: folder of videos.
        scorer: the network.
        detector: which detector.
        moments: where to look.
        device: of the detector.
        frame_height: lines at which videos are decoded.
        videos: the only ones that are looked at, archive-relative; by default all of the archive. The other
            recordings of their camera-days still show what the empty scene looks like.
        progress: called with a line of words for each video.

    Raises:
        WorkerError: a video cannot be read.
    """
    finder = detector.build(device)
    found: dict[str, FoundBoxes] = {}
    days = _camera_days(archive, videos)
    total = sum(_is_asked(recording, videos) for day in days for recording in day.recordings)
    for day in days:
        size = frame_size(day.recordings[0].probe, frame_height)
        plates = camera_day_plates(day.recordings, size)
        for recording in day.recordings:
            if not _is_asked(recording, videos):
                continue
            wanted = moments(recording.file.uri, FrameGrid.of(recording.probe).length)
            parts = list(_look(recording, wanted, size, plates, finder, scorer))
            found[recording.file.uri] = _joined(parts, len(scorer.info.behaviours))
            progress(f"looked at {len(found)} of {total} videos")
    return found


def _is_asked(recording: Recording, videos: Collection[str] | None) -> bool:
    return videos is None or recording.file.uri in videos


def _camera_days(archive: Path, videos: Collection[str] | None) -> list[CameraDay]:
    """The camera-days of the videos asked for, with all recordings in the same folders that can be read."""
    files = list_archive(str(archive))
    folders = None if videos is None else {PurePosixPath(uri).parent for uri in videos}
    recordings = []
    for file in files:
        if folders is None or PurePosixPath(file.uri).parent in folders:
            try:
                recordings.append(place_recording(file, probe_video(file.path)))
            except UnreadableVideoError:
                if videos is None or file.uri in videos:
                    raise
    days = group_camera_days(recordings)
    return [day for day in days if any(_is_asked(recording, videos) for recording in day.recordings)]


def _look(
    recording: Recording,
    wanted: NDArray[np.int64],
    size: tuple[int, int],
    plates: tuple[Plate, ...],
    detector: Detector,
    scorer: Scorer,
) -> Iterator[FoundBoxes]:
    """Boxes of the wanted keyframes, chunk by chunk."""
    length, reach = FrameGrid.of(recording.probe).length, scorer.info.clip_frames // 2
    chunks = decode_span(
        recording.file.path,
        recording.probe,
        GridSpan(0, length),
        size,
        video_id=recording.file.video_id,
        chunk_frames=CHUNK_FRAMES,
    )
    previous: FrameChunk | None = None
    done = 0
    for chunk in chunks:
        joined = chunk if previous is None else join_chunks(previous, chunk)
        # Up to here every clip lies within the two chunks.
        ready = length if joined.stop_grid == length else joined.stop_grid - reach + 1
        now = wanted[(wanted >= done) & (wanted < ready)]
        if now.size:
            yield _score(joined, now, plates, detector, scorer)
        done, previous = ready, chunk


def _score(
    chunk: FrameChunk,
    moments: NDArray[np.int64],
    plates: tuple[Plate, ...],
    detector: Detector,
    scorer: Scorer,
) -> FoundBoxes:
    centres = moments - chunk.first_grid
    boxes = detector.detect(Keyframes(chunk.video_id, chunk.times_s[centres], chunk.frames[centres]), plates)
    scores = scorer.score(chunk.frames, centres, boxes)
    is_bird = np.concatenate([of_keyframe.p_other < BIRD_AT_MOST for of_keyframe in scores])
    return FoundBoxes(
        len(moments),
        np.repeat(moments, [len(of_keyframe.score) for of_keyframe in boxes])[is_bird],
        np.concatenate([of_keyframe.xyxy for of_keyframe in boxes])[is_bird],
        np.concatenate([of_keyframe.p_behaviour for of_keyframe in scores])[is_bird],
    )


def _joined(parts: list[FoundBoxes], num_behaviours: int) -> FoundBoxes:
    return FoundBoxes(
        sum(part.keyframes for part in parts),
        np.concatenate([np.zeros(0, np.int64), *(part.grid for part in parts)]),
        np.concatenate([np.zeros((0, 4), np.float32), *(part.xyxy for part in parts)]),
        np.concatenate([np.zeros((0, num_behaviours), np.float32), *(part.probabilities for part in parts)]),
    )
