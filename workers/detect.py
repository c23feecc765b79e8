"""Find the individuals in keyframes: by motion against the plate, from given boxes, or by both ways."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from storage.formats.ava import read_boxes
from workers.blobs import Blob, find_blobs, join_pieces, split_neighbours
from workers.messages import GRID_HZ, KEYFRAME_STEP, Boxes, Keyframes, Plate
from workers.pictures import Picture, distance, edges, fit_brightness, is_infrared, outline_share, smooth

EXPLAINED_SHARE = 0.5
"""A motion box that shares at least this much with a learned box is explained by it."""
RESTING_SCORE = 0.77
"""Nearly all simulated birds that are part of the plate score more, and static things of real scenes less."""
INSIDE_SHARE, SMALLER_SHARE, CLEAR_MOTION = 0.7, 0.6, 0.9
"""A body that moves is inside a learned box with at least this share of its area, is much smaller with at most
this share of the box's area, and is clear from this score on."""
FITTING_SCORE = 0.7
"""A learned box with a lower score gives way to the one clear, much smaller body in it."""
MOVED_SHARE = 0.05
"""In the box of something that is not part of the plate at least this share of the pixels differs from it."""

_KERNEL = np.ones((3, 3), np.uint8)


class Detector(Protocol):
    """Finds the individuals in keyframes, each keyframe by itself."""

    def detect(self, keyframes: Keyframes, plates: tuple[Plate, ...]) -> list[Boxes]:
        """Boxes of each keyframe, in the keyframes' order."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """A frame compared with the plate; all smoothed, shape ``(H, W)`` or ``(H, W, 3)``."""

    frame: Picture
    plate: Picture
    """At the frame's brightness."""
    weak: Picture
    """1 where the frame differs weakly, else 0."""
    strong: Picture
    """1 where it differs strongly, else 0."""
    apart: Picture
    """By how many grey levels it differs."""


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
        return [self.boxes_in(change) for change in self.changes(keyframes, plates)]

    def changes(self, keyframes: Keyframes, plates: tuple[Plate, ...]) -> Iterator[Change]:
        """How each keyframe differs from the plate that resembles it most; raises as `detect`."""
        size = keyframes.frames.shape[1:3]
        if not plates or any(plate.noise.shape != size for plate in plates):
            raise ValueError(
                f"motion needs plates of {size} pixels, got {[plate.noise.shape for plate in plates]}"
            )
        scenes = [_Scene.of(plate, self) for plate in plates]
        for frame in keyframes.frames:
            yield _change(smooth(frame), scenes)

    def boxes_in(self, change: Change) -> Boxes:
        """Boxes around the bodies in a change."""
        frame, weak, strong, apart = change.frame, change.weak, change.strong, change.apart
        height, width = weak.shape
        found: list[tuple[float, ...]] = []
        things = self._things(weak, strong, apart)
        if things:
            in_frame, in_plate = edges(frame), edges(change.plate)
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
    """A learned detector's boxes, and those of motion for what it does not know: deer, boats, people.

    A detector may come from another place than the camera. Where nothing differs from the plate its box is an
    animal that has not moved all day, or a piece of background that looks like one; where motion shows one
    much smaller body in it, it may not fit. Only sure boxes count there.
    """

    learned: Detector
    motion: MotionDetector
    resting_score: float = RESTING_SCORE
    """A learned box in which nothing differs from the plate counts from this score on."""

    def detect(self, keyframes: Keyframes, plates: tuple[Plate, ...]) -> list[Boxes]:
        """The credible learned boxes of each keyframe, then the motion boxes that none of them explains."""
        changes = self.motion.changes(keyframes, plates)
        return [
            self._combine(known, change)
            for known, change in zip(self.learned.detect(keyframes, plates), changes, strict=True)
        ]

    def detect_resting(self, keyframes: Keyframes) -> list[Boxes]:
        """Learned boxes that count even where nothing moves."""
        return [
            boxes.where(boxes.score >= self.resting_score) for boxes in self.learned.detect(keyframes, ())
        ]

    def _combine(self, known: Boxes, change: Change) -> Boxes:
        moving = self.motion.boxes_in(change)
        moved = np.array([_mean_in(change.weak, xyxy) >= MOVED_SHARE for xyxy in known.xyxy], np.bool_)
        fits = (known.score >= FITTING_SCORE) | (_bodies_inside(known, moving) != 1)
        sure = known.score >= self.resting_score
        return _with_unexplained(known.where(sure | (moved & fits)), moving)


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


