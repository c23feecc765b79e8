"""The exact truth about what a camera saw: boxes, bouts, individuals, presence; no pixel is rendered."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from workers.messages import CLIP_AFTER, CLIP_BEFORE, GRID_HZ, KEYFRAME_STEP
from workers.simulate import draw
from workers.simulate.bird import Pose, Shape, bird_shapes
from workers.simulate.cast import Bird
from workers.simulate.motion import ASPECT, STEP_HZ
from workers.simulate.movers import Mover
from workers.simulate.reserve import Camera, present

KEYFRAME_S = KEYFRAME_STEP / GRID_HZ
MOTION_THRESHOLD = 0.23
"""Body, head or wing tip move by more bird heights than this within a clip: dynamic. Tuned so that 70.6 % of
all instances are static, as in the paper."""
_MASK_HEIGHT = 216
_GRID_STEPS = int(STEP_HZ / GRID_HZ)
_TRAVELLING = tuple(
    (name, Pose._fields.index(name))
    for name in ("x", "lift", "facing", "neck1", "neck2", "wing_open", "wing_angle")
)


@dataclass(frozen=True, slots=True)
class BirdBox:
    """One bird in one keyframe."""

    individual_id: int
    xyxy: tuple[float, float, float, float]
    """Corners as fractions of width and height, clipped to the frame."""
    label: int
    motion: int
    """0 static, 1 dynamic."""
    covered: float
    """Share of what lies in the frame that others or reeds hide, 0 to 1."""
    inside: float
    """Share of the box that lies within the frame, 0 to 1."""


@dataclass(frozen=True, slots=True)
class MoverBox:
    """Something else in one keyframe."""

    mover_id: int
    kind: Literal["deer", "boat", "person"]
    xyxy: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class BoutTruth:
    """One individual did one thing; camera time in seconds."""

    individual_id: int
    label: int
    start_s: float
    stop_s: float


@dataclass(frozen=True, slots=True)
class IndividualTruth:
    """One individual over all recordings of a camera; camera time in seconds."""

    individual_id: int
    first_s: float
    last_s: float
    visible_s: float
    moves: bool
    """Whether it ever visibly moves."""
    size_px: float
    """Standing height in pixels of a frame of 216 lines."""


def clip_box(shapes: list[Shape]) -> tuple[tuple[float, float, float, float], float]:
    """Extent as fractions, clipped to the frame, and the share of it that lies inside."""
    x1, y1, x2, y2 = draw.extent(shapes)
    cx1, cy1, cx2, cy2 = max(x1, 0.0), max(y1, 0.0), min(x2, ASPECT), min(y2, 1.0)
    if cx2 <= cx1 or cy2 <= cy1:
        return (0.0, 0.0, 0.0, 0.0), 0.0
    inside = (cx2 - cx1) * (cy2 - cy1) / ((x2 - x1) * (y2 - y1))
    return (cx1 / ASPECT, cy1, cx2 / ASPECT, cy2), inside


def boxes_at(camera: Camera, time_s: float, bounds: tuple[float, float] | None = None) -> list[BirdBox]:
    """Every bird of which something is in the frame at a moment of the camera's time.

    ``bounds`` are the camera times between which the clip for the motion label may reach: a recording's.
    """
    low, high = bounds or (0.0, camera.total_s)
    mask = np.zeros((_MASK_HEIGHT, round(_MASK_HEIGHT * ASPECT)), np.uint8)
    seen: list[tuple[int, Bird, list[NDArray[np.int32]], tuple[float, float, float, float], float]] = []
    for _, item in present(camera, time_s):
        if isinstance(item, Bird):
            pose = item.pose_at(time_s)
            if pose is None or not near_frame(pose, item.height):
                continue
            shapes = bird_shapes(pose, item.height)
            xyxy, inside = clip_box(shapes)
            if inside > 0.0:
                outlines = draw.contours(shapes, _MASK_HEIGHT)
                seen.append((len(seen) + 2, item, outlines, xyxy, inside))
                draw.fill_mask(mask, outlines, len(seen) + 1)
        elif isinstance(item, Mover):
            draw.fill_mask(mask, draw.contours(item.shapes(time_s), _MASK_HEIGHT), 1)
        else:
            draw.lines(mask, item.blades(time_s), 1, 1, smooth=False)
    return [
        BirdBox(bird.individual_id, xyxy, bird.label_at(time_s),
                int(clip_motion(bird, time_s, low, high) > MOTION_THRESHOLD),
                _covered(mask, value, outlines), inside)
        for value, bird, outlines, xyxy, inside in seen
    ]  # fmt: skip


def near_frame(pose: Pose, height: float) -> bool:
    """Whether the bird may reach into the frame."""
    return -1.3 * height < pose.x < ASPECT + 1.3 * height


def movers_at(camera: Camera, time_s: float) -> list[MoverBox]:
    """Everything that moves and is no bird."""
    boxes = []
    for mover in camera.movers:
        shapes = mover.shapes(time_s)
        if shapes:
            xyxy, inside = clip_box(shapes)
            if inside > 0.0:
                boxes.append(MoverBox(mover.mover_id, mover.kind, xyxy))
    return boxes


def _covered(mask: NDArray[np.uint8], value: int, outlines: list[NDArray[np.int32]]) -> float:
    own = np.zeros_like(mask)
    draw.fill_mask(own, outlines, 1)
    area = int(np.count_nonzero(own))
    return 1.0 - int(np.count_nonzero(mask == value)) / area if area else 1.0


def clip_motion(bird: Bird, time_s: float, low_s: float, high_s: float) -> float:
    """How far body, head or wing tip travel within the clip around a moment, in bird heights."""
    steps = round(time_s * STEP_HZ) + _GRID_STEPS * np.arange(-CLIP_BEFORE, CLIP_AFTER)
    steps = steps[(steps >= round(low_s * STEP_HZ)) & (steps < round(high_s * STEP_HZ))] - bird.first_step
    steps = steps[(steps >= 0) & (steps < bird.track.poses.shape[0])]
    return travel(bird.track.poses[steps], bird.height)


def travel(poses: NDArray[np.float32], height: float) -> float:
    """Greatest extent of the paths of body, head and wing tip, in bird heights."""
    if poses.shape[0] == 0:
        return 0.0
    column = {name: poses[:, k].astype(np.float64) for name, k in _TRAVELLING}
    x, lift = column["x"] / height, column["lift"]
    ahead = 0.22 * np.abs(column["facing"]) * (np.cos(column["neck1"]) + np.cos(column["neck2"]))
    above = 0.22 * (np.sin(column["neck1"]) + np.sin(column["neck2"]))
    reach = 0.5 * column["wing_open"]
    paths = (
        (x, lift),
        (x + ahead, lift + above),
        (reach * np.cos(column["wing_angle"]), reach * np.sin(column["wing_angle"])),
    )
    return max(math.hypot(float(np.ptp(across)), float(np.ptp(up))) for across, up in paths)


def visible_steps(camera: Camera, bird: Bird) -> NDArray[np.bool_]:
    """At which of its poses something of the bird is in a recording's frame, shape ``(N,)``."""
    poses = bird.track.poses
    steps = bird.first_step + np.arange(poses.shape[0])
    recorded = (steps >= 0) & (steps < round(camera.total_s * STEP_HZ))
    x, lift = poses[:, 0].astype(np.float64), poses[:, 2].astype(np.float64)
    # Well within the frame there is nothing to compute.
    surely = (
        (x > 0.05)
        & (x < ASPECT - 0.05)
        & (bird.y - lift * bird.height < 1.05)
        & (bird.y - lift * bird.height > 0.3)
    )
    for k in np.flatnonzero(recorded & ~surely):
        pose = Pose(*poses[k].tolist())
        surely[k] = near_frame(pose, bird.height) and clip_box(bird_shapes(pose, bird.height))[1] > 0.0
    return recorded & surely


