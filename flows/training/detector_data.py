"""What the small detector learns from: keyframes of a folder with ``archive`` and ``truth``, with their boxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flows.annotations.labelled import read_labelled, read_split, videos_of_part
from flows.evaluation.reserve import open_reserve
from model.detector_augment import FrameTruth
from storage.analysis.split import PARTS
from workers.clips import TruthBox, light_of_videos, read_truth
from workers.decode import decode_frames, frame_size
from workers.errors import BadTruthError
from workers.grid import FrameGrid
from workers.messages import KEYFRAME_STEP
from workers.probe import probe_video

RESTING_KEYFRAMES = 75
"""A bird that is in at least so many keyframes of a video, 20 s, and moves in none of them is a resting one."""
EMPTY_SHARE = 0.1
"""Share of the training keyframes in which nothing is there."""
KEPT_OUT = 8
"""Without a split, one camera in this many is kept out of the training, or one video where there is one camera."""


@dataclass(frozen=True, slots=True)
class VideoParts:
    """Which videos are for what, archive-relative."""

    learned: tuple[str, ...]
    held: tuple[str, ...]
    """Not learned from: the least score and the overlap are chosen on these."""
    tested: tuple[str, ...]
    """Those that the figures are of."""
    tested_on: str
    """These in words."""


@dataclass(frozen=True, slots=True, eq=False)
class KeyframeSet:
    """Keyframes of an annotated archive with their birds."""

    frames: NDArray[np.uint8]
    """RGB pixels, shape ``(N, H, W, 3)``."""
    truths: tuple[FrameTruth, ...]
    resting: tuple[NDArray[np.bool_], ...]
    """Per keyframe, which of its birds rest through the video."""
    infrared: NDArray[np.bool_]
    """Which keyframes are infrared, shape ``(N,)``."""

    def birds(self) -> NDArray[np.float32]:
        """Corners in pixels of all birds that count, shape ``(M, 4)``."""
        return np.concatenate([truth.xyxy_px[~truth.ignored] for truth in self.truths])


def divide_videos(root: Path) -> VideoParts:
    """What ``split.csv`` says, or else all cameras but some, which the limits are chosen on and the figures are of.

    Raises:
        TruthMissingError: a file is missing.
        BadTruthError: the truth cannot be read, or has no boxes.
        SplitFileError: truth and split do not fit together.
    """
    reserve = open_reserve(root)
    videos = reserve.videos[: reserve.with_truth]
    if not videos:
        raise BadTruthError(f"{root / 'truth' / 'boxes.csv'} has no boxes")
    part_of = read_split(root)
    if part_of is not None:
        learned, held, tested = (tuple(videos_of_part(root, part_of, part)) for part in PARTS)
        return VideoParts(learned, held, tested, f"the {_counted(len(tested), 'video')} of the test part")
    cameras = sorted({str(Path(video).parent) for video in videos})
    units = {video: str(Path(video).parent) if len(cameras) > 1 else video for video in videos}
    kept_out = set(sorted(set(units.values()))[::KEPT_OUT]) if len(videos) > 1 else set()
    learned = tuple(video for video in videos if units[video] not in kept_out)
    if not kept_out:
        return VideoParts(learned, learned, learned, "the video that it learned from")
    held = tuple(video for video in videos if units[video] in kept_out)
    unit = "camera" if len(cameras) > 1 else "video"
    return VideoParts(learned, held, held, f"{_counted(len(kept_out), unit)} kept out of the training")


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


def collect_keyframes(
    root: Path, videos: Sequence[str], count: int, seed: int, cache: Path, frame_height: int
) -> KeyframeSet:
    """Decode keyframes of some videos, evenly spread over them, into a memory map in the folder ``cache``.

    Where the truth is complete, as a simulated one is, these are any keyframes, and nothing is there where there is no
    box; else only those that were annotated.

    Raises:
        BadTruthError: truth and videos do not fit together.
        SettingsError: ``reserve.json`` cannot be read.
    """
    truth, complete = read_truth(root / "truth"), read_labelled(root).simulated
    infrared = dict(zip(videos, light_of_videos(root / "truth" / "reserve.json", list(videos)), strict=True))
    rng = np.random.default_rng(seed)
    frames: NDArray[np.uint8] | None = None
    truths: list[FrameTruth] = []
    rests: list[NDArray[np.bool_]] = []
    dark: list[bool] = []
    per_video = max(1, count // len(videos))
    for video in videos:
        moments = truth.get(video, {})
        resting = _resting_individuals(moments)
        for grid, pixels in _decode_some(
            root / "archive" / video, moments, complete, per_video, rng, frame_height
        ):
            if frames is None:
                shape = (per_video * len(videos), *pixels.shape)
                frames = np.lib.format.open_memmap(cache / f"frames-{seed}.npy", "w+", np.uint8, shape)
            if pixels.shape != frames.shape[1:]:
                height, width = pixels.shape[:2]
                raise BadTruthError(
                    f"{video}: a run looks at it with {width}x{height} pixels, at the others with "
                    f"{frames.shape[2]}x{frames.shape[1]}: train them apart, or with fewer lines (--frame-height)"
                )
            frames[len(truths)] = pixels
            birds = [box for box in moments.get(grid, []) if box.label >= 0]
            truths.append(_frame_truth(birds, pixels.shape[0], pixels.shape[1]))
            rests.append(np.array([bird.individual in resting for bird in birds], bool))
            dark.append(infrared[video].startswith("infrared"))
    if frames is None:
        raise BadTruthError(f"{root}: no video has a frame that was annotated")
    if all(truth.ignored.all() for truth in truths):
        raise BadTruthError(
            f"{root / 'truth' / 'boxes.csv'}: no bird of {', '.join(videos[:3])} is well to be seen"
        )
    return KeyframeSet(frames[: len(truths)], tuple(truths), tuple(rests), np.array(dark, bool))


def _resting_individuals(truth: Mapping[int, Sequence[TruthBox]]) -> set[str]:
    """Individuals of one video that are long in it and never move, which motion against a plate cannot see."""
    birds = [box for boxes in truth.values() for box in boxes if box.label >= 0 and box.individual]
    keyframes = Counter(bird.individual for bird in birds)
    moving = {bird.individual for bird in birds if bird.dynamic}
    return {name for name, count in keyframes.items() if count >= RESTING_KEYFRAMES and name not in moving}


def _decode_some(
    path: Path,
    truth: Mapping[int, Sequence[TruthBox]],
    complete: bool,
    count: int,
    rng: np.random.Generator,
    frame_height: int,
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Grid index and pixels of up to ``count`` keyframes, evenly spread."""
    probe = probe_video(path)
    frame_of_grid = FrameGrid.of(probe).frame_indices
    length = len(frame_of_grid)
    known = range(0, length, KEYFRAME_STEP) if complete else sorted(grid for grid in truth if grid < length)
    wanted: dict[int, list[int]] = {}
    for grid in choose_moments(known, truth, count, rng):
        wanted.setdefault(int(frame_of_grid[grid]), []).append(grid)
    size = frame_size(probe, frame_height)
    numbers = np.array(sorted(wanted), np.int64)
    for number, picture in zip(numbers.tolist(), decode_frames(str(path), probe, numbers, size), strict=True):
        yield from ((grid, picture) for grid in wanted[number])


def choose_moments(
    moments: Sequence[int], truth: Mapping[int, object], count: int, rng: np.random.Generator
) -> list[int]:
    """Up to ``count`` moments, evenly spread; where there are more, few with nothing in the frame."""
    if len(moments) <= count:
        return list(moments)
    occupied = [moment for moment in moments if moment in truth]
    empty = [moment for moment in moments if moment not in truth]
    num_empty = min(len(empty), max(round(EMPTY_SHARE * count), count - len(occupied)))
    chosen = [
        part[int(place)]
        for part, number in ((occupied, count - num_empty), (empty, num_empty))
        for place in (np.arange(number) + rng.random()) * (len(part) / max(1, number))
    ]
    return sorted(chosen)


def _frame_truth(birds: Sequence[TruthBox], height: int, width: int) -> FrameTruth:
    xyxy = np.array([bird.xyxy for bird in birds], np.float32).reshape(-1, 4)
    ignored = np.array([not bird.learnable for bird in birds], bool)
    return FrameTruth(xyxy * np.array([width, height, width, height], np.float32), ignored)
