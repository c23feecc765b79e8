"""Find the individuals in keyframes: by motion against the plate, from given boxes, or by both ways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from storage.formats.ava import read_boxes
from workers.blobs import Blob, find_blobs, join_pieces, split_neighbours
from workers.messages import GRID_HZ, KEYFRAME_STEP, Boxes, Keyframes, Plate
from workers.pictures import Picture, distance, edges, fit_brightness, is_infrared, outline_share, smooth

EXPLAINED_SHARE = 0.5
"""A motion box that shares at least this much with a learned box is explained by it."""

_KERNEL = np.ones((3, 3), np.uint8)


class Detector(Protocol):
    """Finds the individuals in keyframes, each keyframe by itself."""

    def detect(self, keyframes: Keyframes, plates: tuple[Plate, ...]) -> list[Boxes]:
        """Boxes of each keyframe, in the keyframes' order."""
        ...


@dataclass(frozen=True, slots=True)
class MotionDetector:
    """Finds what differs from the background plate. It sees no animal that is part of the plate."""

    threshold: float = 6.0
    """A pixel is different beyond this many times the plate's noise."""
    weak_threshold: float = 3.0
    """Pixels beyond this many times the noise belong to a difference that they touch."""
    min_extent: float = 0.06
    """Least longer side of a box, as a fraction of the frame's height."""
    min_area: float = 5e-4
    """Least number of different pixels, as a fraction of the frame."""
    min_depth: float = 0.013
    """Least distance of the innermost pixel from the outside, as a fraction of the frame's height: reeds and
    glints, even where they touch, are thin."""
    join_gap: float = 0.02
    """Pieces up to this far apart are one individual, as a fraction of the frame's height."""
    ghost_share: float = 0.3
    """A difference with at most this share of its outline on edges of the frame is the plate's fault."""

    def __post_init__(self) -> None:
        if not 0.0 < self.weak_threshold <= self.threshold:
            raise ValueError(
                f"need 0 < weak_threshold <= threshold, got {self.weak_threshold} and {self.threshold}"
            )

    def detect(self, keyframes: Keyframes, plates: tuple[Plate, ...]) -> list[Boxes]:
        """Boxes of each keyframe.

        Raises:
            ValueError: there is no plate, or a plate's size is not the keyframes'.
        """
        size = keyframes.frames.shape[1:3]
        if not plates or any(plate.noise.shape != size for plate in plates):
            raise ValueError(
                f"motion needs plates of {size} pixels, got {[plate.noise.shape for plate in plates]}"
            )
        scenes = [_Scene.of(plate, self) for plate in plates]
        return [self._detect_one(smooth(frame), scenes) for frame in keyframes.frames]

    def _detect_one(self, frame: Picture, scenes: list[_Scene]) -> Boxes:
        scene, table = _scene_of(frame, scenes)
        weak, strong, apart = scene.differences(frame, table)
        height, width = weak.shape
        found: list[tuple[float, ...]] = []
        things = self._things(weak, strong, apart)
        if things:
            in_frame, in_plate = edges(frame), edges(cv2.LUT(scene.plate, table))
        for thing in things:
            h, w = thing.mask.shape
            solid, window = thing.solid_in(height, width)
            share = outline_share(solid, in_frame[window], in_plate[window])
            if share > self.ghost_share:
                sure = min(1.0, share / 0.7) * min(1.0, 2.0 * thing.strong / thing.area)
                right, bottom = thing.x + w, thing.y + h
                found.append((thing.x / width, thing.y / height, right / width, bottom / height, sure))
        rows = np.array(sorted(found), np.float32).reshape(-1, 5)
        return Boxes(xyxy=rows[:, :4], score=rows[:, 4])

    def _things(self, weak: Picture, strong: Picture, apart: Picture) -> list[Blob]:
        """Bodies in the masks of weak and strong differences."""
        min_pixels = round(self.min_area * weak.size)
        pieces = find_blobs(weak, strong, max(min_pixels // 8, 4))
        height = weak.shape[0]
        bodies = [
            blob
            for blob in join_pieces(pieces, round(self.join_gap * height), min_pixels // 2)
            if blob.area >= min_pixels
            and blob.extent >= self.min_extent * height
            and blob.depth >= self.min_depth * height
        ]
        return [part for body in bodies for part in split_neighbours(body, strong, apart, min_pixels)]


@dataclass(frozen=True, slots=True)
class CombinedDetector:
    """A learned detector's boxes, and those of motion for what it does not know: deer, boats, people."""

    learned: Detector
    motion: MotionDetector

    def detect(self, keyframes: Keyframes, plates: tuple[Plate, ...]) -> list[Boxes]:
        """All learned boxes of each keyframe, then the motion boxes that none of them explains."""
        moving = self.motion.detect(keyframes, plates)
        return [
            _with_unexplained(known, other)
            for known, other in zip(self.learned.detect(keyframes, plates), moving, strict=True)
        ]


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


def _with_unexplained(known: Boxes, other: Boxes) -> Boxes:
    """``known``, followed by the boxes of ``other`` that share less than half with each of them.

    The share is of the smaller box: two birds within one moving region explain it.
    """
    a, b = other.xyxy[:, None], known.xyxy[None]
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    shared = np.clip(high - low, 0.0, None).prod(axis=2)
    smaller = np.minimum((a[..., 2:] - a[..., :2]).prod(axis=2), (b[..., 2:] - b[..., :2]).prod(axis=2))
    new = ~(shared >= EXPLAINED_SHARE * smaller).any(axis=1)
    return Boxes(
        xyxy=np.concatenate([known.xyxy, other.xyxy[new]]),
        score=np.concatenate([known.score, other.score[new]]),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Scene:
    """A plate, made ready for comparison."""

    plate: Picture
    lowest: Picture
    """Least level within one pixel: a picture that is shifted by a pixel does not differ."""
    highest: Picture
    weak_limit: Picture
    strong_limit: Picture
    infrared: bool

    @classmethod
    def of(cls, plate: Plate, detector: MotionDetector) -> _Scene:
        noise = cv2.dilate(plate.noise, _KERNEL)
        return cls(
            plate=plate.pixels,
            lowest=cv2.erode(plate.pixels, _KERNEL),
            highest=cv2.dilate(plate.pixels, _KERNEL),
            weak_limit=np.clip(np.rint(detector.weak_threshold * noise), 1, 255).astype(np.uint8),
            strong_limit=np.clip(np.rint(detector.threshold * noise), 1, 255).astype(np.uint8),
            infrared=is_infrared(plate.pixels),
        )

    def differences(self, frame: Picture, table: Picture) -> tuple[Picture, Picture, Picture]:
        """Masks of what differs weakly and strongly, and by how many levels, shape ``(H, W)`` each."""
        above = cv2.subtract(frame, cv2.LUT(self.highest, table))
        below = cv2.subtract(cv2.LUT(self.lowest, table), frame)
        red, green, blue = cv2.split(cv2.max(above, below))
        apart = cv2.max(cv2.max(red, green), blue)
        weak = cv2.morphologyEx((apart > self.weak_limit).astype(np.uint8), cv2.MORPH_OPEN, _KERNEL[:2, :2])
        return weak, (apart > self.strong_limit).astype(np.uint8) & weak, apart


def _scene_of(frame: Picture, scenes: list[_Scene]) -> tuple[_Scene, Picture]:
    """The scene that resembles a frame most, and the table that carries it to the frame's brightness."""
    infrared = is_infrared(frame)
    candidates = [scene for scene in scenes if scene.infrared == infrared] or scenes
    tables = [fit_brightness(scene.plate, frame) for scene in candidates]
    if len(candidates) == 1:
        return candidates[0], tables[0]
    thin = np.s_[2::4, 2::4]
    apart = [
        float(distance(cv2.LUT(scene.plate[thin].copy(), table), frame[thin].copy()).mean())
        for scene, table in zip(candidates, tables, strict=True)
    ]
    best = int(np.argmin(apart))
    return candidates[best], tables[best]
