"""From annotation files to a set that can be trained on: what is wrong with them, how annotators agree, the truth,
the split and the dataset card.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from flows.annotations.card import CardFacts, write_card
from flows.annotations.labelled import SPLIT_FILE, read_parts, write_split
from flows.annotations.summary import AnnotationSummary
from flows.errors import NothingToReadError, SettingsError
from model.ethogram import Ethogram
from storage.analysis.agreement import annotator_agreement, moment_of
from storage.analysis.consensus import Consensus, merge_annotators, one_look
from storage.analysis.split import VideoSplit, given_split, split_videos
from storage.errors import FormatError, SplitError
from storage.formats.annotations import OTHER, Annotation, Defect, Imported, NoVideo, WrittenFile
from storage.formats.ava import Moment, read_ava, read_excluded, read_label_map
from storage.formats.judge import import_annotations
from storage.formats.via import is_via, read_via
from workers.annotated import AnnotatedVideo, examine_video, find_video, write_annotated_truth
from workers.archive import list_archive
from workers.messages import GRID_HZ

_SEARCHED, _EDITED = "split_searched.csv", "split_edited.csv"
"""In the card's folder: the split as the search wrote it, and all parts that were ever chosen by hand."""
_UNKNOWN_BEHAVIOUR = (
    "{} boxes have no behaviour, or several: they teach none, and are taken neither for an empty place nor for a false "
    "find"
)


@dataclass(frozen=True, slots=True)
class AnnotationRequest:
    """What is to be imported, and how."""

    files: tuple[str, ...]
    """Paths, each with ``ANNOTATOR=`` before it where its name is not the annotator's."""
    archive: Path
    out: Path
    ethogram: Ethogram
    labels: Path | None = None
    """Label map of AVA files; without it their ids are the ethogram's, from 1."""
    excluded: Path | None = None
    """Moments of AVA files to leave out."""
    dynamic: tuple[str, ...] | None = None
    """Behaviours that count as dynamic where the motion state was not annotated."""
    seed: int = 1
    """Of the search for a split."""


def import_dataset(request: AnnotationRequest) -> AnnotationSummary:
    """Import annotation files and write truth, split, defects and card into ``request.out``.

    Raises:
        NothingToReadError: a file is missing, or nothing in the files can be used.
        SettingsError: an option does not fit the ethogram, or ``out`` holds a simulated truth.
        SplitFileError: a split that was edited by hand cannot be read.
        StorageError: the label map or the exclusions cannot be read.
        ArchiveError: there is no such archive.
    """
    names = request.ethogram.names
    strange = [name for name in request.dynamic or () if name not in names]
    if strange:
        raise SettingsError(f"--dynamic: the ethogram has no {strange[0]!r}, only {', '.join(names)}")
    _check_out(request)
    written, unreadable = _read_files(request)
    videos = _videos_of(written, request.archive)
    found = [_import(one, videos, names) for one in written]
    annotations = [annotation for one in found for annotation in one.annotations]
    defects = (*unreadable, *(defect for one in found for defect in one.defects))
    request.out.mkdir(parents=True, exist_ok=True)
    _write_defects(request.out / "defects.csv", defects)
    looks = one_look(annotations, GRID_HZ)
    merged = merge_annotators(looks, GRID_HZ)
    taught, notes = _teachable(merged, request.dynamic)
    if not taught:
        raise NothingToReadError(
            f"nothing in {len(request.files)} annotation files can be used; {len(defects)} defects are listed in "
            f"{request.out / 'defects.csv'}" + (f", the first: {defects[0]}" if defects else "")
        )
    edited = _edited_split(request.out)  # before anything is written over
    known = {video.facts.uri: video for video in videos.values() if isinstance(video, AnnotatedVideo)}
    used = {uri: known[uri] for uri in sorted({one.video for one in taught})}
    unknown = _of_unknown_behaviour(merged, taught, names)
    notes += [_UNKNOWN_BEHAVIOUR.format(len(unknown))] if unknown else []
    write_annotated_truth(request.out / "truth", [*taught, *unknown], used, names)
    _link_archive(request.archive, request.out / "archive")
    split, refused = _split(taught, names, request, edited)
    notes += [*refused, *_shape_notes(used)]
    clear = [one for one in looks if one.behaviours]
    agreement = tuple(annotator_agreement(clear, GRID_HZ))
    facts = _facts(request, clear, taught, merged, used)
    write_card(request.out, facts, defects, agreement, split, notes)
    return AnnotationSummary(request.out, facts, defects, agreement, split, tuple(notes))


