"""Digests of what results depend on, so that a rerun knows what is done."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path

from flows.settings import Settings, digest
from model.ethogram import Ethogram
from storage.parquet import Footer
from workers.track import TrackSettings

DETECTION_ALGORITHMS, EVENT_ALGORITHMS = 5, 9
"""Raised when a stage up to the detections, or one after them, gives other results for the same settings."""


@dataclass(frozen=True, slots=True)
class Digests:
    """Each covers only what its own stages read: a new bout rule touches events, not detections."""

    model: str
    """Of the checkpoint."""
    detections: str
    """Of the settings of survey, decode, detect and infer, and of the detector's weights."""
    events: str
    """Of the tracking settings, the ethogram and the refiner."""
    max_gap_s: float
    """Longest pause between recordings over which identities go on."""

    def made(self, footer: Footer) -> bool:
        """Whether a detections object was made with this model and these settings."""
        return (footer.model_digest, footer.config_digest) == (self.model, self.detections)


def digests_of(
    settings: Settings, ethogram: Ethogram, tracking: TrackSettings, model: str, detector: str, refiner: str
) -> Digests:
    """Digests of a run.

    Args:
        settings: of the run; how the work is cut and spread is left out.
        ethogram: its bout rules count for events.
        tracking: what the tracker is told.
        model: the checkpoint's own digest.
        detector: the digest of the detector's weights or boxes; empty where it has none.
        refiner: the refiner's own digest; empty where there is none.
    """
    detect = settings.detect.model_dump(exclude={"weights", "boxes_csv"})
    survey = (settings.survey.skip_empty, round(settings.survey.max_iframe_gap_s, 6))
    # Its pixels differ from the processors' in a few levels; what that does to scores has not been measured.
    decoder = () if settings.decode.decoder == "cpu" else (settings.decode.decoder,)
    return Digests(
        model=model,
        detections=digest(
            DETECTION_ALGORITHMS, survey, settings.decode.frame_height, detect, detector, *decoder
        ),
        events=events_digest(tracking, ethogram, refiner),
        max_gap_s=tracking.max_gap_s,
    )


def events_digest(tracking: TrackSettings, ethogram: Ethogram, refiner: str) -> str:
    """Digest of what tracks and bouts depend on beside the detections."""
    rules = [(behaviour.name, dataclasses.asdict(behaviour.rule)) for behaviour in ethogram.behaviours]
    return digest(EVENT_ALGORITHMS, dataclasses.asdict(tracking), rules, refiner)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal, 16 digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
