"""Segmentation: the score series of each individual of a camera-day becomes bouts.

An individual's span runs from when it came into the picture to when it left it (``visibility.py``). Each instant of it
belongs to exactly one behaviour, to ``unscored``, or to ``not_visible``: holes longer than ``SHORT_HOLE_S``.
During a shorter hole the state before it goes on. A mover that is not of the taxon is ``other`` throughout.
Where there is a refiner for the scores, bouts are made of what it makes of them.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.ethogram import Ethogram
from model.refiner import Refiner, refine
from storage.records import EventRecord, IndividualRecord
from workers.bouts import Floats, Stretch, apply_rules, decide, smooth, stretches
from workers.messages import GRID_HZ, KEYFRAME_STEP
from workers.track import CameraDayTracks, Chain, TrackInput
from workers.visibility import seen_span_s, visible_for_s


@dataclass(frozen=True, slots=True, eq=False)
class _Samples:
    """The boxes of one individual in time order, or of a whole chain; N rows."""

    time_s: Floats
    """On the chain's clock."""
    xyxy: NDArray[np.float32]
    p_behaviour: NDArray[np.float32]
    p_other: NDArray[np.float32]
    p_dynamic: NDArray[np.float32]

    def take(self, rows: NDArray[np.intp]) -> _Samples:
        """Some of the rows."""
        return _Samples(
            self.time_s[rows],
            self.xyxy[rows],
            self.p_behaviour[rows],
            self.p_other[rows],
            self.p_dynamic[rows],
        )


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of an individual's span."""

    behaviour: str
    start_s: float
    end_s: float
    rows: slice
    """Its samples; none where the individual is not visible."""


def segment_camera_day(
    tracks: CameraDayTracks,
    ethogram: Ethogram,
    model_digest: str,
    config_digest: str,
    refiner: Refiner | None = None,
) -> list[EventRecord]:
    """Bouts of all individuals of one camera-day, in the order of their start.

    Bouts go on from one recording to the next where identities do; at the end of a camera-day they are cut. A
    ``refiner`` has learnt to read the scores of these detections; without one they count as they are.

    Raises:
        ValueError: the probabilities are not those of ``ethogram``.
    """
    events: list[EventRecord] = []
    for chain in tracks.chains:
        samples = _chain_samples(chain)
        if samples.p_behaviour.shape[1:] != (len(ethogram.names),) and len(samples.time_s):
            raise ValueError(
                f"the detections hold {samples.p_behaviour.shape[1]} probabilities per box, the ethogram "
                f"{ethogram.name!r} has {len(ethogram.names)}; use the one that the store was made with"
            )
        shown = zip(chain.videos, chain.skipped, strict=True)
        owner = np.concatenate([tracks.owner[video.video_id][skipped:] for video, skipped in shown])
        order = np.argsort(owner, kind="stable")
        name, first = np.unique(owner[order], return_index=True)
        rows_of = np.split(order, first[1:]) if len(name) else []
        for index, rows in zip(name.tolist(), rows_of, strict=True):
            if index < 0:
                continue
            individual = tracks.individuals[index]
            own = _refined(samples.take(rows), refiner)
            for part in _parts(individual, own, chain, ethogram):
                column = ethogram.names.index(part.behaviour) if part.behaviour in ethogram.names else None
                events.append(_event(individual, own, part, column, chain, model_digest, config_digest))
    return sorted(events, key=lambda event: (event.start_time, event.event_id))


def _chain_samples(chain: Chain) -> _Samples:
    parts = [video.detections for video in chain.videos]
    return _Samples(
        chain.times_s(),
        np.concatenate([part.xyxy for part in parts]),
        np.concatenate([part.p_behaviour for part in parts]),
        np.concatenate([part.p_other for part in parts]),
        np.concatenate([part.p_dynamic for part in parts]),
    )


def _refined(samples: _Samples, refiner: Refiner | None) -> _Samples:
    if refiner is None:
        return samples
    place = np.rint(samples.time_s * (GRID_HZ / KEYFRAME_STEP)).astype(np.int64)
    refined = refine(refiner, place, samples.p_behaviour, samples.p_dynamic, samples.xyxy)
    return dataclasses.replace(samples, p_behaviour=refined)