def bouts_of(bird: Bird, visible: NDArray[np.bool_]) -> Iterator[BoutTruth]:
    """Exclusive bouts over the time in which the bird is in the frame."""
    state = np.where(visible, bird.track.labels, 0)
    edges = np.flatnonzero(np.diff(state, prepend=0, append=0))
    for start, stop in itertools.pairwise(edges.tolist()):
        if state[start]:
            first, last = int(bird.first_step + start), int(bird.first_step + stop)
            yield BoutTruth(bird.individual_id, int(state[start]), first / STEP_HZ, last / STEP_HZ)


def individual_of(bird: Bird, visible: NDArray[np.bool_]) -> IndividualTruth | None:
    """One row about a bird; None when it never enters the frame."""
    seen = np.flatnonzero(visible)
    if seen.size == 0:
        return None
    first, last = int(bird.first_step + seen[0]), int(bird.first_step + seen[-1] + 1)
    return IndividualTruth(
        bird.individual_id, first / STEP_HZ, last / STEP_HZ, seen.size / STEP_HZ,
        travel(bird.track.poses[seen], bird.height) > MOTION_THRESHOLD, bird.height * 216.0,
    )  # fmt: skip


def presence_of(camera: Camera, visible: Mapping[int, NDArray[np.bool_]]) -> list[tuple[float, float]]:
    """Spans of the camera's time in which a bird or another mover is in the frame.

    ``visible`` holds each bird's :func:`visible_steps` by individual id.
    """
    count = round(camera.total_s * STEP_HZ)
    there = np.zeros(count + 1, np.int8)
    for bird in camera.birds:
        seen = np.flatnonzero(visible[bird.individual_id]) + bird.first_step
        there[seen] = 1
    for mover in camera.movers:
        first, stop = math.ceil(mover.start_s * STEP_HZ), min(count, math.ceil(mover.stop_s * STEP_HZ))
        for step in range(max(0, first), stop):
            shapes = mover.shapes(step / STEP_HZ)
            if shapes and clip_box(shapes)[1] > 0.0:
                there[step] = 1
    edges = np.flatnonzero(np.diff(there, prepend=0))
    return [(start / STEP_HZ, stop / STEP_HZ) for start, stop in zip(edges[::2], edges[1::2], strict=True)]
