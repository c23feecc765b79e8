"""From bouts to poses: the bird on the ground, passing by, landing and taking off, 30 poses a second."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.simulate.behaviour import FEEDING, FLIGHT, SOCIAL, WALK, Bout, Target, target
from workers.simulate.bird import Pose

STEP_HZ = 30
"""Poses a second; the 15 Hz grid and the keyframes lie on them."""
ASPECT = 16.0 / 9.0
"""Width of a frame in units of its height."""
POSE_SIZE = len(Pose._fields)
_DEGREES = math.pi / 180


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """Consecutive poses of one bird and what it does in each."""

    poses: NDArray[np.float32]
    """Columns of :class:`Pose`, shape ``(N, 15)``."""
    labels: NDArray[np.int8]
    """Label ids, shape ``(N,)``."""


def join(tracks: Sequence[Track]) -> Track:
    """One track after another."""
    return Track(np.concatenate([t.poses for t in tracks]), np.concatenate([t.labels for t in tracks]))


@dataclass(slots=True)
class Ground:
    """A bird on its feet: where it is, how it stands, and where it may go."""

    x: float
    y: float
    height: float
    yaw: float
    """Cosine of how far it stands turned away from the picture's plane."""
    sign: int
    """1 facing right, -1 facing left."""
    home_x: float
    range_x: float
    """It turns back when further than this from home."""
    joints: NDArray[np.float64]
    """Current tilt, neck1, neck2, head, bill, wing_open, wing_angle, leg_amp, leg_tuck; angles in radians."""
    facing: float
    leg_phase: float
    speed: float = 0.0
    lift: float = 0.0
    settled: bool = False
    """A bird that was there before it was seen starts in the posture of its first bout."""

    def perform(self, bout: Bout, rng: np.random.Generator, heading: int | None = None) -> Track:
        """Act one bout out; ``heading`` makes it walk that way whatever lies there, out of the frame too."""
        steps = max(1, round(bout.duration_s * STEP_HZ))
        poses = np.empty((steps, POSE_SIZE), np.float32)
        labels = np.empty(steps, np.int8)
        self._turn(bout, rng, heading)
        if not self.settled:
            self.joints = _joints(target(bout, 0.0, self.leg_phase))
            self.facing, self.settled = self.sign * self.yaw, True
        walking = bout.label == WALK or bout.form in ("step", "chase")
        for k in range(steps):
            tau = k / STEP_HZ
            self._advance(bout, tau, bound=walking and heading is None)
            poses[k] = self.pose()
            labels[k] = bout.label_at(tau)
        return Track(poses, labels)

    def pose(self) -> Pose:
        """The present pose."""
        tilt, neck1, neck2, head, bill, wing_open, wing_angle, leg_amp, leg_tuck = self.joints.tolist()
        return Pose(self.x, self.y, self.lift, self.facing, tilt, neck1, neck2, head, bill,
                    wing_open, wing_angle, self.leg_phase, leg_amp, leg_tuck, 0.0)  # fmt: skip

    def _turn(self, bout: Bout, rng: np.random.Generator, heading: int | None) -> None:
        if heading is not None:
            self.sign = heading
        elif bout.label == SOCIAL and bout.partner_x is not None:
            self.sign = 1 if bout.partner_x > self.x else -1
        elif bout.label == WALK or (bout.label == FEEDING and bout.form == "step"):
            away = self.home_x - self.x
            back = abs(away) > 0.6 * self.range_x
            self.sign = int(math.copysign(1, away)) if back else int(rng.choice([-1, 1]))
        elif rng.random() < 0.4:
            self.sign = -self.sign

    def _advance(self, bout: Bout, tau: float, bound: bool) -> None:
        aim = target(bout, tau, self.leg_phase)
        self.joints += (_joints(aim) - self.joints) * aim.gain
        self.speed += (aim.speed - self.speed) * 0.2
        self.lift += (aim.lift - self.lift) * 0.5
        if bound:
            away = self.home_x - self.x
            margin = 0.45 * self.height
            if self.x < margin or self.x > ASPECT - margin:
                self.sign = 1 if self.x < ASPECT / 2 else -1
            elif abs(away) > self.range_x:
                self.sign = int(math.copysign(1, away))
        self.x += self.sign * self.speed * self.height / STEP_HZ * self.yaw
        self.leg_phase += 2 * math.pi * self.speed / STEP_HZ * 1.6
        self.facing += (self.sign * self.yaw - self.facing) * 0.25


def _joints(aim: Target) -> NDArray[np.float64]:
    """The joints of a posture, in the order of :attr:`Ground.joints`."""
    return np.array(
        [aim.tilt * _DEGREES, aim.neck1 * _DEGREES, aim.neck2 * _DEGREES, aim.head * _DEGREES, aim.bill,
         aim.wing_open, aim.wing_angle * _DEGREES, aim.leg_amp, aim.leg_tuck]
    )  # fmt: skip


