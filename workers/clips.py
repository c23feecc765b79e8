"""Clips: from a simulated or annotated archive to the windows that a network is trained on.

Every video's 15 Hz grid is decoded once, resized to the network's input and kept in one memory-mapped file,
so that any keyframe's window is a slice of it and windows that overlap share their frames.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.pathways import input_size, resize_frames
from workers.decode import decode_frames, frame_size
from workers.errors import BadTruthError
from workers.grid import FrameGrid
from workers.messages import CLIP_AFTER, CLIP_BEFORE, GRID_HZ, Probe
from workers.probe import probe_video

MAX_COVERED = 0.65
"""A box of which more is covered by others has no learnable label."""
MIN_INSIDE = 0.60
"""A box of which less is inside the frame has no learnable label."""
BACKGROUND_SHARE = 0.3
"""Share of the keyframes that get one box of the empty scene, as an example of what is no bird."""

PART_FRAMES = 64
"""Frames of a video that are in memory at once."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class TruthBox:
    """One box of the truth, at one keyframe."""

    xyxy: Box
    """Fractions of width and height."""
    label: int
    """Index of the behaviour from 0; -1 for something that is no individual of the taxon."""
    dynamic: bool
    learnable: bool
    individual: str
    """Person id of the truth; empty where ``label`` is -1."""


