from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import FormatError
from storage.formats.annotations import Annotation, NoVideo, VideoFacts
from storage.formats.ava import (
    AvaRow,
    read_ava,
    read_boxes,
    read_excluded,
    read_label_map,
    write_boxes,
    write_label_map,
)
from storage.formats.judge import import_annotations

SHARED = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "annotations"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no annotations of other projects in {SHARED}")

words = st.text(st.characters(categories=["L", "N"], include_characters=" ,\"'-"), max_size=6).map(str.strip)
edges = st.lists(st.integers(0, 1_000_000), min_size=2, max_size=2, unique=True).map(sorted)


@st.composite
def ava_rows(draw: st.DrawFn) -> AvaRow:
    (x1, x2), (y1, y2) = draw(edges), draw(edges)
    return AvaRow(
        video=draw(words.filter(bool)),
        time_s=draw(st.integers(0, 10**10)) / 1e6,
        x1=x1 / 1e6,
        y1=y1 / 1e6,
        x2=x2 / 1e6,
        y2=y2 / 1e6,
        label_id=draw(st.none() | st.integers(1, 80)),
        entity_id=draw(st.none() | st.integers(0, 2**40)),
        extra=tuple(draw(st.lists(words, max_size=3))),
    )


@given(rows=st.lists(ava_rows(), max_size=4))
def test_rows_round_trip(tmp_path_factory: pytest.TempPathFactory, rows: list[AvaRow]) -> None:
    path = tmp_path_factory.mktemp("ava") / "boxes.csv"
    write_boxes(path, rows)
    assert read_boxes(path) == rows


def written(folder: Path, text: str) -> Path:
    path = folder / "boxes.csv"
    path.write_bytes(text.encode())
    return path


GOOD = "v,0902,0.1,0.2,0.3,0.4,5,7"


def test_form_of_a_line(tmp_path: Path) -> None:
    path = written(tmp_path, "")
    write_boxes(path, [AvaRow("v", 902.0, 0.1, 0.2, 0.3, 0.4, 5, None, ("static",))])
    assert path.read_text() == "v,0902,0.100000,0.200000,0.300000,0.400000,5,,static\n"


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"\ufeff{GOOD}\r\n",
        f"video_id,timestamp,x1,y1,x2,y2,label_id,entity_id\n\n{GOOD}\n",
        "v, 902.0 , 0.1, 0.2, 0.3, 0.4, 5, 7",
        f"v,901\n{GOOD}\nw,3,,,,,,\n",
    ],
)
def test_forms_in_which_files_are_found(tmp_path: Path, text: str) -> None:
    assert read_boxes(written(tmp_path, text)) == [AvaRow("v", 902.0, 0.1, 0.2, 0.3, 0.4, 5, 7)]


def test_columns_that_may_be_absent_or_more(tmp_path: Path) -> None:
    path = written(tmp_path, "v,1.5,0,0,1,1,\nv,2,0,0,1,1,3,,dynamic,0.9\n")
    assert read_boxes(path) == [
        AvaRow("v", 1.5, 0, 0, 1, 1, None, None),
        AvaRow("v", 2.0, 0, 0, 1, 1, 3, None, ("dynamic", "0.9")),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("v,soon,0.1,0.2,0.3,0.4,5,7", "timestamp is no number: 'soon'"),
        ("v,902,0.1,nan,0.3,0.4,5,7", "y1 is no number: 'nan'"),
        ("v,902,0.1,0.2,1.3,0.4,5,7", "x2 is a fraction of the frame, 0 to 1, got '1.3'"),
        ("v,902,0.1,-0.2,0.3,0.4,5,7", "y1 is a fraction of the frame, 0 to 1, got '-0.2'"),
        ("v,902,0.5,0.2,0.5,0.4,5,7", "need x1 < x2 and y1 < y2"),
        ("v,902,0.1,0.2,0.3,0.4,five,7", "label id is no whole number: 'five'"),
        ("v,902,0.1,0.2,0.3,0.4,5,0.655", "entity id is no whole number: '0.655'"),
        ("v,902,0.1,0.2,0.3", "expected 7 columns or more"),
        ("v", "a line begins with video, timestamp"),
        (",902,0.1,0.2,0.3,0.4,5,7", "a line begins with video, timestamp"),
        ("v,later", "timestamp is no number: 'later'"),
        ("v,902,0.1,0.2,0.3,0.4,6,7", r"label id 6 is not in the label map \[5\]"),
        ('v,902,"0.1"x,0.2,0.3,0.4,5,7', "this is no CSV"),
    ],
)
def test_errors_name_file_line_and_value(tmp_path: Path, line: str, message: str) -> None:
    path = written(tmp_path, f"{GOOD}\n{line}\n{GOOD}\n")
    with pytest.raises(FormatError, match=rf"boxes\.csv, line 2: {message}"):
        read_boxes(path, labels={5: "walk"})


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "video.csv"
    path.write_bytes(b"\x00\x00\x00\x18ftyp\xff\xfe")
    with pytest.raises(FormatError, match=r"video\.csv: this is no text"):
        read_boxes(path)


