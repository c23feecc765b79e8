"""The drawn crane: which shapes a pose makes.

Lengths are in units of the frame's height, angles in radians, y grows downwards. A bird's own measures are
fractions of its standing height: long legs, a neck that reaches the ground, and a tertial "bustle".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

Point = tuple[float, float]
Colour = tuple[int, int, int]


class Shape(NamedTuple):
    """A filled outline."""

    paint: str
    """Which part of the bird it is, a key of its plumage."""
    outline: list[Point]


class Pose(NamedTuple):
    """All joints of one bird at one moment."""

    x: float
    y: float
    """Where the feet stand."""
    lift: float
    """Height of the feet above the ground, in bird heights."""
    facing: float
    """-1 (left) to 1 (right); near 0 the bird is seen end-on."""
    tilt: float
    neck1: float
    """Angle of the lower neck above the horizontal, forwards."""
    neck2: float
    head: float
    bill: float
    """How much of the bill is seen from the side, -1 to 1."""
    wing_open: float
    wing_angle: float
    leg_phase: float
    leg_amp: float
    leg_tuck: float
    """1 when one leg is drawn up."""
    leg_trail: float
    """1 when both legs are stretched behind, in flight."""


BODY_HEIGHT = 0.48
NECK1, NECK2 = 0.225, 0.245
_BODY = ((0.235, 0.03), (0.19, 0.095), (0.08, 0.12), (-0.10, 0.105), (-0.24, 0.05), (-0.29, -0.01),
         (-0.19, -0.075), (-0.04, -0.115), (0.09, -0.105), (0.19, -0.045))  # fmt: skip
_BELLY = ((0.20, -0.02), (-0.27, -0.015), (-0.19, -0.075), (-0.04, -0.115), (0.09, -0.105), (0.18, -0.055))
_FOLDED = ((0.10, 0.085), (-0.02, 0.10), (-0.18, 0.07), (-0.28, 0.0), (-0.16, -0.03), (0.04, -0.02))
_BUSTLE = (
    (-0.15, 0.055),
    (-0.28, 0.035),
    (-0.345, -0.04),
    (-0.325, -0.125),
    (-0.255, -0.105),
    (-0.19, -0.03),
)
_ROUND = tuple((math.cos(k * math.pi / 5), math.sin(k * math.pi / 5)) for k in range(10))


@cache
def _rounded(outline: tuple[Point, ...]) -> tuple[Point, ...]:
    """The outline with its corners cut (Chaikin)."""
    points: list[Point] = []
    for (ax, ay), (bx, by) in zip(outline, outline[1:] + outline[:1], strict=True):
        points += [
            (0.75 * ax + 0.25 * bx, 0.75 * ay + 0.25 * by),
            (0.25 * ax + 0.75 * bx, 0.25 * ay + 0.75 * by),
        ]
    return tuple(points)


class _Frame:
    """Turns the bird's own measures into frame units."""

    def __init__(self, pose: Pose, height: float) -> None:
        self.pose, self.height = pose, height
        self.cos, self.sin = math.cos(pose.tilt), math.sin(pose.tilt)
        # A body seen end-on is still half as wide as long.
        self.wide = math.copysign(max(abs(pose.facing), 0.45), pose.facing)

    def place(self, px: float, py: float, side: float) -> Point:
        """A point given from the feet; ``side`` foreshortens it."""
        return self.pose.x + side * px * self.height, self.pose.y - (py + self.pose.lift) * self.height

    def body(self, px: float, py: float) -> Point:
        """A point given from the body's centre, tilted with it."""
        up = BODY_HEIGHT + px * self.sin + py * self.cos
        return self.place(px * self.cos - py * self.sin, up, self.wide)

    def bodies(self, points: Sequence[Point]) -> list[Point]:
        """Several body points."""
        return [self.body(px, py) for px, py in points]


