"""A simulated reserve in memory: its cameras, and any frame of them at any time, without encoding."""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.simulate import draw
from workers.simulate.backdrop import paint_backdrop, water_share
from workers.simulate.bird import Colour, bird_shapes
from workers.simulate.camera import Optics, Sensor, burn_clock, choose_optics
from workers.simulate.cast import Bird, gather
from workers.simulate.motion import ASPECT
from workers.simulate.movers import MOVER_COLOURS, Mover, MoverKind
from workers.simulate.scenery import LightName, SceneName, Scenery, choose_scenery
from workers.simulate.schedule import plan_episodes
from workers.simulate.vegetation import Glitter, Reeds, grow_reeds

INDIVIDUALS_PER_CAMERA = 100_000
"""Individual ids of camera ``c`` start at ``c`` times this, plus 1."""
SCENE_DECK: tuple[SceneName, ...] = ("marsh",) * 5 + ("forest",) * 2 + ("night",) * 3
"""Scenes of ten cameras."""
_MOVER_SIZES: dict[MoverKind, tuple[float, float, float]] = {
    "deer": (0.95, 0.5, 1.6),
    "boat": (0.75, 0.4, 0.9),
    "person": (1.25, 0.5, 0.9),
}
"""Height against a bird's at the same place, and least and greatest speed in own heights a second."""
_CROWDS = (0.03, 0.05, 0.12, 0.16, 0.18, 0.18, 0.16, 0.12)
"""How often 1 to 8 birds are on the ground at once."""
_START_HOURS: dict[LightName, tuple[float, ...]] = {
    "day": (8.0, 15.0),
    "dawn": (6.0, 7.0),
    "infrared": (1.0, 4.0),
}


@dataclass(frozen=True, slots=True, eq=False)
class Camera:
    """One fixed camera, everything that it will see, and when."""

    name: str
    seed: int
    number: int
    start_time: dt.datetime
    """UTC start of the first recording."""
    seconds: float
    """Length of each recording."""
    recordings: int
    scenery: Scenery
    optics: Optics
    birds: tuple[Bird, ...]
    movers: tuple[Mover, ...]
    reeds: tuple[Reeds, ...]
    glitter: float

    @property
    def total_s(self) -> float:
        """Length of all recordings together; the camera's own time runs from 0 to here."""
        return self.seconds * self.recordings

    def recording_start(self, recording: int) -> dt.datetime:
        """UTC start of a recording."""
        return self.start_time + dt.timedelta(seconds=self.seconds * recording)

    def uri(self, site: str, recording: int) -> str:
        """Path of a recording below the archive's root."""
        return f"{site}/{self.name}/{self.name}_{self.recording_start(recording):%Y%m%dT%H%M%SZ}.mp4"


class Painter:
    """Paints the frames of one camera at one size."""

    def __init__(self, camera: Camera, height_px: int = 360) -> None:
        self._camera = camera
        width_px = round(height_px * ASPECT / 2) * 2
        self._size = (height_px, width_px)
        scenery = camera.scenery
        place = (camera.seed, camera.number)
        self._backdrop = paint_backdrop(place, scenery, self._size)
        water = water_share(place, scenery, self._size)
        self._glitter = Glitter(_generator(camera, "glitter"), water, camera.glitter)
        self._sensor = Sensor(_generator(camera, "sensor"), camera.optics, scenery, self._size)
        self._colours = {bird.individual_id: _lit(bird.colours, scenery) for bird in camera.birds}
        self._mover_colours = _lit(MOVER_COLOURS, scenery)

    def frame(self, time_s: float) -> NDArray[np.uint8]:
        """RGB pixels at a moment of the camera's time, shape ``(H, W, 3)``."""
        camera = self._camera
        image = self._backdrop.copy()
        self._glitter.paint(image, time_s)
        for _, item in present(camera, time_s):
            if isinstance(item, Reeds):
                item.paint(image, time_s)
            elif isinstance(item, Mover):
                draw.paint(image, item.shapes(time_s), self._mover_colours)
            else:
                pose = item.pose_at(time_s)
                if pose is not None and -1.3 * item.height < pose.x < ASPECT + 1.3 * item.height:
                    draw.paint(image, bird_shapes(pose, item.height), self._colours[item.individual_id])
        frame = self._sensor.record(image, round(time_s * 120), time_s)
        burn_clock(frame, camera.start_time + dt.timedelta(seconds=time_s + 1e-6), camera.optics)
        return frame


def present(camera: Camera, time_s: float) -> list[tuple[float, Bird | Mover | Reeds]]:
    """What may be in the frame at a moment, with its depth, far things first."""
    step = time_s * 30
    items: list[tuple[float, Bird | Mover | Reeds]] = [(reeds.y, reeds) for reeds in camera.reeds]
    items += [(m.y, m) for m in camera.movers if m.start_s <= time_s < m.stop_s]
    items += [
        (b.y, b) for b in camera.birds if b.first_step - 1 < step < b.first_step + b.track.poses.shape[0]
    ]
    return sorted(items, key=lambda item: item[0])


