"""Settings of a run: YAML read into frozen, checked models. The only module that reads YAML."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from flows.errors import SettingsError
from model.ethogram import Behaviour, BoutRule, Ethogram

if TYPE_CHECKING:
    from flows.training.settings import TrainSettings

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
Model = TypeVar("Model", bound=BaseModel)
PATH_GROUPS = frozenset({"site", "camera", "time"})
DetectorName = Literal["auto", "motion", "learned", "coco", "given"]
EngineSetting = Literal["auto", "torch", "onnxruntime", "tensorrt", "tensorrt-rtx"]


class _Frozen(BaseModel):
    """Upper bounds of durations and sizes are there to catch milliseconds and megabytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ArchiveSettings(_Frozen):
    """How an archive's paths are read; pinned in the store at its first run."""

    path_pattern: str = (
        r"(?:.*/)?(?P<site>[^/]+)/(?P<camera>[^/]+)/(?P=camera)_(?P<time>\d{8}T\d{6}Z?)\.[A-Za-z0-9]+"
    )
    """Regular expression over the archive-relative path with the groups site, camera and time."""
    site: str = "site"
    """Site of files whose path does not match the pattern."""
    zone: str = "UTC"
    """IANA time zone of the site: decides on which local date a recording starts."""
    scratch: Path | None = None
    """Folder for copies of videos that lie on S3; by default one in the system's place for temporary files."""
    scratch_gib: float = Field(default=20.0, gt=0, le=65536)
    """Space that the copies may take on each machine, all runs together; a run waits where it is used up."""

    @field_validator("path_pattern")
    @classmethod
    def _usable_pattern(cls, pattern: str) -> str:
        try:
            groups = set(re.compile(pattern).groupindex)
        except re.error as error:
            raise ValueError(f"no regular expression: {error}") from error
        if not groups or not groups <= PATH_GROUPS:
            raise ValueError(
                f"needs one or more of the named groups {', '.join(sorted(PATH_GROUPS))} and no other, "
                f"has {', '.join(sorted(groups)) or 'none'}"
            )
        return pattern

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"{zone!r} is no IANA time zone; write for example Asia/Shanghai") from error
        return zone


class SurveySettings(_Frozen):
    """What is looked at. A visit of ``v`` seconds touches one of the I-frames, ``g`` seconds apart, with a probability
    of ``min(1, v / g)``, whenever it begins; if it does, all of it is decoded.
    """

    skip_empty: bool = True
    """False decodes every file from end to end."""
    recall_target: float = Field(default=0.99, gt=0, le=1)
    """Least share of visits of the shortest length that touch an I-frame, and of longer ones in any case more. Where
    I-frames are too far apart for that, what lies between them is decoded, whatever is in them. Of a visit that
    touches one it is not said that a detector sees it there."""
    shortest_visit_s: float = Field(default=2.0, gt=0, le=600)
    """Length of the visits that the target is for."""

    @property
    def max_iframe_gap_s(self) -> float:
        """Longest stretch between two empty I-frames that is not decoded."""
        return self.shortest_visit_s / self.recall_target


class DecodeSettings(_Frozen):
    """How frames are read."""

    frame_height: int = Field(default=216, ge=64, le=2160, multiple_of=2)
    """Lines of the decoded frames; the width follows the video's aspect."""
    workers: int | None = Field(default=None, ge=1)
    """Decode processes at once for each camera-day under way; by default half of the processors."""
    segment_seconds: float | None = Field(default=None, ge=2.0, le=86400)
    """A longer span is cut at multiples of this, where there is an I-frame between them; by default at I-frames, and
    only where decode workers would be idle otherwise. Results do not depend on it."""
    memory_gib: float = Field(default=4.0, gt=0.5, le=1024)
    """Address space that one decode process may use beyond what it starts with."""
    stall_seconds: float = Field(default=60.0, gt=1, le=3600)
    """A decode process that decodes no frame for this long is ended and retried once."""
    decoder: Literal["cpu", "nvdec"] = "cpu"
    """``nvdec``: the video engine of a GPU, for the files that it takes; the processors decode the others."""
    gpu_share: float = Field(default=0.05, gt=0, le=0.4)
    """Of one GPU, that each decode process asks Ray for with ``nvdec``. An inference actor leaves them 0.4 of its."""

    @property
    def nvdec_share(self) -> float:
        """Of one GPU, for each decode process; 0 where none is to be used."""
        return self.gpu_share if self.decoder == "nvdec" else 0.0