def _strip(points: Sequence[Point], widths: Sequence[float]) -> list[Point]:
    """Outline of a line with a half-width at each of its points."""
    left: list[Point] = []
    right: list[Point] = []
    last = len(points) - 1
    for k, ((px, py), width) in enumerate(zip(points, widths, strict=True)):
        (ax, ay), (bx, by) = points[max(0, k - 1)], points[min(last, k + 1)]
        dx, dy = bx - ax, by - ay
        norm = math.hypot(dx, dy) + 1e-9
        nx, ny = -dy / norm * width, dx / norm * width
        left.append((px + nx, py + ny))
        right.append((px - nx, py - ny))
    return left + right[::-1]


def _leg(frame: _Frame, which: int) -> Shape:
    pose, height = frame.pose, frame.height
    side = which * math.pi
    swing = 0.17 * pose.leg_amp * math.sin(pose.leg_phase + side)
    raised = 0.10 * pose.leg_amp * max(0.0, math.cos(pose.leg_phase + side))
    foot_x, foot_y = swing + (0.025 if which else -0.025), raised
    if which:
        foot_x += 0.06 * pose.leg_tuck
        foot_y += 0.27 * pose.leg_tuck
    hip = frame.body(-0.02 + 0.01 * which, -0.07)
    foot = frame.place(foot_x, foot_y, frame.wide)
    bend = -0.03 - 0.25 * raised - 0.10 * pose.leg_tuck * which
    knee = (0.5 * (hip[0] + foot[0]) + frame.wide * bend * height, 0.5 * (hip[1] + foot[1]))
    if pose.leg_trail > 0.0:
        t = pose.leg_trail
        behind, end = frame.body(-0.34, -0.05 - 0.02 * which), frame.body(-0.62, -0.06 - 0.02 * which)
        knee = (knee[0] * (1 - t) + behind[0] * t, knee[1] * (1 - t) + behind[1] * t)
        foot = (foot[0] * (1 - t) + end[0] * t, foot[1] * (1 - t) + end[1] * t)
    width = 0.011 * height
    toe = (foot[0] + frame.wide * 0.035 * height * (1 - pose.leg_trail), foot[1])
    return Shape("leg", _strip((hip, knee, foot, toe), (1.6 * width, width, 0.9 * width, 0.7 * width)))


def _wing(frame: _Frame, angle: float, span: float, paint: str) -> list[Shape]:
    rise, sweep = span * math.sin(angle), 0.34 * span * math.cos(angle)
    least = 0.03
    front, back = (0.14, 0.06 + least), (-0.17, 0.05 - least)
    wrist = (0.10 - 0.4 * sweep, 0.05 + 0.62 * rise + least)
    tip = (-0.07 - sweep, 0.05 + rise)
    trail = (-0.21 - 0.6 * sweep, 0.05 + 0.72 * rise - least)
    inner_wrist = (0.45 * wrist[0] + 0.55 * tip[0], 0.45 * wrist[1] + 0.55 * tip[1])
    inner_trail = (0.3 * back[0] + 0.7 * trail[0], 0.3 * back[1] + 0.7 * trail[1] + 0.6 * least)
    whole = Shape(paint, frame.bodies((front, back, trail, tip, wrist)))
    shapes = [whole, Shape("primaries", frame.bodies((inner_wrist, tip, trail, inner_trail)))]
    if abs(angle) < 0.4:
        # Near the horizontal the outline crosses itself: there the wing is a band, not a vanishing line.
        middle = frame.bodies(((0.0, 0.05), (-0.03 - 0.4 * sweep, 0.05 + 0.6 * rise), tip))
        shapes.insert(0, Shape(paint, _strip(middle, [w * frame.height for w in (0.036, 0.032, 0.014)])))
    return shapes


