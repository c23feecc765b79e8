"""Whatever an annotation file holds, it is read, its defects are named, or it is refused by a ``FormatError``."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from storage.errors import FormatError
from storage.formats.annotations import VideoFacts, WrittenFile
from storage.formats.ava import read_ava, read_boxes, read_excluded, read_label_map
from storage.formats.judge import import_annotations
from storage.formats.via import read_via

FACTS = VideoFacts("one.mp4", width=200, height=50, fps=25, duration_s=4.0, last_frame_s=3.96)
bounded = settings(derandomize=True, database=None, deadline=None, max_examples=150)
LINE = "one.mp4,0002,0.1,0.2,0.3,0.4,1,7,dynamic,0.25,0.9"
ODD = (
    "",
    " ",
    "nan",
    "-inf",
    "1e999",
    "-0",
    "1_0",
    "٣",
    "0x10",
    "9" * 5000,
    "\x00",
    "\ud7ff",
    '"',
    ",",
    "\r",
    "\u2028",
    "true",
    "-1",
    "1.5",
)
PROJECT: dict[str, Any] = {
    "attribute": {
        "1": {"aname": "behaviour", "type": 4, "options": {"0": "walk", "1": "fly"}},
        "2": {"aname": "individual", "type": 1, "options": {}},
        "5": {"aname": "annotator", "type": 1, "options": {}},
    },
    "file": {"1": {"fid": "1", "fname": "one.mp4", "type": 4, "src": ""}},
    "view": {"1": {"fid_list": ["1"]}},
    "metadata": {
        "a": {"vid": "1", "flg": 0, "z": [1.0], "xy": [2, 1, 1, 20, 20], "av": {"1": "0", "2": "A"}},
        "b": {"vid": "1", "flg": 0, "z": [1.0, 2.0], "xy": [], "av": {"1": "1", "2": "A"}},
        "c": {"vid": "1", "flg": 0, "z": [], "xy": [], "av": {"5": "li"}},
    },
}
PLACES = [
    (),
    *((part,) for part in PROJECT),
    *(
        path
        for part, entries in PROJECT.items()
        for key, entry in entries.items()
        for path in ((part, key), *((part, key, name) for name in entry))
    ),
    ("metadata", "a", "z", 0),
    ("metadata", "b", "z", 1),
    *(("metadata", "a", "xy", place) for place in range(5)),
    ("metadata", "c", "av", "5"),
    ("view", "1", "fid_list", 0),
]
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from("15"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def judged(raw: WrittenFile) -> None:
    """What could be read goes on to the checks against the video, and all of it can be written as text."""
    result = import_annotations(raw, dict.fromkeys(raw.videos, FACTS), ("walk", "fly"))
    for one in (*result.annotations, *result.defects):
        str(one).encode()


def read_every_way(path: Path) -> None:
    for read in (
        read_boxes,
        read_excluded,
        read_label_map,
        lambda file: judged(read_ava(file, "li", {1: "walk"})),
    ):
        try:
            read(path)  # type: ignore[operator]
        except FormatError:
            continue


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any")


@bounded
@given(
    content=st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace"))
)
@example(content=b'item {\n name: "walk"\n id: ' + b"9" * 5000 + b"\n}")
@example(content=b"a,1,0.1," + b"x" * 140_000)
def test_any_bytes_as_csv(folder: Path, content: bytes) -> None:
    path = folder / "any.csv"
    path.write_bytes(content)
    read_every_way(path)


@bounded
@given(changes=st.lists(st.tuples(st.integers(0, 10), st.sampled_from(ODD)), min_size=1, max_size=3))
def test_any_column_of_a_csv(folder: Path, changes: list[tuple[int, str]]) -> None:
    columns = LINE.split(",")
    for place, value in changes:
        columns[place] = value
    path = folder / "column.csv"
    path.write_bytes(f"{LINE}\n{','.join(columns)}\n{LINE}\n".encode())
    read_every_way(path)


def read_project(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    with suppress(FormatError):
        judged(read_via(path, "li"))


@bounded
@given(changes=st.lists(st.tuples(st.sampled_from(PLACES), values), min_size=1, max_size=2))
@example(changes=[(("metadata", "a", "z", 0), 10**400)])
@example(changes=[(("metadata", "a", "xy", 3), -(10**400))])
@example(changes=[(("metadata", "a", "av", "2"), "\ud800")])
def test_any_value_in_a_project(folder: Path, changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    project = copy.deepcopy(PROJECT)
    for place, value in changes:
        project = changed(project, place, value)
    read_project(folder / "value.json", json.dumps(project))


def changed(document: Any, place: tuple[Any, ...], value: Any) -> Any:
    """The document with another value at a place, if it still has that place."""
    if not place:
        return value
    with suppress(KeyError, IndexError, TypeError):
        document[place[0]] = changed(document[place[0]], place[1:], value)
    return document


@bounded
@given(start=st.integers(0, 700), length=st.integers(0, 40), filler=st.text(max_size=4))
@example(start=0, length=10_000, filler="[" * 100_000)
@example(start=0, length=10_000, filler="9" * 5000)
def test_a_project_with_a_damaged_stretch(folder: Path, start: int, length: int, filler: str) -> None:
    text = json.dumps(PROJECT)
    damaged = text[:start] + filler + text[start + length :]
    read_project(folder / "stretch.json", damaged.encode("utf-8", "replace").decode())
