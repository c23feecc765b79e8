"""The stages that need the videos: probe, survey, decode, detect and infer."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flows.nightly.context import RunContext
from flows.nightly.surveying import plates_used
from flows.replay.result import Differences, StageReplay
from storage.catalog import video_of
from storage.layout import CameraDay
from storage.parquet import Footer
from storage.records import DetectionColumns, VideoRecord
from workers.archive import list_archive, place_recording
from workers.decode import DecodeTally, decode_span, frame_size
from workers.messages import (
    ArchiveFile,
    Boxes,
    FrameChunk,
    Keyframes,
    Plate,
    Presence,
    Recording,
    scores_behaviour,
)
from workers.probe import probe_video
from workers.score import join_chunks
from workers.segments import CHUNK_FRAMES, places_to_score, plan_segments

if TYPE_CHECKING:
    from workers.nvdec import OpenDecoder

BOX_TOLERANCE = 2e-3
"""Corners of boxes may differ by this share of the picture."""
SCORE_TOLERANCE = 0.01
"""Probabilities may differ by this, as an engine's from its checkpoint's."""
SPAN_TOLERANCE_S = 0.05
_PROBED = ("fps", "frame_count", "duration_s", "width", "height", "codec", "container")


@dataclass(frozen=True, slots=True, eq=False)
class StoredVideo:
    """A video that was read, with all that the store holds about it."""

    day: CameraDay
    footer: Footer
    record: VideoRecord
    file: ArchiveFile

    @property
    def presence(self) -> Presence:
        """Its stored spans."""
        spans = np.array(self.footer.details["spans_s"], np.float64).reshape(-1, 2)
        return Presence(spans, "whole" if self.record.survey_mode == "whole" else "spans", "as stored")


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """Frames around some keyframes of a video, and the stored boxes of each."""

    chunk: FrameChunk
    centres: NDArray[np.int64]
    """Places of the keyframes in the chunk."""
    stored: list[NDArray[np.intp]]
    """Rows of the video's detections at each keyframe."""

    @property
    def keyframes(self) -> Keyframes:
        """The pictures at the keyframes."""
        return Keyframes(
            self.chunk.video_id, self.chunk.times_s[self.centres], self.chunk.frames[self.centres]
        )


def stored_videos(context: RunContext, most: int | None) -> list[StoredVideo]:
    """Videos of the store whose files are in the archive with the same content, in the order of their paths."""
    files = {file.video_id: file for file in list_archive(context.archive)}
    found = []
    for day in context.catalog.camera_days():
        for video_id, footer in context.catalog.finished_detections(day).items():
            record = video_of(footer)
            if video_id in files and files[video_id].fingerprint == record.fingerprint:
                found.append(StoredVideo(day, footer, record, files[video_id]))
    return sorted(found, key=lambda video: video.record.uri)[:most]


def replay_probe(context: RunContext, videos: Sequence[StoredVideo]) -> StageReplay:
    """The facts of each file."""
    found = Differences()
    for video in videos:
        started = time.perf_counter()
        probe = probe_video(video.file.path)
        found.busy_s += time.perf_counter() - started
        changed = [
            f"{name} {getattr(probe, name)}, stored {getattr(video.record, name)}"
            for name in _PROBED
            if not _equal(getattr(probe, name), getattr(video.record, name))
        ]
        found.add(f"{video.record.uri}: {', '.join(changed)}", not changed)
    return StageReplay.of("probe", "files", found)


def replay_survey(context: RunContext, videos: Sequence[StoredVideo]) -> StageReplay:
    """The spans in which something is there, by the stored plates."""
    from workers.survey import survey_video, whole_video

    found, settings = Differences(), context.settings.survey
    is_whole = not settings.skip_empty or context.detector.name == "given"
    finder = None if context.detector.name == "motion" else context.detector.build()
    for video in videos:
        recording = _recording(context, video)
        started = time.perf_counter()
        presence = (
            whole_video(recording, "")
            if is_whole
            else survey_video(
                recording,
                _plates(context, video),
                _size(context, video, recording),
                finder,
                settings.max_iframe_gap_s,
            )
        )
        found.busy_s += time.perf_counter() - started
        stored_s = video.presence.spans_s
        off_s = (
            float(np.abs(presence.spans_s - stored_s).max(initial=0.0))
            if presence.spans_s.shape == stored_s.shape
            else float("inf")
        )
        found.add(
            f"{video.record.uri}: {presence.spans_s.round(2).tolist()}, stored {stored_s.round(2).tolist()}",
            off_s <= SPAN_TOLERANCE_S,
            off_s if np.isfinite(off_s) else 0.0,
        )
    return StageReplay.of("survey", "videos", found)


def replay_decode(context: RunContext, videos: Sequence[StoredVideo]) -> StageReplay:
    """The frames of the stored spans."""
    found = Differences()
    for video in videos:
        tally = DecodeTally()
        started = time.perf_counter()
        for _ in _stretches(context, video, tally):
            pass
        found.busy_s += time.perf_counter() - started
        stored = video.record.frames_decoded
        what = f"{video.record.uri}: {tally.frames_decoded} frames, stored {stored}"
        found.add(what, tally.frames_decoded == stored, abs(tally.frames_decoded - stored))
    return StageReplay.of("decode", "videos", found)


