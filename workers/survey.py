"""What the I-frames of a camera-day tell: the empty scene of each regime, and when something is in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from workers.decode import decode_iframes
from workers.detect import Detector, MotionDetector
from workers.detect_combined import CombinedDetector
from workers.errors import UnreadableVideoError
from workers.messages import Boxes, Keyframes, Plate, Presence, Recording
from workers.plates import build_plates
from workers.probe import pauses
from workers.pyav_reader import read_frames, to_rgb

MAX_SAMPLES = 120
"""Frames from which the plates of a camera-day are built."""
MIN_IFRAMES = 24
"""With fewer I-frames in a camera-day, its videos are read through for the plates."""
SEEK_SHARE = 0.25
"""Of a smaller share of a file's I-frames each is sought by itself."""
MAX_IFRAME_GAP_S = 2.0 / 0.99
"""Of visits of 2 s 1 % begin and end between I-frames this far apart, and more where they are further apart."""
GAP_ROUNDING_S = 1e-6
MARGIN_S = 0.2
"""Spans reach this much beyond the empty I-frames around them: an animal at the border is hard to see. With rounding to
keyframes and the reach of a clip this stays below a second, so that of groups that long no second one is decoded."""
MAX_HOLE_S = 1.5
"""Shorter holes between spans are closed."""
LEARNED_STEP_S, STILL_STEP_S = 8.0, 30.0
"""A learned detector looks for animals at rest at I-frames this far apart, where nothing moves: for those that were
there when the plate was made, and so are there for long; motion sees the others. Where it found none, and nothing has
moved since, it looks after the longer time. Where one of two looks finds some, they are there between the two,
but not before anything else moved."""
WHOLE_SHARE = 0.98
"""A file of which the spans cover more is decoded whole."""
_BATCH = 32


def camera_day_plates(
    recordings: Sequence[Recording],
    frame_size: tuple[int, int],
    opened: Callable[[Recording], AbstractContextManager[Recording]] = nullcontext,
) -> tuple[Plate, ...]:
    """Background plates of one camera-day, of the size ``frame_size`` (height, width).

    Empty if not one frame can be decoded. ``opened`` is entered with each recording, one at a time, and gives the one
    to read.
    """
    ordered = sorted(recordings, key=lambda recording: (recording.start_time, recording.file.uri))
    samples: list[NDArray[np.uint8]] = []
    for recording, wanted in zip(ordered, _choose_frames(ordered), strict=True):
        # One that cannot be read is quarantined by the decoder with its reason; the plates come from the others.
        with suppress(UnreadableVideoError), opened(recording) as readable:
            samples.extend(_read_samples(readable, wanted, frame_size))
    return build_plates(np.stack(samples)) if samples else ()


def survey_video(
    recording: Recording,
    plates: tuple[Plate, ...],
    frame_size: tuple[int, int],
    detector: Detector | None = None,
    max_iframe_gap_s: float = MAX_IFRAME_GAP_S,
) -> Presence:
    """When something is there in one video, from its I-frames against stored plates.

    Args:
        recording: the video.
        plates: of its camera-day.
        frame_size: height and width of the plates.
        detector: also asked, for animals at rest, which motion against the plate may not see.
        max_iframe_gap_s: between empty I-frames that are further apart too many visits would be missed, so the
            stretch between them is decoded; not where nothing was recorded. `SurveySettings` has it from a recall.
    """
    found = _survey(recording, plates, frame_size, detector, max_iframe_gap_s)
    return without_pauses(found, recording.probe.times_s)


def without_pauses(presence: Presence, times_s: NDArray[np.float64]) -> Presence:
    """The same spans without the stretches in which no frame was recorded: the frame before such a pause would
    stand for all of it.

    Args:
        presence: of a video.
        times_s: time of each of its frames, ascending, shape ``(N,)``.
    """
    after, lost_s, usual_s = pauses(times_s)
    if not after.size:
        return presence
    recorded = np.stack(
        [np.concatenate([[0.0], times_s[after + 1]]), np.concatenate([times_s[after] + usual_s, [np.inf]])],
        axis=1,
    )
    shared = [(max(a, c), min(b, d)) for a, b in presence.spans_s for c, d in recorded]
    spans_s = np.array([span for span in shared if span[0] < span[1]], np.float64).reshape(-1, 2)
    reason = f"{presence.reason}; nothing was recorded for {lost_s.sum():,.1f} s within it"
    return dataclasses.replace(presence, spans_s=spans_s, reason=reason)


def _survey(
    recording: Recording,
    plates: tuple[Plate, ...],
    frame_size: tuple[int, int],
    detector: Detector | None,
    max_iframe_gap_s: float,
) -> Presence:
    probe = recording.probe
    iframe_s = probe.times_s[probe.is_iframe]
    if iframe_s.size < 2:
        reason = f"{iframe_s.size} I-frame: nothing is known about the time between"
        return dataclasses.replace(_whole(recording, reason), blind_s=probe.duration_s)
    gaps_s = np.diff(iframe_s)
    if gaps_s.min() > max_iframe_gap_s + GAP_ROUNDING_S:  # whatever is in them, all between them is decoded
        reason = f"I-frames are {gaps_s.min():.1f} s apart or more, which may miss a visit between any two"
        return dataclasses.replace(_whole(recording, reason), blind_s=probe.duration_s)
    if not plates:
        return _whole(recording, "there is no background plate to compare with")
    try:
        times_s, present = _look(recording, plates, frame_size, detector, max_iframe_gap_s)
    except UnreadableVideoError as error:
        return _whole(recording, f"the I-frames cannot be read: {error.reason}")
    return presence_from_iframes(times_s, present, probe.duration_s, max_iframe_gap_s, probe.times_s)


