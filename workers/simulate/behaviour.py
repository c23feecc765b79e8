"""How each behaviour moves a bird: the posture it aims at, moment by moment.

Angles here are degrees and times are seconds since the start of the bout. Behaviours share postures on
purpose: a head raised for less than a second belongs to feeding, a drowsy bird stands almost like a watchful
one, a bird that feeds while stepping moves its legs less than one that walks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

FEEDING, VIGILANCE, SOCIAL, MAINTENANCE, WALK, FLIGHT = range(1, 7)
"""Label ids, as in the crane ethogram."""
LABEL_NAMES = {1: "feeding", 2: "vigilance", 3: "social", 4: "maintenance", 5: "walk", 6: "flight"}
LONGEST_HEAD_RAISE_S = 1.0
"""A head raised for longer inside feeding is vigilance."""

FORMS: dict[int, tuple[tuple[str, float], ...]] = {
    FEEDING: (("stand", 0.45), ("step", 0.30), ("probe", 0.25)),
    VIGILANCE: (("scan", 0.55), ("step", 0.45)),
    SOCIAL: (("bow", 0.35), ("jump", 0.30), ("chase", 0.18), ("call", 0.17)),
    MAINTENANCE: (
        ("preen_back", 0.34),
        ("preen_breast", 0.17),
        ("stretch", 0.10),
        ("rest", 0.31),
        ("drowse", 0.08),
    ),
    WALK: (("upright", 0.6), ("low", 0.4)),
}
"""Sub-forms of each behaviour on the ground, with their shares."""


class Target(NamedTuple):
    """The posture a bird aims at."""

    tilt: float = 6.0
    neck1: float = 60.0
    neck2: float = 60.0
    head: float = -10.0
    bill: float = 1.0
    wing_open: float = 0.0
    wing_angle: float = 20.0
    leg_amp: float = 0.0
    leg_tuck: float = 0.0
    speed: float = 0.0
    """Bird heights per second."""
    lift: float = 0.0
    gain: float = 0.2
    """Share of the remaining difference that is closed in one thirtieth of a second."""


class HeadRaise(NamedTuple):
    """An interruption of feeding."""

    start_s: float
    end_s: float
    alert: bool
    """Fully upright, or only half up."""


@dataclass(frozen=True, slots=True)
class Bout:
    """One stretch of one behaviour of one bird, with everything that is random about it."""

    label: int
    form: str
    duration_s: float
    rate: float
    phase: float
    offsets: tuple[float, float, float]
    """Small differences of the neck's joints, degrees."""
    preen_rate: float
    amplitude: float
    one_legged: bool
    speed: float
    raises: tuple[HeadRaise, ...] = ()
    pecking: tuple[bool, ...] = ()
    """Whether it pecks, per 1.5 s of the bout."""
    looks: tuple[float, ...] = ()
    """How much of the bill is seen, per 1.2 s of the bout."""
    partner_x: float | None = field(default=None)
    """Where the partner of a social bout stands."""

    def raise_at(self, tau: float) -> HeadRaise | None:
        """The head raise going on at ``tau``."""
        return next((r for r in self.raises if r.start_s <= tau < r.end_s), None)

    def label_at(self, tau: float) -> int:
        """The true label at ``tau``: long alert head raises inside feeding are vigilance."""
        up = self.raise_at(tau) if self.label == FEEDING else None
        if up is not None and up.alert and up.end_s - up.start_s > LONGEST_HEAD_RAISE_S:
            return VIGILANCE
        return self.label


def _head_raises(rng: np.random.Generator, duration_s: float) -> tuple[HeadRaise, ...]:
    raises = []
    at = float(rng.exponential(7.0)) + 1.0
    while at < duration_s - 3.0:
        alert = bool(rng.random() < 0.6)
        length = rng.uniform(1.2, 2.6) if alert and rng.random() < 0.25 else rng.uniform(0.4, 0.95)
        raises.append(HeadRaise(at, at + float(length), alert))
        at += float(length + 1.0 + rng.exponential(8.0))
    return tuple(raises)


