"""Which annotations can be used: a box in its frame, at a time in its video, with a label of the ethogram."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from storage.formats.annotations import (
    OTHER,
    Annotation,
    Box,
    Defect,
    DefectKind,
    Imported,
    NoVideo,
    VideoFacts,
    Whom,
    WrittenBox,
    WrittenFile,
    WrittenSegment,
)

MOTIONS: Final = {"static": False, "0": False, "dynamic": True, "1": True}
"""How a motion state may be written; an empty text is one that was not annotated."""
EDGE_PX: Final = 1.0
"""A hand-drawn box may leave the frame by this much and is clipped."""
EDGE_FRACTION: Final = 1e-4
"""The same for boxes in fractions of the frame, which are only ever rounded."""
_SAME_TIME_S = 1e-3
SLACK_S: Final = 0.2
"""A time may lie beyond the video by this much: a player goes on until the last sound has ended."""


def label_key(text: str) -> str:
    """A label as it is compared: ``Head Up`` and ``head-up`` are ``head_up``."""
    return "_".join(text.strip().lower().replace("-", " ").split())


def import_annotations(
    written: WrittenFile, videos: Mapping[str, VideoFacts | NoVideo], behaviours: Sequence[str]
) -> Imported:
    """Judge everything in a file; what has a defect is left out, the rest becomes annotations.

    Args:
        written: what the file holds.
        videos: what is known about each video, by its name as the file has it.
        behaviours: names of the ethogram.
    """
    return _Judge(written, videos, behaviours).judge()


class _Judge:
    """Goes through one file and keeps what it finds wrong."""

    def __init__(
        self, written: WrittenFile, videos: Mapping[str, VideoFacts | NoVideo], behaviours: Sequence[str]
    ) -> None:
        self.written = written
        self.videos = videos
        self.names = {label_key(name): name for name in (*behaviours, OTHER)}
        self.defects: dict[Defect, None] = dict.fromkeys(written.defects)

    def judge(self) -> Imported:
        self._name_missing_videos()
        segments = [segment for segment in self.written.segments if self._is_within(segment)]
        boxes = list(_with_segments(self.written.boxes, segments))
        self._name_idle_segments(segments)
        judged = [(box, annotation) for box in boxes if (annotation := self._use(box))]
        return Imported(tuple(self._without_twins(judged)), tuple(self.defects))

    def _add(self, place: str, kind: DefectKind, value: str, message: str, seen: str = "") -> None:
        self.defects[Defect(self.written.path, place, kind, value, message, seen)] = None

    def _name_missing_videos(self) -> None:
        parts: list[WrittenBox | WrittenSegment] = [*self.written.boxes, *self.written.segments]
        for name in self.written.videos:
            video = self.videos[name]
            if isinstance(video, NoVideo):
                places = [part.place for part in parts if part.video == name]
                self._add(places[0], video.kind, name,
                          f"{video.message}; {len(places)} annotations are left out")  # fmt: skip

    def _name_idle_segments(self, segments: Iterable[WrittenSegment]) -> None:
        times: dict[Whom, list[float]] = defaultdict(list)
        for box in self.written.boxes:
            times[box.whom].append(box.time_s)
        for segment in segments:
            if not any(segment.start_s <= time_s <= segment.end_s for time_s in times[segment.whom]):
                value = f"{segment.start_s:g} to {segment.end_s:g} s, individual {segment.individual!r}"
                self._add(segment.place, "segment without a box", value,
                          "no box of this annotator and individual lies in it; draw one or delete it",
                          _seen(segment.video, segment.start_s))  # fmt: skip

    def _is_within(self, segment: WrittenSegment) -> bool:
        video = self.videos[segment.video]
        if isinstance(video, NoVideo):
            return False
        times_s = [self._own_time(segment, time_s, video) for time_s in (segment.start_s, segment.end_s)]
        return None not in times_s

    def _own_time(self, one: WrittenBox | WrittenSegment, time_s: float, video: VideoFacts) -> float | None:
        """Seconds from the first frame; None, and a defect, where that is beyond the video."""
        own_s = time_s - (video.player_start_s if self.written.by_player else 0.0)
        if time_s < 0 or own_s > video.duration_s + SLACK_S:
            self._add(one.place, "time beyond the video", f"{time_s:g} s",
                      f"{video.uri} lasts {video.duration_s:.2f} s", _seen(one.video, time_s))  # fmt: skip
            return None
        return min(max(own_s, 0.0), video.last_frame_s)

    def _without_twins(self, judged: Iterable[tuple[WrittenBox, Annotation]]) -> Iterator[Annotation]:
        """Of several boxes that one annotator gave one individual at one moment, the first that says what it does."""
        groups: dict[tuple[object, ...], list[tuple[WrittenBox, Annotation]]] = defaultdict(list)
        for box, annotation in judged:
            moment = (box.annotator, box.video, round(box.time_s / _SAME_TIME_S))
            groups[*moment, box.individual or box.corners].append((box, annotation))
        for twins in groups.values():
            used, annotation = next((twin for twin in twins if twin[1].behaviours), twins[0])
            for box, _ in twins:
                if box is not used:
                    self._name_twin(box, used)
            yield annotation

    def _name_twin(self, box: WrittenBox, used: WrittenBox) -> None:
        if box.individual:
            self._add(box.place, "duplicate id", box.individual,
                      f"{box.annotator} gave this individual another box at {box.time_s:g} s "
                      f"({used.place}); that one is used", _seen(box.video, box.time_s))  # fmt: skip
        else:
            self._add(box.place, "duplicate box", _numbers(box.corners),
                      f"the same box as {used.place} at {box.time_s:g} s",
                      _seen(box.video, box.time_s))  # fmt: skip

    def _use(self, box: WrittenBox) -> Annotation | None:
        video = self.videos[box.video]
        if isinstance(video, NoVideo):
            return None
        time_s = self._own_time(box, box.time_s, video)
        xyxy = self._fractions(box, video)
        behaviours = self._behaviours(box)
        if time_s is None or xyxy is None:
            return None
        return Annotation(
            box.annotator, video.uri, time_s, xyxy, behaviours, self._motion(box), box.individual,
            box.covered, box.inside,
        )  # fmt: skip

    def _fractions(self, box: WrittenBox, video: VideoFacts) -> Box | None:
        size, slack, frame = (1.0, 1.0), EDGE_FRACTION, "0 to 1"
        if self.written.by_player:
            size, slack = (video.width * video.player_scale, video.height * video.player_scale), EDGE_PX
            frame = f"{size[0]:.0f}x{size[1]:.0f} pixels"
        x1, y1, x2, y2 = box.corners
        if x1 < -slack or y1 < -slack or x2 > size[0] + slack or y2 > size[1] + slack:
            self._add(box.place, "box outside the frame", _numbers(box.corners),
                      f"the corners x1, y1, x2, y2 must lie within {frame}",
                      _seen(box.video, box.time_s))  # fmt: skip
            return None
        clipped = (max(x1, 0.0), max(y1, 0.0), min(x2, size[0]), min(y2, size[1]))
        if clipped[0] >= clipped[2] or clipped[1] >= clipped[3]:
            self._add(box.place, "unreadable", _numbers(box.corners),
                      "need x1 < x2 and y1 < y2", _seen(box.video, box.time_s))  # fmt: skip
            return None
        return clipped[0] / size[0], clipped[1] / size[1], clipped[2] / size[0], clipped[3] / size[1]

    def _behaviours(self, box: WrittenBox) -> tuple[str, ...]:
        known: dict[str, None] = {}
        for label in box.labels:
            name = self.names.get(label_key(label.text))
            if name is None:
                self._add(label.place, "unknown label", label.text,
                          f"the ethogram has {', '.join(self.names.values())}",
                          _seen(box.video, box.time_s))  # fmt: skip
            else:
                known[name] = None
        if len(known) > 1:
            self._add(box.place, "several labels", ", ".join(known),
                      "behaviours exclude each other; it teaches none unless other annotators decide",
                      _seen(box.video, box.time_s))  # fmt: skip
        if not box.labels:
            self._add(box.place, "no label", f"{box.time_s:g} s, individual {box.individual!r}",
                      "neither the box nor a segment around it says what the individual does",
                      _seen(box.video, box.time_s))  # fmt: skip
        return tuple(known)

    def _motion(self, box: WrittenBox) -> bool | None:
        text = label_key(box.motion)
        if text and text not in MOTIONS:
            self._add(box.place, "unknown motion", box.motion,
                      f"write one of {', '.join(MOTIONS)}; the box is used without it",
                      _seen(box.video, box.time_s))  # fmt: skip
        return MOTIONS.get(text)


def _with_segments(boxes: Iterable[WrittenBox], segments: Sequence[WrittenSegment]) -> Iterator[WrittenBox]:
    """Boxes with what the segments around them say, where they do not say it themselves."""
    by_whom: dict[Whom, list[WrittenSegment]] = defaultdict(list)
    for segment in segments:
        by_whom[segment.whom].append(segment)
    for box in boxes:
        mine = by_whom[box.whom]
        labelled = _around(box.time_s, (one for one in mine if one.labels))
        moving = _around(box.time_s, (one for one in mine if one.motion))
        labels = box.labels or tuple(itertools.chain.from_iterable(one.labels for one in labelled))
        motion = box.motion or next((one.motion for one in moving), "")
        yield replace(box, labels=labels, motion=motion)


def _around(time_s: float, segments: Iterable[WrittenSegment]) -> list[WrittenSegment]:
    """Segments around a moment; where one ends as another begins, the moment is the later one's."""
    around = [one for one in segments if one.start_s <= time_s <= one.end_s]
    begins = any(one.start_s == time_s for one in around)
    return [one for one in around if not begins or one.end_s > time_s or one.start_s == time_s]


def _seen(video: str, time_s: float) -> str:
    return f"{video} at {time_s:g} s"


def _numbers(corners: Box) -> str:
    return ", ".join(f"{value:.6g}" for value in corners)
