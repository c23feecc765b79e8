"""Tracking: a pure function from the stored boxes of one camera-day to individuals.

State never lives in a process: what one camera-day hands to the next is rebuilt from stored rows
(``carry_from``), so that a rerun at any moment gives the same identities. An identity is a track's, not an
animal's: a bird that leaves and returns is a new one.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
from numpy.typing import NDArray

from storage.records import EMBEDDING_SIZE, DetectionColumns, IndividualRecord, TrackRecord
from workers.association import Floats, find_duplicates
from workers.doubts import EncounterSettings
from workers.encounters import settle_encounters
from workers.messages import GRID_HZ, KEYFRAME_STEP
from workers.stitch import StitchSettings, stitch
from workers.tracklets import NO_TRACK, LinkSettings, Rows, link_tracklets
from workers.visibility import seen_span_s, visible_for_s


@dataclass(frozen=True, slots=True)
class TrackSettings:
    """How boxes become individuals."""

    link: LinkSettings = field(default_factory=LinkSettings)
    stitch: StitchSettings = field(default_factory=StitchSettings)
    encounters: EncounterSettings = field(default_factory=EncounterSettings)
    max_gap_s: float = 5.0
    """Longest pause between two recordings of one camera over which identities continue."""
    max_overlap_s: float = 1.0
    """Recordings may overlap by this much, as start times in file names are whole seconds."""
    min_boxes: int = 3
    """Individuals with fewer boxes are ghosts of the detector."""
    duplicate_iou: float = 0.7
    """Boxes that overlap a surer one by more than this show the same bird."""
    duplicate_contained: float = 0.9
    """Boxes of which more than this share lies inside a surer one show the same bird."""


@dataclass(frozen=True, slots=True, eq=False)
class TrackInput:
    """The stored boxes of one recording, with its place in time."""

    camera: str
    detections: DetectionColumns
    start_time: dt.datetime
    """UTC."""
    duration_s: float
    fps: float
    aspect: float
    """Width over height."""
    observed_spans_s: Floats
    """Sorted spans in which the detector looked, shape ``(S, 2)``; elsewhere nothing was there."""

    @property
    def video_id(self) -> str:
        """The recording's identity."""
        return self.detections.video_id

    @property
    def step_s(self) -> float:
        """Time from one keyframe to the next."""
        return max(KEYFRAME_STEP / GRID_HZ, 1.0 / self.fps)


@dataclass(frozen=True, slots=True, eq=False)
class CameraDayTracks:
    """Which individual each box of a camera-day belongs to."""

    individuals: tuple[IndividualRecord, ...]
    """In the order in which they were first seen."""
    owner: Mapping[str, NDArray[np.int32]]
    """By video and row, the index in ``individuals``, or -1 where a box is in no confirmed track."""
    chains: tuple[Chain, ...]
    """In which they were made."""
    until_s: float
    """Where the clock of the day before ended, on that of the first chain; 0 where it does not go on."""

    def individual_ids(self, video_id: str) -> tuple[str, ...]:
        """The individual of each row of one video; empty for rows in no confirmed track."""
        names = [individual.individual_id for individual in self.individuals] + [""]
        return tuple(names[index] for index in self.owner[video_id].tolist())


@dataclass(frozen=True, slots=True, eq=False)
class TrackCarry:
    """The last moments of one camera-day, as far as the next one needs them; R boxes in time order."""

    end_time: dt.datetime
    """UTC end of the last recording."""
    ahead_s: float
    """By how much the clock of its chain was ahead of that then."""
    aspect: float
    individual_ids: tuple[str, ...]
    owner: NDArray[np.int64]
    """Index in ``individual_ids``, shape ``(R,)``."""
    time_s: Floats
    """Seconds from the end of the chain's clock, negative, shape ``(R,)``."""
    xyxy: NDArray[np.float32]
    """Shape ``(R, 4)``."""
    box_score: NDArray[np.float32]
    embedding: NDArray[np.int8]
    """Shape ``(R, 64)``."""


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """Consecutive recordings of one camera, between which identities continue."""

    videos: tuple[TrackInput, ...]
    """Without the boxes of the moments that the one before shows, too."""
    starts_s: tuple[float, ...]
    """Start of each on the chain's clock, whose zero is the start of the first; later than the recording says where
    the one before ends later, by at most ``max_overlap_s``."""
    shown_from_s: tuple[float, ...]
    """Moment of the clock from which each is shown: its start, or the end of the one before."""
    skipped: tuple[int, ...]
    """First boxes of each that are left out."""

    @property
    def epoch(self) -> dt.datetime:
        """UTC zero of the clock."""
        return self.videos[0].start_time

    @property
    def end_s(self) -> float:
        """End of the last recording on the clock."""
        return max(s + video.duration_s for video, s in zip(self.videos, self.starts_s, strict=True))

    @property
    def step_s(self) -> float:
        """Time from one keyframe to the next, the longest of the recordings'."""
        return max(video.step_s for video in self.videos)

    def number_at(self, time_s: float) -> int:
        """Which recording shows a moment of the clock."""
        return max(int(np.searchsorted(self.shown_from_s, time_s + 1e-9, side="right")) - 1, 0)

    def recording_at(self, time_s: float) -> tuple[float, float]:
        """Start and end on the clock of the recording that a moment of it lies in."""
        number = self.number_at(time_s)
        return self.starts_s[number], self.starts_s[number] + self.videos[number].duration_s

    def times_s(self) -> Floats:
        """Clock time of every row of all recordings, in order."""
        return np.concatenate(
            [s + video.detections.time_s for video, s in zip(self.videos, self.starts_s, strict=True)]
        )