class DetectSettings(_Frozen):
    """How individuals are found."""

    detector: DetectorName = "auto"
    """``auto``: the learned crane detector, and motion against the plate for what it does not know."""
    weights: Path | None = None
    """Weights of a learned or COCO detector; by default the embedded ones."""
    boxes_csv: Path | None = None
    """AVA CSV for ``given``."""
    min_score: float | None = Field(default=None, gt=0, lt=1)
    """Least score of a learned or COCO box; by default the one stored with the weights, 0.4 for COCO."""
    resting_score: float | None = Field(default=None, gt=0, lt=1)
    """For ``auto``: least score of a learned box in which nothing differs from the plate; by default 0.77."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.detector == "given" and self.boxes_csv is None:
            raise ValueError("detector 'given' needs boxes_csv, an AVA CSV file")
        if self.detector == "coco" and self.weights is None:
            raise ValueError("detector 'coco' needs weights, a file of torchvision's COCO weights")
        return self


class InferSettings(_Frozen):
    """How behaviour is scored."""

    checkpoint: Path | None = None
    """Checkpoint file; by default the embedded ``slowfast_small``."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    engine: EngineSetting = "auto"
    """What runs the backbone. ``auto``: the best that is installed; an engine of TensorRT where one was exported."""
    engine_dir: Path | None = None
    """Folder of exported engines, one of each node's own; by default in the user's cache."""
    actors: int = Field(default=1, ge=1)
    """Inference actors in the pool."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads of each actor; by default all processors shared between the actors."""
    batch_clips: int | None = Field(default=None, ge=1)
    """Clips that are scored at once; by default 4 on a CPU, on a GPU as many as fit into its memory, 32 at most."""


class TrackSettings(_Frozen):
    """How detections become individuals, beyond the tracker's own constants."""

    max_gap_s: float = Field(default=10.0, ge=0, le=3600)
    """Recordings of one camera closer than this are one scene: identities go on."""
    max_occlusion_s: float = Field(default=12.0, ge=0, le=3600)
    """How long an individual may be hidden, or between two recordings, and still be taken up again."""

    @model_validator(mode="after")
    def _gaps_are_bridged(self) -> Self:
        if self.max_gap_s > self.max_occlusion_s:
            raise ValueError(
                f"max_gap_s, {self.max_gap_s:g}, is more than max_occlusion_s, {self.max_occlusion_s:g}: nobody would "
                "be taken up again after such a gap; raise max_occlusion_s as well, or lower max_gap_s"
            )
        return self


class SegmentSettings(_Frozen):
    """How score series become bouts, beyond the ethogram's rules."""

    refiner: Path | Literal["auto", "none"] = "auto"
    """Weights that read a score in the light of those before and after it. ``auto``: the embedded ones, for the
    scores of the embedded checkpoint."""


class Settings(_Frozen):
    """Everything a run can be told."""

    archive: ArchiveSettings = ArchiveSettings()
    survey: SurveySettings = SurveySettings()
    decode: DecodeSettings = DecodeSettings()
    detect: DetectSettings = DetectSettings()
    infer: InferSettings = InferSettings()
    track: TrackSettings = TrackSettings()
    segment: SegmentSettings = SegmentSettings()
    ethogram: Path = CONFIGS / "ethogram_crane.yaml"
    camera_days_at_once: int = Field(default=2, ge=1, le=16)
    """A day that waits for its detections holds a thread besides, of :data:`flows.nightly.flow.MAX_THREADS`."""


_DEFAULT_RULE = BoutRule()


class _Rule(_Frozen):
    """A bout rule as it is written; the durations in seconds."""

    enter_score: float = _DEFAULT_RULE.enter_score
    leave_score: float = _DEFAULT_RULE.leave_score
    smoothing_s: float = Field(default=_DEFAULT_RULE.smoothing_s, le=600)
    max_gap_s: float = Field(default=_DEFAULT_RULE.max_gap_s, le=600)
    min_bout_s: float = Field(default=_DEFAULT_RULE.min_bout_s, le=600)


class _Behaviour(_Frozen):
    name: str
    description: str = ""
    colour: str = Field(default="#888888", pattern="^#[0-9a-fA-F]{6}$")
    rule: _Rule = _Rule()


class _Ethogram(_Frozen):
    name: str
    taxon: str
    behaviours: tuple[_Behaviour, ...]