def replay_detect(context: RunContext, videos: Sequence[StoredVideo]) -> StageReplay:
    """The boxes at each keyframe."""
    found = Differences()
    detector = context.detector.build(context.scorer_spec(1).device)
    for video in videos:
        plates, rows = _plates(context, video), _detections(context, video)
        for stretch in _stretches(context, video, DecodeTally(), rows):
            started = time.perf_counter()
            boxes = detector.detect(stretch.keyframes, plates)
            found.busy_s += time.perf_counter() - started
            for time_s, now, stored in zip(stretch.keyframes.times_s, boxes, stretch.stored, strict=True):
                _compare_boxes(found, f"{video.record.uri} at {time_s:.2f} s", now.xyxy, rows.xyxy[stored])
    return StageReplay.of("detect", "keyframes", found)


def replay_infer(context: RunContext, videos: Sequence[StoredVideo]) -> StageReplay:
    """The scores of the stored boxes."""
    from workers.infer import Scorer

    found, spec = Differences(), context.scorer_spec(1)
    scorer = Scorer(spec.checkpoint, spec.device, spec.batch_clips, spec.engine)
    for video in videos:
        if not scores_behaviour(video.record.fps):
            continue
        rows = _detections(context, video)
        for stretch in _stretches(context, video, DecodeTally(), rows):
            boxes = [Boxes(rows.xyxy[of], rows.box_score[of]) for of in stretch.stored]
            started = time.perf_counter()
            scores = scorer.score(stretch.chunk.frames, stretch.centres, boxes)
            found.busy_s += time.perf_counter() - started
            for time_s, now, of in zip(stretch.keyframes.times_s, scores, stretch.stored, strict=True):
                if len(of):
                    said = np.column_stack([now.p_behaviour, now.p_other, now.p_dynamic])
                    stored = np.column_stack([rows.p_behaviour[of], rows.p_other[of], rows.p_dynamic[of]])
                    off = float(np.abs(said - stored).max())
                    what = f"{video.record.uri} at {time_s:.2f} s: a probability differs by {off:.3f}"
                    found.add(what, off <= SCORE_TOLERANCE, off)
    return StageReplay.of("infer", "keyframes", found)


OF_VIDEOS: dict[str, Callable[[RunContext, Sequence[StoredVideo]], StageReplay]] = {
    "probe": replay_probe,
    "survey": replay_survey,
    "decode": replay_decode,
    "detect": replay_detect,
    "infer": replay_infer,
}


def _compare_boxes(
    found: Differences, where: str, now: NDArray[np.float32], stored: NDArray[np.float32]
) -> None:
    if len(now) != len(stored):
        found.add(f"{where}: {len(now)} boxes, stored {len(stored)}", False)
        return
    ordered = now[np.lexsort((now[:, 1], now[:, 0]))]
    off = float(np.abs(ordered - stored).max(initial=0.0))
    found.add(f"{where}: a box differs by {off:.3f} of the picture", off <= BOX_TOLERANCE, off)


def _stretches(
    context: RunContext, video: StoredVideo, tally: DecodeTally, rows: DetectionColumns | None = None
) -> Iterator[Stretch]:
    """What the actors were given: two neighbouring chunks at a time."""
    recording = _recording(context, video)
    size = _size(context, video, recording)
    settings, reach = context.settings.decode, context.model.clip_frames // 2
    nvdec = _nvdec() if settings.nvdec_share else None
    for segment in plan_segments(recording, video.presence, settings.segment_seconds, reach):
        previous: FrameChunk | None = None
        chunks = decode_span(
            recording.file.path,
            recording.probe,
            segment.frames,
            size,
            video_id=recording.file.video_id,
            chunk_frames=CHUNK_FRAMES,
            tally=tally,
            nvdec=nvdec,
        )
        for number, chunk in enumerate(chunks):
            ready = segment.keyframes_ready(number)
            if ready is not None:
                joined = chunk if previous is None else join_chunks(previous, chunk)
                centres = places_to_score(ready, joined)
                frames = joined.frame_indices[centres]
                of_frame = [] if rows is None else [np.flatnonzero(rows.frame == frame) for frame in frames]
                if centres.size:
                    yield Stretch(joined, centres, of_frame)
            previous = chunk
        tally.frames_decoded -= segment.repeats  # stored rows do not depend on the cuts


def _nvdec() -> OpenDecoder:
    """The decoder that came first in the run too."""
    from workers.nvdec import open_nvdec

    return open_nvdec


def _recording(context: RunContext, video: StoredVideo) -> Recording:
    placed = place_recording(video.file, probe_video(video.file.path))
    return dataclasses.replace(placed, site=video.day.site, camera=video.day.camera, date=video.day.date)


def _size(context: RunContext, video: StoredVideo, recording: Recording) -> tuple[int, int]:
    """Height and width of the pictures that the run had: those of its plates, where it made any."""
    plates = _plates(context, video)
    if not plates:
        return frame_size(recording.probe, context.settings.decode.frame_height)
    height, width = plates[0].noise.shape
    return height, width


def _plates(context: RunContext, video: StoredVideo) -> tuple[Plate, ...]:
    stored = {plate.plate_id: plate for plate in context.catalog.read_plates(video.day) or ()}
    used = [stored[name] for name in plates_used(video.footer) if name in stored]
    return tuple(Plate(p.plate_id, p.regime, p.pixels, p.noise) for p in used)


def _detections(context: RunContext, video: StoredVideo) -> DetectionColumns:
    return context.catalog.read_detections(video.day, video.record.video_id)


def _equal(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= 1e-6 * max(1.0, abs(one))
    return one == other
