"""What a run works with: settings, ethogram, model, detector and store, checked against each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from flows.errors import SettingsError
from flows.nightly.digests import Digests, digests_of, file_digest
from flows.settings import Settings, load_ethogram
from model.checkpoint import CheckpointInfo, embedded_checkpoint, load_checkpoint
from model.detector import embedded_detector, read_detector_info
from model.engines.choice import EngineSpec, check_engine
from model.errors import ModelError, how_to_install
from model.ethogram import Ethogram
from model.refiner import RefinerInfo, embedded_refiner, load_refiner
from storage.catalog import Catalog, StorePin, check_pin, read_pin
from storage.errors import FormatError
from storage.filesystem import open_filesystem
from workers.archive import list_archive
from workers.detectors import DetectorSpec
from workers.errors import DetectorWeightsError
from workers.score import ScorerSpec
from workers.scratch import SCRATCH_FOLDER, Scratch, default_folder
from workers.stitch import StitchSettings
from workers.track import TrackSettings


@dataclass(frozen=True, slots=True)
class RunContext:
    """Everything that stays the same throughout a run."""

    archive: str
    out: str
    settings: Settings
    ethogram: Ethogram
    model: CheckpointInfo
    checkpoint: Path
    detector: DetectorSpec
    detector_note: str
    """What the detector was trained on; empty where it was not trained."""
    tracking: TrackSettings
    refiner: Path | None
    digests: Digests
    catalog: Catalog

    @property
    def note(self) -> str:
        """What every reader of the results should know about the models."""
        parts = [f"behaviour model {self.model.trained_on}"]
        if self.detector_note:
            parts.append(f"detector {self.detector_note}")
        return "; ".join(parts)

    def pin(self, sites: Iterable[str] = ()) -> StorePin:
        """What a store that this run writes to holds to, of the sites that its archive has recordings of."""
        archive = self.settings.archive
        return StorePin(self.ethogram.names, archive.path_pattern, dict.fromkeys(sites, archive.zone))

    def zone_of(self, site: str) -> str:
        """Time zone of a site: the one that the store holds to, which another archive may have brought."""
        pinned = read_pin(self.catalog.fs)
        return (pinned.zones if pinned else {}).get(site, self.settings.archive.zone)

    @property
    def scratch(self) -> Scratch:
        """Where videos that lie on S3 are fetched to."""
        archive = self.settings.archive
        folder = default_folder() if archive.scratch is None else archive.scratch / SCRATCH_FOLDER
        return Scratch(folder.absolute(), int(archive.scratch_gib * 2**30))

    def scorer_spec(self, cpus: int) -> ScorerSpec:
        """What the inference actors are built from, on a machine with this many processors."""
        infer = self.settings.infer
        device = _device(infer.device)
        return ScorerSpec(
            checkpoint=self.checkpoint,
            detector=self.detector,
            device=device,
            engine=EngineSpec(infer.engine, infer.engine_dir and infer.engine_dir.absolute()),
            batch_clips=infer.batch_clips,
            threads=infer.threads or max(1, cpus // infer.actors),
            behaviours=len(self.ethogram.names),
        )


def open_context(archive: str, out: str, settings: Settings) -> RunContext:
    """Check settings, model and store against each other; writes nothing.

    Raises:
        SettingsError: a model cannot be loaded, or the ethogram does not fit it.
        PinnedValueError: the store was begun with other values.
    """
    ethogram = load_ethogram(settings.ethogram)
    checkpoint = (settings.infer.checkpoint or embedded_checkpoint()).absolute()
    detector = detector_spec(archive, settings)
    try:
        _, model = load_checkpoint(checkpoint)
        detector_digest, detector_note = detector_facts(detector)
        if detector.name in ("coco", "given"):
            detector.build()
        if settings.decode.decoder == "nvdec":
            check_nvdec()
        if settings.infer.engine != "auto":
            check_engine(settings.infer.engine, _device(settings.infer.device))
    except (ModelError, DetectorWeightsError, FormatError, OSError) as error:
        raise SettingsError(str(error)) from error
    if model.behaviours != ethogram.names:
        raise SettingsError(
            f"{settings.ethogram}: the ethogram has {', '.join(ethogram.names)}, but {checkpoint.name} was trained "
            f"for {', '.join(model.behaviours)}; use the model's ethogram, or a model trained for yours"
        )
    tracking = tracking_of(settings)
    refiner, refiner_info = refiner_of(settings)
    if settings.segment.refiner != "auto" and refiner_info is not None:
        _check_refiner(refiner_info, settings.segment.refiner, model)
    fs = open_filesystem(out)
    context = RunContext(
        archive=archive,
        # Not as it was given: other processes of a cluster have another working directory.
        out=fs.uri,
        settings=settings,
        ethogram=ethogram,
        model=model,
        checkpoint=checkpoint,
        detector=detector,
        detector_note=detector_note,
        tracking=tracking,
        refiner=refiner,
        digests=digests_of(
            settings,
            ethogram,
            tracking,
            model.digest[:16],
            detector_digest,
            "" if refiner_info is None else refiner_info.digest[:16],
        ),
        catalog=Catalog(fs),
    )
    check_pin(fs, context.pin())
    return context


def check_nvdec() -> None:
    """Raise ``SettingsError`` where PyNvVideoCodec is not installed."""
    from workers.nvdec import is_installed

    if not is_installed():
        raise SettingsError(
            f"decode.decoder is nvdec, but PyNvVideoCodec is not installed: {how_to_install('nvdec')}"
        )


def tracking_of(settings: Settings) -> TrackSettings:
    """The tracker's settings of a run."""
    stitch = dataclasses.replace(StitchSettings(), max_occlusion_s=settings.track.max_occlusion_s)
    return dataclasses.replace(TrackSettings(), stitch=stitch, max_gap_s=settings.track.max_gap_s)


