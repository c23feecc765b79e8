"""Who is there: the birds of one camera over all its recordings, planned so that shares are nature's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workers.simulate.behaviour import FEEDING, FLIGHT, MAINTENANCE, SOCIAL, VIGILANCE, WALK, Bout, make_bout
from workers.simulate.bird import Colour, Pose, plumage
from workers.simulate.motion import ASPECT, STEP_HZ, Ground, Track, fly_past, join, land, stand, take_off
from workers.simulate.scenery import LARGEST_BIRD, SMALLEST_BIRD, Scenery
from workers.simulate.schedule import Episode, Stay, place_social, plan_stays

SHARES = {MAINTENANCE: 0.337, FEEDING: 0.313, VIGILANCE: 0.188, WALK: 0.066, FLIGHT: 0.063, SOCIAL: 0.033}
"""Shares of labelled bird-time, as observed in wintering cranes (AviaTAD-LGH, Sensors 2026, 26, 2088)."""
_MEAN_BOUT_S = {FEEDING: 14.0, VIGILANCE: 7.0, MAINTENANCE: 14.0, WALK: 4.0}


@dataclass(frozen=True, slots=True, eq=False)
class Bird:
    """One individual and all it does, from its first pose to its last."""

    individual_id: int
    height: float
    """Standing height, frame heights."""
    y: float
    """Ground line at its depth; larger is nearer."""
    colours: dict[str, Colour]
    first_step: int
    """Index of its first pose on the camera's 30 Hz clock."""
    track: Track

    def pose_at(self, time_s: float) -> Pose | None:
        """Its pose at a moment of the camera's time, between two steps if need be; None when it is away."""
        position = time_s * STEP_HZ - self.first_step
        count = self.track.poses.shape[0]
        if position < -1e-6 or position > count - 1 + 1e-6:
            return None
        low = min(int(position + 1e-6), count - 1)
        share = position - low
        if share < 1e-5 or low + 1 >= count:
            return Pose(*self.track.poses[low].tolist())
        mixed = self.track.poses[low] * (1 - share) + self.track.poses[low + 1] * share
        return Pose(*mixed.tolist())

    def label_at(self, time_s: float) -> int:
        """Label id at a moment at which it has a pose."""
        step = int(time_s * STEP_HZ - self.first_step + 1e-6)
        return int(self.track.labels[min(max(step, 0), self.track.labels.shape[0] - 1)])


class Ledger:
    """Keeps the shares of behaviours over all birds of a camera close to nature's."""

    def __init__(self) -> None:
        self.spent_s = dict.fromkeys(SHARES, 0.0)

    def enter(self, track: Track) -> Track:
        """Book a finished stretch."""
        for label, count in zip(*np.unique(track.labels, return_counts=True), strict=True):
            self.spent_s[int(label)] += float(count) / STEP_HZ
        return track

    def choose(self, rng: np.random.Generator) -> tuple[int, float]:
        """The next behaviour on the ground and its duration in seconds."""
        labels = list(_MEAN_BOUT_S)
        shares = np.array([SHARES[label] for label in labels])
        shares /= shares.sum()
        means = np.array([_MEAN_BOUT_S[label] for label in labels])
        spent = np.array([self.spent_s[label] for label in labels])
        missing = np.clip((shares * (spent.sum() + 10.0) - spent) / means, -2.0, 2.0)
        weights = shares / means * np.exp(1.2 * missing)
        label = labels[int(rng.choice(len(labels), p=weights / weights.sum()))]
        mean = _MEAN_BOUT_S[label]
        return label, float(np.clip(rng.exponential(mean), 0.3 * mean, 2.5 * mean))