def chains(videos: Sequence[TrackInput], settings: TrackSettings, until_s: float = 0.0) -> list[Chain]:
    """Split the recordings of one camera where identities cannot continue.

    That is at a long pause, at an overlap (two recordings of one moment are two scenes), and where the
    picture's shape changes. ``until_s`` is that of :class:`CameraDayTracks`.
    """
    groups: list[list[TrackInput]] = []
    for video in sorted(videos, key=lambda video: (video.start_time, video.video_id)):
        if groups and _continues(_end_time(groups[-1][-1]), groups[-1][-1].aspect, video, settings):
            groups[-1].append(video)
        else:
            groups.append([video])
    return [
        _on_one_clock(group, settings, 0.0 if position else until_s) for position, group in enumerate(groups)
    ]


def _end_time(video: TrackInput) -> dt.datetime:
    return video.start_time + dt.timedelta(seconds=video.duration_s)


def _until_s(carry: TrackCarry, first: TrackInput) -> float:
    """The end of the clock before, on that of a chain that goes on from there."""
    return (carry.end_time - first.start_time).total_seconds() + carry.ahead_s


def _on_one_clock(group: Sequence[TrackInput], settings: TrackSettings, until_s: float) -> Chain:
    """A chain of recordings, whose clock never runs backwards, the one before having ended at ``until_s``.

    Start times in file names are whole seconds, so that recordings which seem to overlap may only meet: they are
    put one behind the other. Further than those times may be off, the clock stays with them, and what two recordings
    then both show is left out of the later one.
    """
    videos, starts_s, shown_from_s, skipped = [], [], [], []
    for video in group:
        start_s = (video.start_time - group[0].start_time).total_seconds()
        start_s = max(start_s, min(until_s, start_s + settings.max_overlap_s))
        count = int(np.searchsorted(start_s + video.detections.time_s, until_s - 1e-9))
        videos.append(_without_first(video, count))
        starts_s.append(start_s)
        shown_from_s.append(max(start_s, until_s))
        skipped.append(count)
        until_s = max(until_s, start_s + video.duration_s)
    return Chain(tuple(videos), tuple(starts_s), tuple(shown_from_s), tuple(skipped))


def _without_first(video: TrackInput, count: int) -> TrackInput:
    columns = {field.name: getattr(video.detections, field.name) for field in fields(video.detections)}
    rest = {name: column[count:] for name, column in columns.items() if name != "video_id"}
    return replace(video, detections=replace(video.detections, **rest))


def _continues(end_time: dt.datetime, aspect: float, video: TrackInput, settings: TrackSettings) -> bool:
    """Whether identities go on in a recording from one that ended then."""
    pause_s = (video.start_time - end_time).total_seconds()
    same_shape = abs(aspect - video.aspect) < 0.01 * aspect
    return same_shape and -settings.max_overlap_s <= pause_s <= settings.max_gap_s


