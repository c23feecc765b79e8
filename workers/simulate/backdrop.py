"""The part of a scene that never changes, painted once per camera."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from workers.simulate.scenery import Scenery

Image = NDArray[np.float32]
_SKIES = {"day": ((176, 196, 214), (216, 224, 226)), "dawn": ((122, 128, 152), (226, 178, 140)),
          "infrared": ((52, 52, 52), (74, 74, 74))}  # fmt: skip


def _smooth_noise(rng: np.random.Generator, rows: int, columns: int, size: tuple[int, int]) -> Image:
    """Smooth random field of shape ``size`` from a coarse grid."""
    coarse = rng.normal(0, 1, (rows, columns)).astype(np.float32)
    smooth: Image = cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
    return smooth


def _ground_noise(rng: np.random.Generator, height: int, width: int, horizon: int, scale: float) -> Image:
    """A random field that lies on the ground: coarse in front, fine and flat towards the horizon."""
    tile = cv2.GaussianBlur(rng.normal(0, 1, (256, 256)).astype(np.float32), (0, 0), 1.6)
    tile /= float(tile.std())
    ys, xs = np.mgrid[horizon:height, 0:width].astype(np.float32)
    depth = 1.0 / ((ys - horizon) / height + 0.06)
    across = (xs - width / 2) / height * depth * scale * 14 + float(rng.uniform(0, 256))
    along = depth * scale * 16 + float(rng.uniform(0, 256))
    laid: Image = cv2.remap(tile, across % 256, along % 256, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return laid


def _sky(rng: np.random.Generator, scenery: Scenery, size: tuple[int, int]) -> Image:
    height, width = size
    top, bottom = (np.array(c, np.float32) for c in _SKIES[scenery.light])
    ramp = np.linspace(0, 1, height, dtype=np.float32)[:, None, None] ** 1.4
    sky = np.broadcast_to(top * (1 - ramp) + bottom * ramp, (height, width, 3)).copy()
    clouds = _smooth_noise(rng, 5, 6, size) + 0.5 * _smooth_noise(rng, 12, 14, size)
    clouded: Image = sky + np.clip(clouds, -1.2, 2)[..., None] * (9 if scenery.light != "infrared" else 3)
    return clouded


def _hills(rng: np.random.Generator, image: Image, horizon: int, scenery: Scenery) -> None:
    """Two ridges and a line of trees, paler with distance."""
    height, width = image.shape[:2]
    haze = np.array(_SKIES[scenery.light][1], np.float32)
    wood = np.array((52, 66, 52) if scenery.light == "day" else (58, 54, 56), np.float32)
    if scenery.light == "infrared":
        wood = np.array((44, 44, 44), np.float32)
    rows = np.arange(height)[:, None]
    ridges = []
    for share, lift, knots in ((0.70, 0.060, 7), (0.42, 0.035, 14), (0.08, 0.014, 60)):
        ridge = _smooth_noise(rng, 1, knots, (1, width))[0] * 0.012 + lift
        ridge += np.abs(_smooth_noise(rng, 1, 128, (1, width))[0]) * (0.010 if share < 0.5 else 0.002)
        ridges.append((share, ridge))
    for share, ridge in ridges:
        inside = (rows > horizon - ridge * height) & (rows <= horizon)
        colour = haze * share + wood * (1 - share)
        texture = rng.normal(0, 7 * (1 - share), (height, width)).astype(np.float32)
        image[inside] = (colour + cv2.GaussianBlur(texture, (0, 0), 0.8)[..., None])[inside]


def _forest(rng: np.random.Generator, image: Image, horizon: int, scenery: Scenery) -> None:
    """A wall of trees: dark foliage with trunks and gaps of light."""
    height, width = image.shape[:2]
    infrared = scenery.light == "infrared"
    leaf = np.array((62, 62, 62) if infrared else (54, 72, 46), np.float32) * float(rng.uniform(0.8, 1.15))
    edge = _smooth_noise(rng, 1, 9, (1, width))[0] * 0.05 + 0.05
    edge += 0.012 * np.abs(_smooth_noise(rng, 1, 90, (1, width))[0])
    edge += 0.006 * _smooth_noise(rng, 1, 240, (1, width))[0]
    edge = np.clip(edge, 0.0, 0.16) * height
    crowns = (
        _smooth_noise(rng, 10, 26, (horizon, width)) * 0.5
        + _smooth_noise(rng, 34, 90, (horizon, width)) * 0.4
    )
    shade = np.clip(0.75 + 0.30 * crowns, 0.25, 1.5)[..., None]
    body = leaf * shade * np.linspace(1.15, 0.6, horizon, dtype=np.float32)[:, None, None]
    inside = np.arange(horizon)[:, None] > edge
    image[:horizon][inside] = body[inside]
    bark = np.array((60, 60, 60) if infrared else (78, 70, 58), np.float32)
    for _ in range(int(rng.integers(24, 60))):
        x, thick = rng.uniform(0, width), rng.uniform(0.002, 0.010) * height
        tone = bark * float(rng.uniform(0.35, 0.95))
        foot = horizon + rng.uniform(-0.02, 0.015) * height
        top = rng.uniform(0.15, 0.8) * horizon
        lean = rng.normal(0, 0.02) * height
        outline = np.array([(x - thick, foot), (x + thick, foot), (x + lean + 0.6 * thick, top),
                            (x + lean - 0.6 * thick, top)])  # fmt: skip
        cv2.fillPoly(image, [np.rint(outline * 16).astype(np.int32)], tone.tolist(), cv2.LINE_AA, 4)
    # Undergrowth hides where the trunks stand, and leaves break them up.
    scrub = _smooth_noise(rng, 8, 70, (horizon, width)) + 0.6 * _smooth_noise(rng, 40, 160, (horizon, width))
    low = np.linspace(-1.9, 0.9, horizon, dtype=np.float32)[:, None] ** 3 * 0.4
    cover = 1 / (1 + np.exp(-4 * (scrub + low - 0.2)))[..., None] * inside[..., None]
    image[:horizon] = image[:horizon] * (1 - 0.85 * cover) + body * 1.1 * 0.85 * cover


def water_share(place: Sequence[int], scenery: Scenery, size: tuple[int, int]) -> Image:
    """How much of each pixel is water (0 to 1), shape ``size``; the same pools at any size."""
    rng = _layer(place, "water")
    height, width = size
    horizon = round(scenery.horizon * height)
    patches = _ground_noise(rng, height, width, horizon, 0.22)
    patches += 0.4 * _ground_noise(rng, height, width, horizon, 0.7)
    wetness = float(rng.uniform(-0.5, 0.6)) if scenery.ground == "marsh" else float(rng.uniform(-2.4, -1.5))
    water = np.zeros(size, np.float32)
    water[horizon:] = 1 / (1 + np.exp(-5.0 * (patches + wetness)))
    return water


def _ground(rng: np.random.Generator, scenery: Scenery, water: Image, horizon: int) -> Image:
    """Colour of the ground and water below the horizon; ``water`` is that part's share of water."""
    rows, width = water.shape
    height = rows + horizon
    ramp = np.linspace(0, 1, rows, dtype=np.float32)[:, None, None]
    bright, dark = (np.array(c, np.float32) for c in (_SKIES[scenery.light][1], (58, 70, 74)))
    sheen = np.clip(0.75 - 0.45 * ramp, 0, 1)
    pool = (bright * sheen + dark * (1 - sheen)) * (0.80 if scenery.light != "infrared" else 0.85)
    dry, lush = np.array((124, 112, 78), np.float32), np.array((84, 100, 56), np.float32)
    if scenery.ground == "forest":
        dry, lush = np.array((132, 122, 80), np.float32), np.array((88, 108, 58), np.float32)
    mix = 1 / (1 + np.exp(-1.6 * _ground_noise(rng, height, width, horizon, 0.4) + float(rng.normal(0, 0.8))))
    soil = dry * mix[..., None] + lush * (1 - mix[..., None])
    grain = _ground_noise(rng, height, width, horizon, 2.2)
    speckle = rng.normal(0, 1, (rows, width)).astype(np.float32)
    blades = cv2.GaussianBlur(speckle, (0, 0), sigmaX=0.7, sigmaY=2.6)
    soil = soil * (1 + 0.09 * grain[..., None]) + 60 * blades[..., None] * (0.4 + 0.6 * ramp)
    soil *= np.array(scenery.tint, np.float32) * (0.92 + 0.12 * ramp)
    soil *= 1 - 0.25 * np.exp(-((water - 0.4) ** 2) / 0.02)[..., None]
    pool = pool * (1 + 0.03 * grain[..., None])
    ground: Image = pool * water[..., None] + soil * (1 - water[..., None])
    return ground


