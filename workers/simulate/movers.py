"""What else moves in a reserve: deer, boats and people."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from workers.simulate.bird import Colour, Point, Shape

MoverKind = Literal["deer", "boat", "person"]
MOVER_COLOURS: dict[str, Colour] = {
    "hide": (132, 96, 62), "hide_dark": (98, 70, 46), "rump": (206, 194, 172), "hull": (74, 58, 46),
    "hull_light": (118, 96, 74), "coat": (62, 78, 96), "trousers": (52, 50, 48), "skin": (188, 148, 122),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mover:
    """Something that is no bird, crossing the frame at a steady pace."""

    mover_id: int
    kind: MoverKind
    height: float
    """Frame heights."""
    y: float
    """Ground line, frame heights from the top."""
    start_s: float
    """When it sets out from ``start_x``, seconds of the camera's time."""
    start_x: float
    speed: float
    """Frame heights a second, negative to the left."""
    stop_s: float

    def shapes(self, time_s: float) -> list[Shape]:
        """What it looks like at a moment between ``start_s`` and ``stop_s``; empty otherwise."""
        if not self.start_s <= time_s < self.stop_s:
            return []
        tau = time_s - self.start_s
        origin = (self.start_x + self.speed * tau, self.y)
        side = math.copysign(1.0, self.speed)
        stride = 2 * math.pi * abs(self.speed) * tau / (0.55 * self.height)
        build = {"deer": _deer, "boat": _boat, "person": _person}[self.kind]
        return [
            Shape(paint, _place(points, origin, side, self.height)) for paint, points in build(stride, tau)
        ]


_Part = tuple[str, list[Point]]


def _place(points: list[Point], origin: Point, side: float, height: float) -> list[Point]:
    return [(origin[0] + side * px * height, origin[1] - py * height) for px, py in points]


def _limb(top: Point, foot: Point, wide: float, narrow: float) -> list[Point]:
    return [
        (top[0] - wide, top[1]),
        (top[0] + wide, top[1]),
        (foot[0] + narrow, foot[1]),
        (foot[0] - narrow, foot[1]),
    ]


def _deer(stride: float, tau: float) -> list[_Part]:
    parts: list[_Part] = []
    for k, (hip, paint) in enumerate(
        ((-0.30, "hide_dark"), (0.27, "hide_dark"), (-0.34, "hide"), (0.31, "hide"))
    ):
        swing = 0.09 * math.sin(stride + k * 1.9)
        raised = 0.04 * max(0.0, math.cos(stride + k * 1.9))
        parts.append((paint, _limb((hip, 0.45), (hip + swing, raised), 0.05, 0.022)))
    nod = 0.03 * math.sin(0.9 * tau)
    body: list[Point] = [(-0.42, 0.60), (-0.30, 0.70), (0.25, 0.68), (0.40, 0.62), (0.36, 0.44), (0.05, 0.38)]
    parts.append(("hide", [*body, (-0.34, 0.42)]))
    parts.append(("rump", [(-0.43, 0.62), (-0.36, 0.64), (-0.36, 0.50), (-0.42, 0.52)]))
    parts.append(("hide", [(0.26, 0.66), (0.40, 0.55), (0.56, 0.86 + nod), (0.46, 0.92 + nod)]))
    parts.append(("hide", [(0.44, 0.93 + nod), (0.54, 0.95 + nod), (0.72, 0.84 + nod), (0.70, 0.79 + nod),
                           (0.50, 0.82 + nod)]))  # fmt: skip
    parts.append(("hide_dark", [(0.46, 0.92 + nod), (0.40, 1.0 + nod), (0.50, 0.95 + nod)]))
    return parts


def _boat(stride: float, tau: float) -> list[_Part]:
    rock = 0.012 * math.sin(1.1 * tau)
    lean = 0.10 * math.sin(1.6 * tau)
    return [
        ("coat", [(-0.14, 0.22), (0.10, 0.22), (0.10 + lean, 0.72), (-0.08 + lean, 0.74)]),
        ("skin", [(-0.05 + lean, 0.74), (0.07 + lean, 0.74), (0.08 + lean, 0.92), (-0.04 + lean, 0.94)]),
        ("hull_light", _limb((0.06 + lean, 0.62), (0.55 + 2 * lean, 0.05), 0.018, 0.018)),
        ("hull", [(-1.05, 0.30 + rock), (1.15, 0.34 - rock), (0.90, 0.02), (-0.85, 0.0)]),
        (
            "hull_light",
            [(-1.05, 0.30 + rock), (1.15, 0.34 - rock), (1.10, 0.27 - rock), (-1.00, 0.24 + rock)],
        ),
    ]


def _person(stride: float, tau: float) -> list[_Part]:
    swing = 0.13 * math.sin(stride)
    return [
        ("trousers", _limb((-0.01, 0.50), (-swing, 0.02 * max(0.0, -math.cos(stride))), 0.055, 0.03)),
        ("trousers", _limb((0.01, 0.50), (swing, 0.02 * max(0.0, math.cos(stride))), 0.06, 0.032)),
        ("coat", [(-0.10, 0.48), (0.10, 0.48), (0.11, 0.78), (0.05, 0.85), (-0.06, 0.85), (-0.11, 0.78)]),
        ("coat", _limb((0.0, 0.80), (-0.9 * swing, 0.46), 0.035, 0.028)),
        ("skin", [(-0.05, 0.86), (0.05, 0.86), (0.065, 0.94), (0.03, 1.0), (-0.04, 1.0), (-0.06, 0.94)]),
    ]