def track_camera_day(
    videos: Sequence[TrackInput], settings: TrackSettings, carry: TrackCarry | None
) -> CameraDayTracks:
    """Give every box of one camera-day its individual.

    ``videos`` are all recordings of one camera that start on one local date, in any order. ``carry`` comes
    from the camera-day before (``carry_from``), so that a bird present at midnight keeps its identity.
    Ids derive from an individual's first box, never from a count.
    """
    found: list[IndividualRecord] = []
    numbers: dict[str, NDArray[np.int32]] = {}
    first = min(videos, key=lambda video: (video.start_time, video.video_id), default=None)
    if carry and not (first and _continues(carry.end_time, carry.aspect, first, settings)):
        carry = None
    until_s = _until_s(carry, first) if carry and first else 0.0
    found_chains = chains(videos, settings, until_s)
    for position, chain in enumerate(found_chains):
        counts = [len(video.detections.frame) for video in chain.videos]
        of_row = np.full(sum(counts), NO_TRACK, np.int32)
        for individual, rows in _individuals(chain, settings, None if position else carry):
            of_row[rows] = len(found)
            found.append(individual)
        parts = np.split(of_row, np.cumsum(counts)[:-1])
        for video, skipped, part in zip(chain.videos, chain.skipped, parts, strict=True):
            numbers[video.video_id] = np.pad(part, (skipped, 0), constant_values=NO_TRACK)
    order = sorted(range(len(found)), key=lambda k: (found[k].first_seen, found[k].individual_id))
    rank = np.full(len(found) + 1, NO_TRACK, np.int32)  # the last one is that of NO_TRACK
    rank[order] = np.arange(len(found), dtype=np.int32)
    owner = {video_id: rank[of_row] for video_id, of_row in numbers.items()}
    return CameraDayTracks(tuple(found[k] for k in order), owner, tuple(found_chains), until_s)


def _individuals(
    chain: Chain, settings: TrackSettings, carry: TrackCarry | None
) -> list[tuple[IndividualRecord, NDArray[np.int64]]]:
    """The individuals of a chain, each with its rows, counted from the chain's first."""
    known = len(carry.time_s) if carry else 0
    rows = _rows(chain, settings, carry)
    links = link_tracklets(rows, settings.link)
    labels = stitch(rows, links.labels, _unwatched_s(chain), settings.stitch)
    labels = settle_encounters(rows, labels, links.doubtful, settings.encounters)[known:]
    carried = carry.individual_ids if carry else ()
    time_s = chain.times_s()
    xyxy = np.concatenate([video.detections.xyxy for video in chain.videos])
    score = np.concatenate([video.detections.box_score for video in chain.videos]).astype(np.float64)
    p_other = np.concatenate([video.detections.p_other for video in chain.videos]).astype(np.float64)
    order = np.argsort(labels, kind="stable")
    name, first = np.unique(labels[order], return_index=True)
    found = []
    members_of = np.split(order, first[1:]) if len(name) else []
    for label, members in zip(name.tolist(), members_of, strict=True):
        if label == NO_TRACK or (label >= len(carried) and len(members) < settings.min_boxes):
            continue
        individual_id = carried[label] if label < len(carried) else _new_id(chain, int(members[0]))
        found.append(
            (
                _summary(
                    individual_id, chain, time_s[members], xyxy[members], score[members], p_other[members]
                ),
                members,
            )
        )
    return found


def _rows(chain: Chain, settings: TrackSettings, carry: TrackCarry | None) -> Rows:
    """The boxes of the chain on one clock, the carried ones before them."""
    parts = [video.detections for video in chain.videos]
    time_s = chain.times_s()
    xyxy = np.concatenate([part.xyxy for part in parts])
    score = np.concatenate([part.box_score for part in parts])
    look = np.concatenate([part.embedding for part in parts]).reshape(-1, EMBEDDING_SIZE)
    doing = np.nan_to_num(np.concatenate([part.p_behaviour for part in parts]))
    fixed = np.full(len(time_s), NO_TRACK, np.int64)
    if carry is not None:
        time_s = np.concatenate([carry.time_s + _until_s(carry, chain.videos[0]), time_s])
        xyxy = np.concatenate([carry.xyxy, xyxy])
        score = np.concatenate([carry.box_score, score])
        look = np.concatenate([carry.embedding, look])
        doing = np.concatenate([np.zeros((len(carry.owner), doing.shape[1]), np.float32), doing])
        fixed = np.concatenate([carry.owner, fixed])
    keyframe = np.unique(time_s, return_inverse=True)[1].astype(np.int64)
    duplicate = find_duplicates(xyxy, score, keyframe, settings.duplicate_iou, settings.duplicate_contained)
    scale = np.array([chain.videos[0].aspect, 1.0])
    low, high = xyxy[:, :2].astype(np.float64) * scale, xyxy[:, 2:].astype(np.float64) * scale
    side = np.maximum(high - low, 1e-4)
    feet = np.stack([0.5 * (low[:, 0] + high[:, 0]), high[:, 1]], axis=1)
    return Rows(
        time_s,
        feet,
        side.max(axis=1),
        np.log2(side),
        look,
        doing,
        score,
        duplicate,
        fixed,
        chain.step_s,
        chain.videos[0].aspect,
    )


