"""Annotated recordings: which video of the archive a name means, what must be known about it, and its truth in the
layout of a simulated archive, which is what training reads.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import av
import av.error

from storage.formats.annotations import OTHER, Annotation, NoVideo, VideoFacts
from workers.errors import DamagedVideoError, UnreadableVideoError
from workers.messages import GRID_HZ, MIN_BEHAVIOUR_FPS, ArchiveFile, Probe, scores_behaviour
from workers.pictures import is_infrared
from workers.probe import open_container, probe_video, video_stream
from workers.simulate.tables import HEADERS

_THUMBNAIL = (288, 160)
NAME_HEADER = ("individual_id", "video_id", "name")


@dataclass(frozen=True, slots=True)
class AnnotatedVideo:
    """A video that can be trained on."""

    facts: VideoFacts
    light: str
    """``infrared`` or ``day``, from its first picture."""


def find_video(name: str, files: Sequence[ArchiveFile]) -> ArchiveFile | NoVideo:
    """The file of the archive that an annotation file means by a name.

    That is the file of this archive-relative path; else the only one of which the path ends, or without its suffix
    ends, in the name; else the only one of the same file name.
    """
    wanted = PurePosixPath(unquote(urlsplit(name).path) if "://" in name else name.replace("\\", "/"))
    tails = [wanted.parts] if len(wanted.parts) < 2 else [wanted.parts, wanted.parts[-1:]]
    for tail in tails:
        found = [file for file in files if _ends_in(PurePosixPath(file.uri), tail)]
        exact = [file for file in found if PurePosixPath(file.uri).parts == tail]
        if exact or len(found) == 1:
            return (exact or found)[0]
        if found:
            uris = ", ".join(file.uri for file in found[:3])
            return NoVideo("unknown video", f"{len(found)} videos of the archive could be meant: {uris}")
    return NoVideo("unknown video", "no video of the archive has this name")


def _ends_in(path: PurePosixPath, tail: tuple[str, ...]) -> bool:
    return path.parts[-len(tail) :] == tail or path.with_suffix("").parts[-len(tail) :] == tail


def examine_video(file: ArchiveFile, root: Path) -> AnnotatedVideo | NoVideo:
    """Size, times and light of a video, or why it cannot be trained on."""
    try:
        probe = probe_video(file.path, root)
        if not scores_behaviour(probe.fps):
            needed = f"behaviour is not learnt below {MIN_BEHAVIOUR_FPS:g}"
            return NoVideo("unreadable video", f"it has {probe.fps:.2f} frames a second, {needed}")
        light, player_scale, start_s = _look(Path(file.path), probe)
    except UnreadableVideoError as error:
        return NoVideo("unreadable video", error.reason)
    last_s = float(probe.times_s[-1])
    facts = VideoFacts(
        file.uri, probe.width, probe.height, probe.fps, probe.duration_s, last_s, player_scale, start_s
    )
    return AnnotatedVideo(facts, light)


def _look(path: Path, probe: Probe) -> tuple[str, float, float]:
    """Light of the first picture, and ``player_scale`` and ``player_start_s`` of :class:`VideoFacts`."""
    try:
        with open_container(path, probe.container) as opened:
            stream = video_stream(opened, path)
            frame = next(opened.decode(stream), None)
            if frame is None:
                raise DamagedVideoError("no picture in it can be decoded; copy the file again", path)
            infrared = is_infrared(frame.reformat(*_THUMBNAIL, format="rgb24").to_ndarray())
            aspect = stream.sample_aspect_ratio
            scale = 1 / float(aspect) if aspect and 0.25 <= aspect < 1 else 1.0
            # Both of a browser's clock and of the streams' own, the first of all streams begins it.
            start_s = max(0.0, probe.origin_s - (opened.start_time or 0) / av.time_base)
            return "infrared" if infrared else "day", scale, start_s
    except av.error.FFmpegError as error:
        raise DamagedVideoError(f"its first picture cannot be decoded ({error.strerror})", path) from error


def write_annotated_truth(
    folder: Path,
    annotations: Iterable[Annotation],
    videos: Mapping[str, AnnotatedVideo],
    behaviours: Sequence[str],
) -> None:
    """Write ``boxes.csv``, ``others.csv``, ``reserve.json`` and ``individual_names.csv`` into a folder.

    Times are put on the 15 Hz grid, within the video. Every box must have one behaviour and a motion state;
    individuals are numbered from 1 through all videos.

    Args:
        folder: made if absent.
        annotations: one for each individual and moment.
        videos: by archive-relative path.
        behaviours: names of the ethogram, in its order.

    Raises:
        ValueError: a box has several behaviours or no motion state.
    """
    folder.mkdir(parents=True, exist_ok=True)
    numbers: dict[tuple[str, str], int] = {}
    boxes: list[tuple[object, ...]] = []
    others: list[tuple[object, ...]] = []
    for one in annotations:
        individual = (
            numbers.setdefault((one.video, one.individual), len(numbers) + 1) if one.individual else ""
        )
        place = (one.video, _stamp(one, videos[one.video].facts), *(f"{value:.5f}" for value in one.xyxy))
        if one.behaviours == (OTHER,):
            others.append((*place, OTHER, individual))
            continue
        if len(one.behaviours) != 1 or one.dynamic is None:
            raise ValueError(f"need one behaviour and a motion state, got {one.behaviours}, {one.dynamic}")
        label = behaviours.index(one.behaviours[0]) + 1
        boxes.append((*place, label, individual, int(one.dynamic), f"{one.covered:.3f}", f"{one.inside:.3f}"))
    _write(folder / "boxes.csv", HEADERS["boxes"], boxes)
    _write(folder / "others.csv", HEADERS["others"], others)
    names = ((number, video, name) for (video, name), number in numbers.items())
    _write(folder / "individual_names.csv", NAME_HEADER, names)
    document = {"simulated": False, "behaviours": list(behaviours), "cameras": list(_cameras(videos))}
    (folder / "reserve.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _stamp(one: Annotation, facts: VideoFacts) -> str:
    last = int(facts.last_frame_s * GRID_HZ + 1e-6)
    return f"{min(round(one.time_s * GRID_HZ), last) / GRID_HZ:.6f}"


def _cameras(videos: Mapping[str, AnnotatedVideo]) -> Iterator[dict[str, object]]:
    """Videos by the folder that they are in and by their light."""
    grouped: dict[tuple[str, str], list[str]] = defaultdict(list)
    for uri, video in sorted(videos.items()):
        grouped[PurePosixPath(uri).parent.as_posix(), video.light].append(uri)
    for (parent, light), uris in grouped.items():
        yield {"camera": PurePosixPath(parent).name, "light": light, "videos": uris}


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if header:
            writer.writerow(header)
        writer.writerows(rows)
