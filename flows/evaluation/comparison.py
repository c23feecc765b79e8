"""Truth and findings brought together: the same numbers for videos, keyframes and individuals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flows.evaluation.truth import KEYFRAME_HZ, Truth
from model.metrics import FrameBoxes
from storage.analysis.identity import IdentityBoxes, Ints, match_boxes
from storage.queries import Store

CORNERS = ["x1", "y1", "x2", "y2"]
MIN_IOU = 0.5
_KEYFRAMES_PER_VIDEO = 1 << 32


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Truth and findings with the same numbers for videos and keyframes."""

    behaviours: tuple[str, ...]
    true: pd.DataFrame
    """Boxes of the truth, with ``image`` and ``identity``."""
    found: pd.DataFrame
    """Boxes of the store that are of the taxon, with ``image``, ``identity`` (-1: of no individual) and
    ``set_aside``: found where the truth was not asked for."""
    persons: tuple[str, ...]
    """The true individual of each identity number."""
    individuals: tuple[str, ...]
    """The found individual of each identity number."""

    def asked(self) -> IdentityBoxes:
        """True boxes that count."""
        return identity_boxes(self.true[self.true["asked"] & self.true["moves"]])

    def tracked(self) -> IdentityBoxes:
        """Found boxes that count."""
        return identity_boxes(self.found[(self.found["identity"] >= 0) & ~self.found["set_aside"]])


def compare(store: Store, truth: Truth, number: Mapping[str, int]) -> Comparison:
    """Bring truth and findings on common numbers; ``number`` is that of each video's path."""
    videos = store.videos()
    found = store.detections()
    found["row"] = found.groupby("video_id", sort=False).cumcount()
    owners = store.tracks()[["video_id", "row", "individual_id"]]
    found = found.merge(owners, on=["video_id", "row"], how="left", validate="one_to_one")
    kinds = store.individuals(others=True).drop_duplicates("individual_id").set_index("individual_id")["kind"]
    kind = found["individual_id"].map(kinds)
    found = found[(kind == "subject") | (kind.isna() & ~(found["p_other"] >= 0.5))]
    found = with_images(found, number_by_video_id(number, videos))
    identity, individuals = pd.factorize(found["individual_id"])
    found = found.assign(identity=identity.astype(np.int64))
    true = truth.boxes.assign(image=_image(truth.boxes["uri"].map(number), truth.boxes["keyframe"]))
    person, persons = pd.factorize(true["person"])
    true = true.assign(identity=person.astype(np.int64))
    found = found.assign(set_aside=_is_set_aside(true, found))
    return Comparison(store.behaviours, true, found, tuple(map(str, persons)), tuple(map(str, individuals)))


def _is_set_aside(true: pd.DataFrame, found: pd.DataFrame) -> NDArray[np.bool_]:
    """Found boxes that match no true box that counts, but one that does not."""
    counts = (true["asked"] & true["moves"]).to_numpy(bool)
    everything = identity_boxes(found)
    _, taken = match_boxes(identity_boxes(true[counts]), everything, MIN_IOU)
    free = np.ones(len(found), np.bool_)
    free[taken] = False
    left = np.flatnonzero(free)
    _, aside = match_boxes(identity_boxes(true[~counts]), identity_boxes(found.iloc[left]), MIN_IOU)
    result = np.zeros(len(found), np.bool_)
    result[left[aside]] = True
    return result


def video_numbers(truth: Truth, videos: pd.DataFrame) -> dict[str, int]:
    """A number for every video, by its path in the archive, of the truth and of the table of videos."""
    uris = sorted({*truth.boxes["uri"], *videos["uri"]})
    return {uri: index for index, uri in enumerate(uris)}


def number_by_video_id(number: Mapping[str, int], videos: pd.DataFrame) -> dict[str, int]:
    """The same numbers by ``video_id``."""
    return {video_id: number[uri] for video_id, uri in zip(videos["video_id"], videos["uri"], strict=True)}


def with_images(detections: pd.DataFrame, number: Mapping[str, int]) -> pd.DataFrame:
    """Detections with ``image``, the number of their keyframe among those of all videos."""
    keyframe = (detections["time_s"] * KEYFRAME_HZ).round().astype("int64")
    return detections.assign(image=_image(detections["video_id"].map(number), keyframe))


def identity_boxes(rows: pd.DataFrame) -> IdentityBoxes:
    """Rows with ``image``, ``identity`` and corners as arrays."""
    return IdentityBoxes(
        rows["image"].to_numpy(np.int64),
        rows["identity"].to_numpy(np.int64),
        rows[CORNERS].to_numpy(np.float64),
    )


def frame_boxes(rows: pd.DataFrame) -> FrameBoxes:
    """Rows with ``image`` and corners as arrays."""
    return FrameBoxes(rows["image"].to_numpy(np.int64), rows[CORNERS].to_numpy(np.float64))


def take_boxes(boxes: IdentityBoxes, rows: Ints) -> IdentityBoxes:
    """Some of the boxes."""
    return IdentityBoxes(boxes.image[rows], boxes.identity[rows], boxes.xyxy[rows])


def _image(video: pd.Series[int], keyframe: pd.Series[int]) -> NDArray[np.int64]:
    return video.to_numpy(np.int64) * _KEYFRAMES_PER_VIDEO + keyframe.to_numpy(np.int64)