def whole_video(recording: Recording, reason: str) -> Presence:
    """Presence of a video that is decoded from end to end."""
    return without_pauses(_whole(recording, reason), recording.probe.times_s)


def _whole(recording: Recording, reason: str) -> Presence:
    return Presence(np.array([[0.0, recording.probe.duration_s]]), "whole", reason)


def presence_from_iframes(
    times_s: NDArray[np.float64],
    present: NDArray[np.bool_],
    duration_s: float,
    max_iframe_gap_s: float = MAX_IFRAME_GAP_S,
    frames_s: NDArray[np.float64] | None = None,
) -> Presence:
    """Spans between I-frames in which something is, or may be, there.

    Args:
        times_s: time of each I-frame, ascending, shape ``(N,)``.
        present: whether something is in it, shape ``(N,)``.
        duration_s: length of the video.
        max_iframe_gap_s: a longer stretch between two empty I-frames is not known to be empty enough.
        frames_s: time of every frame, by which a pause of the recording does not count, shape ``(F,)``.
    """
    edges = np.concatenate([[0.0], times_s, [duration_s]])
    seen = np.concatenate([present[:1], present, present[-1:]])
    occupied = seen[:-1] | seen[1:]
    gaps_s = np.diff(edges)
    if frames_s is not None:
        after, lost_s, _ = pauses(frames_s)
        within = np.searchsorted(edges[1:-1], frames_s[after], side="right")
        np.subtract.at(gaps_s, within, lost_s)
    unknown = ~occupied & (gaps_s > max_iframe_gap_s + GAP_ROUNDING_S)
    wanted = occupied | unknown
    starts, stops = edges[:-1][wanted], edges[1:][wanted]
    margin = np.where(occupied[wanted], MARGIN_S, 0.0)
    spans = _merge(np.maximum(starts - margin, 0.0), np.minimum(stops + margin, duration_s))
    covered = float((spans[:, 1] - spans[:, 0]).sum())
    seen_in = f"something is there in {int(present.sum())} of {present.size} I-frames"
    blind_s = float(gaps_s[unknown].sum())
    if unknown.any():
        longest = float(gaps_s[unknown].max())
        seen_in += f"; I-frames up to {longest:.1f} s apart may miss a visit between them"
    if covered >= WHOLE_SHARE * duration_s:
        return Presence(np.array([[0.0, duration_s]]), "whole", seen_in, blind_s)
    return Presence(spans, "spans", seen_in, blind_s)


