"""The truth of a simulated archive, as it was written beside the videos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from flows.errors import TruthMissingError
from workers.messages import GRID_HZ, KEYFRAME_STEP

KEYFRAME_HZ = GRID_HZ / KEYFRAME_STEP
MAX_COVERED = 0.65
"""Boxes hidden by more than this are not asked for."""
MIN_INSIDE = 0.60
"""Boxes of which less than this lies in the frame are not asked for."""
_BOX_COLUMNS = (
    "uri",
    "time_s",
    "x1",
    "y1",
    "x2",
    "y2",
    "label",
    "person",
    "motion",
    "covered",
    "inside",
)


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What was really there."""

    boxes: pd.DataFrame
    """``uri``, ``keyframe``, ``x1 y1 x2 y2``, ``label`` (from 1), ``person``, ``moves``, and ``asked``:
    whether enough of the bird is to be seen for a detector to be asked for it."""
    events: pd.DataFrame
    """``person``, ``behaviour``, ``start_time``, ``end_time`` and ``duration_s`` of every bout."""
    never_moving: frozenset[str]
    """Persons that never visibly move: what is motion against a background cannot see them."""


def read_truth(folder: Path) -> Truth:
    """Read ``boxes.csv``, ``events.csv`` and ``individuals.csv``.

    Raises:
        TruthMissingError: a file is missing or has other columns.
    """
    boxes = _read(folder / "boxes.csv", names=list(_BOX_COLUMNS), header=None)
    events = _read(folder / "events.csv", parse_dates=["start_time", "end_time"])
    individuals = _read(folder / "individuals.csv")
    try:
        moving = individuals["moves"].astype(str).str.lower().isin(["1", "true"])
        never_moving = frozenset(individuals.loc[~moving, "individual_id"].astype(str))
        events = events.rename(columns={"individual_id": "person"}).astype({"person": str})
        events = events[["person", "behaviour", "start_time", "end_time", "duration_s"]]
        boxes = boxes.astype({"person": str, "label": int})
        boxes["keyframe"] = (boxes["time_s"] * KEYFRAME_HZ).round().astype("int64")
        boxes["moves"] = ~boxes["person"].isin(never_moving)
        boxes["asked"] = (boxes["covered"] <= MAX_COVERED) & (boxes["inside"] >= MIN_INSIDE)
    except (KeyError, ValueError) as error:
        raise TruthMissingError(f"{folder}: not the truth of a simulated archive ({error})") from error
    return Truth(boxes, events, never_moving)


def _read(path: Path, **options: object) -> pd.DataFrame:
    try:
        frame: pd.DataFrame = pd.read_csv(path, **options)  # type: ignore[call-overload]
    except FileNotFoundError as error:
        raise TruthMissingError(
            f"{path}: there is no such file; `aviaflow simulate DIR` writes the truth into DIR/truth"
        ) from error
    except (ValueError, OSError) as error:
        raise TruthMissingError(f"{path}: cannot be read ({error})") from error
    return frame
