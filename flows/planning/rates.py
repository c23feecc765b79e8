"""What the record of a run says about how fast its stages are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flows.errors import PlanError
from flows.nightly.profile import STREAMED
from flows.nightly.scale import RunScale
from flows.planning.loads import Presence, even_days
from flows.planning.simulation import Means, Rates, SimulatedRun
from storage.filesystem import StoreFilesystem
from storage.runs import read_runs
from workers.messages import GRID_HZ, KEYFRAME_STEP

KEYFRAMES_PER_S = GRID_HZ / KEYFRAME_STEP
HALVINGS = 14
"""Of the interval in which the start of a process lies: to a few ten-thousandths of it."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One run, as far as it tells how others will go."""

    ended_at: str
    device: str
    """Of its actors: ``cpu`` or ``cuda``."""
    scale: RunScale
    rates: Rates
    frames_per_s: float
    """Decoded frames for a second of video in which something is there; so the next two."""
    individuals_per_s: float
    decoded_bytes_per_s: float
    decode_peak_mb: float
    """Most memory that one decode process had resident."""
    actor_peak_mb: float

    @property
    def presence(self) -> Presence:
        """How much of its videos was looked at, in pieces of which length."""
        scale = self.scale
        share = min(1.0, scale.present_s / scale.video_s)
        return Presence(share, scale.present_s / (scale.segments - scale.cuts), scale.segment_s)


def last_measured(fs: StoreFilesystem) -> Measured:
    """What the last run of a store that scored any video measured.

    Raises:
        PlanError: there is none, or an earlier Aviaflow wrote its record.
    """
    scored = [record for record in read_runs(fs) if record.get("video_s", 0) > 0]
    if not scored:
        raise PlanError(
            f"{fs.uri}: no run of this store scored a video, so nothing is measured; run `aviaflow run` on some "
            "videos into a new store, and name that as the profile"
        )
    if "scale" not in scored[-1]:
        raise PlanError(
            f"{fs.uri}: an earlier Aviaflow wrote the record of the last run, without what a plan needs; run "
            "`aviaflow run` on some videos into a new store, and name that as the profile"
        )
    return measured(scored[-1])


def measured(record: Mapping[str, Any]) -> Measured:
    """What the record of a run that scored video measured.

    Raises:
        PlanError: nothing was there in its videos.
    """
    scale = RunScale(**record["scale"])
    if scale.present_s <= 0 or scale.segments == 0:
        raise PlanError(
            "the profile's run found nothing in its videos, so neither decoding nor scoring was measured; name the "
            "store of a run with animals in it"
        )
    stages = {stage["stage"]: stage for stage in record["profile"]["stages"]}
    streamed_s = record["profile"]["phases_s"][STREAMED]
    decode = stages["decode"]
    run = Measured(
        ended_at=str(record.get("ended_at", "")),
        device=record["profile"]["device"],
        scale=scale,
        rates=_rates(
            scale,
            {name: stage["busy_s"] for name, stage in stages.items()},
            record["profile"]["phases_s"].get("starting actors", 0.0),
        ),
        frames_per_s=decode["items"] / scale.present_s,
        individuals_per_s=stages["infer"]["items"] / scale.present_s,
        decoded_bytes_per_s=decode["mb_per_s"] * 1e6 * streamed_s / scale.present_s,
        decode_peak_mb=decode["peak_mb"],
        actor_peak_mb=stages["infer"]["peak_mb"],
    )
    return with_starts(run)


def _rates(scale: RunScale, busy_s: Mapping[str, float], awaited_s: float) -> Rates:
    """All but the starts of processes, which no clock of the run counts.

    Actors load their weights beside the first survey, so that its time and what was waited after it bound theirs.
    """
    summed_s, present_s = scale.phase_sums_s, scale.present_s
    starting_s = summed_s.get("starting workers", 0.0)
    probing_s = max(0.0, summed_s.get("probe", 0.0) - starting_s)
    return Rates(
        start_s=scale.overhead_s + starting_s,
        probe_s=probing_s * min(scale.cpus, scale.files) / scale.files,
        plates_s=summed_s.get("plates", 0.0) / scale.camera_days,
        survey_start_s=0.0,
        survey_s=scale.survey_busy_s / scale.video_s,
        actors_s=summed_s.get("survey", 0.0) / scale.camera_days + awaited_s,
        decode_start_s=0.0,
        decode_s=busy_s["decode"] / present_s,
        detect_s=busy_s["detect"] / present_s,
        infer_s=busy_s["infer"] / present_s,
        derive_s=summed_s.get("derive", 0.0) / scale.camera_days,
    )