def _mean_in(mask: Picture, xyxy: NDArray[np.float32]) -> float:
    """Mean of a mask within a box, corners 0 to 1."""
    height, width = mask.shape
    left, top = np.floor(xyxy[:2] * (width, height)).astype(int)
    right, bottom = np.ceil(xyxy[2:] * (width, height)).astype(int)
    window = mask[top:bottom, left:right]
    return float(window.mean()) if window.size else 0.0


def _bodies_inside(known: Boxes, moving: Boxes) -> NDArray[np.intp]:
    """How many clearly moving bodies lie in each known box and are much smaller than it, shape ``(M,)``."""
    shared, known_areas, areas = _shared_areas(known.xyxy, moving.xyxy)
    inside = (shared >= INSIDE_SHARE * areas) & (areas <= SMALLER_SHARE * known_areas)
    counts: NDArray[np.intp] = np.count_nonzero(inside & (moving.score >= CLEAR_MOTION), axis=1)
    return counts


def _shared_areas(
    one: NDArray[np.float32], other: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Areas that boxes share, shape ``(M, N)``, and those of the boxes themselves, ``(M, 1)`` and ``(1, N)``."""
    a, b = one[:, None], other[None]
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:])
    shared = np.clip(high - low, 0.0, None).prod(axis=2)
    return shared, (a[..., 2:] - a[..., :2]).prod(axis=2), (b[..., 2:] - b[..., :2]).prod(axis=2)


def _with_unexplained(known: Boxes, other: Boxes) -> Boxes:
    """``known``, followed by the boxes of ``other`` that share less than half with each of them.

    The share is of the smaller box: two birds within one moving region explain it.
    """
    shared, areas, known_areas = _shared_areas(other.xyxy, known.xyxy)
    new = ~(shared >= EXPLAINED_SHARE * np.minimum(areas, known_areas)).any(axis=1)
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
        """Prepare a plate with a detector's thresholds."""
        noise = cv2.dilate(plate.noise, _KERNEL)
        return cls(
            plate=plate.pixels,
            lowest=cv2.erode(plate.pixels, _KERNEL),
            highest=cv2.dilate(plate.pixels, _KERNEL),
            weak_limit=np.clip(np.rint(detector.weak_threshold * noise), 1, 255).astype(np.uint8),
            strong_limit=np.clip(np.rint(detector.threshold * noise), 1, 255).astype(np.uint8),
            infrared=is_infrared(plate.pixels),
        )

    def change(self, frame: Picture, table: Picture) -> Change:
        """How a smoothed frame differs from the plate, carried to its brightness by a table of levels."""
        above = cv2.subtract(frame, cv2.LUT(self.highest, table))
        below = cv2.subtract(cv2.LUT(self.lowest, table), frame)
        red, green, blue = cv2.split(cv2.max(above, below))
        apart = cv2.max(cv2.max(red, green), blue)
        weak = cv2.morphologyEx((apart > self.weak_limit).astype(np.uint8), cv2.MORPH_OPEN, _KERNEL[:2, :2])
        strong = (apart > self.strong_limit).astype(np.uint8) & weak
        return Change(frame, cv2.LUT(self.plate, table), weak, strong, apart)


def _change(frame: Picture, scenes: list[_Scene]) -> Change:
    """How a smoothed frame differs from the scene that resembles it most."""
    infrared = is_infrared(frame)
    candidates = [scene for scene in scenes if scene.infrared == infrared] or scenes
    tables = [fit_brightness(scene.plate, frame) for scene in candidates]
    if len(candidates) == 1:
        return candidates[0].change(frame, tables[0])
    thin = np.s_[2::4, 2::4]
    apart = [
        float(distance(cv2.LUT(scene.plate[thin].copy(), table), frame[thin].copy()).mean())
        for scene, table in zip(candidates, tables, strict=True)
    ]
    best = int(np.argmin(apart))
    return candidates[best].change(frame, tables[best])