def digest(*parts: object) -> str:
    """First 16 hex digits of the SHA-256 of the parts' canonical JSON."""
    text = json.dumps(parts, sort_keys=True, default=str, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def load_settings(path: Path | None = None, overrides: dict[str, dict[str, Any]] | None = None) -> Settings:
    """Read settings from a YAML file, with values of the command line over them.

    Raises:
        SettingsError: the file is missing, is no YAML, or has a key or value that is not understood.
    """
    values: dict[str, Any] = {} if path is None else _read_yaml(path)
    for section, given in (overrides or {}).items():
        kept = {key: value for key, value in given.items() if value is not None}
        if kept and isinstance(values.get(section) or {}, dict):
            values[section] = {**(values.get(section) or {}), **kept}
    for section, key in (
        ("archive", "scratch"),
        ("detect", "weights"),
        ("detect", "boxes_csv"),
        ("infer", "checkpoint"),
        ("infer", "engine_dir"),
    ):
        _anchor(values.get(section), key, path)
    _anchor(values, "ethogram", path)
    segment = values.get("segment")
    if isinstance(segment, dict) and segment.get("refiner") not in ("auto", "none"):
        _anchor(segment, "refiner", path)
    return _checked(Settings, values, path, "configs/local.yaml")


def load_train_settings(path: Path | None = None, overrides: dict[str, Any] | None = None) -> TrainSettings:
    """Read the settings of a training from a YAML file, with values of the command line over them.

    Raises:
        SettingsError: the file is missing, is no YAML, or has a key or value that is not understood.
    """
    from flows.training.settings import TrainSettings  # brings torch, which no other settings need

    values: dict[str, Any] = {} if path is None else _read_yaml(path)
    initial = values.get("initial")
    for key in ("data", "test", "ethogram", "out", *(() if initial == "embedded" else ("initial",))):
        _anchor(values, key, path)
    _anchor(initial, "file", path)
    if "://" not in str(values.get("storage")):
        _anchor(values, "storage", path)
    values |= {key: value for key, value in (overrides or {}).items() if value is not None}
    return _checked(TrainSettings, values, path, "configs/train.yaml")


def _checked(kind: type[Model], values: dict[str, Any], path: Path | None, example: str) -> Model:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_first_problem(error, kind, path, example)) from error


def load_ethogram(path: Path) -> Ethogram:
    """Read an ethogram from YAML.

    Raises:
        SettingsError: a key or value that is not understood.
    """
    written = _checked(_Ethogram, _read_yaml(path), path, "configs/ethogram_crane.yaml")
    try:
        behaviours = tuple(
            Behaviour(one.name, one.description, one.colour, BoutRule(**one.rule.model_dump()))
            for one in written.behaviours
        )
        return Ethogram(written.name, written.taxon, behaviours)
    except ValueError as error:
        raise SettingsError(f"{path}: {error}") from error


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"{path}: there is no such file") from error
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise SettingsError(f"{path}: {' '.join(str(error).split())}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: expected a mapping of sections, got {type(values).__name__}")
    return values


def _anchor(values: Any, key: str, path: Path | None) -> None:
    """Relative paths in a configuration file are relative to that file."""
    if isinstance(values, dict) and isinstance(values.get(key), str) and path is not None:
        values[key] = path.resolve().parent / values[key]


def _first_problem(error: ValidationError, kind: type[BaseModel], path: Path | None, example: str) -> str:
    problems = error.errors()
    # A key that is missing may be one that is misspelt.
    problem = next((one for one in problems if one["type"] == "extra_forbidden"), problems[0])
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(problem["loc"][-1]), _names(kind, problem["loc"][:-1]), 1)
        meant = f", perhaps {near[0]}" if near else ""
        return (
            f"{path or 'settings'}: {where}: there is no such setting{meant}; see {example} for all of them"
        )
    return f"{path or 'settings'}: {where + ': ' if where else ''}{problem['msg']} (got {problem['input']!r})"


def _names(kind: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """The settings of the section at a place; none where that is not plain."""
    section: Any = kind
    for part in place:
        field = _fields(section).get(part)
        section = None if field is None else field.annotation
    return list(_fields(section))


def _fields(section: Any) -> dict[Any, Any]:
    is_section = isinstance(section, type) and issubclass(section, BaseModel)
    return dict(section.model_fields) if is_section else {}
