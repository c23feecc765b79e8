"""One night's work on one archive: what the Prefect tasks do, free of Prefect."""

from __future__ import annotations

import dataclasses
import datetime as dt
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from flows.cluster import check_gpus, clear_scratch_of_all_nodes
from flows.nightly.attempts import TRIED_IN_RUNS, with_outlook
from flows.nightly.context import RunContext
from flows.nightly.failures import Failures, describe_changed, describe_damaged, describe_lost
from flows.nightly.plan import (
    DayPlan,
    Lookup,
    is_done,
    look_up,
    plan_days,
    quarantined_record,
    refuse_another_archive,
    sites_of,
    stored_day,
)
from flows.nightly.pool import RunActors
from flows.nightly.progress import Progress
from flows.nightly.stages import StageClock, Work
from flows.nightly.surveying import detection_inputs, survey_day
from flows.quiet import notice
from storage.catalog import check_pin, pin_or_check, video_details, video_of
from storage.layout import CameraDay
from storage.lease import check_lease
from storage.parquet import Footer
from storage.records import VideoRecord
from workers.decode import frame_size
from workers.derive import DeriveJob
from workers.errors import NO_VIDEO_TO_BLAME, ProcessEndedError
from workers.fingerprint import UNREADABLE
from workers.messages import (
    MIN_BEHAVIOUR_FPS,
    ArchiveFile,
    Presence,
    Probe,
    Quarantined,
    Recording,
    Survey,
    scores_behaviour,
)
from workers.scratch import forget, is_remote
from workers.segments import plan_day

DERIVE_TRIES = 3
"""Of tracking a camera-day, which reads no strange file."""


@dataclass(frozen=True, slots=True)
class DayOutcome:
    """What was derived for one camera-day."""

    day: CameraDay
    events: int
    individuals: int


