"""Annotations in the form of VIA 3 (Dutta & Zisserman 2019, "The VIA annotation software for images, audio and
video"): a JSON project of boxes in video frames and of temporal segments.

``metadata`` maps an id to ``{vid, flg, z, xy, av}``: ``z`` is one time of a box or start and end of a segment, in
seconds; ``xy`` is ``[2, x, y, width, height]`` in pixels of the displayed video; ``av`` maps attributes to values.
A ``view`` names the file that it shows. Which attribute says what is told by its name (``ROLES``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from storage.errors import FormatError
from storage.formats.annotations import Box, Defect, WrittenBox, WrittenFile, WrittenLabel, WrittenSegment
from storage.formats.judge import label_key

Role = Literal["behaviour", "individual", "motion", "annotator"]
ROLES: Final[dict[str, Role]] = {
    **dict.fromkeys(("behaviour", "behavior", "action", "activity"), "behaviour"),
    **dict.fromkeys(("individual", "individual_id", "person", "person_id", "track", "track_id", "id"), "individual"),
    **dict.fromkeys(("motion", "motion_state", "movement"), "motion"),
    **dict.fromkeys(("annotator", "observer"), "annotator"),
}  # fmt: skip
"""What an attribute of this name says; case, spaces and hyphens do not matter."""
_RECTANGLE, _EXTREME_RECTANGLE = 2, 8
_TEXT, _CHECKBOX = 1, 2
_NO_VIDEO: Final = {2: "an image", 8: "a sound"}
_PARTS: Final = ("attribute", "file", "metadata", "view")


class _Object(dict[str, Any]):
    """A JSON object that keeps the first of several equal keys and remembers the others."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__()
        self.repeated: list[str] = []
        for name, value in pairs:
            if name in self:
                self.repeated.append(name)
            else:
                self[name] = value


@dataclass(frozen=True, slots=True)
class _Attribute:
    """One attribute of the project that has a role here."""

    role: Role
    options: Mapping[str, str]
    """Text of each option by its id; empty for free text."""
    several: bool
    """Whether a value may hold several, separated by commas."""

    def texts(self, value: object) -> list[str]:
        """What a value of ``av`` says."""
        written = str(value).split(",") if self.several else [str(value)]
        texts = [part.strip() for part in written if part.strip()]
        return [self.options.get(text, text) for text in texts]


@dataclass(slots=True)
class _Reader:
    """Collects boxes, segments and defects of one project."""

    path: str
    annotator: str
    attributes: Mapping[str, _Attribute]
    views: Mapping[str, Any]
    files: Mapping[str, Any]
    view_annotators: dict[str, str] = field(default_factory=dict)
    boxes: list[WrittenBox] = field(default_factory=list)
    segments: list[WrittenSegment] = field(default_factory=list)
    defects: list[Defect] = field(default_factory=list)

    def read(self, key: str, entry: Any) -> None:
        """Take one entry of the metadata."""
        try:
            z, xy, av = _list(entry, "z"), _list(entry, "xy"), _mapping(entry, "av")
            vid = str(entry["vid"])
            video = self.video(vid)
            said = self.said(av)
            annotator = said["annotator"] or self.view_annotators.get(vid) or self.annotator
            labels = tuple(WrittenLabel(_place(key, "av"), text) for text in self.labels(av))
            place, rest = _place(key), (labels, said["motion"], said["individual"])
            if not z and not xy:
                return
            if xy and len(z) == 1:
                self.boxes.append(WrittenBox(place, annotator, video, _number(z[0]), _corners(xy), *rest))
            elif not xy and len(z) == 2 and z[0] <= z[1]:
                self.segments.append(
                    WrittenSegment(place, annotator, video, _number(z[0]), _number(z[1]), *rest)
                )
            else:
                raise ValueError("a box has one time in z, a segment a start and an end and no xy")
        except (KeyError, TypeError, ValueError) as error:
            problem = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            self.defects.append(
                Defect(self.path, _place(key), "unreadable", _short(entry), problem, self.seen(entry))
            )

    def video(self, vid: str) -> str:
        """Name of the video that a view shows; raises ``ValueError`` where it shows none."""
        try:
            (fid,) = self.views[vid]["fid_list"]
            file = self.files[str(fid)]
            name = str(file.get("fname") or file["src"])
        except (AttributeError, KeyError, TypeError, ValueError):
            raise ValueError(f"view {vid!r} does not show one file of the project") from None
        if file.get("type") in _NO_VIDEO:
            raise ValueError(f"{name!r} is {_NO_VIDEO[file['type']]}, not a video")
        return name

    def seen(self, entry: Any) -> str:
        """Video and time of an entry, as far as they can be told."""
        try:
            return f"{self.video(str(entry['vid']))} at {_number(entry['z'][0]):g} s"
        except (IndexError, KeyError, TypeError, ValueError):
            return ""

    def said(self, av: Mapping[str, Any]) -> dict[str, str]:
        """Individual, motion and annotator of an entry, empty where it does not say."""
        said = {"individual": "", "motion": "", "annotator": ""}
        for aid, value in av.items():
            attribute = self.attributes.get(aid)
            if attribute is not None and attribute.role != "behaviour":
                said[attribute.role] = ", ".join(attribute.texts(value))
        return said

    def labels(self, av: Mapping[str, Any]) -> list[str]:
        """Behaviours of an entry."""
        chosen = [(self.attributes.get(aid), value) for aid, value in av.items()]
        return [text for one, value in chosen if one and one.role == "behaviour" for text in one.texts(value)]

    def read_file_wide(self, entry: Any) -> None:
        """An entry without time and place speaks for its whole view: who annotated it."""
        if isinstance(entry, dict) and entry.get("z") == [] and entry.get("xy") == []:
            av = entry.get("av")
            name = self.said(av if isinstance(av, dict) else {})["annotator"]
            if name:
                self.view_annotators[str(entry.get("vid"))] = name


