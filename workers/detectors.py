"""Which detector a run uses, as a value that travels to the processes that build it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from workers.detect import Detector


@dataclass(frozen=True, slots=True)
class DetectorSpec:
    """A detector by name, with what it needs."""

    name: Literal["auto", "motion", "learned", "coco", "given"]
    weights: Path | None = None
    boxes_csv: Path | None = None
    uris: tuple[tuple[str, str], ...] = ()
    """For ``given``: pairs of ``video_id`` and archive-relative path."""
    min_score: float | None = None
    """Least score of a learned box; None takes the detector's own."""
    resting_score: float | None = None
    """For ``auto``: least score of a learned box in which nothing moves; None takes the detector's own."""

    def build(self, device: str = "cpu") -> Detector:
        """Load weights or boxes; imports torch only for the detectors that need it."""
        from workers.detect import MotionDetector
        from workers.detect_combined import RESTING_SCORE, CombinedDetector
        from workers.detect_given import GivenBoxes

        if self.name == "motion":
            return MotionDetector()
        if self.name == "given":
            assert self.boxes_csv is not None
            return GivenBoxes(self.boxes_csv, dict(self.uris))
        from workers.detect_learned import COCO_MIN_SCORE, CocoBirdDetector, LearnedDetector

        if self.name == "coco":
            assert self.weights is not None
            return CocoBirdDetector(self.weights, device=device, min_score=self.min_score or COCO_MIN_SCORE)
        learned = LearnedDetector(self.weights, device=device, min_score=self.min_score)
        if self.name == "learned":
            return learned
        return CombinedDetector(learned, MotionDetector(), self.resting_score or RESTING_SCORE)
