"""Reeds that sway, in front of and behind the birds, and light that glitters on water."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from workers.simulate import draw
from workers.simulate.bird import Colour
from workers.simulate.motion import ASPECT
from workers.simulate.scenery import Scenery


@dataclass(frozen=True, slots=True, eq=False)
class Reeds:
    """A clump whose blades sway together."""

    y: float
    """Where it stands, frame heights."""
    roots: NDArray[np.float64]
    """Shape ``(B, 2)``, frame heights."""
    lengths: NDArray[np.float64]
    lean: NDArray[np.float64]
    phases: NDArray[np.float64]
    rate: float
    amplitude: float
    """Sway of the tips, as a share of the blades' length."""
    colours: tuple[Colour, ...]

    def blades(self, time_s: float) -> NDArray[np.float64]:
        """The blades at a moment, shape ``(B, 4, 2)``."""
        gust = 0.7 + 0.3 * math.sin(0.37 * time_s + self.y * 9)
        sway = self.amplitude * gust * np.sin(self.rate * time_s + self.phases) + self.lean
        bend = np.array([0.0, 0.12, 0.5, 1.0])
        rise = np.array([0.0, 0.36, 0.70, 0.97])
        xs = self.roots[:, :1] + (self.lengths * sway)[:, None] * bend
        ys = self.roots[:, 1:] - self.lengths[:, None] * rise
        return np.stack((xs, ys), axis=2)

    def paint(self, image: NDArray[np.uint8], time_s: float) -> None:
        """Draw the clump."""
        blades = self.blades(time_s)
        thickness = 1 if image.shape[0] < 500 or self.y < 0.7 else 2
        for k, colour in enumerate(self.colours):
            draw.lines(image, blades[k :: len(self.colours)], colour, thickness)


def grow_reeds(rng: np.random.Generator, scenery: Scenery) -> tuple[Reeds, ...]:
    """Plant clumps over the ground, and some just below the frame whose tips hang into the view."""
    low, high = (7, 16) if scenery.ground == "marsh" else (4, 10)
    wind = float(rng.uniform(0.03, 0.16))
    clumps = []
    for _ in range(int(rng.integers(low, high))):
        y = float(rng.uniform(scenery.horizon + 0.03, 1.0))
        clumps.append(_clump(rng, scenery, y, float(rng.uniform(0, ASPECT)), wind))
    low_ys = rng.uniform(1.02, 1.08, int(rng.integers(1, 4))).tolist()
    clumps += [_clump(rng, scenery, y, float(rng.uniform(0, ASPECT)), wind) for y in low_ys]
    return tuple(sorted(clumps, key=lambda clump: clump.y))


def _clump(rng: np.random.Generator, scenery: Scenery, y: float, x: float, wind: float) -> Reeds:
    size = scenery.height_at(y)
    count = int(rng.integers(7, 22))
    roots = np.stack((x + rng.normal(0, 0.28 * size, count), y + rng.normal(0, 0.04 * size, count)), axis=1)
    lengths = size * rng.uniform(0.25, 0.72 if scenery.ground == "marsh" else 0.45, count)
    straw = np.array([(150, 138, 92), (116, 118, 70), (176, 160, 110)], np.float64)
    straw = straw * np.array(scenery.tint) * float(rng.uniform(0.75, 1.1))
    if scenery.light == "infrared":
        straw = np.repeat(42 + 0.62 * straw.mean(axis=1, keepdims=True), 3, axis=1)
    colours = tuple((int(r), int(g), int(b)) for r, g, b in np.clip(straw, 0, 255))
    return Reeds(
        y=y,
        roots=roots,
        lengths=lengths,
        lean=rng.normal(0, 0.12, count),
        phases=2.5 * x + rng.normal(0, 0.5, count),
        rate=float(rng.uniform(1.0, 2.6)),
        amplitude=wind,
        colours=colours,
    )


class Glitter:
    """Light that dances on the water: two drifting fields, bright where both are."""

    def __init__(self, rng: np.random.Generator, water: NDArray[np.float32], strength: float) -> None:
        height, width = water.shape
        rows = np.flatnonzero(water.max(axis=1) > 0.2)
        self._top = int(rows[0]) if rows.size and strength > 0 else height
        size = (height - self._top, width + height)
        self._speeds = (0.05 * height, -0.034 * height)
        self._fields = tuple(self._field(rng, size, height) for _ in range(2)) if self._top < height else ()
        self._mask = np.clip(water[self._top :] * 255 * strength, 0, 255).astype(np.uint8)

    @staticmethod
    def _field(rng: np.random.Generator, size: tuple[int, int], height: int) -> NDArray[np.uint8]:
        noise = cv2.GaussianBlur(
            rng.normal(0, 1, size).astype(np.float32), (0, 0), 1.5 * height / 216, sigmaY=0.5 * height / 216
        )
        return np.asarray(np.clip(128 + 34 * noise / float(noise.std()), 0, 255), np.uint8)

    def paint(self, image: NDArray[np.uint8], time_s: float) -> None:
        """Add the glitter of a moment."""
        if not self._fields:
            return
        height, width = image.shape[:2]
        views = []
        for field, speed in zip(self._fields, self._speeds, strict=True):
            # The field is wider than the frame by one height; it drifts to and fro within that.
            shift = int(abs((speed * time_s + height) % (2 * height) - height))
            views.append(field[:, shift : shift + width])
        both = cv2.addWeighted(views[0], 0.5, views[1], 0.5, 0)
        light = cv2.multiply(cv2.subtract(both, 150), self._mask, scale=4 / 255)
        below = image[self._top :]
        cv2.add(below, cv2.merge((light, light, light)), dst=below)