def test_excluded_moments(tmp_path: Path) -> None:
    path = written(tmp_path, f"{GOOD}\nv,0903,0.1,0.2,0.3,0.4,5,7\nw,0902,0.1,0.2,0.3,0.4,5,7\n")
    excluded = tmp_path / "excluded.csv"
    excluded.write_text("v,902\n")
    kept = read_boxes(path, excluded=read_excluded(excluded))
    assert [(row.video, row.time_s) for row in kept] == [("v", 903.0), ("w", 902.0)]
    excluded.write_text("v,902\nw,never\n")
    with pytest.raises(FormatError, match=r"excluded\.csv, line 2: timestamp is no number: 'never'"):
        read_excluded(excluded)


def test_label_maps(tmp_path: Path) -> None:
    path = tmp_path / "labels.pbtxt"
    write_label_map(path, {1: "feeding", 6: "flight"})
    assert read_label_map(path) == {1: "feeding", 6: "flight"}
    path.write_text(
        "label {\n name: 'bend/bow (at the waist)'\n label_id: 1\n label_type: PERSON_MOVEMENT\n}\n"
    )
    assert read_label_map(path) == {1: "bend/bow (at the waist)"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('item {\n name: "a"\n id: 1\n}\nitem {\n name: "b"\n}\n', "line 5: an item needs a name and an id"),
        ('item {\n name: "a"\n id: 1\n}\nitem {\n name: "b"\n id: 1\n}\n', "line 5: label id 1 comes twice"),
        ("feeding\nflight\n", "no label found"),
    ],
)
def test_label_maps_that_are_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "labels.pbtxt"
    path.write_text(text)
    with pytest.raises(FormatError, match=message):
        read_label_map(path)


@needs_shared
def test_published_samples() -> None:
    folder = SHARED / "mmaction2_ava_dataset"
    labels = read_label_map(folder / "action_list.txt")
    assert labels == {12: "action1", 17: "action2", 79: "action3", 80: "action3"}
    rows = read_boxes(folder / "ava_sample.csv")
    assert len(rows) == 8
    assert rows[3] == AvaRow("0f39OWEqJ24", 903.0, 0.034, 0.189, 0.669, 0.980, 12, 0)
    excluded = read_excluded(folder / "ava_excluded_timestamps_sample.csv")
    assert read_boxes(folder / "ava_sample.csv", excluded=excluded) == rows[:3]
    with pytest.raises(FormatError, match=r"ava_sample\.csv, line 7: label id 74 is not in the label map"):
        read_boxes(folder / "ava_sample.csv", labels=labels)


@needs_shared
def test_a_training_csv_of_another_tool() -> None:
    rows = read_boxes(SHARED / "whiffe_custom_ava" / "train.csv")
    assert len(rows) == 84
    assert (rows[0].time_s, rows[0].label_id, rows[1].entity_id) == (2.0, 3, 1)