def _parts(
    individual: IndividualRecord, samples: _Samples, chain: Chain, ethogram: Ethogram
) -> Iterator[_Part]:
    """The parts of one individual's span, in order and without gaps."""
    rules = [behaviour.rule for behaviour in ethogram.behaviours]
    begins_s, ends_s = samples.time_s.copy(), samples.time_s + visible_for_s(samples.time_s, chain.step_s)
    begins_s[0], ends_s[-1] = seen_span_s(samples.time_s, samples.xyxy, chain.step_s, chain.recording_at)
    hidden = ends_s[:-1] < begins_s[1:] - 1e-9
    run = np.concatenate([[0], np.cumsum(hidden)]).astype(np.intp)
    if individual.kind == "other":
        state = np.zeros(len(run), np.int64)
    else:
        scores = samples.p_behaviour.astype(np.float64)
        state = decide(smooth(scores, samples.time_s, run, [r.smoothing_s for r in rules]), run, rules)
    bounds = [0, *(np.flatnonzero(hidden) + 1).tolist(), len(run)]
    for first, stop in itertools.pairwise(bounds):
        if first:
            yield _Part("not_visible", float(ends_s[first - 1]), float(begins_s[first]), slice(first, first))
        found = stretches(state[first:stop])
        edges_s = np.append(begins_s[first:stop], ends_s[stop - 1])
        if individual.kind != "other":
            found = apply_rules(found, edges_s, rules)
        for stretch in found:
            behaviour = _state_name(individual, stretch, ethogram)
            rows = slice(first + stretch.first, first + stretch.stop)
            yield _Part(behaviour, float(edges_s[stretch.first]), float(edges_s[stretch.stop]), rows)


def _state_name(individual: IndividualRecord, stretch: Stretch, ethogram: Ethogram) -> str:
    if individual.kind == "other":
        return "other"
    return ethogram.names[stretch.state] if stretch.state >= 0 else "unscored"


def _event(
    individual: IndividualRecord,
    samples: _Samples,
    part: _Part,
    column: int | None,
    chain: Chain,
    model_digest: str,
    config_digest: str,
) -> EventRecord:
    position = chain.number_at(part.start_s)
    video, video_start_s = chain.videos[position], chain.starts_s[position]
    start_time = chain.epoch + dt.timedelta(seconds=part.start_s)
    start_s, end_s = part.start_s - video_start_s, part.end_s - video_start_s
    score = samples.p_other[part.rows] if part.behaviour == "other" else np.zeros(0)
    if column is not None:
        score = samples.p_behaviour[part.rows, column]
    p_dynamic = _mean(samples.p_dynamic[part.rows])
    box = samples.xyxy[part.rows]
    x1, y1, x2, y2 = (_mean(box[:, corner]) for corner in range(4))
    key = f"{individual.individual_id}/{start_time.isoformat()}"
    return EventRecord(
        event_id=hashlib.blake2b(key.encode(), digest_size=8).hexdigest(),
        camera=individual.camera,
        video_id=video.video_id,
        individual_id=individual.individual_id,
        behaviour=part.behaviour,
        start_time=start_time,
        end_time=chain.epoch + dt.timedelta(seconds=part.end_s),
        start_s=start_s,
        end_s=end_s,
        start_frame=_frame_at(video, start_s),
        end_frame=_frame_at(video, end_s),
        duration_s=part.end_s - part.start_s,
        score_mean=_mean(score),
        score_peak=float(np.nanmax(score)) if not np.isnan(score).all() else float("nan"),
        motion="" if np.isnan(p_dynamic) else "dynamic" if p_dynamic >= 0.5 else "static",
        p_dynamic=p_dynamic,
        x1=x1,
        y1=y1,
        x2=x2,
        y2=y2,
        observations=part.rows.stop - part.rows.start,
        model_digest=model_digest,
        config_digest=config_digest,
    )


def _mean(values: NDArray[np.floating]) -> float:
    """Mean of what is known; NaN where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean(dtype=np.float64)) if known.size else float("nan")


def _frame_at(video: TrackInput, time_s: float) -> int:
    """The frame shown at a time, reckoned from the nearest keyframe with a box.

    At keyframes it is exact even where the frame rate varies; beyond the video's end it counts on.
    """
    known_s = video.detections.time_s
    if not known_s.size:
        return round(time_s * video.fps)
    after = min(int(np.searchsorted(known_s, time_s)), known_s.size - 1)
    nearest = after - 1 if after and time_s - known_s[after - 1] < known_s[after] - time_s else after
    return int(video.detections.frame[nearest]) + round((time_s - float(known_s[nearest])) * video.fps)
