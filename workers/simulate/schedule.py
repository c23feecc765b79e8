"""When birds are there: episodes, stays on the ground, and the appointments of pairs."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Literal

import numpy as np

from workers.simulate.behaviour import FORMS, SOCIAL
from workers.simulate.motion import ASPECT
from workers.simulate.scenery import Scenery

Way = Literal["", "walk", "fly"]
_EPISODE_S = (2.0, 60.0)
"""Shortest and longest episode of those that are strewn."""
_FLOWN_S = 5.0
"""In shorter ones nobody lands."""


@dataclass(frozen=True, slots=True)
class Episode:
    """A stretch of the camera's time in which birds are there."""

    start_s: float
    stop_s: float
    open_start: bool
    """The birds were there before the first recording."""
    open_stop: bool
    flown: bool = False
    """Birds only fly through."""


@dataclass(frozen=True, slots=True)
class Stay:
    """One individual's time on the ground in front of one camera."""

    slot: int
    x: float
    y: float
    range_x: float
    """How far it wanders."""
    start_s: float
    stop_s: float
    arrives: Way
    """How it comes; empty when it is there from the start."""
    leaves: Way
    rests_until_s: float
    """It sleeps until then."""
    partner: int | None
    """Slot of its mate."""


def plan_episodes(
    rng: np.random.Generator, total_s: float, share: float | None = None
) -> tuple[Episode, ...]:
    """Short archives are mostly busy throughout; long ones have long empty stretches.

    With ``share`` episodes of all lengths are strewn over the time, of which they take about that share, coming and
    going of the birds left out.
    """
    if share is not None:
        return _strewn(rng, total_s, share)
    busy = 0.85 if total_s < 400 else 0.2
    if rng.random() < busy:
        return (Episode(0.0, total_s, True, True),)
    episodes: list[Episode] = []
    longest = 0.3 * total_s if total_s < 400 else 240.0
    at = float(rng.uniform(0.02, 0.2)) * min(total_s, 900.0)
    while at < total_s - 8.0 or not episodes:
        length = float(rng.uniform(0.35, 1.0)) * longest
        stop = at + length
        # An episode that reaches the end goes on after it; a too short remainder is not begun.
        episodes.append(Episode(at, min(stop, total_s), False, stop >= total_s))
        at = stop + float(rng.uniform(0.8, 4.0)) * longest
    return tuple(episodes)


def _strewn(rng: np.random.Generator, total_s: float, share: float) -> tuple[Episode, ...]:
    low, high = np.log(_EPISODE_S)
    mean_s = (_EPISODE_S[1] - _EPISODE_S[0]) / (high - low)
    episodes: list[Episode] = []
    at = 0.0
    while True:
        at += float(rng.uniform(0.4, 1.6)) * mean_s * (1 - share) / share
        length = float(np.exp(rng.uniform(low, high)))
        if at + length > total_s:
            return tuple(episodes) or (Episode(0.4 * total_s, 0.6 * total_s, False, False),)
        episodes.append(Episode(at, at + length, False, False, length < _FLOWN_S))
        at += length


def plan_stays(
    rng: np.random.Generator, scenery: Scenery, episodes: tuple[Episode, ...], crowd: int, total_s: float,
    switch_s: float,
) -> tuple[Stay, ...]:  # fmt: skip
    """Places and times of all birds on the ground."""
    stays: list[Stay] = []
    for episode in episodes:
        if episode.flown:
            continue
        count = crowd if episode.open_start else max(1, int(rng.integers(1, crowd + 1)))
        places = (rng.permutation(count) + rng.uniform(0.2, 0.8, count)) / count
        k = 0
        while k < count:
            x = float(0.08 + places[k] * (ASPECT - 0.16))
            y = float(scenery.far_y + rng.random() ** 0.8 * (scenery.near_y - scenery.far_y))
            if k + 1 < count and rng.random() < 0.45:
                stays += _pair(rng, scenery, episode, len(stays), x, y)
                k += 2
            else:
                stays += _single(rng, episode, len(stays), x, y, total_s, switch_s)
                k += 1
    return tuple(stays)


