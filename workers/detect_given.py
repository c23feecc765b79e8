"""Boxes that somebody else found or drew."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from storage.formats.ava import read_boxes
from workers.messages import GRID_HZ, KEYFRAME_STEP, Boxes, Keyframes, Plate


class GivenBoxes:
    """Boxes from an AVA CSV: those of the timestamp nearest to a keyframe, within half a keyframe step."""

    def __init__(self, boxes_csv: Path, uris: Mapping[str, str]) -> None:
        """Read the boxes.

        Args:
            boxes_csv: first column: the archive-relative path, with forward slashes.
            uris: archive-relative path by ``video_id``.

        Raises:
            storage.errors.FormatError: a line of the file is no AVA row.
        """
        moments: dict[str, dict[float, set[tuple[float, float, float, float]]]] = {}
        for row in read_boxes(boxes_csv):
            of_video = moments.setdefault(row.video, {})
            of_video.setdefault(row.time_s, set()).add((row.x1, row.y1, row.x2, row.y2))
        self._uris = dict(uris)
        self._moments = moments
        self._times_s = {video: np.array(sorted(times)) for video, times in moments.items()}

    def detect(self, keyframes: Keyframes, plates: tuple[Plate, ...] = ()) -> list[Boxes]:
        """Boxes of each keyframe, each with score 1; none where the file has nothing near in time.

        Raises:
            ValueError: the video is not among ``uris``.
        """
        if keyframes.video_id not in self._uris:
            raise ValueError(f"no archive-relative path is known for video {keyframes.video_id}")
        uri = self._uris[keyframes.video_id]
        return [self._at(uri, float(time_s)) for time_s in keyframes.times_s]

    def _at(self, uri: str, time_s: float) -> Boxes:
        times_s = self._times_s.get(uri, np.empty(0))
        near = int(np.argmin(np.abs(times_s - time_s))) if times_s.size else -1
        if near < 0 or abs(times_s[near] - time_s) > KEYFRAME_STEP / GRID_HZ / 2:
            return Boxes(xyxy=np.empty((0, 4), np.float32), score=np.empty(0, np.float32))
        corners = np.array(sorted(self._moments[uri][float(times_s[near])]), np.float32)
        return Boxes(xyxy=corners, score=np.ones(len(corners), np.float32))