def _check_out(request: AnnotationRequest) -> None:
    """Refuse to write over a simulated truth, or over what is to be read."""
    truth = request.out / "truth"
    inputs = [path.resolve() for _, path in annotators_of(request.files)]
    reserve = truth / "reserve.json"
    simulated = reserve.exists() and '"simulated": true' in reserve.read_text(encoding="utf-8")
    if simulated or any(path.is_relative_to(truth.resolve()) for path in inputs):
        raise SettingsError(f"{truth} holds a truth that would be lost; choose another --out")


def _read_files(request: AnnotationRequest) -> tuple[list[WrittenFile], list[Defect]]:
    """What the files hold, and a defect for each that cannot be read at all."""
    labels = dict(enumerate(request.ethogram.names, start=1))
    if request.labels is not None:
        labels = read_label_map(_existing(request.labels))
    excluded: frozenset[Moment] = frozenset()
    if request.excluded is not None:
        excluded = read_excluded(_existing(request.excluded))
    written, defects = [], []
    for annotator, path in annotators_of(request.files):
        try:
            if is_via(path):
                written.append(read_via(path, annotator))
            else:
                written.append(read_ava(path, annotator, labels, excluded))
        except FormatError as error:
            problem = str(error).removeprefix(f"{path}: ")
            defects.append(Defect(str(path), "the file", "unreadable", path.name, problem))
    return written, defects


def annotators_of(files: Sequence[str]) -> list[tuple[str, Path]]:
    """Annotator and path of each file; the annotator is said before ``=``, else it is the file's stem.

    Raises:
        NothingToReadError: there is no such file.
    """
    said = [("", text) if "=" not in text or Path(text).exists() else text.split("=", 1) for text in files]
    stems = Counter(Path(text).stem for name, text in said if not name)
    return [
        (name or (Path(text).stem if stems[Path(text).stem] == 1 else text), _existing(Path(text)))
        for name, text in said
    ]


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise NothingToReadError(f"{path}: there is no such file")
    return path


def _videos_of(written: Sequence[WrittenFile], archive: Path) -> dict[str, AnnotatedVideo | NoVideo]:
    """What is known about each video, by its name in the annotation files; each is opened once."""
    files = list_archive(str(archive))
    found = {name: find_video(name, files) for one in written for name in one.videos}
    examined: dict[str, AnnotatedVideo | NoVideo] = {}
    for file in found.values():
        if not isinstance(file, NoVideo) and file.uri not in examined:
            examined[file.uri] = examine_video(file, archive)
    return {name: file if isinstance(file, NoVideo) else examined[file.uri] for name, file in found.items()}


def _import(
    written: WrittenFile, videos: dict[str, AnnotatedVideo | NoVideo], names: Sequence[str]
) -> Imported:
    facts = {name: video if isinstance(video, NoVideo) else video.facts for name, video in videos.items()}
    return import_annotations(written, facts, names)


def _teachable(merged: Consensus, dynamic: tuple[str, ...] | None) -> tuple[list[Annotation], list[str]]:
    """Boxes with one behaviour and a motion state, and notes about what was decided on the way."""
    notes = []
    clear = [one for one in merged.annotations if len(one.behaviours) == 1]
    if merged.outvoted:
        notes.append(
            f"{merged.outvoted} boxes have the behaviour of the majority, or of the annotator named first in a tie"
        )
    open_boxes = sum(one.dynamic is None and one.behaviours != (OTHER,) for one in clear)
    if open_boxes and dynamic is None:
        notes.append(
            f"{open_boxes} boxes have no motion state and are written as static, which teaches the motion head "
            "nothing true: annotate motion, or name the dynamic behaviours with --dynamic"
        )
    elif open_boxes:
        notes.append(
            f"{open_boxes} boxes have their motion state by rule, dynamic for {', '.join(dynamic or ())}"
        )
    rule = set(dynamic or ())
    return [
        one if one.dynamic is not None else replace(one, dynamic=one.behaviours[0] in rule) for one in clear
    ], notes


def _of_unknown_behaviour(
    merged: Consensus, taught: Sequence[Annotation], names: Sequence[str]
) -> list[Annotation]:
    """Individuals beside those that are taught whose behaviour is not known, as boxes of which nothing is to be seen.

    So the truth tells where they are, and no part of it takes their place for an empty one.
    """
    moments = {moment_of(one, GRID_HZ) for one in taught}
    return [
        replace(one, behaviours=(names[0],), dynamic=False, covered=1.0)
        for one in merged.annotations
        if len(one.behaviours) != 1 and moment_of(one, GRID_HZ) in moments
    ]


