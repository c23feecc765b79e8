"""The camera itself: light falling off, noise, blur, drifting gain, and the clock burned into the picture."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from workers.simulate.scenery import Scenery

Pixels = NDArray[np.uint8]
_FIELDS = 6
_SLACK = 48


@dataclass(frozen=True, slots=True)
class Optics:
    """How one camera sees and records."""

    fps: int
    keyint_s: float
    """Seconds between I-frames."""
    crf: int
    """Rate factor of the encoder; larger is coarser."""
    b_frames: int
    noise: float
    """Standard deviation of the sensor's noise, grey levels."""
    blur: float
    """Pixels of 360 lines."""
    gain: float
    drift: float
    """How much the gain wanders, as a share."""
    clock_corner: int
    """0 top left, 1 top right, 2 bottom left, 3 bottom right."""
    label: str
    """Burned in beside the clock."""


def choose_optics(rng: np.random.Generator, scenery: Scenery, label: str) -> Optics:
    """Draw a camera."""
    infrared = scenery.light == "infrared"
    return Optics(
        fps=int(rng.choice([24, 25, 30])), keyint_s=float(rng.choice([1.0, 2.0, 4.0, 8.0, 10.0])),
        crf=int(rng.integers(21, 29)), b_frames=int(rng.choice([0, 2])),
        noise=float(rng.uniform(4.0, 8.5) if infrared else rng.uniform(1.2, 3.6)),
        blur=float(rng.uniform(0.0, 0.8)), gain=float(rng.uniform(0.85, 1.08)),
        drift=0.0 if infrared else float(rng.uniform(0.0, 0.05)),
        clock_corner=int(rng.integers(4)), label=label,
    )  # fmt: skip


class Sensor:
    """Turns a painted scene into what the camera records; frames differ only by what the seed says."""

    def __init__(
        self, rng: np.random.Generator, optics: Optics, scenery: Scenery, size: tuple[int, int]
    ) -> None:
        self._optics, self._infrared = optics, scenery.light == "infrared"
        self._seed, self._phase = int(rng.integers(1 << 30)), float(rng.uniform(0, 6))
        height, width = size
        channels = 1 if self._infrared else 3
        shape = (height + _SLACK, width + _SLACK, channels)
        # Two fields of unsigned noise, one added and one taken away: frames stay unsigned bytes.
        self._add, self._take = [], []
        for _ in range(_FIELDS):
            noise = rng.normal(0, optics.noise, shape).astype(np.float32)
            if not self._infrared:
                noise = 0.55 * noise + 0.8 * noise.mean(axis=2, keepdims=True) * math.sqrt(3) * 0.8
            noise = cv2.GaussianBlur(noise, (0, 0), 0.45 * height / 360 + 0.05)
            whole = np.rint(noise.reshape(shape))
            self._add.append(np.clip(whole, 0, 255).astype(np.uint8))
            self._take.append(np.clip(-whole, 0, 255).astype(np.uint8))
        self._vignette = _vignette(rng, size, self._infrared)
        self._blur = optics.blur * height / 360

    def record(self, scene: NDArray[np.uint8], frame: int, time_s: float) -> NDArray[np.uint8]:
        """RGB pixels of frame number ``frame``; ``scene`` is the painted scene, shape ``(H, W, 3)``."""
        height, width = scene.shape[:2]
        rng = np.random.default_rng((self._seed, frame))
        top, left, which = int(rng.integers(_SLACK)), int(rng.integers(_SLACK)), int(rng.integers(_FIELDS))
        view = (slice(top, top + height), slice(left, left + width))
        image = cv2.cvtColor(scene, cv2.COLOR_RGB2GRAY) if self._infrared else scene
        if self._blur > 0.25:
            image = cv2.GaussianBlur(image, (0, 0), self._blur)
        gain = self._optics.gain * (1 + self._optics.drift * math.sin(0.21 * time_s + self._phase))
        image = cv2.multiply(image, self._vignette, scale=gain / 255)
        add, take = self._add[which][view], self._take[which][view]
        image = cv2.subtract(cv2.add(image, add), take)
        recorded: Pixels = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if self._infrared else image
        return recorded


def _vignette(rng: np.random.Generator, size: tuple[int, int], infrared: bool) -> NDArray[np.uint8]:
    """Share of light that reaches each pixel, 255 for all; a lamp's cone at night."""
    height, width = size
    ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
    across, along = (xs - width / 2) / width, (ys - height * 0.58) / height
    if infrared:
        across -= float(rng.uniform(-0.1, 0.1))
        light = 0.24 + 0.76 * np.exp(-((across / 0.60) ** 2) - (along / 0.62) ** 2)
        return np.asarray(np.clip(light * 255, 0, 255), np.uint8)
    light = 1 - float(rng.uniform(0.1, 0.5)) * (across**2 + along**2)
    return np.repeat(np.clip(light * 255, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def burn_clock(image: NDArray[np.uint8], moment: dt.datetime, optics: Optics) -> None:
    """Write the camera's name and the time of day, to the second, into a corner."""
    height, width = image.shape[:2]
    text = f"{optics.label} {moment:%Y-%m-%d %H:%M:%S}"
    scale = 0.40 * height / 360
    text_width = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0][0]
    margin = round(0.018 * height)
    x = margin if optics.clock_corner in (0, 2) else width - text_width - margin
    y = round(0.052 * height) if optics.clock_corner < 2 else height - margin
    cv2.putText(image, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, (16, 16, 16), 3, cv2.LINE_AA)
    cv2.putText(image, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, (236, 236, 236), 1, cv2.LINE_AA)