def make_bout(
    rng: np.random.Generator,
    label: int,
    duration_s: float,
    form: str | None = None,
    partner_x: float | None = None,
) -> Bout:
    """Draw what is random about one bout; the form too unless given."""
    if form is None:
        names, shares = zip(*FORMS[label], strict=True)
        form = str(names[int(rng.choice(len(names), p=shares))])
    feeding = label == FEEDING
    return Bout(
        label=label, form=form, duration_s=duration_s,
        rate=float(rng.uniform(1.2, 2.6)), phase=float(rng.uniform(0, 2 * math.pi)),
        offsets=tuple(float(v) for v in rng.normal(0, 6, 3)),  # type: ignore[arg-type]
        preen_rate=float(rng.uniform(2.5, 4.5)), amplitude=float(rng.uniform(0.5, 1.0)),
        one_legged=bool(rng.random() < 0.5), speed=float(rng.uniform(0.28, 0.66)),
        raises=_head_raises(rng, duration_s) if feeding else (),
        pecking=tuple(bool(v) for v in rng.random(int(duration_s / 1.5) + 1) < 0.72) if feeding else (),
        looks=tuple(
            float(v) for v in rng.choice([1.0, 0.6, 0.15, -0.6, -1.0], int(duration_s / 1.2) + 1,
                                         p=[0.4, 0.2, 0.15, 0.1, 0.15])
        ) if label == VIGILANCE else (),
        partner_x=partner_x,
    )  # fmt: skip


def _wave(rate_hz: float, tau: float, phase: float) -> float:
    return math.sin(2 * math.pi * rate_hz * tau + phase)


def _feeding(bout: Bout, tau: float, leg_phase: float) -> Target:
    o1, o2, o3 = bout.offsets
    speed = leg_amp = 0.0
    if bout.form == "step":
        speed = 0.5 * bout.speed * max(0.0, math.sin(0.9 * tau + bout.phase) + 0.4) / 1.2
        leg_amp = 0.6 * min(1.0, speed / 0.12)
    up = bout.raise_at(tau)
    if up is not None:
        if up.alert:
            return Target(4, 68 + 0.5 * o1, 78 + 0.5 * o2, -8, speed=speed, leg_amp=leg_amp, gain=0.22)
        return Target(-6, 12 + o1, 8 + o2, -22, speed=speed, leg_amp=leg_amp, gain=0.22)
    if bout.pecking[min(int(tau / 1.5), len(bout.pecking) - 1)]:
        peck = 0.5 - 0.5 * math.cos(2 * math.pi * bout.rate * tau + bout.phase)
    else:
        peck = 0.25 + 0.1 * math.sin(2 * tau + bout.phase)
    neck1 = -27 + o1 - 11 * peck
    neck2 = -66 + o2 - 14 * peck + 18 * (1 - peck)
    if bout.form == "probe":
        neck1 += 8 * math.sin(1.3 * tau + bout.phase)
        neck2 += 14 * math.sin(1.7 * tau)
    return Target(-14, neck1, neck2, -80 + o3 + 25 * (1 - peck), speed=speed, leg_amp=leg_amp, gain=0.35)


def _vigilance(bout: Bout, tau: float, leg_phase: float) -> Target:
    o1, o2, o3 = bout.offsets
    look = bout.looks[min(int(tau / 1.2), len(bout.looks) - 1)]
    moving = bout.form == "step" and math.sin(0.5 * tau + bout.phase) > 0.9
    head = -4 + 0.5 * o3 + 3 * math.sin(1.1 * tau + bout.phase)
    return Target(14, 76 + 0.6 * o1, 86 + 0.6 * o2, head, look,
                  speed=0.12 if moving else 0.0, leg_amp=0.4 if moving else 0.0)  # fmt: skip


