"""A reserve whose truth is known: a folder with ``archive`` and ``truth``, and the windows cut from it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flows.annotations.labelled import SPLIT_FILE, read_labelled, read_split, videos_of_part
from flows.errors import SettingsError, TruthMissingError
from flows.evaluation.instances import ALL, DAY, INFRARED
from flows.settings import DecodeSettings
from workers.archive import list_archive
from workers.clips import WindowSet, build_windows, light_of_videos, read_truth
from workers.messages import KEYFRAME_STEP

FRAME_HEIGHT = DecodeSettings().frame_height


@dataclass(frozen=True, slots=True)
class Reserve:
    """A folder with ``archive`` and ``truth``."""

    root: Path
    videos: tuple[str, ...]
    """Paths in the archive: first those of the truth, in the windows' order, then, where the truth is complete, those
    without a true box."""
    with_truth: int
    """How many of them have a true box."""
    light: tuple[str, ...]
    """Light regime of each."""
    simulated: bool
    """Whether the truth is complete: keyframes without a true box are then known to be empty."""
    behaviours: tuple[str, ...] | None
    """Of the truth's labels; None where it does not say."""
    part: str | None
    """The only part of the split that is looked at."""
    is_split: bool
    """Whether there are parts."""

    def moments(self, windows: WindowSet, uri: str, length: int, every: int) -> NDArray[np.int64]:
        """Grid indices at which a video of ``length`` grid points is judged, ascending.

        All keyframes where the truth is complete, else those that were annotated; of these every
        ``every``-th.
        """
        if self.simulated:
            return np.arange(0, length, KEYFRAME_STEP * every, dtype=np.int64)
        annotated: NDArray[np.int64] = windows.grid[windows.video == self.videos.index(uri)]
        return np.sort(annotated)[::every]

    def keyframes(self, windows: WindowSet, every: int) -> NDArray[np.int64]:
        """Numbers of the windows' keyframes that are judged."""
        chosen = np.zeros(len(windows.grid), dtype=bool)
        for video, length in enumerate(np.diff(windows.video_start).tolist()):
            moments = self.moments(windows, self.videos[video], length, every)
            chosen |= (windows.video == video) & np.isin(windows.grid, moments)
        return np.flatnonzero(chosen)

    def of_light(self) -> dict[str, NDArray[np.bool_]]:
        """Which videos each lighting has, shape ``(V,)``."""
        infrared = np.array([light.startswith("infrared") for light in self.light])
        return {ALL: np.ones_like(infrared), DAY: ~infrared, INFRARED: infrared}


def open_reserve(root: Path, part: str | None = None) -> Reserve:
    """Look at a folder with ``archive`` and ``truth``, or at one part of its ``split.csv``.

    Raises:
        TruthMissingError: a file is missing.
        SettingsError: a part is asked for, and there are none.
        SplitFileError: truth and split do not fit together.
        BadTruthError: the truth cannot be read.
        ArchiveError: the archive is no folder.
    """
    reserve_json = root / "truth" / "reserve.json"
    for path in (root / "archive", root / "truth" / "boxes.csv", reserve_json):
        if not path.exists():
            raise TruthMissingError(
                f"{path}: there is no such file; name a folder as `aviaflow simulate DIR` makes it"
            )
    labelled, part_of = read_labelled(root), read_split(root)
    of_truth = sorted(read_truth(root / "truth"))
    if part is not None:
        if part_of is None:
            raise SettingsError(
                f"{root / SPLIT_FILE}: there is no such file, so there is no part {part!r} to score"
            )
        of_truth = videos_of_part(root, part_of, part)
    in_archive = {file.uri for file in list_archive(str(root / "archive"))}
    absent = [uri for uri in of_truth if uri not in in_archive]
    if absent:
        raise TruthMissingError(
            f"{root / 'archive' / absent[0]}: the truth has boxes of this video, but it is not there"
        )
    complete = labelled.simulated and part is None
    videos = (*of_truth, *(sorted(in_archive - set(of_truth)) if complete else ()))
    return Reserve(
        root,
        videos,
        len(of_truth),
        tuple(light_of_videos(reserve_json, list(videos))),
        labelled.simulated,
        labelled.behaviours,
        part,
        part_of is not None,
    )


@contextmanager
def reserve_windows(
    reserve: Reserve,
    input_height: int,
    frame_height: int = FRAME_HEIGHT,
    scratch: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Iterator[WindowSet]:
    """The windows of a reserve, cut for the time being.

    Args:
        reserve: what to cut.
        input_height: lines of the network's input.
        frame_height: lines at which a run decodes.
        scratch: where they lie as long as they are needed; by default the system's temporary folder.
        progress: called with lines of words.

    Raises:
        BadTruthError: the truth and the archive do not fit together.
    """
    with tempfile.TemporaryDirectory(prefix="aviaflow-windows-", dir=scratch) as folder:
        yield build_windows(
            reserve.root,
            Path(folder),
            seed=0,
            frame_height=frame_height,
            input_height=input_height,
            videos=reserve.videos[: reserve.with_truth],
            progress=progress,
        )