def plan_reserve(
    seed: int, videos: int, seconds: float, scene: SceneName | None = None, videos_per_camera: int = 2,
    social_boost: float = 1.0, busy_share: float | None = None, keyint_s: float | None = None,
) -> tuple[Camera, ...]:  # fmt: skip
    """The cameras of a reserve that record ``videos`` videos of ``seconds`` (whole) seconds together.

    Raises:
        ValueError: a number is not positive, or ``seconds`` is not whole.
    """
    if videos < 1 or videos_per_camera < 1:
        raise ValueError(
            f"videos and videos_per_camera must be at least 1, got {videos} and {videos_per_camera}"
        )
    if seconds < 1 or seconds != int(seconds):
        raise ValueError(
            f"seconds must be a whole number of at least 1 (file names carry whole seconds), got {seconds}"
        )
    if social_boost < 0:
        raise ValueError(f"social_boost must not be negative, got {social_boost}")
    if busy_share is not None and not 0 < busy_share < 1:
        raise ValueError(f"busy_share must be between 0 and 1, got {busy_share}")
    if keyint_s is not None and keyint_s <= 0:
        raise ValueError(f"keyint_s must be positive, got {keyint_s}")
    return tuple(
        plan_camera(
            seed,
            number,
            min(videos_per_camera, videos - first),
            seconds,
            scene,
            social_boost,
            busy_share,
            keyint_s,
        )
        for number, first in enumerate(range(0, videos, videos_per_camera))
    )


def plan_camera(
    seed: int,
    number: int,
    recordings: int,
    seconds: float,
    scene: SceneName | None = None,
    social_boost: float = 1.0,
    busy_share: float | None = None,
    keyint_s: float | None = None,
) -> Camera:
    """One camera of a reserve; depends on the seed, its number, the lengths and what is asked for only.

    ``busy_share`` strews short and long episodes with birds over that share of the time; ``keyint_s`` sets the seconds
    between I-frames, and changes no pixel before they are encoded.
    """
    rng = np.random.default_rng((seed, number))
    # Scenes are dealt out per reserve, so that ten cameras have each kind in its share.
    dealt = [SCENE_DECK[k] for k in np.random.default_rng((seed, 1)).permutation(len(SCENE_DECK))]
    scene = scene or dealt[number % len(dealt)]
    name = f"cam{number + 1:02d}"
    scenery = choose_scenery(rng, scene)
    optics = choose_optics(rng, scenery, name.upper())
    if keyint_s is not None:
        optics = dataclasses.replace(optics, keyint_s=keyint_s)
    low, high = _START_HOURS[scenery.light]
    day = dt.datetime(2025, 11, 1, tzinfo=dt.UTC) + dt.timedelta(
        days=int(np.random.default_rng(seed).integers(90))
    )
    start = day + dt.timedelta(seconds=int(rng.uniform(low, high) * 3600))
    total_s = seconds * recordings
    episodes = plan_episodes(rng, total_s, busy_share)
    crowd = int(rng.choice(len(_CROWDS), p=_CROWDS)) + 1
    first_id = number * INDIVIDUALS_PER_CAMERA + 1
    birds = gather(rng, scenery, total_s, episodes, crowd, min(seconds, total_s), social_boost, first_id)
    lane_y = _boat_lane((seed, number), scenery)
    movers = _plan_movers(rng, scenery, lane_y, total_s, first_id + INDIVIDUALS_PER_CAMERA // 2)
    glitter = 0.0 if scenery.light == "infrared" else float(rng.uniform(0.0, 0.6))
    return Camera(name, seed, number, start, seconds, recordings, scenery, optics, birds, movers,
                  grow_reeds(rng, scenery), glitter)  # fmt: skip


def _boat_lane(place: tuple[int, int], scenery: Scenery) -> float | None:
    """The wettest line across the view, where boats go; None where there is too little water."""
    wet = water_share(place, scenery, (90, 160)).mean(axis=1)
    reach = scenery.far_y + 0.7 * (scenery.near_y - scenery.far_y)
    rows = np.arange(math.ceil(scenery.far_y * 90), int(reach * 90))
    best = int(rows[np.argmax(wet[rows])])
    return best / 90 if wet[best] > 0.7 else None


def _plan_movers(
    rng: np.random.Generator, scenery: Scenery, lane_y: float | None, total_s: float, first_id: int
) -> tuple[Mover, ...]:
    """Now and then something else comes through."""
    kinds: list[MoverKind] = ["deer"] if scenery.light == "infrared" else ["deer", "person"]
    if lane_y is not None and scenery.light != "infrared":
        kinds.append("boat")
    movers: list[Mover] = []
    at = float(rng.exponential(150.0))
    while at < total_s - 3.0:
        kind = kinds[int(rng.integers(len(kinds)))]
        y = float(rng.uniform(scenery.far_y, scenery.far_y + 0.6 * (scenery.near_y - scenery.far_y)))
        if kind == "boat" and lane_y is not None:
            y = lane_y
        relative, slow, fast = _MOVER_SIZES[kind]
        height = scenery.height_at(y) * relative
        reach = 1.3 * height
        heading = int(rng.choice([-1, 1]))
        speed = heading * float(rng.uniform(slow, fast)) * height
        start_x = -reach if heading > 0 else ASPECT + reach
        stop_s = at + (ASPECT + 2 * reach) / abs(speed)
        movers.append(Mover(first_id + len(movers), kind, height, y, at, start_x, speed, stop_s))
        at = stop_s + 20.0 + float(rng.exponential(260.0))
    return tuple(movers)


def _generator(camera: Camera, purpose: str) -> np.random.Generator:
    return np.random.default_rng((camera.seed, camera.number, *purpose.encode()))


def _lit(colours: dict[str, Colour], scenery: Scenery) -> dict[str, Colour]:
    """Colours in the light of the scene."""
    lit: dict[str, Colour] = {}
    for paint, colour in colours.items():
        red, green, blue = (c * t for c, t in zip(colour, scenery.tint, strict=True))
        if scenery.light == "infrared":
            grey = 14 + 0.90 * (0.299 * red + 0.587 * green + 0.114 * blue)
            red = green = blue = grey
        lit[paint] = (min(255, round(red)), min(255, round(green)), min(255, round(blue)))
    return lit