def paint_backdrop(place: Sequence[int], scenery: Scenery, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Paint the empty scene: RGB pixels of shape ``(*size, 3)``; the same place at any size."""
    height = size[0]
    horizon = round(scenery.horizon * height)
    image = _sky(_layer(place, "sky"), scenery, size)
    if scenery.ground == "forest":
        _forest(_layer(place, "forest"), image, horizon, scenery)
    else:
        _hills(_layer(place, "hills"), image, horizon, scenery)
    water = water_share(place, scenery, size)[horizon:]
    image[horizon:] = _ground(_layer(place, "ground"), scenery, water, horizon)
    if scenery.ground == "marsh":
        # The far bank mirrored in the water just below it.
        band = min(horizon, (height - horizon) // 5)
        mirror = cv2.GaussianBlur(image[horizon - band : horizon][::-1], (0, 0), sigmaX=3.0, sigmaY=1.5)
        share = water[:band, :, None] * np.linspace(0.65, 0, band, dtype=np.float32)[:, None, None]
        image[horizon : horizon + band] = image[horizon : horizon + band] * (1 - share) + mirror * share
    if scenery.light == "infrared":
        grey = cv2.cvtColor(np.clip(image, 0, 255), cv2.COLOR_RGB2GRAY)
        image = np.repeat((46 + 0.66 * grey)[..., None], 3, axis=2)
    soft = cv2.GaussianBlur(image, (0, 0), 0.5)
    return np.asarray(np.clip(soft, 0, 255), np.uint8)


def _layer(place: Sequence[int], name: str) -> np.random.Generator:
    """A generator of its own for each layer: what one draws never moves another."""
    return np.random.default_rng((*place, *name.encode()))
