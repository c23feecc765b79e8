"""What kind of place a camera looks at: ground, light, horizon and how size grows towards the camera."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

_T = TypeVar("_T")
SceneName = Literal["marsh", "forest", "night"]
GroundName = Literal["marsh", "forest"]
LightName = Literal["day", "dawn", "infrared"]

SMALLEST_BIRD, LARGEST_BIRD = 25.0 / 216.0, 80.0 / 216.0
"""Standing height of a bird in frame heights: 25 to 80 pixels of 216."""


@dataclass(frozen=True, slots=True)
class Scenery:
    """One camera's place."""

    scene: SceneName
    ground: GroundName
    light: LightName
    horizon: float
    """Frame heights from the top."""
    far_height: float
    """Height of a bird that stands at ``far_y``, frame heights."""
    near_height: float
    """Height of a bird that stands at ``near_y``."""
    far_y: float
    near_y: float
    tint: tuple[float, float, float]
    """Light on birds and plants, RGB factors."""
    species: str

    def height_at(self, y: float) -> float:
        """Height of a bird whose feet are at ``y``."""
        share = (y - self.far_y) / (self.near_y - self.far_y)
        height = self.far_height + share * (self.near_height - self.far_height)
        return min(LARGEST_BIRD, max(SMALLEST_BIRD, height))

    def depth_of(self, height: float) -> float:
        """Where the feet of a bird of this height would be."""
        share = (height - self.far_height) / (self.near_height - self.far_height)
        return self.far_y + share * (self.near_y - self.far_y)


_TINTS: dict[LightName, tuple[float, float, float]] = {
    "day": (1.0, 0.99, 0.96),
    "dawn": (0.86, 0.74, 0.66),
    "infrared": (1.0, 1.0, 1.0),
}


def choose_scenery(rng: np.random.Generator, scene: SceneName) -> Scenery:
    """Draw a place of one kind; most nights are over a marsh."""
    ground: GroundName = scene if scene != "night" else _draw(rng, ("marsh", "forest"), (0.7, 0.3))
    light: LightName = "infrared" if scene == "night" else _draw(rng, ("day", "dawn"), (0.72, 0.28))
    horizon = float(rng.uniform(0.18, 0.36) if ground == "marsh" else rng.uniform(0.30, 0.42))
    base = np.asarray(_TINTS[light]) * float(rng.uniform(0.88, 1.06))
    red, green, blue = (float(v) for v in base)
    far_height = float(rng.uniform(SMALLEST_BIRD, 1.5 * SMALLEST_BIRD))
    near_height = float(rng.uniform(max(1.5 * far_height, 0.21), LARGEST_BIRD))
    return Scenery(
        scene=scene, ground=ground, light=light, horizon=horizon,
        far_height=far_height, near_height=near_height,
        far_y=horizon + float(rng.uniform(0.07, 0.13)), near_y=0.965,
        tint=(red, green, blue), species=_draw(rng, ("white", "grey"), (0.65, 0.35)),
    )  # fmt: skip


def _draw(rng: np.random.Generator, options: tuple[_T, ...], shares: tuple[float, ...]) -> _T:
    return options[int(rng.choice(len(options), p=shares))]
