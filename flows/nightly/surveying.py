"""The survey of a camera-day, on the cluster: its background plates, and when something is there in each video."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from flows.nightly.context import RunContext
from flows.nightly.plan import DayPlan
from flows.nightly.stages import StageClock, Work
from flows.quiet import notice
from flows.settings import digest
from storage.catalog import Catalog
from storage.errors import CorruptObjectError
from storage.layout import CameraDay
from storage.parquet import Footer
from storage.plates import PlateRecord
from workers.errors import ProcessEndedError
from workers.messages import Plate, Presence, Recording, Survey
from workers.scratch import Scratch


def survey_day(
    context: RunContext, clock: StageClock, plan: DayPlan, todo: list[Recording], size: tuple[int, int]
) -> Survey:
    """When something is there, by the plates of this camera-day's recordings, which are stored first."""
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
    """The stored plates of these recordings, or new ones; a recording that ends a process is left out.

    With a recording that came later the empty scene is another one: of a first hour at night it is that of the night.
    The plates with which stored detections were made stay beside the new ones.
    """
    catalog = context.catalog
    made_of = digest(sorted(recording.file.fingerprint for recording in plan.surveyed_with))
    stored = _stored_plates(catalog, plan.day)
    fitting = [plate for plate in stored if plate.made_of == made_of and plate.noise.shape == size]
    if fitting:
        return tuple(Plate(p.plate_id, p.regime, p.pixels, p.noise) for p in fitting)
    plates: tuple[Plate, ...] = ()
    try:
        plates = _new_plates(context.scratch, str(plan.day), list(plan.surveyed_with), size)
    except ProcessEndedError:
        sound = [recording for recording in plan.surveyed_with if _is_sound(context.scratch, recording, size)]
        plates = _new_plates(context.scratch, str(plan.day), sound, size)
    new = {p.plate_id: PlateRecord(p.plate_id, p.regime, p.pixels, p.noise, made_of) for p in plates}
    used = {name for footer in catalog.finished_detections(plan.day).values() for name in plates_used(footer)}
    kept = [plate for plate in stored if plate.plate_id in used - new.keys()]
    catalog.write_plates(plan.day, [*kept, *new.values()])
    return plates


def _stored_plates(catalog: Catalog, day: CameraDay) -> tuple[PlateRecord, ...]:
    try:
        return catalog.read_plates(day) or ()
    except CorruptObjectError as error:
        notice(
            f"{error}; they are made again, those of videos that were scored before are lost to `aviaflow replay`"
        )
        return ()


def detection_inputs(fingerprint: str, plates: Iterable[Plate]) -> str:
    """What a video's detections were made of, as their footer has it."""
    return f"{fingerprint}/{','.join(plate.plate_id for plate in plates)}"


def plates_used(footer: Footer) -> list[str]:
    """The plates that a video's detections were made with."""
    return footer.inputs.partition("/")[2].split(",")


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
