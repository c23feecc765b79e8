"""A folder with ``archive`` and ``truth``: what it says about itself, and which of its videos are in which part."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.errors import SettingsError, SplitFileError
from storage.analysis.split import PARTS
from workers.clips import read_truth

SPLIT_FILE = "split.csv"
SPLIT_HEADER = ("video_id", "part", "boxes")
_ANEW = "or make truth and split anew with 'aviaflow annotations'"


@dataclass(frozen=True, slots=True)
class LabelledFolder:
    """What ``truth/reserve.json`` says."""

    simulated: bool
    """Whether the truth is complete, and of no real animal."""
    behaviours: tuple[str, ...] | None
    """Names in the order of the labels; None where the truth does not say, as a simulated one."""

    def check_behaviours(self, root: Path, names: Sequence[str], owner: str) -> None:
        """Whether labels mean the same here and to ``owner``.

        Raises:
            SettingsError: they do not.
        """
        if self.behaviours is not None and self.behaviours != tuple(names):
            raise SettingsError(
                f"{root / 'truth' / 'reserve.json'}: annotated for {', '.join(self.behaviours)}, but {owner} has "
                f"{', '.join(names)}: use the ethogram that was annotated with, and weights trained for it"
            )


def read_labelled(root: Path) -> LabelledFolder:
    """Read what a folder's truth says about itself; nothing is known where it says nothing.

    Raises:
        SettingsError: it cannot be read.
    """
    path = root / "truth" / "reserve.json"
    if not path.exists():
        return LabelledFolder(False, None)
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        names = said.get("behaviours")
        return LabelledFolder(
            bool(said.get("simulated", False)), None if names is None else tuple(map(str, names))
        )
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise SettingsError(f"{path}: cannot be read ({error}); make it anew") from error


def write_split(path: Path, part_of: Mapping[str, str], boxes: Mapping[str, int]) -> None:
    """Write which part each video is in, and how many boxes it has."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(SPLIT_HEADER)
        writer.writerows((video, part, boxes.get(video, 0)) for video, part in sorted(part_of.items()))


def read_split(root: Path) -> dict[str, str] | None:
    """The part of each video of the truth, from ``split.csv``; None where there is no such file.

    Raises:
        SplitFileError: a row cannot be read, or videos of the truth and of the file are not the same.
        BadTruthError: the truth cannot be read.
    """
    path = root / SPLIT_FILE
    if not path.exists():
        return None
    part_of = read_parts(path)
    of_truth = read_truth(root / "truth").keys()
    unplaced, unknown = sorted(of_truth - part_of.keys()), sorted(part_of.keys() - of_truth)
    if unplaced:
        raise SplitFileError(
            f"{path}: no part is given for {_named(unplaced)}, of which {root / 'truth'} has boxes: add a row, {_ANEW}"
        )
    if unknown:
        raise SplitFileError(
            f"{path}: it names {_named(unknown)}, of which {root / 'truth'} has no boxes: delete the row, {_ANEW}"
        )
    return part_of


def read_parts(path: Path) -> dict[str, str]:
    """The part of each video that a file as ``split.csv`` names.

    Raises:
        SplitFileError: a row cannot be read.
    """
    part_of: dict[str, str] = {}
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if not {"video_id", "part"} <= set(reader.fieldnames or ()):
            raise SplitFileError(
                f"{path}: need the columns video_id and part, got {reader.fieldnames}, {_ANEW}"
            )
        for row in reader:
            video, part = row["video_id"], row["part"]
            if part not in PARTS:
                raise SplitFileError(
                    f"{path}: line {reader.line_num}: part {part!r} of {video}: write one of {', '.join(PARTS)}"
                )
            if video in part_of:
                raise SplitFileError(
                    f"{path}: line {reader.line_num}: {video} comes twice: delete one of the rows"
                )
            part_of[video] = part
    return part_of


def videos_of_part(root: Path, part_of: Mapping[str, str], part: str) -> list[str]:
    """The videos of one part, in order.

    Raises:
        SplitFileError: there are none.
    """
    videos = sorted(video for video, its in part_of.items() if its == part)
    if not videos:
        raise SplitFileError(f"{root / SPLIT_FILE}: no video is in the part {part!r}: change a row, {_ANEW}")
    return videos


def _named(videos: Collection[str]) -> str:
    first = next(iter(videos))
    return first if len(videos) == 1 else f"{first} and {len(videos) - 1} more videos"