@dataclass(frozen=True, slots=True, eq=False)
class WindowSet:
    """F frames of V videos, N keyframes with at least one box, M boxes."""

    frames: NDArray[np.uint8]
    """Grid frames of all videos, one after the other, shape ``(F, H, W, 3)``."""
    video_start: NDArray[np.int64]
    """First frame of each video, and F at the end, shape ``(V + 1,)``."""
    light: NDArray[np.str_]
    """Light regime of each video, shape ``(V,)``."""
    video: NDArray[np.int64]
    """Video of each keyframe, shape ``(N,)``."""
    grid: NDArray[np.int64]
    """Grid index of each keyframe in its video, shape ``(N,)``."""
    box_start: NDArray[np.int64]
    """First box of each keyframe, and M at the end, shape ``(N + 1,)``."""
    xyxy: NDArray[np.float32]
    """Fractions of width and height, shape ``(M, 4)``."""
    label: NDArray[np.int64]
    """Behaviour from 0, -1 for ``other``, shape ``(M,)``."""
    dynamic: NDArray[np.int64]
    learnable: NDArray[np.bool_]
    other: NDArray[np.bool_]
    individual: NDArray[np.str_]

    def window(self, keyframe: int, clip_frames: int = CLIP_BEFORE + CLIP_AFTER) -> NDArray[np.uint8]:
        """The clip around a keyframe, shape ``(clip_frames, H, W, 3)``; the video's edge frames are repeated."""
        video = self.video[keyframe]
        first, stop = self.video_start[video], self.video_start[video + 1]
        centre = first + self.grid[keyframe]
        indices = (centre - clip_frames // 2 + np.arange(clip_frames)).clip(first, stop - 1)
        clip: NDArray[np.uint8] = self.frames[indices]
        return clip

    def single_frame_window(
        self, keyframe: int, clip_frames: int = CLIP_BEFORE + CLIP_AFTER
    ) -> NDArray[np.uint8]:
        """As many copies of the keyframe: what a network without motion would see."""
        clip = self.window(keyframe, clip_frames)
        return np.repeat(clip[clip_frames // 2][None], clip_frames, axis=0)

    def boxes_of(self, keyframe: int) -> slice:
        """Rows of the keyframe's boxes."""
        return slice(int(self.box_start[keyframe]), int(self.box_start[keyframe + 1]))


def build_windows(
    root: Path,
    out: Path,
    *,
    seed: int,
    frame_height: int = 216,
    input_height: int = 160,
    videos: Collection[str] | None = None,
    workers: int = 1,
    progress: Callable[[str], None] = lambda _: None,
) -> WindowSet:
    """Decode an archive with truth, write the windows to the folder ``out`` and open them.

    Args:
        root: folder with ``archive`` and ``truth`` (``boxes.csv``, ``others.csv``, ``reserve.json``).
        out: folder for ``frames.npy`` and ``index.npz``; made if absent.
        seed: of the boxes of the empty scene.
        frame_height: lines at which the pipeline decodes.
        input_height: lines of the network's input.
        videos: the only ones that are taken, archive-relative; by default all of the truth.
        workers: videos that are decoded at once.
        progress: called with a line of words for each video.

    Raises:
        BadTruthError: the truth and the archive do not fit together.
        UnreadableVideoError: a video cannot be read.
    """
    truth = read_truth(root / "truth")
    chosen = sorted(truth if videos is None else set(truth).intersection(videos))
    light = light_of_videos(root / "truth" / "reserve.json", chosen)
    probes = [probe_video(root / "archive" / video, root / "archive") for video in chosen]
    counts = [FrameGrid.of(probe).length for probe in probes]
    video_start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    if not chosen:
        raise BadTruthError(
            f"{root}: the truth has no boxes" + ("" if videos is None else " of the videos asked for")
        )
    out.mkdir(parents=True, exist_ok=True)
    size = _common_size(chosen, probes, frame_height, input_height)
    shape = (int(video_start[-1]), *size, 3)
    frames = np.lib.format.open_memmap(out / "frames.npy", "w+", np.uint8, shape)

    def fill(number: int) -> None:
        place = int(video_start[number])
        for part in decode_grid(root / "archive" / chosen[number], probes[number], frame_height):
            frames[place : place + len(part)] = resize_frames(torch.from_numpy(part), size).numpy()
            place += len(part)

    with ThreadPoolExecutor(workers) as pool:
        for number, _ in enumerate(pool.map(fill, range(len(chosen)))):
            progress(f"decoded {number + 1} of {len(chosen)} videos")
    frames.flush()
    index = _index_boxes(truth, chosen, counts, np.random.default_rng(seed))
    arrays: dict[str, Any] = {"video_start": video_start, "light": np.array(light), **index}
    np.savez(out / "index.npz", **arrays)
    return open_windows(out)


def _common_size(
    videos: list[str], probes: list[Probe], frame_height: int, input_height: int
) -> tuple[int, int]:
    """Height and width of the windows, which all videos must have."""
    sizes = [input_size(*frame_size(probe, frame_height), input_height) for probe in probes]
    for video, size in zip(videos, sizes, strict=True):
        if size != sizes[0]:
            raise BadTruthError(f"{video}: its aspect ratio differs from the others', train them apart")
    return sizes[0]


def open_windows(out: Path) -> WindowSet:
    """Windows that :func:`build_windows` wrote; the frames stay on the disk until they are used."""
    with np.load(out / "index.npz") as index:
        arrays = {field.name: index[field.name] for field in fields(WindowSet) if field.name != "frames"}
    return WindowSet(frames=np.load(out / "frames.npy", mmap_mode="r"), **arrays)


def windows_digest(windows: WindowSet) -> str:
    """First 16 hex digits of the SHA-256 of the boxes, labels and times, and of each video's first frame."""
    digest = hashlib.sha256()
    for name in sorted(field.name for field in fields(windows)):
        value = getattr(windows, name)
        if name == "frames":  # gigabytes: a frame of each video stands for the rest
            digest.update(str(value.shape).encode())
            for first in windows.video_start[:-1]:
                digest.update(np.ascontiguousarray(value[first]).data)
        else:
            digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()[:16]


def read_truth(folder: Path) -> dict[str, dict[int, list[TruthBox]]]:
    """Boxes by video and grid index, from ``boxes.csv`` and ``others.csv`` (video, time, box, what it is).

    Raises:
        BadTruthError: a row cannot be read.
    """
    truth: dict[str, dict[int, list[TruthBox]]] = defaultdict(lambda: defaultdict(list))
    with (folder / "boxes.csv").open(newline="") as file:
        _collect(csv.reader(file), folder / "boxes.csv", truth, _bird_box)
    others = folder / "others.csv"
    if others.exists():
        with others.open(newline="") as file:
            rows = csv.reader(file)
            next(rows, None)
            _collect(rows, others, truth, _other_box)
    return {video: dict(sorted(moments.items())) for video, moments in truth.items()}


def _collect(
    rows: Iterable[list[str]],
    path: Path,
    truth: dict[str, dict[int, list[TruthBox]]],
    parse: Callable[[list[str], Box], TruthBox],
) -> None:
    for number, row in enumerate(rows, start=1):
        try:
            x1, y1, x2, y2 = (min(1.0, max(0.0, float(value))) for value in row[2:6])
            moment = round(float(row[1]) * GRID_HZ)
            truth[row[0]][moment].append(parse(row, (x1, y1, x2, y2)))
        except (ValueError, IndexError) as error:
            raise BadTruthError(f"{path}: row {number} cannot be read ({error}): {row}") from error


def _bird_box(row: list[str], xyxy: Box) -> TruthBox:
    covered, inside = float(row[9]), float(row[10])
    learnable = covered <= MAX_COVERED and inside >= MIN_INSIDE
    return TruthBox(xyxy, int(row[6]) - 1, row[8] in ("1", "dynamic"), learnable, row[7])


def _other_box(row: list[str], xyxy: Box) -> TruthBox:
    del row
    return TruthBox(xyxy, -1, False, False, "")


def light_of_videos(reserve: Path, videos: list[str]) -> list[str]:
    """Light regime of each video, from the cameras and their videos listed in ``reserve.json``.

    Raises:
        BadTruthError: the file cannot be read, or lists neither a video nor its camera.
    """
    try:
        listed = json.loads(reserve.read_text(encoding="utf-8"))["cameras"]
        by_video = {video: str(entry["light"]) for entry in listed for video in entry.get("videos", ())}
        by_camera = {entry["camera"]: str(entry["light"]) for entry in listed}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadTruthError(
            f"{reserve}: cannot be read ({type(error).__name__}: {error}); make it anew with 'aviaflow annotations' or "
            "'aviaflow simulate'"
        ) from error
    try:
        return [by_video.get(video) or by_camera[Path(video).parent.name] for video in videos]
    except KeyError as error:
        raise BadTruthError(f"{reserve}: camera {error} is not listed") from error


def decode_grid(path: Path, probe: Probe, frame_height: int) -> Iterator[NDArray[np.uint8]]:
    """The 15 Hz grid of a whole video as a run decodes it, in order, RGB, in parts of shape ``(T, H, W, 3)``."""
    wanted, repeats = np.unique(FrameGrid.of(probe).frame_indices, return_counts=True)
    pictures = decode_frames(str(path), probe, wanted, frame_size(probe, frame_height))
    for first in range(0, len(wanted), PART_FRAMES):
        part = list(itertools.islice(pictures, PART_FRAMES))
        yield np.repeat(np.stack(part), repeats[first : first + PART_FRAMES], axis=0)


def _index_boxes(
    truth: dict[str, dict[int, list[TruthBox]]],
    videos: list[str],
    counts: list[int],
    random: np.random.Generator,
) -> dict[str, NDArray[np.generic]]:
    """The arrays of a :class:`WindowSet` that speak of keyframes and boxes."""
    rows: list[TruthBox] = []
    keyframes: list[tuple[int, int]] = []
    box_start = [0]
    for number, video in enumerate(videos):
        for moment, boxes in truth[video].items():
            if moment >= counts[number]:
                continue
            background = _background_box(boxes, random) if random.random() < BACKGROUND_SHARE else []
            rows.extend([*boxes, *background])
            keyframes.append((number, moment))
            box_start.append(len(rows))
    other = np.array([box.label < 0 for box in rows], dtype=bool)
    return {
        "video": np.array([video for video, _ in keyframes], dtype=np.int64),
        "grid": np.array([moment for _, moment in keyframes], dtype=np.int64),
        "box_start": np.array(box_start, dtype=np.int64),
        "xyxy": np.array([box.xyxy for box in rows], dtype=np.float32).reshape(-1, 4),
        "label": np.array([box.label for box in rows], dtype=np.int64),
        "dynamic": np.array([box.dynamic for box in rows], dtype=np.int64),
        "learnable": np.array([box.learnable for box in rows], dtype=bool),
        "other": other,
        "individual": np.array([box.individual for box in rows], dtype=np.str_),
    }


def _background_box(taken: list[TruthBox], random: np.random.Generator) -> list[TruthBox]:
    """A box of a bird's size that touches no box of the truth; none where no place is found."""
    for _ in range(20):
        height = random.uniform(0.08, 0.35)
        width = height * random.uniform(0.3, 0.9)
        x1, y1 = random.uniform(0, 1 - width), random.uniform(0, 1 - height)
        xyxy = (x1, y1, x1 + width, y1 + height)
        if not any(_touch(xyxy, box.xyxy) for box in taken):
            return [TruthBox(xyxy, -1, False, False, "")]
    return []


def _touch(first: Box, second: Box) -> bool:
    apart_x = first[2] <= second[0] or second[2] <= first[0]
    apart_y = first[3] <= second[1] or second[3] <= first[1]
    return not (apart_x or apart_y)
