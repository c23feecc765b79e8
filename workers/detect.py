"""Find the individuals in keyframes: what every detector does, and the one that needs no weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from workers.blobs import Blob, find_blobs, join_pieces, split_neighbours
from workers.messages import Boxes, Keyframes, Plate
from workers.pictures import Picture, distance, edges, fit_brightness, is_infrared, outline_share, smooth

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