def refiner_of(settings: Settings) -> tuple[Path | None, RefinerInfo | None]:
    """The weights of the refiner that the settings name, and what they say about themselves.

    Raises:
        SettingsError: they cannot be loaded.
    """
    wanted = settings.segment.refiner
    if wanted == "none":
        return None, None
    path = embedded_refiner() if wanted == "auto" else Path(wanted).absolute()
    try:
        return path, load_refiner(path)[1]
    except ModelError as error:
        raise SettingsError(str(error)) from error


def _check_refiner(refiner: RefinerInfo, path: object, model: CheckpointInfo) -> None:
    if refiner.reads != model.digest:
        raise SettingsError(
            f"{path}: this refiner reads the scores of the checkpoint {refiner.reads[:16]}, not of "
            f"{model.digest[:16]}; name its checkpoint under infer, or train one (aviaflow "
            "train-refiner), or set segment.refiner to none"
        )


def detector_spec(archive: str, settings: Settings) -> DetectorSpec:
    """The detector of a run over an archive."""
    detect = settings.detect
    weights = detect.weights
    if weights is None and detect.detector in ("auto", "learned"):
        weights = embedded_detector()
    uris = tuple((f.video_id, f.uri) for f in list_archive(archive)) if detect.detector == "given" else ()
    return DetectorSpec(
        detect.detector, weights, detect.boxes_csv, uris, detect.min_score, detect.resting_score
    )


def detector_facts(detector: DetectorSpec) -> tuple[str, str]:
    """Digest of the detector's weights or boxes, and what it was trained on."""
    if detector.name in ("auto", "learned"):
        assert detector.weights is not None
        info = read_detector_info(detector.weights)
        return info.digest[:16], f"trained on {info.trained_on}"
    source = detector.boxes_csv if detector.name == "given" else detector.weights
    return (file_digest(source) if source else ""), ("trained on COCO" if detector.name == "coco" else "")


def _device(wanted: str) -> str:
    if wanted != "auto":
        return wanted
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
