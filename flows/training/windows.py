"""Windows of decoded frames around the keyframes of an annotated archive, cut once for all trainings on it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from flows.annotations.labelled import read_split, videos_of_part
from flows.errors import TrainingError
from flows.nightly.digests import file_digest
from flows.quiet import notice
from flows.settings import digest
from flows.training.settings import TrainSettings
from model.backbones import architecture_named
from model.ethogram import Ethogram
from workers.clips import WindowSet, build_windows, read_truth
from workers.errors import BadTruthError


def cut_windows(data: Path, settings: TrainSettings, out: Path, part: str | None = None) -> Path:
    """The folder of the windows of an annotated archive, or of one part of its split, cut once and used again.

    Raises:
        SplitFileError: truth and split do not fit together.
        BadTruthError: the truth and the archive do not fit together.
    """
    height = architecture_named(settings.architecture).input_height
    videos = None
    if part is not None:
        videos = videos_of_part(data, read_split(data) or {}, part)
    truth = [file_digest(path) for path in _truth_files(data)]
    stamps = _video_stamps(data, videos)
    key = digest(str(data.resolve()), settings.frame_height, height, settings.seed, truth, stamps)
    folder = out / "windows" / key
    if not folder.exists():
        partial = folder.with_name(f"{key}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        build_windows(
            data,
            partial,
            seed=settings.seed,
            frame_height=settings.frame_height,
            input_height=height,
            videos=videos,
            workers=os.cpu_count() or 1,
            progress=notice,
        )
        partial.replace(folder)
    return folder.resolve()


def check_labels(windows: WindowSet, ethogram: Ethogram, root: Path) -> None:
    """Whether the labels of windows are behaviours of the ethogram.

    Raises:
        TrainingError: they are more.
    """
    highest = int(windows.label.max(initial=-1)) + 1
    if highest > len(ethogram.names):
        raise TrainingError(
            f"{_boxes(root)}: label {highest}, but the ethogram {ethogram.name!r} has {len(ethogram.names)} "
            "behaviours: name the ethogram of these annotations under 'ethogram' in the --config"
        )


def check_learnable(windows: WindowSet, root: Path, part: str | None = None) -> None:
    """Whether there is anything in windows that a behaviour could be learned from.

    Raises:
        TrainingError: there is not.
    """
    if not windows.learnable.any():
        within = "" if part is None else f" in the part {part!r} of the split"
        raise TrainingError(
            f"{_boxes(root)}: no box{within} has a behaviour that could be learned: all are of something else, of "
            "unknown behaviour, mostly hidden or mostly outside the frame"
        )


def _boxes(root: Path) -> Path:
    return root / "truth" / "boxes.csv"


def _truth_files(data: Path) -> list[Path]:
    """What the windows depend on beside the videos."""
    names = ("boxes.csv", "others.csv", "reserve.json")
    return [path for name in names if (path := data / "truth" / name).exists()]


def _video_stamps(data: Path, videos: list[str] | None) -> list[tuple[str, int, int]]:
    """Name, bytes and time of the last change of the videos, by default of all that the truth has boxes of."""
    stamps = []
    for video in videos or sorted(read_truth(data / "truth")):
        path = data / "archive" / video
        if not path.is_file():
            raise BadTruthError(f"{path}: the truth has boxes of this video, but it is not there")
        stamps.append((video, path.stat().st_size, path.stat().st_mtime_ns))
    return stamps