def _pair(
    rng: np.random.Generator, scenery: Scenery, episode: Episode, slot: int, x: float, y: float
) -> list[Stay]:
    """Two mates that come, stay and leave together."""
    height = scenery.height_at(y)
    gap = float(rng.choice([-1, 1]) * rng.uniform(0.9, 1.4)) * height
    mate_x = float(np.clip(x + gap, 0.1, ASPECT - 0.1))
    mate_y = float(np.clip(y + rng.normal(0, 0.015), scenery.far_y, scenery.near_y))
    start, stop, arrives, leaves = _span(rng, episode)
    return [
        Stay(slot, x, y, 0.8 * height, start, stop, arrives, leaves, 0.0, slot + 1),
        Stay(slot + 1, mate_x, mate_y, 0.8 * height, start, stop, arrives, leaves, 0.0, slot),
    ]


def _span(rng: np.random.Generator, episode: Episode) -> tuple[float, float, Way, Way]:
    """Arrive within the first seconds of an episode, leave within its last, unless it is open."""
    length = episode.stop_s - episode.start_s
    ways: tuple[Way, Way] = ("walk", "fly")
    start, stop = episode.start_s, episode.stop_s
    arrives: Way = ""
    leaves: Way = ""
    if not episode.open_start:
        arrives = ways[int(rng.random() < 0.5)]
        start += float(rng.uniform(0, 0.2)) * length
    if not episode.open_stop:
        leaves = ways[int(rng.random() < 0.5)]
        stop -= float(rng.uniform(0.05, 0.25)) * length
    return start, stop, arrives, leaves


def _single(
    rng: np.random.Generator, episode: Episode, slot: int, x: float, y: float, total_s: float, switch_s: float
) -> list[Stay]:
    """A bird on its own: there all along, asleep, or replaced by another in mid-episode."""
    start, stop, arrives, leaves = _span(rng, episode)
    range_x = float(rng.uniform(0.15, 0.6))
    draw = rng.random()
    if episode.open_start and episode.open_stop and draw < 0.16:
        until = total_s if rng.random() < 0.5 else switch_s
        return [Stay(slot, x, y, range_x, start, stop, "", "", until, None)]
    if draw < 0.55 or stop - start < 24.0:
        return [Stay(slot, x, y, range_x, start, stop, arrives, leaves, 0.0, None)]
    ways: tuple[Way, Way] = ("walk", "fly")
    middle = float(rng.uniform(0.25, 0.7)) * (stop - start) + start
    first = Stay(slot, x, y, range_x, start, middle, arrives, ways[int(rng.random() < 0.6)], 0.0, None)
    again = middle + float(rng.uniform(6.0, 0.35 * (stop - start)))
    if again > stop - 6.0:
        return [first]
    other_x = float(rng.uniform(0.12, ASPECT - 0.12))
    return [
        first,
        Stay(slot + 1, other_x, y, range_x, again, stop, ways[int(rng.random() < 0.5)], leaves, 0.0, None),
    ]


Appointment = tuple[float, float, str, float]
"""Start, stop, form and the partner's place."""


def place_social(
    rng: np.random.Generator, stays: tuple[Stay, ...], wanted_s: float
) -> dict[int, list[Appointment]]:
    """Appointments of mates, about ``wanted_s`` bird-seconds, at most 60 % of any pair's time."""
    dates: dict[int, list[Appointment]] = defaultdict(list)
    pairs = [stay for stay in stays if stay.partner is not None and stay.partner > stay.slot]
    booked = 0.0
    names, shares = zip(*FORMS[SOCIAL], strict=True)
    room = {stay.slot: 0.6 * (stay.stop_s - stay.start_s) for stay in pairs}
    for _ in range(40 * len(pairs)):
        if booked >= wanted_s or not pairs:
            break
        stay = pairs[int(rng.integers(len(pairs)))]
        length = float(rng.uniform(3.0, 7.0))
        # The last appointment is shortened rather than overshooting by several seconds.
        length = max(2.0, min(length, (wanted_s - booked) / 2))
        lead = 12.0 if stay.arrives == "walk" else 1.0
        if stay.stop_s - stay.start_s < lead + length + 1.0 or room[stay.slot] < length:
            continue
        start = float(rng.uniform(stay.start_s + lead, stay.stop_s - length - 0.5))
        if any(start < stop + 2.0 and start + length > begin - 2.0 for begin, stop, _, _ in dates[stay.slot]):
            continue
        mate = next(other for other in stays if other.slot == stay.partner)
        form = str(names[int(rng.choice(len(names), p=shares))])
        dates[stay.slot].append((start, start + length, form, mate.x))
        dates[mate.slot].append((start, start + length, form, stay.x))
        room[stay.slot] -= length
        booked += 2 * length
    return {slot: sorted(times) for slot, times in dates.items()}