FACTS = VideoFacts("site/v.mp4", width=100, height=50, fps=25, duration_s=1000.0, last_frame_s=999.96)


def test_a_bad_line_does_not_cost_the_others(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "video_id,timestamp,x1,y1,x2,y2,label_id,entity_id\n"
        f"{GOOD},1,0.250,0.900\n"
        "v,902,0.1,0.2,0.3,0.4,6,7,1,0.250,0.900\n"
        "v,soon,0.1,0.2,0.3,0.4,5,7\n"
        "v,903,0.1,0.2,1.3,0.4,5,7\n"
        "v,904,0.1,0.2,0.3,0.4,9,7\n"
        "v,1001,0.1,0.2,0.3,0.4,5,7\n"
        "v,902,0.5,0.2,0.7,0.4,5,7\n"
        "v,905,0.1,0.2,0.3,0.4,5,\n"
        "v,905,0.1,0.2,0.3,0.4,5,\n"
        "v,906,0.1,0.2,0.3,0.4,5,8,running\n"
        'v,"907"x,0.1\n'
        "w,901\n",
    )
    raw = read_ava(path, "li", {5: "Walk", 6: "fly"}, frozenset({("v", 999.0)}))
    result = import_annotations(raw, {"v": FACTS}, ("walk", "fly"))
    assert [(one.place, one.kind, one.value) for one in result.defects] == [
        ("line 4", "unreadable", "v,soon,0.1,0.2,0.3,0.4,5,7"),
        ("line 10", "duplicate box", "v,905,0.1,0.2,0.3,0.4,5,"),
        ("line 12", "unreadable", 'v,"907"x,0.1'),
        ("line 2", "several labels", "walk, fly"),
        ("line 5", "box outside the frame", "0.1, 0.2, 1.3, 0.4"),
        ("line 6", "unknown label", "label id 9"),
        ("line 7", "time beyond the video", "1001 s"),
        ("line 11", "unknown motion", "running"),
        ("line 8", "duplicate id", "7"),
    ]
    assert result.annotations[0] == Annotation(
        "li", "site/v.mp4", 902.0, (0.1, 0.2, 0.3, 0.4), ("walk", "fly"), True, "7", 0.25, 0.9
    )
    assert [(one.time_s, one.behaviours, one.dynamic) for one in result.annotations[1:]] == [
        (904.0, (), None),
        (905.0, ("walk",), None),
        (906.0, ("walk",), None),
    ]


def test_annotations_of_a_video_that_is_not_there_are_one_defect(tmp_path: Path) -> None:
    raw = read_ava(written(tmp_path, f"{GOOD}\n{GOOD[:-1]}8\n"), "li", {5: "walk"})
    result = import_annotations(raw, {"v": NoVideo("unknown video", "no video has this name")}, ("walk",))
    (defect,) = result.defects
    assert (defect.place, defect.kind, defect.value) == ("line 1", "unknown video", "v")
    assert defect.message == "no video has this name; 2 annotations are left out"
    assert result.annotations == ()


@needs_shared
def test_published_samples_as_annotations() -> None:
    folder = SHARED / "mmaction2_ava_dataset"
    labels = read_label_map(folder / "action_list.txt")
    raw = read_ava(folder / "ava_sample.csv", "sample", labels)
    videos = dict.fromkeys(raw.videos, FACTS)
    result = import_annotations(raw, videos, ("action1", "action2", "action3"))
    assert [(one.kind, one.value) for one in result.defects if one.kind != "several labels"] == [
        ("unknown label", "label id 74")
    ]
    assert result.annotations[0].behaviours == ("action1", "action2", "action3")
    excluded = read_excluded(folder / "ava_excluded_timestamps_sample.csv")
    assert {one.time_s for one in read_ava(folder / "ava_sample.csv", "s", labels, excluded).boxes} == {902.0}
    raw = read_ava(SHARED / "whiffe_custom_ava" / "train.csv", "s", {k: f"a{k}" for k in range(1, 6)})
    assert sum(len(one.labels) for one in raw.boxes) == 84