def _maintenance(bout: Bout, tau: float, leg_phase: float) -> Target:
    o1, o2, o3 = bout.offsets
    tuck = 0.6 if bout.one_legged else 0.0
    pause = 1.0 if math.sin(0.9 * tau + bout.phase) > -0.5 else 0.1
    nibble = _wave(bout.preen_rate, tau, bout.phase) * pause * bout.amplitude
    if bout.form == "preen_breast":
        return Target(6, 58 + o1, -92 + o2 + 9 * nibble, -145 + o3 + 22 * nibble, gain=0.5)
    if bout.form == "rest":
        breath = 1.5 * math.sin(1.5 * tau)
        return Target(4, 108 + 0.5 * o1, 208 + 0.5 * o2 + breath, 204 + 0.5 * o3, bill=0.35, leg_tuck=tuck)
    if bout.form == "drowse":
        return Target(6, 122 + o1, 58 + o2, -25 + o3, leg_tuck=tuck)
    stretch = max(0.0, math.sin(1.6 * tau + bout.phase)) if bout.form == "stretch" else 0.0
    if stretch > 0.0:
        beat = 55 + 28 * _wave(4.5, tau, 0.0) * stretch
        return Target(8, 50, 50, -10, wing_open=0.75 * min(1.0, 2 * stretch), wing_angle=beat, gain=0.5)
    sweep = 12 * math.sin(1.1 * tau + bout.phase)
    return Target(6, 105 + o1, 206 + o2 + 11 * nibble + sweep, 246 + o3 + 22 * nibble, gain=0.5)


def _walk(bout: Bout, tau: float, leg_phase: float) -> Target:
    o1, o2, o3 = bout.offsets
    bob = math.sin(2 * leg_phase)
    neck1, neck2 = (66.0, 74.0) if bout.form == "upright" else (38.0, 48.0)
    return Target(
        6, neck1 + o1 + 5 * bob, neck2 + o2 - 6 * bob, -12 + o3, speed=bout.speed, leg_amp=1.0, gain=0.35
    )


def _social(bout: Bout, tau: float, leg_phase: float) -> Target:
    if bout.form == "bow":
        up = 0.5 + 0.5 * _wave(0.34 * bout.rate, tau, bout.phase)
        neck = (-25 + 105 * up, -55 + 135 * up, -60 + 75 * up)
        flutter = 40 + 15 * math.sin(9 * tau)
        return Target(-10 + 25 * up, *neck, wing_open=0.45 * (1 - up) + 0.1, wing_angle=flutter, gain=0.3)
    if bout.form == "jump":
        leap = max(0.0, _wave(0.7, tau, bout.phase))
        return Target(22, 70, 60 + 25 * leap, 10, wing_open=0.85, leg_amp=0.4, lift=0.45 * leap, gain=0.5,
                      wing_angle=25 + 45 * _wave(2.2, tau, bout.phase))  # fmt: skip
    if bout.form == "chase":
        running = 1.0 if math.sin(2.2 * tau + bout.phase) > -0.6 else 0.2
        return Target(0, 22, 8, -8, wing_open=0.5, wing_angle=45 + 22 * _wave(3.0, tau, 0.0),
                      leg_amp=1.1, speed=1.1 * running, gain=0.4)  # fmt: skip
    pump = _wave(1.3, tau, bout.phase)
    return Target(20, 84, 94 + 7 * pump, 62 + 16 * pump, wing_open=0.18, wing_angle=30, gain=0.5)


_POSTURES: dict[int, Callable[[Bout, float, float], Target]] = {
    FEEDING: _feeding,
    VIGILANCE: _vigilance,
    SOCIAL: _social,
    MAINTENANCE: _maintenance,
    WALK: _walk,
}


def target(bout: Bout, tau: float, leg_phase: float) -> Target:
    """The posture of a bout ``tau`` seconds after its start; ``leg_phase`` couples the head to the steps."""
    return _POSTURES[bout.label](bout, tau, leg_phase)