class Night:
    """The work that a run finds, and the means to do it.

    Raises:
        NothingToReadError: the archive holds no file that looks like a video.
        PinnedValueError: the store was begun with another time zone for a site of the archive.
        SettingsError: the store has results of another archive with the same paths.
    """

    def __init__(self, context: RunContext, reprocess: bool, progress: Progress) -> None:
        self.context = context
        self.reprocess = reprocess
        self.progress = progress
        self.clock = StageClock()
        self.lookup: Lookup = look_up(context.archive, context.catalog, context.digests, reprocess)
        check_pin(context.catalog.fs, context.pin(self.lookup.stored_sites))
        if not reprocess:
            refuse_another_archive(self.lookup, context.settings.archive, context.archive, context.out)
        self.frames_decoded = 0
        self.video_s = 0.0
        self.videos = 0
        """That were scored."""
        self.segments = 0
        """That were decoded."""
        self.cuts = 0
        """Segments more than spans."""
        self.blind_videos = 0
        """Of which nothing, or not everything that is empty, could be skipped, since I-frames are too far apart."""
        self.failures = Failures()
        self._derived: set[CameraDay] = set()
        self._failed: dict[CameraDay, list[VideoRecord]] = {}
        self._tried_in_runs = dict(self.lookup.tried_in_runs)
        self._days = threading.BoundedSemaphore(context.settings.camera_days_at_once)
        self._lock = threading.Lock()
        self._actors = RunActors(context, self.clock)
        self._cpus = 1
        self.days_to_score = 0
        """Camera-days that have videos to score; known once the run begins."""

    @contextmanager
    def on_cluster(self, cpus: int) -> Iterator[None]:
        """Work on the Ray cluster that was joined, which has this many processors."""
        self._cpus = cpus
        if self.context.settings.decode.nvdec_share:
            check_gpus(1, "decode.decoder is nvdec", "set it to cpu")
        try:
            self._clear_scratch()
            with self.progress:
                yield
        finally:
            self._actors.clear()
            self._clear_scratch()

    @property
    def cpus(self) -> int:
        """Processors of the cluster."""
        return self._cpus

    @property
    def decode_workers(self) -> int:
        """Decode processes at once, for each camera-day under way."""
        return self.context.settings.decode.workers or max(1, self._cpus // 2)

    @property
    def workers(self) -> dict[str, int]:
        """Of each stage through which frames are streamed, for all camera-days under way; actors do two stages."""
        at_once = min(self.context.settings.camera_days_at_once, max(1, self.days_to_score))
        decoding = min(self.decode_workers * at_once, max(1, self._cpus))
        return {"decode": decoding, "detect": self.actor_count, "infer": self.actor_count}

    @property
    def device(self) -> str:
        """Of the inference actors; empty before they are started."""
        return self._actors.device

    @property
    def actor_count(self) -> int:
        """Inference actors in the pool."""
        return self.context.settings.infer.actors

    def plan(self) -> list[DayPlan]:
        """The camera-days with work, after probing what is new; writes nothing."""
        context, archive = self.context, self.context.settings.archive
        with self.clock.wall("probe"):
            plans = plan_days(
                self.lookup, context.catalog, context.digests, archive, self.reprocess, self._probe_files
            )
        check_pin(context.catalog.fs, context.pin(sites_of(plans, self.lookup)))
        return plans

    def say_what_was_seen(self) -> None:
        """Say what stored objects cannot be used, and that files have changed."""
        if self.lookup.changed:
            notice(describe_changed([file.uri for file in self.lookup.changed]))
        if self.lookup.damaged:
            notice(describe_damaged(self.lookup.damaged))
        if self.lookup.lost:
            notice(describe_lost(self.lookup.lost))

    def begin(self, plans: Sequence[DayPlan]) -> None:
        """Begin the store, if it is new, and the progress bar."""
        self.days_to_score = sum(1 for plan in plans if plan.to_score)
        if self.days_to_score and self.context.scorer_spec(self._cpus).device == "cuda":
            check_gpus(
                self.actor_count,
                f"infer.actors is {self.actor_count}, each with a GPU of its own",
                "take fewer, or set infer.device to cpu",
            )
        pin_or_check(self.context.catalog.fs, self.context.pin(sites_of(plans, self.lookup)))
        if self.days_to_score:
            self._actors.start(self._cpus)
        self.progress.begin(sum(plan.video_s for plan in plans))

    def score_day(self, plan: DayPlan) -> None:
        """Survey, decode, detect and infer the videos of a camera-day that are not done; store detections."""
        with self.failures.noted(plan.day):
            self._score_unfinished(plan)

    def _score_unfinished(self, plan: DayPlan) -> None:
        finished = self.context.catalog.finished_detections(plan.day)
        digests = self.context.digests
        todo = [r for r in plan.to_score if not is_done(r, finished, digests, self.reprocess)]
        if todo:
            with self._days:
                self._score(plan, todo)

    def derive_day(self, plan: DayPlan) -> DayOutcome:
        """Track and segment a camera-day from what is stored, and publish its tables."""
        with self.failures.noted(plan.day):
            return self._derive(plan.day, self._clear(plan))

    def settle_following(self) -> list[DayOutcome]:
        """Derive the days after those of this run anew, where an identity carried over midnight changed.

        In the order of the dates, each looked at after the one before it: a change may be carried on.
        """
        catalog = self.context.catalog
        outcomes = []
        for day in catalog.camera_days():
            before = dataclasses.replace(day, date=day.date - dt.timedelta(days=1))
            if before in self._derived and day not in self.lookup.left_alone:
                held = stored_day(catalog, day, self.context.digests)
                if not held.is_settled:
                    outcomes.append(self._derive(day, held.quarantined))
        return outcomes

    def _clear_scratch(self) -> None:
        """Remove copies of videos that this run or a killed one left."""
        if any(map(is_remote, self.lookup.files)):
            clear_scratch_of_all_nodes(self.context.scratch)

    def _clear(self, plan: DayPlan) -> tuple[VideoRecord, ...]:
        """Remove detections that are of another camera-day now, or of content that a file had before it was
        replaced by one that cannot be read; returns what is quarantined.
        """
        catalog = self.context.catalog
        bad = {video.video_id: video for video in (*plan.quarantined, *self._failed.get(plan.day, ()))}
        for video_id, footer in catalog.finished_detections(plan.day).items():
            own = video_of(footer).fingerprint
            is_replaced = video_id in bad and bad[video_id].fingerprint not in (own, UNREADABLE)
            if video_id in plan.misplaced or is_replaced:
                catalog.delete_detections(plan.day, video_id)
            else:
                bad.pop(video_id, None)
        return tuple(bad.values())

    def _probe_files(self, files: Sequence[ArchiveFile]) -> list[Probe | Quarantined]:
        from ray.exceptions import RayTaskError

        from workers.actors import PROBE_S, probe_file
        from workers.retries import Retried

        found: list[Probe | Quarantined] = []
        tasks = [Retried(file.uri, partial(probe_file.remote, file, self.context.scratch)) for file in files]
        self.clock.add("probe", Work(items=len(files)))
        for file, task in zip(files, tasks, strict=True):
            self._tried_in_runs.pop(file.video_id, None)
            try:
                with self.clock.wall("starting workers") if not found else nullcontext():
                    found.append(task.result())
            except ProcessEndedError:
                reason = (
                    "reading its container ended the process twice: the demuxer fails on it, or came no further for "
                    f"{PROBE_S:g} s, as on a disk that does not answer"
                )
                found.append(Quarantined(file, self.may_pass(file, reason)))
            except RayTaskError as error:
                if isinstance(error.cause, NO_VIDEO_TO_BLAME):
                    raise error.cause from None
                what = f"{type(error.cause).__name__}: {error.cause}"
                found.append(Quarantined(file, f"reading its container failed unexpectedly: {what}"))
        return found

    def _score(self, plan: DayPlan, todo: list[Recording]) -> None:
        from workers.actors import DecodeLimits
        from workers.stream import CameraDayStream, FailedVideo, StreamLimits

        settings = self.context.settings
        size = frame_size(todo[0].probe, settings.decode.frame_height)
        with self.clock.wall("survey"):
            survey = survey_day(self.context, self.clock, plan, todo, size)
        segments = plan_day(
            [(recording, survey.presence[recording.file.video_id]) for recording in todo],
            min(self.decode_workers, self._cpus),
            settings.decode.segment_seconds,
            self.context.model.clip_frames // 2,
        )
        decode = DecodeLimits(
            int(settings.decode.memory_gib * 2**30),
            settings.decode.stall_seconds,
            self.context.scratch,
            gpu_share=settings.decode.nvdec_share,
        )
        actors = self._actors.ready(self._cpus)
        stream = CameraDayStream(
            segments,
            todo,
            survey.plates,
            actors.shared,
            StreamLimits(self.decode_workers, decode, size),
            len(self.context.ethogram.names),
        )
        with (
            self.clock.wall("decode and infer"),
            self._actors.given_up_if_dead(actors),
            closing(iter(stream)) as outcomes,  # where storing fails, its decoders are ended at once
        ):
            for outcome in outcomes:
                if isinstance(outcome, FailedVideo):
                    file, reason = outcome.recording.file, outcome.reason
                    reason = self.may_pass(file, reason) if outcome.may_pass else reason
                    self._quarantine(plan.day, outcome.recording, reason)
                else:
                    self._store(plan.day, outcome, survey)
                forget(outcome.recording.file, self.context.scratch)
                self.progress.advance(outcome.recording.probe.duration_s)

    def may_pass(self, file: ArchiveFile, reason: str) -> str:
        """Count this run as one that tried a video whose process was ended; returns the reason with that."""
        _, stored = self.lookup.stored.get(file.video_id, (None, None))
        is_same = stored is not None and stored.fingerprint == file.fingerprint
        runs = 1 + (self.lookup.tried_in_runs.get(file.video_id, 0) if is_same else 0)
        self._tried_in_runs[file.video_id] = runs
        return with_outlook(reason, runs)

    def _quarantine(self, day: CameraDay, recording: Recording, reason: str) -> None:
        record = quarantined_record(
            recording.file, reason, day.camera, recording.start_time, recording.start_source, recording.probe
        )
        self._failed.setdefault(day, []).append(record)

    def _store(self, day: CameraDay, scored: Any, survey: Survey) -> None:
        """Publish one video's detections with everything that is known about it."""
        context, recording = self.context, scored.recording
        presence = survey.presence[recording.file.video_id]
        frames = scored.frames_decoded - scored.frames_repeated  # the row does not depend on the cuts
        record = video_record(recording, day.camera, frames, scored.decoder, presence)
        footer = Footer(
            table="detections",
            inputs=detection_inputs(recording.file.fingerprint, survey.plates),
            model_digest=context.digests.model,
            config_digest=context.digests.detections,
            behaviours=context.ethogram.names,
            zone=context.settings.archive.zone,
            note=context.note,
            details=video_details(record, [(float(a), float(b)) for a, b in presence.spans_s]),
        )
        check_lease(context.catalog.fs)
        context.catalog.write_detections(day, scored.rows, footer)
        with self._lock:
            self.frames_decoded += scored.frames_decoded
            self.video_s += recording.probe.duration_s
            self.videos += 1
            self.segments += scored.segments
            self.cuts += scored.cuts
            self.blind_videos += presence.blind_s > 0
        self._count(scored)

    def _count(self, scored: Any) -> None:
        decoded = Work(scored.decode_s, scored.frames_decoded, scored.decoded_bytes, scored.decode_peak_bytes)
        self.clock.add("decode", decoded)
        actor_bytes = scored.actor_peak_bytes
        self.clock.add("detect", Work(scored.detect_s, scored.keyframes, peak_bytes=actor_bytes))
        self.clock.add("infer", Work(scored.infer_s, len(scored.rows.frame), peak_bytes=actor_bytes))

    def _derive(self, day: CameraDay, quarantined: tuple[VideoRecord, ...]) -> DayOutcome:
        from workers.actors import derive_day
        from workers.retries import Retried

        check_lease(self.context.catalog.fs)
        tried = {v.video_id: self._tried_in_runs.get(v.video_id, 0) for v in quarantined}
        details = {TRIED_IN_RUNS: {video_id: runs for video_id, runs in tried.items() if runs}}
        job = derive_job(self.context, day, quarantined, details)
        with self.clock.wall("derive"):
            derived = Retried(str(day), partial(derive_day.remote, job), DERIVE_TRIES).result()
        self._derived.add(day)
        return DayOutcome(day, derived.events, derived.individuals)


def derive_job(
    context: RunContext, day: CameraDay, quarantined: tuple[VideoRecord, ...], details: Mapping[str, Any]
) -> DeriveJob:
    """What a camera-day is derived with under the settings of a run."""
    return DeriveJob(
        store=context.out,
        day=day,
        quarantined=quarantined,
        ethogram=context.ethogram,
        tracking=context.tracking,
        zone=context.zone_of(day.site),
        config_digest=context.digests.events,
        refiner=context.refiner,
        details=details,
    )


def video_record(
    recording: Recording, camera: str, frames_decoded: int, decoder: str, presence: Presence
) -> VideoRecord:
    """The row of a video that was read."""
    probe = recording.probe
    remarks = [f"read by {decoder}"] if decoder not in ("", "decord") else []
    if not scores_behaviour(probe.fps):
        remarks.append(
            f"behaviour not scored: {probe.fps:.3g} frames a second are too few, about {MIN_BEHAVIOUR_FPS:g} are needed"
        )
    if presence.blind_s > 0:
        share = min(1.0, presence.blind_s / probe.duration_s)
        remarks.append(
            f"{share:.0%} of it was decoded to see what comes between its I-frames: {presence.reason}"
        )
    done = quarantined_record(
        recording.file, "; ".join(remarks), camera, recording.start_time, recording.start_source, probe
    )
    return dataclasses.replace(done, status="done", frames_decoded=frames_decoded, survey_mode=presence.mode)
