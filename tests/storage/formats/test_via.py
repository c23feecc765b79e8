from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.errors import FormatError
from storage.formats.annotations import Annotation, Imported, VideoFacts
from storage.formats.judge import import_annotations
from storage.formats.via import read_via

BEHAVIOURS = ("peck", "stand_up", "fly")
FACTS = VideoFacts("site/cam/one.mp4", width=200, height=100, fps=25, duration_s=4.0, last_frame_s=3.96)
WriteVia = Callable[..., Path]


def imported(path: Path) -> Imported:
    return import_annotations(read_via(path, "wang"), {"one.mp4": FACTS}, BEHAVIOURS)


def test_a_box_becomes_fractions_of_the_frame(tmp_path: Path, write_via: WriteVia) -> None:
    av = {"1": "1", "2": "crane A", "3": "1"}
    path = write_via(
        tmp_path / "p.json",
        ["one.mp4"],
        ("peck", "Stand up", "fly"),
        {"1_a": ("1", [1.5], [2, 20, 10, 100, 50], av)},
    )
    expected = Annotation(
        "wang", "site/cam/one.mp4", 1.5, (0.1, 0.1, 0.6, 0.6), ("stand_up",), True, "crane A"
    )
    assert imported(path) == Imported((expected,), ())


def test_what_the_attributes_of_each_kind_say(tmp_path: Path, write_via: WriteVia) -> None:
    path = write_via(
        tmp_path / "p.json",
        ["one.mp4"],
        BEHAVIOURS,
        {
            "1_a": ("1", [], [], {"5": "li"}),
            "1_b": ("1", [1.0], [2, 0, 0, 50, 50], {"6": "0,2", "3": "0"}),
            "1_c": ("1", [2.0], [8, 50, 20, 10, 30, 20, 70, 30, 40], {"1": "2"}),
        },
    )
    both, extreme = imported(path).annotations
    assert (both.annotator, both.behaviours, both.dynamic) == ("li", ("peck", "fly"), False)
    assert extreme.xyxy == (0.05, 0.2, 0.25, 0.7)
    assert (extreme.behaviours, extreme.dynamic, extreme.individual) == (("fly",), None, "")
    assert [(one.kind, one.value) for one in imported(path).defects] == [("several labels", "peck, fly")]


def test_a_segment_speaks_for_the_boxes_of_its_individual(tmp_path: Path, write_via: WriteVia) -> None:
    path = write_via(
        tmp_path / "p.json",
        ["one.mp4"],
        BEHAVIOURS,
        {
            "1_s": ("1", [1.0, 2.0], [], {"4": "2", "2": "A", "3": "1"}),
            "1_in": ("1", [2.0], [2, 0, 0, 50, 50], {"2": "A"}),
            "1_own": ("1", [1.2], [2, 0, 0, 50, 50], {"2": "A", "1": "0"}),
            "1_late": ("1", [2.1], [2, 0, 0, 50, 50], {"2": "A"}),
            "1_other": ("1", [1.5], [2, 0, 0, 50, 50], {"2": "B"}),
            "1_idle": ("1", [1.0, 2.0], [], {"4": "2", "2": "C"}),
        },
    )
    result = imported(path)
    assert [(one.time_s, one.behaviours, one.dynamic) for one in result.annotations] == [
        (2.0, ("fly",), True),
        (1.2, ("peck",), True),
        (2.1, (), None),
        (1.5, (), None),
    ]
    assert [(one.place, one.kind) for one in result.defects] == [
        ('metadata["1_idle"]', "segment without a box"),
        ('metadata["1_late"]', "no label"),
        ('metadata["1_other"]', "no label"),
    ]


@pytest.mark.parametrize(
    ("second", "behaviours", "dynamic"),
    [
        (([2.0, 3.0], {"4": "1", "3": "0"}), ("stand_up",), False),
        (([2.0, 3.0], {"3": "0"}), ("fly",), False),
        (([2.0, 3.0], {"4": "1"}), ("stand_up",), True),
        (([1.5, 3.0], {"4": "1", "3": "0"}), ("fly", "stand_up"), True),
        (([1.0, 2.0], {"4": "1", "3": "0"}), ("fly", "stand_up"), True),
    ],
)
def test_a_box_at_the_border_of_two_segments_is_the_later_ones(
    second: tuple[list[float], dict[str, str]],
    behaviours: tuple[str, ...],
    dynamic: bool,
    tmp_path: Path,
    write_via: WriteVia,
) -> None:
    times_s, av = second
    path = write_via(
        tmp_path / "p.json",
        ["one.mp4"],
        BEHAVIOURS,
        {
            "1_first": ("1", [1.0, 2.0], [], {"4": "2", "3": "1", "2": "A"}),
            "1_second": ("1", times_s, [], {**av, "2": "A"}),
            "1_box": ("1", [2.0], [2, 0, 0, 50, 50], {"2": "A"}),
        },
    )
    (box,) = imported(path).annotations
    assert (box.behaviours, box.dynamic) == (behaviours, dynamic)


