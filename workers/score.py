"""Detect and infer on the frames of two neighbouring chunks: the part of a run that wants a GPU."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from model.engines.choice import EngineSpec
from storage.records import EMBEDDING_SIZE, DetectionColumns
from workers.detectors import DetectorSpec
from workers.errors import UnscorableClipError
from workers.limits import peak_resident_bytes
from workers.messages import Boxes, FrameChunk, GridSpan, Keyframes, Plate, Scores
from workers.segments import places_to_score

if TYPE_CHECKING:
    from workers.infer import Sent


@dataclass(frozen=True, slots=True)
class ScorerSpec:
    """What an inference actor is built from."""

    checkpoint: Path
    detector: DetectorSpec
    device: str
    """``cpu`` or ``cuda``."""
    engine: EngineSpec
    batch_clips: int | None
    """None for 4 on a CPU, and on CUDA for as many as fit."""
    threads: int
    """CPU threads for tensor operations."""
    behaviours: int
    """Number of behaviours of the ethogram."""


@dataclass(frozen=True, slots=True, eq=False)
class ScoredKeyframes:
    """Everything found in a stretch of keyframes of one video."""

    keyframes: GridSpan
    looked_at: int
    """Keyframes in it; of those that show one frame, one."""
    rows: DetectionColumns
    detect_s: float
    """Time spent finding boxes."""
    infer_s: float
    """Time spent scoring behaviour."""
    peak_bytes: int
    """Most memory that the process had resident until then."""


class FrameScorer:
    """Detector and action network on one device; may be used from several threads."""

    def __init__(self, spec: ScorerSpec) -> None:
        os.environ["OMP_NUM_THREADS"] = str(spec.threads)
        # Threads that spin while they wait would take the processors that decoding needs.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        # Feature maps are tens of megabytes, given back and asked for again with every batch: large pages save most of
        # the page faults. Read when torch first asks for memory.
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
        import torch

        from workers.infer import Scorer

        torch.set_num_threads(spec.threads)
        self._spec = spec
        self._detector = spec.detector.build(spec.device)
        self._scorer = Scorer(spec.checkpoint, spec.device, spec.batch_clips, spec.engine)

    @property
    def engine(self) -> str:
        """Which engine runs the network, and why, in words."""
        return str(self._scorer.engine)

    def score(
        self,
        previous: FrameChunk | None,
        chunk: FrameChunk,
        keyframes: GridSpan,
        plates: tuple[Plate, ...],
        behaviour: bool = True,
    ) -> ScoredKeyframes:
        """Find and score the individuals in the keyframes of a span.

        A clip that reaches beyond the two chunks repeats their outermost frame; segments are planned so that
        this happens only at the ends of a video. Without ``behaviour`` boxes are found and not scored.
        """
        joined = chunk if previous is None else join_chunks(previous, chunk)
        centres = places_to_score(keyframes, joined)
        if not centres.size:
            rows = join_rows(joined.video_id, [], self._spec.behaviours)
            return ScoredKeyframes(keyframes, 0, rows, 0.0, 0.0, peak_resident_bytes())
        looked = Keyframes(joined.video_id, joined.times_s[centres], joined.frames[centres])
        with self._scorer.expecting():
            boxes, detect_s = self._detect(looked, plates)
            sent = self._scorer.send(joined.frames, centres, boxes) if behaviour else None
        if sent is None:
            scores, infer_s = self._unscored(looked, boxes), 0.0
        else:
            scores, infer_s = self._collect(sent, looked)
        rows = _rows(joined, centres, boxes, scores, self._spec.behaviours)
        return ScoredKeyframes(keyframes, len(centres), rows, detect_s, infer_s, peak_resident_bytes())

    def _detect(self, keyframes: Keyframes, plates: tuple[Plate, ...]) -> tuple[list[Boxes], float]:
        """Boxes, and the seconds that finding them took, waiting for the device left out."""
        with self._scorer.other_work():
            started = time.perf_counter()
            boxes = self._detector.detect(keyframes, plates)
            return boxes, time.perf_counter() - started

    def _collect(self, sent: Sent, keyframes: Keyframes) -> tuple[list[Scores], float]:
        try:
            return self._scorer.collect(sent)
        except UnscorableClipError as error:
            at_s = keyframes.times_s[error.args[0]]
            raise UnscorableClipError(f"the network gives no finite numbers at {at_s:.2f} s") from error

    def _unscored(self, keyframes: Keyframes, boxes: list[Boxes]) -> list[Scores]:
        return [
            _unscored(frame, found, self._spec.behaviours)
            for frame, found in zip(keyframes.frames, boxes, strict=True)
        ]


def join_chunks(first: FrameChunk, second: FrameChunk) -> FrameChunk:
    """One chunk from two neighbours; raises ``ValueError`` where frames lie between them."""
    if first.video_id != second.video_id or first.stop_grid != second.first_grid:
        raise ValueError(
            f"chunks do not meet: {first.video_id} ends at {first.stop_grid}, "
            f"{second.video_id} starts at {second.first_grid}"
        )
    return FrameChunk(
        first.video_id,
        first.first_grid,
        np.concatenate([first.frames, second.frames]),
        np.concatenate([first.times_s, second.times_s]),
        np.concatenate([first.frame_indices, second.frame_indices]),
    )


def _unscored(frame: NDArray[np.uint8], boxes: Boxes, behaviours: int) -> Scores:
    """What is known without the model: the looks."""
    from model.appearance import describe

    count = len(boxes.score)
    return Scores(
        p_behaviour=np.full((count, behaviours), np.nan, np.float32),
        p_other=np.zeros(count, np.float32),
        p_dynamic=np.full(count, np.nan, np.float32),
        embedding=describe(frame, boxes.xyxy),
    )


def _rows(
    chunk: FrameChunk,
    centres: NDArray[np.int64],
    boxes: list[Boxes],
    scores: list[Scores],
    behaviours: int,
) -> DetectionColumns:
    """Rows in the order of the keyframes, within one by the boxes' left and upper edges."""
    order = [np.lexsort((found.xyxy[:, 1], found.xyxy[:, 0])) for found in boxes]
    counts = [len(found.score) for found in boxes]
    at = np.repeat(centres, counts)

    def column(parts: list[NDArray[np.float32]], *tail: int) -> NDArray[np.float32]:
        ordered = [part[places] for part, places in zip(parts, order, strict=True)]
        return np.concatenate([np.zeros((0, *tail), np.float32), *ordered])

    embeddings = [s.embedding[o] for s, o in zip(scores, order, strict=True)]
    return DetectionColumns(
        video_id=chunk.video_id,
        frame=chunk.frame_indices[at].astype(np.int32),
        time_s=chunk.times_s[at],
        xyxy=column([b.xyxy for b in boxes], 4),
        box_score=column([b.score for b in boxes]),
        p_behaviour=column([s.p_behaviour for s in scores], behaviours),
        p_other=column([s.p_other for s in scores]),
        p_dynamic=column([s.p_dynamic for s in scores]),
        embedding=np.concatenate([np.zeros((0, EMBEDDING_SIZE), np.int8), *embeddings]),
    )


def join_rows(video_id: str, parts: list[DetectionColumns], behaviours: int) -> DetectionColumns:
    """All rows of one video, in the order of the given parts; no parts give no rows."""

    def column(name: str, empty: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate([empty, *(getattr(part, name) for part in parts)])

    return DetectionColumns(
        video_id=video_id,
        frame=column("frame", np.zeros(0, np.int32)),
        time_s=column("time_s", np.zeros(0, np.float64)),
        xyxy=column("xyxy", np.zeros((0, 4), np.float32)),
        box_score=column("box_score", np.zeros(0, np.float32)),
        p_behaviour=column("p_behaviour", np.zeros((0, behaviours), np.float32)),
        p_other=column("p_other", np.zeros(0, np.float32)),
        p_dynamic=column("p_dynamic", np.zeros(0, np.float32)),
        embedding=column("embedding", np.zeros((0, EMBEDDING_SIZE), np.int8)),
    )