def _merge(starts: NDArray[np.float64], stops: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sorted spans, those less than ``MAX_HOLE_S`` apart made one, shape ``(S, 2)``."""
    merged: list[list[float]] = []
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        if merged and start - merged[-1][1] < MAX_HOLE_S:
            merged[-1][1] = max(merged[-1][1], stop)
        else:
            merged.append([start, stop])
    return np.array(merged, np.float64).reshape(-1, 2)


def _look(
    recording: Recording,
    plates: tuple[Plate, ...],
    frame_size: tuple[int, int],
    detector: Detector | None,
    max_iframe_gap_s: float,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Times of the I-frames that were looked at, and whether something is in them.

    First those that are just near enough to each other, then those between one with something in it and an empty one.
    """
    iframes = np.flatnonzero(recording.probe.is_iframe)
    iframes_s = recording.probe.times_s[iframes]
    coarse = near_enough(iframes_s, max_iframe_gap_s)
    times_s, moving, resting = _look_at(recording, plates, frame_size, detector, iframes[coarse])
    present = moving | resting
    after = np.searchsorted(times_s, iframes_s)
    inner = np.isin(iframes, iframes[coarse], invert=True) & (after > 0) & (after < times_s.size)
    inner[inner] = present[after[inner] - 1] != present[after[inner]]
    if not inner.any():
        return times_s, present
    motion, _ = _ways_to_look(detector)
    with suppress(UnreadableVideoError):  # not one of them can be read: the spans reach over them
        finer_s, moving, _ = _look_at(recording, plates, frame_size, motion, iframes[inner])
        beside = np.searchsorted(times_s, finer_s)
        present = np.concatenate([present, moving | resting[beside - 1] | resting[beside]])
        times_s = np.concatenate([times_s, finer_s])
    order = np.argsort(times_s, kind="stable")
    return times_s[order], present[order]


def _look_at(
    recording: Recording,
    plates: tuple[Plate, ...],
    frame_size: tuple[int, int],
    detector: Detector | None,
    wanted: NDArray[np.intp],
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Time of each of some I-frames that can be read, whether something moves in it, and whether something rests."""
    motion, look_at_rest = _ways_to_look(detector)
    times: list[float] = []
    moves: list[bool] = []
    looks: list[int] = []
    found_at_rest: list[bool] = []
    for batch in _batches(recording, frame_size, wanted):
        found = motion.detect(batch, plates)
        for i, boxes in enumerate(found):
            times.append(float(batch.times_s[i]))
            moves.append(boxes.score.size > 0)
            is_still = bool(looks) and not found_at_rest[-1] and not any(moves[looks[-1] :])
            step_s = STILL_STEP_S if is_still else LEARNED_STEP_S
            is_due = not looks or times[-1] >= times[looks[-1]] + step_s
            if look_at_rest is not None and is_due and not moves[-1]:
                one = Keyframes(batch.video_id, batch.times_s[i : i + 1], batch.frames[i : i + 1])
                looks.append(len(times) - 1)
                found_at_rest.append(_any(look_at_rest(one)))
    moving = np.array(moves, np.bool_)
    return np.array(times), moving, _at_rest(looks, found_at_rest, moving)


def _at_rest(looks: list[int], found: list[bool], moving: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where something rests: from a look that finds it to the next, and back to the one before or to where something
    moved last.
    """
    at_rest = np.zeros(moving.size, np.bool_)
    for number, look in enumerate(looks):
        if found[number]:
            first = looks[number - 1] + 1 if number else 0
            moved = np.flatnonzero(moving[first:look])
            first += int(moved[-1]) + 1 if moved.size else 0
            at_rest[first : [*looks, moving.size][number + 1]] = True
    return at_rest


def near_enough(times_s: NDArray[np.float64], max_gap_s: float) -> NDArray[np.intp]:
    """As few of some moments as may be, first and last included, none further from the next than is allowed; where
    two neighbours are, both.
    """
    chosen = [0]
    while chosen[-1] < times_s.size - 1:
        reach = times_s[chosen[-1]] + max_gap_s + GAP_ROUNDING_S
        chosen.append(max(chosen[-1] + 1, int(np.searchsorted(times_s, reach, side="right")) - 1))
    return np.array(chosen, np.intp)


def _ways_to_look(
    detector: Detector | None,
) -> tuple[MotionDetector, Callable[[Keyframes], list[Boxes]] | None]:
    """How to find what moves, and how to find animals that do not; None where the detector cannot."""
    if isinstance(detector, CombinedDetector):
        return detector.motion, detector.detect_resting
    if isinstance(detector, MotionDetector):
        return detector, None
    return MotionDetector(), None if detector is None else lambda keyframes: detector.detect(keyframes, ())


def _any(found: list[Boxes]) -> bool:
    return any(boxes.score.size > 0 for boxes in found)


def _batches(
    recording: Recording, frame_size: tuple[int, int], wanted: NDArray[np.intp]
) -> Iterator[Keyframes]:
    iframes = decode_iframes(recording.file.path, recording.probe, frame_size, frozenset(wanted.tolist()))
    while batch := list(islice(iframes, _BATCH)):
        times_s = np.array([time_s for _, time_s, _ in batch])
        yield Keyframes(recording.file.video_id, times_s, np.stack([frame for _, _, frame in batch]))


def _choose_frames(recordings: Sequence[Recording]) -> list[NDArray[np.intp]]:
    """Frames of each recording to build the plates from, evenly spread: I-frames if there are enough."""
    candidates = [np.flatnonzero(recording.probe.is_iframe) for recording in recordings]
    if sum(map(len, candidates)) < MIN_IFRAMES:
        candidates = [np.arange(recording.probe.frame_count) for recording in recordings]
    total = sum(map(len, candidates))
    chosen = np.unique(np.linspace(0, total - 1, min(MAX_SAMPLES, total)).astype(np.intp))
    stops = np.cumsum([len(candidate) for candidate in candidates])
    return [
        candidate[chosen[(chosen >= stop - len(candidate)) & (chosen < stop)] - (stop - len(candidate))]
        for candidate, stop in zip(candidates, stops, strict=True)
    ]


def _read_samples(
    recording: Recording, wanted: NDArray[np.intp], frame_size: tuple[int, int]
) -> Iterator[NDArray[np.uint8]]:
    """The wanted frames; of a recording that cannot be read, those before the damage."""
    path, probe = recording.file.path, recording.probe
    places = set(wanted.tolist())
    iframe_count = int(probe.is_iframe.sum())
    try:
        if not probe.is_iframe[wanted].all():
            for index, picture in read_frames(path, probe, 0, max(places)):
                if index in places:
                    yield to_rgb(picture, probe, frame_size)
        elif len(places) >= SEEK_SHARE * iframe_count or not probe.has_frame_times:
            for index, _, frame in decode_iframes(path, probe, frame_size):
                if index in places:
                    yield frame
        else:
            for place in sorted(places):
                for index, picture in read_frames(path, probe, place, place):
                    if index == place:
                        yield to_rgb(picture, probe, frame_size)
    except UnreadableVideoError:
        # The plates come from the other recordings; the decoder quarantines this one with its reason.
        return
