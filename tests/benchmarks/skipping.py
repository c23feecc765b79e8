"""What skipping empty stretches saves and costs, on a simulated archive with something there for a fifth of the time.

Times are processor seconds of this process, which other work on the machine changes least; wall time is beside them.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flows.settings import Settings
from tests.benchmarks.timing import one_thread
from workers.archive import list_archive, place_recording
from workers.decode import DecodeTally, decode_span, frame_size
from workers.detect import Detector, MotionDetector
from workers.detect_combined import CombinedDetector
from workers.detect_learned import LearnedDetector
from workers.grid import FrameGrid
from workers.messages import (
    CLIP_AFTER,
    CLIP_BEFORE,
    GRID_HZ,
    KEYFRAME_STEP,
    GridSpan,
    Keyframes,
    Plate,
    Presence,
    Probe,
    Recording,
)
from workers.probe import probe_video
from workers.segments import plan_segments
from workers.simulate.archive import simulate_archive
from workers.survey import camera_day_plates, survey_video

SEED, VIDEOS, SECONDS, BUSY_SHARE = 605, 4, 75.0, 0.14
"""Episodes take 14 % of it; with birds that come and go, something is there 17 % of it, in visits of 2.3 to 25 s."""
GOPS_S = (1.0, 10.0)
HEIGHT, ROUNDS = 1080, 3
"""Lines of the videos, as of the typical archive; the survey's share is larger where they are fewer."""
SPEED_UP_GOAL, LOST_GOAL, FRAMES_GOAL = 3.5, 0.01, 1.03
Span = tuple[float, float]


@dataclass(slots=True)
class Clock:
    """Seconds that something took, one entry a round."""

    cpu_s: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count what is done meanwhile."""
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        yield
        self.cpu_s.append(time.process_time() - cpu_s)
        self.wall_s.append(time.perf_counter() - wall_s)


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known of one video."""

    presence_s: tuple[Span, ...]
    """When a bird or another mover is in the picture."""
    bird_s: tuple[float, ...]
    """Time of each bird's box at each keyframe."""


@dataclass(frozen=True, slots=True)
class Skipping:
    """One archive, surveyed and decoded."""

    video_s: float
    present_share: float
    shortest_visit_s: float
    full: Clock
    """Decoding the grid of every video."""
    plates: Clock
    survey: Clock
    spans: Clock
    """Decoding the grid of the presence spans."""
    lost: int
    """True boxes of birds outside the spans."""
    boxes: int
    """True boxes of birds."""
    frames: int
    """That were decoded for the spans."""
    needed: int
    """Frames of the groups of pictures that overlap a clip window around true presence."""
    blind_s: float

    @property
    def speed_up(self) -> float:
        """Decoding all against surveying and decoding the spans; plates, once for a camera-day, apart."""
        return self._ratio(lambda clock: clock.cpu_s)

    @property
    def wall_speed_up(self) -> float:
        """The same in wall time."""
        return self._ratio(lambda clock: clock.wall_s)

    def _ratio(self, of: Callable[[Clock], list[float]]) -> float:
        """Median over the rounds."""
        pairs = zip(of(self.full), of(self.survey), of(self.spans), strict=True)
        return statistics.median(full / (survey + spans) for full, survey, spans in pairs)


def measure(root: Path, gop_s: float, height: int, rounds: int = ROUNDS) -> Skipping:
    """Simulate an archive below ``root`` where it is not there yet, and measure."""
    folder = root / f"{gop_s:g}-{height}"
    if not (folder / "truth" / "boxes.csv").exists():
        simulate_archive(
            folder,
            videos=VIDEOS,
            seconds=SECONDS,
            seed=SEED,
            workers=1,
            busy_share=BUSY_SHARE,
            keyint_s=gop_s,
            frame_height=height,
        )
    files = list_archive(str(folder / "archive"))
    recordings = [place_recording(file, probe_video(file.path)) for file in files]
    truth = read_truth(folder / "truth")
    return measure_recordings(recordings, [truth[recording.file.uri] for recording in recordings], rounds)


def measure_recordings(recordings: Sequence[Recording], truth: Sequence[Truth], rounds: int) -> Skipping:
    """Take turns between decoding all, surveying, and decoding the spans."""
    settings = Settings()
    size = frame_size(recordings[0].probe, settings.decode.frame_height)
    detector = CombinedDetector(LearnedDetector(), MotionDetector())  # ``auto``, the default
    nothing = Keyframes("", np.zeros(1), np.zeros((1, *size, 3), np.uint8))
    detector.detect_resting(nothing)  # the first time costs more
    full, plate_clock, survey, spans = Clock(), Clock(), Clock(), Clock()
    with plate_clock.running():
        plates = plates_of(recordings, size)
    for _ in range(rounds):
        with full.running():
            for recording in recordings:
                decode(recording, GridSpan(0, FrameGrid.of(recording.probe).length), size)
        with survey.running():
            presence = [look(r, plates[r.camera], size, detector, settings) for r in recordings]
        with spans.running():
            frames = [
                sum(
                    decode(segment.recording, segment.frames, size)
                    for segment in plan_segments(recording, seen)
                )
                for recording, seen in zip(recordings, presence, strict=True)
            ]
    seen = list(zip(truth, presence, strict=True))
    present_s = [stop - start for known in truth for start, stop in known.presence_s]
    video_s = sum(recording.probe.duration_s for recording in recordings)
    return Skipping(
        video_s=video_s,
        present_share=sum(present_s) / video_s,
        shortest_visit_s=min(present_s),
        full=full,
        plates=plate_clock,
        survey=survey,
        spans=spans,
        lost=sum(outside(known.bird_s, found) for known, found in seen),
        boxes=sum(len(known.bird_s) for known in truth),
        frames=sum(frames),
        needed=sum(
            frames_needed(recording.probe, known.presence_s)
            for recording, known in zip(recordings, truth, strict=True)
        ),
        blind_s=sum(found.blind_s for found in presence),
    )