def gather(
    rng: np.random.Generator, scenery: Scenery, total_s: float, episodes: tuple[Episode, ...], crowd: int,
    switch_s: float, social_boost: float, first_id: int,
) -> tuple[Bird, ...]:  # fmt: skip
    """All birds of one camera over ``total_s`` seconds.

    Args:
        rng: the camera's own generator.
        scenery: where they are.
        total_s: length of all recordings together.
        episodes: when birds are there at all.
        crowd: about how many are on the ground at once.
        switch_s: when the second recording starts; some birds rest until then.
        social_boost: multiplies the time of social behaviour.
        first_id: individuals are numbered from here.
    """
    ledger = Ledger()
    stays = plan_stays(rng, scenery, episodes, crowd, total_s, switch_s)
    ground_s = sum(stay.stop_s - stay.start_s for stay in stays)
    social_s = SHARES[SOCIAL] / (1 - SHARES[FLIGHT]) * social_boost * ground_s
    dates = place_social(rng, stays, social_s)
    birds = []
    # Sleepers first: what they spend is then made up for by the others.
    for stay in sorted(stays, key=lambda stay: -stay.rests_until_s):
        bouts = [(start, stop, form, partner) for start, stop, form, partner in dates.get(stay.slot, ())]
        height = float(
            np.clip(scenery.height_at(stay.y) * rng.uniform(0.95, 1.05), SMALLEST_BIRD, LARGEST_BIRD)
        )
        track = _live(rng, stay, height, bouts, ledger)
        first = round(stay.start_s * STEP_HZ)
        if stay.arrives:
            first -= _arrival_steps(track)
        birds.append((height, stay.y, first, track))
    ground_time = sum(track.labels.shape[0] for _, _, _, track in birds) / STEP_HZ
    missing_s = (
        SHARES[FLIGHT] / (1 - SHARES[FLIGHT]) * (ground_time - ledger.spent_s[FLIGHT])
        - ledger.spent_s[FLIGHT]
    )
    birds += _passes(rng, scenery, episodes, total_s, missing_s)
    birds += [_fly_through(rng, scenery, episode) for episode in episodes if episode.flown]
    return tuple(
        Bird(first_id + k, height, y, plumage(rng, scenery.species, bool(rng.random() < 0.18)), first, track)
        for k, (height, y, first, track) in enumerate(birds)
    )


def _fly_through(
    rng: np.random.Generator, scenery: Scenery, episode: Episode
) -> tuple[float, float, int, Track]:
    """One bird that crosses the picture within an episode."""
    height = float(np.clip(rng.uniform(scenery.far_height, scenery.near_height), SMALLEST_BIRD, 66 / 216))
    speed = (ASPECT + 1.2 * height) / (episode.stop_s - episode.start_s)
    altitude, heading = float(rng.uniform(0.08, scenery.horizon + 0.15)), int(rng.choice([-1, 1]))
    y = scenery.depth_of(height)
    track = fly_past(rng, height, y, altitude, heading, speed, 0.0)
    return height, y, round(episode.start_s * STEP_HZ), track


def _arrival_steps(track: Track) -> int:
    """How long the way in lasts: flown, else walked."""
    away = np.flatnonzero(track.labels != track.labels[0])
    return int(away[0]) if track.labels[0] == FLIGHT and away.size else 0


def _live(
    rng: np.random.Generator, stay: Stay, height: float,
    dates: list[tuple[float, float, str, float]], ledger: Ledger,
) -> Track:  # fmt: skip
    """Act out one stay: the way in, bouts with the social ones at their times, the way out."""
    bird = stand(rng, stay.x, stay.y, height, stay.range_x)
    pieces: list[Track] = []
    clock = stay.start_s
    if stay.arrives == "fly":
        heading = 1 if rng.random() < 0.5 else -1
        pieces.append(ledger.enter(land(rng, stay.x, stay.y, height, heading)))
        bird.sign, bird.facing = heading, heading * bird.yaw
        bird.joints[1:3] = np.radians((50, 58))
        bird.settled = True
    elif stay.arrives == "walk":
        pieces.append(ledger.enter(_walk_in(rng, bird)))
        clock += pieces[-1].labels.shape[0] / STEP_HZ
    for start, stop, form, partner in [*dates, (stay.stop_s, stay.stop_s, "", 0.0)]:
        while clock < start - 0.5 / STEP_HZ:
            pieces.append(ledger.enter(bird.perform(_next_bout(rng, stay, clock, start, ledger), rng)))
            clock += pieces[-1].labels.shape[0] / STEP_HZ
        if stop > start and stop > clock:
            bout = make_bout(rng, SOCIAL, stop - clock, form, partner)
            pieces.append(ledger.enter(bird.perform(bout, rng)))
            clock += pieces[-1].labels.shape[0] / STEP_HZ
    if stay.leaves == "fly":
        heading = bird.sign
        pieces.append(ledger.enter(take_off(rng, bird.x, stay.y, height, heading)))
    elif stay.leaves == "walk":
        pieces.append(ledger.enter(_walk_out(rng, bird)))
    return join(pieces)