@pytest.mark.parametrize(
    ("entry", "kind", "value", "place"),
    [
        (("1", [1.0], [2, 150, 0, 60, 50], {"1": "0"}), "box outside the frame", "150, 0, 210, 50", ""),
        (("1", [1.0], [2, 0, -2, 60, 50], {"1": "0"}), "box outside the frame", "0, -2, 60, 48", ""),
        (("1", [1.0], [2, 0, 0, 60, 50], {"1": "9"}), "unknown label", "9", ".av"),
        (("1", [4.5], [2, 0, 0, 60, 50], {"1": "0"}), "time beyond the video", "4.5 s", ""),
        (("1", [-0.1], [2, 0, 0, 60, 50], {"1": "0"}), "time beyond the video", "-0.1 s", ""),
        (("1", [3.0, 4.5], [], {"4": "0"}), "time beyond the video", "4.5 s", ""),
        (("1", [1.0], [2, 0, 0, 60, 50], {"3": "0"}), "no label", "1 s, individual ''", ""),
        (("1", [1.0], [2, 0, 0, 60, 0], {"1": "0"}), "unreadable", "0, 0, 60, 0", ""),
    ],
)
def test_a_defect_is_named_and_the_rest_used(
    tmp_path: Path,
    write_via: WriteVia,
    entry: tuple[str, list[float], list[float], dict[str, str]],
    kind: str,
    value: str,
    place: str,
) -> None:
    good = ("1", [1.0], [2, 100, 0, 101, 50], {"1": "2"})  # a pixel beyond the frame is clipped
    path = write_via(tmp_path / "p.json", ["one.mp4"], BEHAVIOURS, {"1_bad": entry, "1_good": good})
    result = imported(path)
    (defect,) = result.defects
    assert (defect.kind, defect.value) == (kind, value)
    assert (defect.file, defect.place) == (str(path), f'metadata["1_bad"]{place}')
    assert [one.xyxy for one in result.annotations if one.behaviours] == [(0.5, 0.0, 1.0, 0.5)]
    # Where it is stays known where only what it does is not.
    assert len(result.annotations) == 1 + (kind in ("unknown label", "no label"))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (("7", [1.0], [2, 0, 0, 9, 9], {"1": "0"}), "view '7' does not show one file"),
        (("2", [1.0], [2, 0, 0, 9, 9], {"1": "0"}), "'two.jpg' is an image, not a video"),
        (("1", ["soon"], [2, 0, 0, 9, 9], {"1": "0"}), '"soon" is no number'),
        (("1", [1.0], [3, 50, 50, 9], {"1": "0"}), "shape 3 is no rectangle"),
        (("1", [1.0, 2.0], [2, 0, 0, 9, 9], {"1": "0"}), "a box has one time in z"),
        (("1", [2.0, 1.0], [], {"4": "0"}), "a box has one time in z"),
        (("1", [1.0], [2, 0, 0, 9, 9], None), "av is no object"),
    ],
)
def test_an_entry_that_cannot_be_read(
    tmp_path: Path, write_via: WriteVia, entry: tuple[object, ...], message: str
) -> None:
    path = write_via(tmp_path / "p.json", ["one.mp4", "two.jpg"], BEHAVIOURS, {"1_bad": entry})
    project = json.loads(path.read_text())
    project["file"]["2"]["type"] = 2
    path.write_text(json.dumps(project))
    (defect,) = read_via(path, "wang").defects
    assert (defect.kind, defect.place) == ("unreadable", 'metadata["1_bad"]')
    assert message in defect.message


def test_one_individual_twice_at_a_moment_and_one_key_twice(tmp_path: Path, write_via: WriteVia) -> None:
    av = {"1": "0", "2": "A"}
    path = write_via(
        tmp_path / "p.json",
        ["one.mp4"],
        BEHAVIOURS,
        {
            "1_a": ("1", [1.0], [2, 0, 0, 50, 50], av),
            "1_b": ("1", [1.0], [2, 100, 0, 50, 50], av),
            "1_c": ("1", [1.04], [2, 100, 0, 50, 50], av),
        },
    )
    path.write_text(path.read_text().replace('"1_c"', '"1_a"'))
    result = imported(path)
    assert [(one.kind, one.value, one.place) for one in result.defects] == [
        ("duplicate id", "1_a", 'metadata["1_a"]'),
        ("duplicate id", "A", 'metadata["1_b"]'),
    ]
    assert [one.xyxy[0] for one in result.annotations] == [0.0]