def with_starts(run: Measured) -> Measured:
    """The same with the starts of processes with which the run, simulated, takes as long as it did.

    They take up what no stage counts: importing, building a detector, storing rows. 0 where the stages explain all.
    """
    scale = run.scale
    workers = min(scale.decode_workers, scale.cpus)
    days = even_days(scale.camera_days, scale.videos, scale.video_s, run.presence, workers)
    means = Means(scale.cpus, scale.decode_workers, scale.actors, scale.camera_days_at_once)

    def summed_s(rates: Rates, phase: str) -> float:
        return SimulatedRun(days, scale.files, rates, means).run().clock.summed_s.get(phase, 0.0)

    def with_survey(start_s: float) -> Rates:
        return dataclasses.replace(run.rates, survey_start_s=start_s)

    wanted_s = scale.phase_sums_s.get("survey", 0.0)
    surveying = with_survey(_start_for(lambda start_s: summed_s(with_survey(start_s), "survey"), wanted_s))

    def with_decode(start_s: float) -> Rates:
        return dataclasses.replace(surveying, decode_start_s=start_s)

    wanted_s = scale.phase_sums_s[STREAMED]
    rates = with_decode(_start_for(lambda start_s: summed_s(with_decode(start_s), STREAMED), wanted_s))
    return dataclasses.replace(run, rates=rates)


def _start_for(simulated_s: Callable[[float], float], wanted_s: float) -> float:
    """The largest start with which a phase takes no longer than wanted, at least 0."""
    low, high = 0.0, wanted_s
    if simulated_s(low) >= wanted_s:
        return low
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if simulated_s(middle) < wanted_s else (low, middle)
    return low


@dataclass(frozen=True, slots=True)
class Hardware:
    """What the planned run is to have."""

    cpus: int
    gpus: int
    actors: int | None = None
    """By default one for each GPU, or one."""
    decode_workers: int | None = None
    """For each camera-day under way; by default half of the processors."""
    clips_per_s: float | None = None
    """Keyframes that one actor detects and scores in a second, if that was measured."""

    @property
    def device(self) -> str:
        """Of the actors."""
        return "cuda" if self.gpus else "cpu"


def means_for(hardware: Hardware, run: Measured) -> Means:
    """Workers as ``aviaflow run`` would start them.

    Raises:
        PlanError: each actor takes a GPU, and there are more actors.
    """
    actors = hardware.actors or max(1, hardware.gpus)
    if hardware.gpus and actors > hardware.gpus:
        raise PlanError(
            f"{actors} actors on {hardware.gpus} GPUs: each takes one; give --actors {hardware.gpus} or less"
        )
    decoding = hardware.decode_workers or max(1, hardware.cpus // 2)
    return Means(hardware.cpus, decoding, actors, run.scale.camera_days_at_once)


def rates_for(hardware: Hardware, actors: int, run: Measured) -> tuple[Rates, Sequence[str]]:
    """Rates on other hardware than the profile's, and what is taken for granted, in words.

    Raises:
        PlanError: the profile's actors ran on another kind of device, and no rate was given.
    """
    if hardware.clips_per_s is not None:
        scored_s = KEYFRAMES_PER_S / hardware.clips_per_s
        rates = dataclasses.replace(run.rates, detect_s=0.0, infer_s=scored_s)
        note = f"an actor detects and scores {hardware.clips_per_s:g} keyframes a second, as given"
        return rates, (note, *_about_starting(hardware, run))
    if hardware.device != run.device:
        raise PlanError(
            f"the profile was measured on {run.device}, which says nothing of an actor on {hardware.device}: give "
            "--clips-per-s with its measured rate (make bench-gpu), or the store of a run there as --profile"
        )
    if run.device == "cuda":
        return run.rates, ("GPUs are those of the profile",)
    return _with_threads(run, max(1, hardware.cpus // actors))


def _with_threads(run: Measured, threads: int) -> tuple[Rates, Sequence[str]]:
    """An actor with fewer threads is slower in proportion; one with more is taken for no faster."""
    measured_with = run.scale.threads
    slower = max(1.0, measured_with / threads)
    rates = dataclasses.replace(
        run.rates, detect_s=run.rates.detect_s * slower, infer_s=run.rates.infer_s * slower
    )
    if threads == measured_with:
        return rates, (f"an actor has {threads} CPU threads, as in the profile",)
    if threads < measured_with:
        return rates, (
            f"an actor has {threads} CPU threads and {measured_with} in the profile: taken as slower in proportion",
        )
    return rates, (
        f"an actor has {threads} CPU threads and {measured_with} in the profile: taken as no faster, since that was "
        "not measured; more --actors use the processors, or give --clips-per-s",
    )


def _about_starting(hardware: Hardware, run: Measured) -> Sequence[str]:
    if hardware.device == run.device:
        return ()
    return (f"starting actors takes as long as on {run.device}; on CUDA compiling comes to that",)
