"""Which videos of a labelled folder are in which part, and what happens where truth and split do not agree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.annotations.labelled import read_labelled, read_split, videos_of_part, write_split
from flows.errors import SettingsError, SplitFileError

ROW = "{video},1.0,0.1,0.1,0.5,0.5,1,1,0,0.0,1.0\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Boxes of three videos, and of a fourth a deer's alone."""
    truth = tmp_path / "truth"
    truth.mkdir()
    (truth / "boxes.csv").write_text("".join(ROW.format(video=f"{name}.mp4") for name in "abc"))
    (truth / "others.csv").write_text("header\nd.mp4,1.0,0.1,0.1,0.5,0.5,deer,\n")
    return tmp_path


PARTS = {"a.mp4": "test", "b.mp4": "train", "c.mp4": "validation", "d.mp4": "train"}


def test_a_folder_without_a_split_has_no_parts(root: Path) -> None:
    assert read_split(root) is None


def test_a_split_is_read_as_it_was_written(root: Path) -> None:
    write_split(root / "split.csv", PARTS, {"a.mp4": 7})
    assert (root / "split.csv").read_text().splitlines()[:3] == [
        "video_id,part,boxes",
        "a.mp4,test,7",
        "b.mp4,train,0",
    ]
    part_of = read_split(root)
    assert part_of == PARTS
    assert videos_of_part(root, part_of, "train") == ["b.mp4", "d.mp4"]


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (
            {name: part for name, part in PARTS.items() if name in ("a.mp4", "b.mp4")},
            r"split\.csv: no part is given for c\.mp4 and 1 more videos, of which .*truth has boxes: add a row, or",
        ),
        (
            {**PARTS, "gone.mp4": "test"},
            r"split\.csv: it names gone\.mp4, of which .*truth has no boxes: delete the row, or make .*annotations",
        ),
        ({**PARTS, "b.mp4": "trian"}, r"split\.csv: line 3: part 'trian' of b\.mp4: write one of train, "),
    ],
)
def test_where_truth_and_split_do_not_agree_the_video_is_named(
    root: Path, parts: dict[str, str], said: str
) -> None:
    write_split(root / "split.csv", parts, {})
    with pytest.raises(SplitFileError, match=said):
        read_split(root)


def test_a_split_that_cannot_be_read_is_refused(root: Path) -> None:
    (root / "split.csv").write_text("video,part\na.mp4,test\n")
    with pytest.raises(SplitFileError, match=r"need the columns video_id and part, got \['video', 'part'\]"):
        read_split(root)
    (root / "split.csv").write_text("video_id,part\na.mp4,test\na.mp4,train\n")
    with pytest.raises(SplitFileError, match=r"line 3: a\.mp4 comes twice"):
        read_split(root)


def test_an_empty_part_is_refused(root: Path) -> None:
    with pytest.raises(SplitFileError, match="no video is in the part 'test'"):
        videos_of_part(root, {"a.mp4": "train"}, "test")


def test_what_a_truth_says_about_itself(root: Path) -> None:
    reserve = root / "truth" / "reserve.json"
    assert read_labelled(root).behaviours is None
    reserve.write_text(json.dumps({"simulated": True, "cameras": []}))
    assert read_labelled(root).simulated
    read_labelled(root).check_behaviours(root, ("any",), "the ethogram")
    reserve.write_text(json.dumps({"simulated": False, "behaviours": ["peck", "doze"]}))
    read_labelled(root).check_behaviours(root, ("peck", "doze"), "the ethogram")
    with pytest.raises(
        SettingsError, match=r"reserve\.json: annotated for peck, doze, but mine has doze, peck"
    ):
        read_labelled(root).check_behaviours(root, ("doze", "peck"), "mine")
    reserve.write_text("[")
    with pytest.raises(SettingsError, match=r"reserve\.json: cannot be read"):
        read_labelled(root)