def is_via(path: Path) -> bool:
    """Whether a file is to be read as a VIA project: by its name."""
    return path.suffix.lower() == ".json"


def read_via(path: Path, annotator: str) -> WrittenFile:
    """Read a VIA 3 project.

    Args:
        path: the JSON file.
        annotator: who made it, where no attribute of the project says so.

    Raises:
        FormatError: it is no VIA 3 project, or no attribute is about behaviour.
        FileNotFoundError: there is no such file.
    """
    project = _project(path)
    attributes = _attributes(path, project["attribute"])
    reader = _Reader(str(path), annotator, attributes, project["view"], project["file"])
    metadata = project["metadata"]
    for entry in metadata.values():
        reader.read_file_wide(entry)
    for key, entry in metadata.items():
        reader.read(key, entry)
    for key in metadata.repeated:
        message = "this metadata id comes twice; the first is used"
        reader.defects.append(Defect(str(path), _place(key), "duplicate id", key, message))
    return WrittenFile(str(path), True, tuple(reader.boxes), tuple(reader.segments), tuple(reader.defects))


def _project(path: Path) -> _Object:
    try:
        project = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_Object)
        json.dumps(project, ensure_ascii=False).encode()
    except (
        ValueError,
        RecursionError,
    ) as error:  # no UTF-8, no JSON, endless numbers or nesting, half characters
        raise FormatError(f"{path}: this is no JSON: {error}; save the project in VIA again") from error
    missing = [
        name for name in _PARTS if not isinstance(project, dict) or not isinstance(project.get(name), dict)
    ]
    if missing:
        raise FormatError(f"{path}: a VIA 3 project has {', '.join(_PARTS)}; it lacks {', '.join(missing)}")
    assert isinstance(project, _Object)
    return project


def _attributes(path: Path, written: Mapping[str, Any]) -> dict[str, _Attribute]:
    """Attributes by id; those of other names are not read.

    Raises:
        FormatError: none is about behaviour.
    """
    attributes = {}
    for aid, one in written.items():
        role = ROLES.get(label_key(str(one.get("aname", "")))) if isinstance(one, dict) else None
        if role is not None:
            listed = one.get("options")
            options = {key: str(text) for key, text in (listed if isinstance(listed, dict) else {}).items()}
            several = one.get("type") in (_TEXT, _CHECKBOX) and role == "behaviour"
            attributes[aid] = _Attribute(role, options if one.get("type") != _TEXT else {}, several)
    if not any(one.role == "behaviour" for one in attributes.values()):
        names = [str(one.get("aname")) for one in written.values() if isinstance(one, dict)]
        raise FormatError(f"{path}: no attribute is called behaviour (or action, or activity), only {names}")
    return attributes


def _corners(xy: list[Any]) -> Box:
    numbers = [_number(value) for value in xy]
    if numbers[0] == _RECTANGLE and len(numbers) == 5:
        _, x, y, width, height = numbers
        return x, y, x + width, y + height
    if numbers[0] == _EXTREME_RECTANGLE and len(numbers) == 9:
        across, down = numbers[1::2], numbers[2::2]
        return min(across), min(down), max(across), max(down)
    raise ValueError(f"shape {xy[0]} is no rectangle; draw individuals as rectangles (shape 2)")


def _number(value: object) -> float:
    try:
        number = math.nan if isinstance(value, bool) or not isinstance(value, int | float) else float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{_short(value)} is no number")
    return number


def _list(entry: Any, name: str) -> list[Any]:
    if not isinstance(entry[name], list):
        raise TypeError(f"{name} is no list")
    return list(entry[name])


def _mapping(entry: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(entry[name], dict):
        raise TypeError(f"{name} is no object")
    return dict(entry[name])


def _place(key: str, *parts: str) -> str:
    return ".".join((f"metadata[{json.dumps(key)}]", *parts))


def _short(entry: Any) -> str:
    text = json.dumps(entry)
    return text if len(text) <= 120 else text[:117] + "..."