def _split(
    taught: Sequence[Annotation],
    names: Sequence[str],
    request: AnnotationRequest,
    edited: Mapping[str, str] | None,
) -> tuple[VideoSplit | None, list[str]]:
    """The split that is there, where it was edited by hand, else one that is searched for; and notes about it."""
    counts = _counts(taught, names)
    boxes = {video: sum(groups["behaviour"].values()) for video, groups in counts.items()}
    only_others = {one.video for one in taught} - counts.keys()
    path, card = request.out / SPLIT_FILE, request.out / "card"
    card.mkdir(exist_ok=True)
    if edited is not None:
        new = (boxes.keys() | only_others) - edited.keys()
        notes = [
            f"{path} is not known to be as the search wrote it, and is kept; delete it to have videos split anew"
        ]
        notes += [f"{len(new)} videos that it did not name are in the training part"] if new else []
        part_of = {video: edited.get(video, "train") for video in (*boxes, *only_others)}
        write_split(path, part_of, boxes)
        write_split(card / _EDITED, {**edited, **part_of}, boxes)
        return (given_split(counts, {video: part_of[video] for video in boxes}) if boxes else None), notes
    (card / _EDITED).unlink(missing_ok=True)
    try:
        split = split_videos(counts, request.seed)
    except SplitError as error:
        path.unlink(missing_ok=True)
        return None, [f"no split: {error}"]
    part_of = {**split.part_of, **dict.fromkeys(only_others, "train")}
    for file in (path, card / _SEARCHED):
        write_split(file, part_of, boxes)
    if not only_others:
        return split, []
    return split, [f"{len(only_others)} videos with boxes of {OTHER} alone are in the training part"]


def _edited_split(out: Path) -> dict[str, str] | None:
    """The parts that a split names, or named, which is not known to be as the search wrote it; else None.

    Raises:
        SplitFileError: a row cannot be read.
    """
    path, searched, before = out / SPLIT_FILE, out / "card" / _SEARCHED, out / "card" / _EDITED
    if not path.exists():
        return None
    part_of = read_parts(path)
    if searched.exists() and read_parts(searched) == part_of:
        return None
    # A file that could not be read once may bring its videos back.
    return {**(read_parts(before) if before.exists() else {}), **part_of}


def _counts(taught: Sequence[Annotation], names: Sequence[str]) -> dict[str, dict[str, dict[str, int]]]:
    """Boxes of each behaviour and motion state, by video."""
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for one in taught:
        if one.behaviours != (OTHER,):
            groups = counts.setdefault(
                one.video, {"behaviour": dict.fromkeys(names, 0), "motion": {"static": 0, "dynamic": 0}}
            )
            groups["behaviour"][one.behaviours[0]] += 1
            groups["motion"]["dynamic" if one.dynamic else "static"] += 1
    return counts


def _shape_notes(videos: dict[str, AnnotatedVideo]) -> list[str]:
    shapes = Counter(round(video.facts.width / video.facts.height, 2) for video in videos.values())
    if len(shapes) < 2:
        return []
    listed = ", ".join(f"{count} of {shape}" for shape, count in shapes.most_common())
    return [f"videos of different aspect ratios ({listed}) cannot be trained on together"]


def _link_archive(archive: Path, link: Path) -> None:
    """Put the archive beside its truth, which is where training looks for it.

    Raises:
        SettingsError: something else is there.
    """
    target = archive.resolve()
    if link.resolve() == target:
        return
    if link.is_symlink():
        link.unlink()
    if link.exists():
        raise SettingsError(f"{link} is in the way of a link to the archive; choose another --out")
    link.symlink_to(target, target_is_directory=True)


def _facts(
    request: AnnotationRequest,
    annotations: Sequence[Annotation],
    taught: Sequence[Annotation],
    merged: Consensus,
    videos: dict[str, AnnotatedVideo],
) -> CardFacts:
    return CardFacts(
        ethogram=request.ethogram,
        files=tuple(str(path) for _, path in annotators_of(request.files)),
        annotators=dict(Counter(one.annotator for one in annotations)),
        videos=len(videos),
        seconds=sum(video.facts.duration_s for video in videos.values()),
        infrared=sum(video.light == "infrared" for video in videos.values()),
        boxes=tuple(one for one in taught if one.behaviours != (OTHER,)),
        others=sum(one.behaviours == (OTHER,) for one in taught),
        seen_by=merged.seen_by,
        aspects={uri: video.facts.width / video.facts.height for uri, video in videos.items()},
    )


def _write_defects(path: Path, defects: Sequence[Defect]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in fields(Defect)])
        writer.writerows([getattr(defect, field.name) for field in fields(Defect)] for defect in defects)