def test_of_two_boxes_of_one_individual_the_one_that_can_be_used_is(
    tmp_path: Path, write_via: WriteVia
) -> None:
    first = {
        "1_mute": ("1", [1.0], [2, 0, 0, 50, 50], {"2": "A"}),
        "1_out": ("1", [2.0], [2, 180, 0, 50, 50], {"1": "0", "2": "A"}),
    }
    again = {
        "1_a": ("1", [1.0], [2, 0, 0, 60, 50], {"1": "0", "2": "A"}),
        "1_b": ("1", [2.0], [2, 100, 0, 60, 50], {"1": "0", "2": "A"}),
    }
    result = imported(write_via(tmp_path / "p.json", ["one.mp4"], BEHAVIOURS, first | again))
    assert [one.xyxy for one in result.annotations] == [(0.0, 0.0, 0.3, 0.5), (0.5, 0.0, 0.8, 0.5)]
    assert [(one.kind, one.place) for one in result.defects] == [
        ("no label", 'metadata["1_mute"]'),
        ("box outside the frame", 'metadata["1_out"]'),
        ("duplicate id", 'metadata["1_mute"]'),
    ]


def test_a_player_goes_on_until_the_last_sound(tmp_path: Path, write_via: WriteVia) -> None:
    metadata = {
        "1_s": ("1", [3.0, 4.15], [], {"4": "2", "2": "A"}),
        "1_a": ("1", [4.1], [2, 0, 0, 50, 50], {"2": "A"}),
    }
    result = imported(write_via(tmp_path / "p.json", ["one.mp4"], BEHAVIOURS, metadata))
    assert result.defects == ()
    assert [(one.time_s, one.behaviours) for one in result.annotations] == [(3.96, ("fly",))]


def test_pixels_and_times_are_those_of_the_browser(tmp_path: Path, write_via: WriteVia) -> None:
    """It makes 720x480 with pixels of 8:9 720x540, and its clock runs from where the sound begins."""
    facts = VideoFacts("v.mp4", 640, 480, 25.0, 4.0, 3.96, player_scale=720 / 640, player_start_s=0.8)
    metadata = {
        "1_a": ("1", [1.8], [2, 360, 270, 360, 270], {"1": "0"}),
        "1_b": ("1", [0.5], [2, 0, 0, 72, 54], {"1": "0"}),
        "1_c": ("1", [2.0], [2, 700, 0, 40, 54], {"1": "0"}),
    }
    written = read_via(write_via(tmp_path / "p.json", ["one.mp4"], BEHAVIOURS, metadata), "wang")
    result = import_annotations(written, {"one.mp4": facts}, BEHAVIOURS)
    last, first = result.annotations
    assert (last.time_s, last.xyxy) == (pytest.approx(1.0), pytest.approx((0.5, 0.5, 1.0, 1.0)))
    assert (first.time_s, first.xyxy) == (0.0, pytest.approx((0.0, 0.0, 0.1, 0.1)))
    (outside,) = result.defects
    assert "within 720x540 pixels" in outside.message


def test_a_project_that_is_none(tmp_path: Path, write_via: WriteVia) -> None:
    path = tmp_path / "p.json"
    path.write_text("{")
    with pytest.raises(FormatError, match=r"p\.json: this is no JSON"):
        read_via(path, "wang")
    path.write_text('{"_via_settings": {}, "file": []}')
    with pytest.raises(FormatError, match="it lacks attribute, file, metadata, view"):
        read_via(path, "wang")
    write_via(path, ["one.mp4"], BEHAVIOURS, {})
    project = json.loads(path.read_text())
    project["attribute"] = {"7": project["attribute"]["7"]}
    path.write_text(json.dumps(project))
    with pytest.raises(FormatError, match=r"no attribute is called behaviour .*only \['weather'\]"):
        read_via(path, "wang")


def test_several_annotators_in_one_project(tmp_path: Path, write_via: WriteVia) -> None:
    same = (
        "1",
        [1.0],
        [2, 0, 0, 50, 50],
    )
    path = write_via(
        tmp_path / "p.json",
        ["one.mp4"],
        BEHAVIOURS,
        {
            "1_a": (*same, {"1": "0", "2": "A", "5": "wang"}),
            "1_b": (*same, {"1": "2", "2": "A", "5": "li"}),
            "1_c": (*same, {"2": "A", "5": "zhao"}),
            "1_s": ("1", [0.0, 2.0], [], {"4": "1", "2": "A", "5": "zhao"}),
        },
    )
    result = imported(path)
    assert result.defects == ()
    assert [(one.annotator, one.behaviours) for one in result.annotations] == [
        ("wang", ("peck",)),
        ("li", ("fly",)),
        ("zhao", ("stand_up",)),
    ]
