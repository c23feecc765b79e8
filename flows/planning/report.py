"""The prediction for an archive, as one JSON document and as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flows.nightly.profile import profile_document, profile_run, profile_table
from flows.nightly.stages import StageClock, Work
from flows.planning.archive import ArchiveOutline, outline_archive
from flows.planning.loads import DayLoad, load_days
from flows.planning.rates import KEYFRAMES_PER_S, Hardware, Measured, last_measured, means_for, rates_for
from flows.planning.simulation import CHUNK_S, Means, Simulated, SimulatedRun
from flows.settings import ArchiveSettings
from storage.catalog import read_pin
from storage.filesystem import open_filesystem

ALWAYS = (
    "decode and survey processes are as fast as in the profile, however many there are and whatever else the "
    "processors do",
    "deriving a camera-day takes what it took in the profile, and so does starting up",
    "pictures are of the size, and animals as many, as in the profile",
)
"""What every prediction takes for granted."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a run of an archive would take."""

    outline: ArchiveOutline
    run: Measured
    hardware: Hardware
    means: Means
    days: Sequence[DayLoad]
    present_s: float
    simulated: Simulated
    assumptions: Sequence[str]

    @property
    def memory_mb(self) -> dict[str, float]:
        """Of what a run starts, at most, beside Ray, Prefect and the process that drives them."""
        decoding = self.means.workers(len(self.days))["decode"]
        chunk_mb = CHUNK_S * self.run.decoded_bytes_per_s / 1e6
        return {
            "decode processes": round(decoding * self.run.decode_peak_mb),
            "actors": round(self.means.actors * self.run.actor_peak_mb),
            "chunks": round((self.simulated.most_chunks + decoding) * chunk_mb),
        }


def predict_archive(archive: str, store: str, hardware: Hardware, share: float | None = None) -> Prediction:
    """Predict a run of a whole archive from the last run of another store.

    Args:
        archive: folder of videos.
        store: with the record of a measured run; paths are read as there.
        hardware: that the run is to have.
        share: of the video in which something is there; by default that of the profile.

    Raises:
        PlanError: the profile does not say enough for that.
        NothingToReadError: no file has a header that tells its length.
    """
    fs = open_filesystem(store)
    run, pin = last_measured(fs), read_pin(fs)
    settings = ArchiveSettings()
    pattern = pin.path_pattern if pin else settings.path_pattern
    outline = outline_archive(archive, pattern, pin.zones if pin else {}, settings.site)
    return predict(outline, run, hardware, share)


def predict(
    outline: ArchiveOutline, run: Measured, hardware: Hardware, share: float | None = None
) -> Prediction:
    """Predict a run of an archive that was looked at.

    Raises:
        PlanError: the profile does not say enough for that hardware.
    """
    means = means_for(hardware, run)
    rates, assumptions = rates_for(hardware, means.actors, run)
    presence = run.presence if share is None else replace(run.presence, share=share)
    days = load_days(outline.videos, presence, min(means.decode_workers, means.cpus))
    simulated = SimulatedRun(days, outline.files, rates, means).run()
    present_s = outline.video_s * presence.share
    _count_items(simulated.clock, run, present_s)
    return Prediction(outline, run, hardware, means, days, present_s, simulated, (*assumptions, *ALWAYS))


def _count_items(clock: StageClock, run: Measured, present_s: float) -> None:
    """What would leave the stages, beside the time that they would take."""
    decoded_bytes = round(run.decoded_bytes_per_s * present_s)
    frames, individuals = round(run.frames_per_s * present_s), round(run.individuals_per_s * present_s)
    decode_bytes, actor_bytes = round(run.decode_peak_mb * 1e6), round(run.actor_peak_mb * 1e6)
    clock.add("decode", Work(items=frames, num_bytes=decoded_bytes, peak_bytes=decode_bytes))
    if "detect" in clock.work:  # not where one rate was given for both
        clock.add("detect", Work(items=round(KEYFRAMES_PER_S * present_s), peak_bytes=actor_bytes))
    clock.add("infer", Work(items=individuals, peak_bytes=actor_bytes))


def plan_document(prediction: Prediction) -> dict[str, Any]:
    """The prediction as JSON values."""
    outline, means, wall_s = prediction.outline, prediction.means, prediction.simulated.wall_s
    profile = profile_run(
        prediction.simulated.clock,
        means.workers(len(prediction.days)),
        wall_s=wall_s,
        video_s=outline.video_s,
        device=prediction.hardware.device,
    )
    return {
        "videos": len(outline.videos),
        "video_s": round(outline.video_s, 1),
        "present_s": round(prediction.present_s, 1),
        "camera_days": len(prediction.days),
        "left_out": dict(outline.left_out),
        "cpus": means.cpus,
        "gpus": prediction.hardware.gpus,
        "decode_workers": means.decode_workers,
        "actors": means.actors,
        "wall_s": round(wall_s, 1),
        "realtime_factor": round(profile.realtime_factor, 2),
        "limiting_stage": profile.limiting_stage,
        "profile": profile_document(profile),
        "memory_mb": prediction.memory_mb,
        "measured_at": prediction.run.ended_at,
        "assumptions": list(prediction.assumptions),
    }


def describe_prediction(plan: Mapping[str, Any]) -> str:
    """The document for a person to read."""
    share = plan["present_s"] / plan["video_s"] if plan["video_s"] else 0.0
    memory = ", ".join(f"{what} {mb / 1000:.1f} GB" for what, mb in plan["memory_mb"].items())
    lines = [
        f"videos: {plan['videos']}, {plan['video_s'] / 3600:.2f} h, something there for {share:.0%} of it; "
        f"camera-days: {plan['camera_days']}",
        f"processors: {plan['cpus']}, GPUs: {plan['gpus']}, actors: {plan['actors']}, decode workers for each "
        f"camera-day: {plan['decode_workers']}",
        f"about {plan['wall_s'] / 60:.1f} min ({plan['realtime_factor']:.1f}x real time)",
        "",
        *profile_table(plan["profile"]),
        f"memory at most, beside Ray and Prefect: {memory}",
        "",
        f"predicted from the run that ended at {plan['measured_at']}; taken for granted:",
        *(f"  {assumption}" for assumption in plan["assumptions"]),
    ]
    lines += [f"left out: {uri}: {reason}" for uri, reason in plan["left_out"].items()]
    return "\n".join(lines)