def _unwatched_s(chain: Chain) -> Floats:
    """Stretches of more than a second, on the chain's clock, in which the detector did not look."""
    spans = []
    for video, start_s, shown_from_s in zip(chain.videos, chain.starts_s, chain.shown_from_s, strict=True):
        edges = np.concatenate([[0.0], video.observed_spans_s.ravel(), [video.duration_s]])
        spans.append(np.maximum(start_s + edges, shown_from_s).reshape(-1, 2))
    unwatched: Floats = np.concatenate(spans)
    return unwatched[unwatched[:, 1] - unwatched[:, 0] > 1.0]


def _new_id(chain: Chain, row: int) -> str:
    """An id from the place of an individual's first box: its video, its keyframe, its rank in it."""
    for video in chain.videos:
        frame = video.detections.frame
        if row < len(frame):
            rank = row - int(np.searchsorted(frame, frame[row]))
            key = f"{video.video_id}/{int(frame[row])}/{rank}"
            return hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
        row -= len(frame)
    raise ValueError(f"the chain has no row {row}")


def _summary(
    individual_id: str,
    chain: Chain,
    time_s: Floats,
    xyxy: NDArray[np.float32],
    box_score: Floats,
    p_other: Floats,
) -> IndividualRecord:
    """What is known of one individual from its boxes, in time order."""
    first_s, last_s = seen_span_s(time_s, xyxy, chain.step_s, chain.recording_at)
    known = ~np.isnan(p_other)
    weight = np.maximum(box_score[known], 1e-6)
    other = float((p_other[known] * weight).sum() / weight.sum()) if known.any() else 0.0
    keyframes = round((time_s[-1] - time_s[0]) / chain.step_s) + 1
    return IndividualRecord(
        individual_id=individual_id,
        camera=chain.videos[0].camera,
        kind="other" if other >= 0.5 else "subject",
        first_seen=chain.epoch + dt.timedelta(seconds=first_s),
        last_seen=chain.epoch + dt.timedelta(seconds=last_s),
        visible_s=time_s[0] - first_s + visible_for_s(time_s, chain.step_s)[:-1].sum() + last_s - time_s[-1],
        boxes=len(time_s),
        track_quality=min(len(time_s) / keyframes, 1.0),
        p_other=other,
    )


def carry_from(
    videos: Sequence[TrackInput], records: Iterable[TrackRecord], settings: TrackSettings, until_s: float
) -> TrackCarry | None:
    """What the camera-day after ``videos`` has to know of it, or None where it had no recording.

    ``records`` are the stored tracks of that camera-day, in any order, ``until_s`` what its first clock went on from.
    """
    if not videos:
        return None
    chain = chains(videos, settings, until_s)[-1]
    time_s = chain.times_s() - chain.end_s
    earliest_s = -settings.stitch.max_occlusion_s - 2.0
    counts = [len(video.detections.frame) for video in chain.videos]
    firsts = zip(chain.videos, chain.skipped, np.cumsum([0, *counts]).tolist(), strict=False)
    offset = {video.video_id: (skipped, first - skipped) for video, skipped, first in firsts}
    places = [
        (offset[record.video_id][1] + record.row, record.individual_id)
        for record in records
        if record.video_id in offset and record.row >= offset[record.video_id][0]
    ]
    held = sorted((place, name) for place, name in places if time_s[place] >= earliest_s)
    row = np.array([row for row, _ in held], np.intp)
    names, owner = np.unique(np.array([name for _, name in held], np.str_), return_inverse=True)
    parts = [video.detections for video in chain.videos]
    last = chain.videos[-1]
    return TrackCarry(
        end_time=_end_time(last),
        ahead_s=chain.end_s - last.duration_s - (last.start_time - chain.epoch).total_seconds(),
        aspect=last.aspect,
        individual_ids=tuple(names.tolist()),
        owner=owner.astype(np.int64),
        time_s=time_s[row],
        xyxy=np.concatenate([part.xyxy for part in parts])[row],
        box_score=np.concatenate([part.box_score for part in parts])[row],
        embedding=np.concatenate([part.embedding for part in parts])[row],
    )