def plates_of(recordings: Sequence[Recording], size: tuple[int, int]) -> dict[str, tuple[Plate, ...]]:
    """Those of each camera."""
    cameras = groupby(sorted(recordings, key=lambda one: one.camera), key=lambda one: one.camera)
    return {camera: camera_day_plates(list(of), size) for camera, of in cameras}


def look(
    recording: Recording,
    plates: tuple[Plate, ...],
    size: tuple[int, int],
    detector: Detector,
    settings: Settings,
) -> Presence:
    """The survey of a run."""
    return survey_video(recording, plates, size, detector, settings.survey.max_iframe_gap_s)


def decode(recording: Recording, span: GridSpan, size: tuple[int, int]) -> int:
    """Decode a span; returns how many frames went through the decoder."""
    tally = DecodeTally()
    for _ in decode_span(recording.file.path, recording.probe, span, size, video_id="", tally=tally):
        pass
    return tally.frames_decoded


def outside(times_s: Sequence[float], presence: Presence) -> int:
    """How many moments lie in no span."""
    moments = np.array(times_s)[:, None] if len(times_s) else np.zeros((0, 1))
    starts, stops = presence.spans_s[:, 0] - 1e-6, presence.spans_s[:, 1] + 1e-6
    return int((~((moments >= starts) & (moments <= stops)).any(axis=1)).sum())


def frames_needed(probe: Probe, presence_s: Sequence[Span]) -> int:
    """Frames of the groups of pictures that overlap the clip of a keyframe at which something is truly there."""
    grid = FrameGrid.of(probe)
    groups = np.cumsum(probe.is_iframe)
    needed: NDArray[np.bool_] = np.zeros(probe.frame_count, np.bool_)
    for keyframe in range(0, grid.length, KEYFRAME_STEP):
        if any(start <= keyframe / GRID_HZ <= stop for start, stop in presence_s):
            clip = slice(max(0, keyframe - CLIP_BEFORE), keyframe + CLIP_AFTER)
            needed |= np.isin(groups, groups[grid.frame_indices[clip]])
    return int(needed.sum())


def read_truth(folder: Path) -> dict[str, Truth]:
    """By the path of each video."""
    presence: defaultdict[str, list[Span]] = defaultdict(list)
    with (folder / "presence.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            presence[row["video_id"]].append((float(row["start_s"]), float(row["end_s"])))
    boxes: defaultdict[str, list[float]] = defaultdict(list)
    with (folder / "boxes.csv").open(encoding="utf-8", newline="") as file:
        for uri, time_s, *_ in csv.reader(file):
            boxes[uri].append(float(time_s))
    return defaultdict(
        lambda: Truth((), ()),
        {uri: Truth(tuple(presence[uri]), tuple(boxes[uri])) for uri in {*presence, *boxes}},
    )


def rows(
    root: Path | None = None, height: int = HEIGHT, rounds: int = ROUNDS, gops_s: Sequence[float] = GOPS_S
) -> dict[str, float]:
    """Figures of archives with I-frames 1 and 10 s apart."""
    with one_thread(), tempfile.TemporaryDirectory(prefix="aviaflow-skipping-") as folder:
        found: dict[str, float] = {}
        for gop_s in gops_s:
            found |= rows_of(
                measure(root or Path(folder), gop_s, height, rounds), f"I-frames {gop_s:g} s apart"
            )
    return found


def rows_of(one: Skipping, where: str) -> dict[str, float]:
    """The figures of one archive."""
    full_s = statistics.median(one.full.cpu_s)
    return {
        f"{where}: share of the time in which something is there": one.present_share,
        f"{where}: shortest visit, s": one.shortest_visit_s,
        f"{where}: decoding all against survey and decoding the spans (goal at least 3.5)": one.speed_up,
        f"{where}: the same in wall time": one.wall_speed_up,
        f"{where}: survey, time against decoding all": statistics.median(one.survey.cpu_s) / full_s,
        f"{where}: decoding the spans, time against decoding all": statistics.median(one.spans.cpu_s)
        / full_s,
        f"{where}: plates, once for a camera-day, time against decoding all": one.plates.cpu_s[0] / full_s,
        f"{where}: bird-time outside the spans, % (goal at most 1)": 100 * one.lost / max(1, one.boxes),
        f"{where}: frames decoded against those needed (goal at most 1.03)": one.frames / one.needed,
        f"{where}: share of the time decoded only since I-frames are too far apart": one.blind_s
        / one.video_s,
    }


def main() -> None:
    """Simulate, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.skipping", description=__doc__)
    parser.add_argument("--height", type=int, default=HEIGHT, help="lines of the simulated videos")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--gops", type=float, nargs="+", default=GOPS_S, help="seconds between I-frames")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="simulate there, or take what lies there")
    options = parser.parse_args()
    for what, value in rows(options.keep, options.height, options.rounds, options.gops).items():
        print(f"{value:>10.3f}  {what}")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