def stand(rng: np.random.Generator, x: float, y: float, height: float, range_x: float) -> Ground:
    """A bird that stands at ``x`` and keeps within ``range_x`` of it."""
    sign = int(rng.choice([-1, 1]))
    yaw = float(rng.uniform(0.65, 1.0))
    phase = float(rng.uniform(0, 6))
    return Ground(x, y, height, yaw, sign, x, range_x, _joints(Target()), sign * yaw, phase)


def _air_poses(
    x: NDArray[np.float64],
    ground_y: float,
    lift: NDArray[np.float64],
    facing: float,
    phase: float,
    rate: float,
    flap: NDArray[np.float64],
    landed: NDArray[np.float64],
) -> Track:
    """Poses in the air; ``flap`` scales the beats and ``landed`` (0 to 1) brings the legs and neck down."""
    count = x.shape[0]
    beat = 2 * np.pi * rate * np.arange(count) / STEP_HZ + phase
    poses = np.zeros((count, POSE_SIZE), np.float32)
    columns: dict[str, float | NDArray[np.float64]] = {
        "x": x, "y": ground_y, "facing": facing, "bill": 1.0,
        "lift": lift + 0.04 * np.sin(beat) * flap * (1 - landed), "tilt": _DEGREES * (3 + 30 * landed),
        "neck1": _DEGREES * (8 + 42 * landed), "neck2": _DEGREES * (3 + 55 * landed),
        "head": _DEGREES * (-3 - 7 * landed), "wing_open": np.clip(3.0 * (1 - landed), 0, 1),
        "wing_angle": _DEGREES * (12 + 12 * landed + 46 * np.sin(beat) * flap),
        "leg_trail": np.clip(1 - 1.3 * landed, 0, 1),
    }  # fmt: skip
    for name, values in columns.items():
        poses[:, Pose._fields.index(name)] = values
    return Track(poses, np.full(count, FLIGHT, np.int8))


def _beats(rng: np.random.Generator, count: int) -> tuple[float, float, NDArray[np.float64]]:
    """Phase, rate and strength of the wing beats: flapping with glides between, or gliding throughout."""
    phase, rate = float(rng.uniform(0, 6.28)), float(rng.uniform(1.8, 2.9))
    tau = np.arange(count) / STEP_HZ
    flap = np.where(np.sin(0.8 * tau + phase) > 0.75, 0.15, 1.0)
    if rng.random() < 0.15:
        flap = np.full(count, 0.2)
    kernel = np.ones(9) / 9
    return phase, rate, np.convolve(np.pad(flap, 4, mode="edge"), kernel, mode="valid")


def fly_past(
    rng: np.random.Generator,
    height: float,
    ground_y: float,
    altitude_y: float,
    heading: int,
    speed: float,
    lag: float,
) -> Track:
    """Cross the frame at ``speed`` (frame heights a second), setting out ``lag`` frame heights later."""
    margin = 1.1 * height
    count = max(2, round((ASPECT + 2 * margin + lag) / speed * STEP_HZ))
    tau = np.arange(count) / STEP_HZ
    start = -margin - lag if heading > 0 else ASPECT + margin + lag
    x = start + heading * speed * tau
    climb = float(rng.normal(0, 0.10)) * height
    lift = (ground_y - altitude_y + climb * tau) / height - 0.48
    phase, rate, flap = _beats(rng, count)
    facing = heading * float(rng.uniform(0.8, 1.0))
    return _air_poses(x, ground_y, lift, facing, phase, rate, flap, np.zeros(count))


def land(rng: np.random.Generator, x: float, y: float, height: float, heading: int) -> Track:
    """Come in from outside the frame and touch down at ``x``."""
    speed = float(rng.uniform(2.2, 4.0)) * height
    distance = (x if heading > 0 else ASPECT - x) + 1.1 * height
    to_go = np.arange(1, 60 * STEP_HZ) / STEP_HZ
    brake = 0.7
    travelled = speed * (to_go - brake * (1 - np.exp(-to_go / brake)))
    count = int(np.searchsorted(travelled, distance)) + 1
    to_go, travelled = to_go[:count][::-1], travelled[:count][::-1]
    slope = float(rng.uniform(0.16, 0.34))
    lift = slope * travelled / height + 0.15 * np.clip(to_go, 0, 1)
    landed = np.clip(1 - to_go / 0.9, 0, 1)
    phase, rate, flap = _beats(rng, count)
    flap = np.where(to_go < 1.5, 1.0, flap)
    facing = heading * float(rng.uniform(0.8, 1.0))
    return _air_poses(x - heading * travelled, y, lift, facing, phase, rate, flap, landed)


def take_off(rng: np.random.Generator, x: float, y: float, height: float, heading: int) -> Track:
    """Leave the ground at ``x`` and fly out of the frame."""
    arrival = land(rng, x, y, height, -heading)
    poses = arrival.poses[::-1].copy()
    poses[:, Pose._fields.index("facing")] *= -1  # The same path backwards, but with the bill ahead.
    return Track(poses, arrival.labels)