def _next_bout(rng: np.random.Generator, stay: Stay, clock: float, until: float, ledger: Ledger) -> Bout:
    if clock < stay.rests_until_s:
        return make_bout(rng, MAINTENANCE, min(stay.rests_until_s, until) - clock, "rest")
    label, duration = ledger.choose(rng)
    left = until - clock
    # No scrap of a second is left over before an appointment.
    return make_bout(rng, label, left if left < duration + 1.5 else duration)


def _walk_in(rng: np.random.Generator, bird: Ground) -> Track:
    """Walk from outside the nearer edge to the bird's place."""
    heading = 1 if bird.x < ASPECT / 2 else -1
    goal = bird.x
    bird.x = -0.8 * bird.height if heading > 0 else ASPECT + 0.8 * bird.height
    bird.sign, bird.facing = heading, heading * bird.yaw
    bout = make_bout(rng, WALK, 1.0)
    pace = bout.speed * bird.height * bird.yaw
    bout = make_bout(rng, WALK, 0.4 + abs(goal - bird.x) / pace, bout.form)
    return bird.perform(bout, rng, heading)


def _walk_out(rng: np.random.Generator, bird: Ground) -> Track:
    """Walk out over the nearer edge."""
    heading = -1 if bird.x < ASPECT / 2 else 1
    distance = (bird.x if heading < 0 else ASPECT - bird.x) + 0.6 * bird.height
    bout = make_bout(rng, WALK, 1.0)
    pace = bout.speed * bird.height * bird.yaw
    return bird.perform(make_bout(rng, WALK, 0.6 + distance / pace, bout.form), rng, heading)


def _passes(
    rng: np.random.Generator, scenery: Scenery, episodes: tuple[Episode, ...], total_s: float, wanted_s: float
) -> list[tuple[float, float, int, Track]]:
    """Groups that fly through until they add up to ``wanted_s``; some cross an otherwise empty scene."""
    birds: list[tuple[float, float, int, Track]] = []
    flown_s = 0.0
    lengths = np.array([episode.stop_s - episode.start_s for episode in episodes])
    while flown_s < wanted_s:
        episode = episodes[int(rng.choice(len(episodes), p=lengths / lengths.sum()))]
        low_s, high_s = episode.start_s, episode.stop_s
        if not episode.open_start and rng.random() < 0.25:
            low_s, high_s = 0.0, total_s
        start_s = float(rng.uniform(low_s, max(low_s + 0.1, high_s - 2.5)))
        size = float(np.clip(rng.uniform(scenery.far_height, scenery.near_height), SMALLEST_BIRD, 66 / 216))
        heading = int(rng.choice([-1, 1]))
        body_lengths_per_keyframe = float(np.exp(rng.uniform(np.log(0.4), np.log(2.8))))
        # Nothing crosses the frame in much less than a second and a half.
        speed = min(body_lengths_per_keyframe * size * 3.75, (ASPECT + 1.0 * size) / 1.4)
        low = rng.random() < 0.3
        altitude = float(
            rng.uniform(scenery.horizon + 0.05, 0.75) if low else rng.uniform(0.08, scenery.horizon + 0.15)
        )
        for k in range(int(rng.choice([1, 2, 3, 4], p=[0.48, 0.28, 0.16, 0.08]))):
            height = float(np.clip(size * rng.uniform(0.94, 1.06), SMALLEST_BIRD, LARGEST_BIRD))
            y = scenery.depth_of(height)
            lag = k * float(rng.uniform(0.9, 1.6)) * height
            own = altitude + float(rng.normal(0, 0.45)) * height * (k > 0)
            birds.append(
                (height, y, round(start_s * STEP_HZ), fly_past(rng, height, y, own, heading, speed, lag))
            )
            flown_s += (ASPECT + 1.2 * height) / speed
    return birds