def _neck_and_head(frame: _Frame) -> list[Shape]:
    pose, height = frame.pose, frame.height
    base = frame.body(0.175, 0.045)
    side = pose.facing

    def ahead(origin: Point, length: float, angle: float, turn: float = side) -> Point:
        return origin[0] + turn * length * math.cos(angle) * height, origin[1] - length * math.sin(
            angle
        ) * height

    bend = ahead(base, NECK1, pose.neck1)
    top = ahead(bend, NECK2, pose.neck2)
    curve = [
        ((1 - t) ** 2 * base[0] + 2 * t * (1 - t) * bend[0] + t * t * top[0],
         (1 - t) ** 2 * base[1] + 2 * t * (1 - t) * bend[1] + t * t * top[1])
        for t in (0.0, 0.22, 0.48, 0.75, 1.0)
    ]  # fmt: skip
    widths = [w * height for w in (0.062, 0.045, 0.034, 0.029, 0.028)]
    turn = side * pose.bill
    skull = ahead(top, 0.022, pose.head, turn)
    tip = ahead(skull, 0.165, pose.head, turn)
    along = (turn * math.cos(pose.head), -math.sin(pose.head))
    round_head = [
        (skull[0] + (0.046 * c * along[0] - 0.033 * s * along[1]) * height,
         skull[1] + (0.046 * c * along[1] + 0.033 * s * (along[0] or 0.2)) * height)
        for c, s in _ROUND
    ]  # fmt: skip
    crown = (skull[0] + 0.012 * along[0] * height, skull[1] - 0.022 * height)
    cap = [(crown[0] + 0.022 * c * height, crown[1] + 0.014 * s * height) for c, s in _ROUND[::2]]
    return [
        Shape("neck", _strip(curve, widths)),
        Shape("nape", _strip(curve[3:], [0.8 * w for w in widths[3:]])),
        Shape("bill", _strip((skull, tip), (0.021 * height, 0.005 * height))),
        Shape("head", round_head),
        Shape("crown", cap),
    ]


def bird_shapes(pose: Pose, height: float) -> list[Shape]:
    """The shapes of a bird ``height`` tall, far ones first."""
    frame = _Frame(pose, height)
    shapes: list[Shape] = []
    if pose.wing_open > 0.12:
        shapes += _wing(frame, pose.wing_angle + 0.22, 0.58 * pose.wing_open, "far_wing")
    shapes.append(_leg(frame, 1))
    shapes.append(Shape("body", frame.bodies(_rounded(_BODY))))
    shapes.append(Shape("belly", frame.bodies(_rounded(_BELLY))))
    shapes.append(_leg(frame, 0))
    if pose.wing_open <= 0.12:
        shapes.append(Shape("folded", frame.bodies(_rounded(_FOLDED))))
    shapes.append(Shape("bustle", frame.bodies(_rounded(_BUSTLE))))
    shapes += _neck_and_head(frame)
    if pose.wing_open > 0.12:
        shapes += _wing(frame, pose.wing_angle, 0.64 * pose.wing_open, "near_wing")
    return shapes


def plumage(rng: np.random.Generator, species: str, juvenile: bool) -> dict[str, Colour]:
    """RGB colours of one bird in neutral light, by part; ``species`` is ``white`` or ``grey``."""
    tone = float(rng.uniform(0.94, 1.06))
    if species == "white":
        body, neck, dark, nape = (226, 226, 220), (46, 44, 46), (38, 36, 38), (214, 214, 208)
    else:
        body, neck, dark, nape = (150, 152, 156), (58, 56, 60), (66, 66, 72), (188, 188, 186)
    crown, bill, leg = (178, 44, 36), (146, 142, 112), (54, 52, 50)
    if juvenile:
        body, neck, dark, nape = (186, 168, 142), (158, 128, 96), (96, 84, 70), (168, 140, 106)
        crown, bill = (150, 112, 80), (150, 126, 104)

    def shade(colour: Colour, factor: float) -> Colour:
        red, green, blue = (min(255, max(0, round(c * factor * tone))) for c in colour)
        return red, green, blue

    return {
        "body": shade(body, 1.0), "belly": shade(body, 0.80), "folded": shade(body, 0.93),
        "near_wing": shade(body, 0.97), "far_wing": shade(body, 0.76), "primaries": shade(dark, 1.0),
        "bustle": shade(dark, 1.05), "neck": shade(neck, 1.0), "nape": shade(nape, 0.96),
        "head": shade(neck if species == "white" or juvenile else nape, 1.0), "crown": shade(crown, 1.0),
        "bill": shade(bill, 1.0), "leg": shade(leg, 1.0),
    }  # fmt: skip
