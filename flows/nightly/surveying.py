"""The survey of a camera-day, on the cluster: its background plates, and when something is there in each video."""

from __future__ import annotations

from functools import partial

from flows.nightly.context import RunContext
from flows.nightly.plan import DayPlan
from flows.nightly.stages import StageClock, Work
from storage.plates import PlateRecord
from workers.errors import ProcessEndedError
from workers.messages import Plate, Presence, Recording, Survey
from workers.scratch import Scratch


def survey_day(
    context: RunContext, clock: StageClock, plan: DayPlan, todo: list[Recording], size: tuple[int, int]
) -> Survey:
    """When something is there, by the stored plates, or by new ones, which are stored first."""
    import ray

    from workers.actors import survey_recording
    from workers.retries import Retried
    from workers.survey import whole_video

    settings, detector = context.settings.survey, context.detector
    with clock.wall("plates"):
        plates = _plates(context, plan, size)
    if not settings.skip_empty or detector.name == "given":
        reason = "every file is to be decoded whole"
        return Survey(plates, {r.file.video_id: whole_video(r, reason) for r in todo})
    finder = None if detector.name == "motion" else detector
    shared, scratch = ray.put(plates), context.scratch
    gap_s = settings.max_iframe_gap_s
    looking = [
        Retried(r.file.uri, partial(survey_recording.remote, r, size, shared, finder, gap_s, scratch))
        for r in todo
    ]
    presence: dict[str, Presence] = {}
    for recording, found in zip(todo, looking, strict=True):
        try:
            presence[recording.file.video_id], busy_s = found.result()
            clock.add("survey", Work(busy_s, 1))
        except ProcessEndedError:
            presence[recording.file.video_id] = whole_video(recording, "its I-frames end the process")
    return Survey(plates, presence)


def _plates(context: RunContext, plan: DayPlan, size: tuple[int, int]) -> tuple[Plate, ...]:
    """The stored plates, or new ones from the whole camera-day; a recording that ends a process is left out."""
    catalog = context.catalog
    stored = catalog.read_plates(plan.day)
    if stored is not None and all(plate.noise.shape == size for plate in stored):
        return tuple(Plate(p.plate_id, p.regime, p.pixels, p.noise) for p in stored)
    plates: tuple[Plate, ...] = ()
    try:
        plates = _new_plates(context.scratch, str(plan.day), list(plan.surveyed_with), size)
    except ProcessEndedError:
        sound = [recording for recording in plan.surveyed_with if _is_sound(context.scratch, recording, size)]
        plates = _new_plates(context.scratch, str(plan.day), sound, size)
    catalog.write_plates(plan.day, [PlateRecord(p.plate_id, p.regime, p.pixels, p.noise) for p in plates])
    return plates


def _new_plates(
    scratch: Scratch, what: str, recordings: list[Recording], size: tuple[int, int]
) -> tuple[Plate, ...]:
    from workers.actors import build_plates
    from workers.retries import Retried

    build = partial(build_plates.remote, recordings, size, scratch)
    plates: tuple[Plate, ...] = Retried(what, build).result()
    return plates


def _is_sound(scratch: Scratch, recording: Recording, size: tuple[int, int]) -> bool:
    try:
        _new_plates(scratch, recording.file.uri, [recording], size)
    except ProcessEndedError:
        return False
    return True
