"""Score a store against the truth, the scores on true boxes included: these need the model once more."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from flows.errors import NothingToReadError
from flows.evaluation.score import score_store
from flows.nightly.run import run_archive
from flows.settings import DetectSettings, Settings
from storage import Store


def score_archive(store: str, truth: Path, archive: Path, settings: Settings) -> dict[str, Any]:
    """All scores of a store, with those that the model reaches on the true boxes of the same videos.

    Args:
        store: what a run found.
        truth: folder of the truth, as ``aviaflow simulate`` writes it.
        archive: folder of the videos.
        settings: of the run; only its detector is left out.

    Raises:
        NothingToReadError: the videos are not there.
        TruthMissingError: the truth is incomplete.
    """
    if not archive.is_dir():
        raise NothingToReadError(f"{archive}: the videos are not there; say where with --archive")
    return score_store(Store(store), truth, detections_on_true_boxes(truth, archive, settings))


def detections_on_true_boxes(truth: Path, archive: Path, settings: Settings) -> pd.DataFrame:
    """Detections that the model makes when it is given the true boxes."""
    given = DetectSettings(detector="given", boxes_csv=truth.absolute() / "boxes.csv")
    with tempfile.TemporaryDirectory(prefix="aviaflow-true-boxes-") as folder:
        run_archive(str(archive), folder, settings.model_copy(update={"detect": given}))
        return Store(folder).detections()
