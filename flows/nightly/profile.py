"""Which stage a run waited for, and why: what each stage's workers did, in numbers and in a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from flows.nightly.stages import StageClock, Work

PHASES = ("probe", "survey", "starting actors", "decode and infer", "derive")
STREAMED = "decode and infer"
"""The phase in which frames go from decode workers to inference actors; the others prepare it, or follow it."""
BUSY_SHARE = 0.6
"""Where no worker was busy for this share of the time, the run waited for something else than work."""
UNITS = {"decode": "frames", "detect": "keyframes", "infer": "individuals"}
"""What the items of each stage are."""


@dataclass(frozen=True, slots=True)
class StageProfile:
    """One row: a stage of the streamed phase."""

    stage: str
    workers: int
    busy_s: float
    """Over all workers."""
    waiting_s: float
    """Over all workers, for frames or for room to put them. Detect and infer share theirs: it stands at both."""
    items: int
    unit: str
    items_per_s: float
    """Of one worker that is busy."""
    mb_per_s: float
    """Megabytes that left the stage in a second of the phase."""
    peak_mb: float
    """Most memory that one of its processes had resident. Detect and infer share theirs."""

    @property
    def busy_share(self) -> float:
        """Of its workers' time."""
        return self.busy_s / max(1e-9, self.busy_s + self.waiting_s)


@dataclass(frozen=True, slots=True)
class RunProfile:
    """Where the time of one run went."""

    stages: tuple[StageProfile, ...]
    phases_s: Mapping[str, float]
    """Wall time by phase."""
    wall_s: float
    video_s: float
    """Of new video."""
    device: str
    """Of the actors: ``cpu`` or ``cuda``."""
    actors: int
    limiting_stage: str
    """Empty where no stage of the streamed phase did anything."""
    why: str

    @property
    def realtime_factor(self) -> float:
        """Seconds of video for each second of the run."""
        return self.video_s / max(1e-9, self.wall_s)

    @property
    def video_hours_per_day(self) -> float:
        """That a day of such work is enough for: on each GPU, or on the processors together."""
        per_day = 24 * self.realtime_factor
        return per_day / self.actors if self.device == "cuda" else per_day


def profile_run(
    clock: StageClock, workers: Mapping[str, int], *, wall_s: float, video_s: float, device: str
) -> RunProfile:
    """Sum up what a clock counted.

    Args:
        clock: of the run.
        workers: that the run had for each stage of the streamed phase.
        wall_s: of the whole run.
        video_s: seconds of new video.
        device: of the inference actors.
    """
    phases_s = clock.wall_s
    streamed_s = phases_s.get(STREAMED, 0.0)
    shared_s = sum(clock.busy_s.get(stage, 0.0) for stage in ("detect", "infer"))
    stages = tuple(
        _stage(name, work, workers[name], streamed_s, work.busy_s if name == "decode" else shared_s)
        for name, work in clock.work.items()
        if name in UNITS
    )
    limiting, why = _explain(stages, phases_s, wall_s, device)
    return RunProfile(stages, phases_s, wall_s, video_s, device, workers["infer"], limiting, why)


def _stage(name: str, work: Work, workers: int, streamed_s: float, taken_s: float) -> StageProfile:
    return StageProfile(
        stage=name,
        workers=workers,
        busy_s=round(work.busy_s, 3),
        waiting_s=round(max(0.0, workers * streamed_s - taken_s), 3),
        items=work.items,
        unit=UNITS[name],
        items_per_s=round(work.items / max(1e-9, work.busy_s), 2),
        mb_per_s=round(work.num_bytes / 1e6 / max(1e-9, streamed_s), 2),
        peak_mb=round(work.peak_bytes / 1e6, 1),
    )


def _explain(
    stages: Sequence[StageProfile], phases_s: Mapping[str, float], wall_s: float, device: str
) -> tuple[str, str]:
    """The stage that the streamed phase waited for, and what held the run up, in a sentence."""
    by_name = {stage.stage: stage for stage in stages}
    if "decode" not in by_name:
        return "", "no frame was decoded"
    decode, inference = by_name["decode"], [by_name[name] for name in ("detect", "infer") if name in by_name]
    decoding = decode.busy_share
    inferring = sum(s.busy_s for s in inference) / max(
        1e-9, sum(s.busy_s for s in inference) + max((s.waiting_s for s in inference), default=0.0)
    )
    slowest = max(inference, key=lambda stage: stage.busy_s, default=decode)
    limiting = decode.stage if decoding >= inferring else slowest.stage
    actors = slowest.workers
    shares = (
        f"{_counted(decode.workers, 'decode worker')} at {decoding:.0%}, "
        f"{_counted(actors, 'inference actor')} at {inferring:.0%}"
    )
    other = {phase: s for phase, s in phases_s.items() if phase != STREAMED}
    longest = max(other, key=other.__getitem__, default="")
    if longest and other[longest] > phases_s.get(STREAMED, 0.0):
        return limiting, f"{longest}-bound: it took {other[longest]:.0f} of {wall_s:.0f} s; then {shares}"
    if max(decoding, inferring) < BUSY_SHARE:
        return limiting, (
            f"bound by none of the stages: {shares}; the run was short beside starting up, or its camera-days "
            "were (camera_days_at_once)"
        )
    if limiting == "decode":
        return limiting, f"decode-bound: {shares}; add decode workers (decode.workers) on more processors"
    remedy = "another GPU (infer.actors)" if device == "cuda" else "a GPU, or more processors"
    return limiting, f"{limiting}-bound: {shares}; add {remedy}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def profile_document(profile: RunProfile) -> dict[str, Any]:
    """The profile as JSON values: of ``run --json``, of the store's record of the run, of the metrics."""
    return {
        "stages": [{**asdict(stage), "busy_share": round(stage.busy_share, 4)} for stage in profile.stages],
        "phases_s": dict(profile.phases_s),
        "device": profile.device,
        "why": profile.why,
        "video_hours_per_day": round(profile.video_hours_per_day, 1),
    }


def profile_table(document: Mapping[str, Any]) -> list[str]:
    """Lines for a terminal: a row a stage, the phases, and the sentence."""
    head = (
        f"{'stage':<8}{'workers':>8}{'busy s':>9}{'waiting s':>11}{'busy':>7}{'items':>20}{'items/s':>10}"
        f"{'MB/s':>8}{'peak MB':>9}"
    )
    rows = [
        f"{s['stage']:<8}{s['workers']:>8}{s['busy_s']:>9.1f}{s['waiting_s']:>11.1f}{s['busy_share']:>7.0%}"
        f"{str(s['items']) + ' ' + s['unit']:>20}{s['items_per_s']:>10.1f}{s['mb_per_s']:>8.1f}{s['peak_mb']:>9.0f}"
        for s in document["stages"]
    ]
    phases_s = document["phases_s"]
    phases = ", ".join(f"{phase} {phases_s[phase]:.1f} s" for phase in PHASES if phase in phases_s)
    per = "each GPU" if document["device"] == "cuda" else "this machine"
    rate = f"{document['video_hours_per_day']:.0f} video-hours a day on {per} at this rate"
    return [head, *rows, f"phases: {phases}", document["why"], rate]
