from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from flows.annotations.labelled import read_split, write_split
from flows.cli import main
from workers.clips import build_windows, read_truth

BEHAVIOURS = ("peck", "doze", "soar")
"""A made-up ethogram of three behaviours."""
VIDEOS = [f"cam{k}/cam{k}_20240101T00000{k}Z.mp4" for k in range(10)]
WIDTH, HEIGHT = 160, 96
WriteVia = Callable[..., Path]
Entry = tuple[str, list[Any], list[Any], dict[str, str]]


def write_video(path: Path, grey: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=15, options={"threads": "1"})
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for _ in range(30):
            image = np.full((HEIGHT, WIDTH, 3), (grey, 200, 30), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    for k, video in enumerate(VIDEOS):
        write_video(folder / "reserve" / video, 10 * k)
    return folder


@pytest.fixture
def ethogram(tmp_path: Path) -> Path:
    path = tmp_path / "ethogram.yaml"
    lines = "".join(f"  - name: {name}\n" for name in BEHAVIOURS)
    path.write_text(f"name: made up\ntaxon: Avis ficta\nbehaviours:\n{lines}")
    return path


def boxes(shift: float = 0.0, behaviour: str | None = None) -> dict[str, Entry]:
    """Bird A does each of the three in turn, bird B dozes; in every video."""
    metadata: dict[str, Entry] = {}
    for view in range(1, len(VIDEOS) + 1):
        for k, time_s in enumerate((0.4, 0.8, 1.2)):
            av_of = {"1": behaviour or str(k), "2": "A", "3": "1" if k == 2 else "0"}
            metadata[f"{view}_A{k}"] = (str(view), [time_s], [2, 20 + shift, 10, 40, 40], av_of)
        metadata[f"{view}_B"] = (str(view), [0.4], [2, 100, 50, 40, 40], {"1": "1", "2": "B", "3": "0"})
    return metadata


def run(
    capsys: pytest.CaptureFixture[str],
    files: list[object],
    archive: Path,
    out: Path,
    ethogram: Path,
    *more: str,
) -> tuple[int, str, str]:
    arguments = [*files, "--archive", archive, "--out", out, "--ethogram", ethogram, *more]
    status = main(["annotations", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_three_annotators_and_five_planted_defects(
    archive: Path, ethogram: Path, tmp_path: Path, write_via: WriteVia, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [Path(video).name for video in VIDEOS]
    label = {"1": "0", "3": "0"}
    wang = write_via(
        tmp_path / "wang.json",
        names,
        BEHAVIOURS,
        boxes()
        | {
            "1_outside": ("1", [1.6], [2, 130, 10, 60, 40], label),
            "2_label": ("2", [1.6], [2, 10, 10, 60, 40], {"1": "swim", "3": "0"}),
        },
    )
    li = write_via(
        tmp_path / "li.json",
        names,
        BEHAVIOURS,
        boxes(shift=4.0)
        | {
            "3_late": ("3", [2.6], [2, 10, 10, 60, 40], label),
            "4_twice": ("4", [0.4], [2, 10, 10, 60, 40], {**label, "2": "A"}),
        },
    )
    zhao = write_via(
        tmp_path / "zhao.json",
        names,
        BEHAVIOURS,
        boxes(behaviour="0") | {"5_shape": ("5", [1.6], [3, 10, 10, 60], label)},
    )
    out = tmp_path / "set"
    _, text, _ = run(capsys, [wang, li, zhao], archive, out, ethogram)
    check_what_is_printed(text)
    status, text, _ = run(capsys, [wang, li, zhao], archive, out, ethogram, "--json")
    result = json.loads(text)
    assert status == 3
    assert [(Path(d["file"]).name, d["place"], d["kind"], d["value"]) for d in result["defects"]] == [
        ("wang.json", 'metadata["1_outside"]', "box outside the frame", "130, 10, 190, 50"),
        ("wang.json", 'metadata["2_label"].av', "unknown label", "swim"),
        ("li.json", 'metadata["3_late"]', "time beyond the video", "2.6 s"),
        ("li.json", 'metadata["4_twice"]', "duplicate id", "A"),
        ("zhao.json", 'metadata["5_shape"]', "unreadable", '{"vid": "5", "flg": 0, "z": [1.6], "xy": [3, 10, '
         '10, 60], "av": {"1": "0", "3": "0"}}'),
    ]  # fmt: skip
    assert result["annotators"] == {"wang": 40, "li": 40, "zhao": 40}
    assert (result["boxes"], result["videos"]) == (40, 10)
    assert result["behaviours"] == {"peck": 10, "doze": 20, "soar": 10}
    assert result["motion"] == {"static": 30, "dynamic": 10}
    first, _, third = result["agreement"]
    assert (first["first"], first["second"], first["matched"]) == ("wang", "li", 40)
    assert first["mean_iou"] == pytest.approx((3 * 36 / 44 + 1) / 4)
    assert first["behaviour_kappa"] == 1.0
    assert (third["first"], third["second"]) == ("li", "zhao")
    # zhao called A's every box pecking: 20 of 40 the same; by chance (10 * 30 + 20 * 10) / 40 ** 2.
    assert third["behaviour_kappa"] == pytest.approx((0.5 - 0.3125) / (1 - 0.3125))
    assert result["split"]["largest_gap"] == pytest.approx(0.0, abs=1e-9)
    check_set(out, archive)


def check_what_is_printed(text: str) -> None:
    """Each defect with file, entry, where it is seen and value; the agreement of each pair."""
    lines = [re.split(r" {2,}", line) for line in text.splitlines()]
    assert text.startswith("5 defects; what they are of is left out, all else is used\n")
    assert [line[:5] for line in lines if line[0] in ("wang.json", "li.json", "zhao.json")] == [
        ["wang.json", 'metadata["1_outside"]', f"{seen(1)} 1.6 s", "box outside the frame", "130, 10, 190, 50"],
        ["wang.json", 'metadata["2_label"].av', f"{seen(2)} 1.6 s", "unknown label", "swim"],
        ["li.json", 'metadata["3_late"]', f"{seen(3)} 2.6 s", "time beyond the video", "2.6 s"],
        ["li.json", 'metadata["4_twice"]', f"{seen(4)} 0.4 s", "duplicate id", "A"],
        ["zhao.json", 'metadata["5_shape"]', f"{seen(5)} 1.6 s", "unreadable",
         '{"vid": "5", "flg": 0, "z": [1.6], "x...'],
    ]  # fmt: skip
    # Annotators, moments, boxes, matched, mean IoU, kappa of the behaviour, share of the same, kappa of the motion.
    assert [line for line in lines if " - " in line[0]] == [
        ["wang - li", "30", "40 - 40", "40", "0.864", "1.000", "1.000", "1.000"],
        ["wang - zhao", "30", "40 - 40", "40", "1.000", "0.273", "0.500", "1.000"],
        ["li - zhao", "30", "40 - 40", "40", "0.864", "0.273", "0.500", "1.000"],
    ]


def seen(view: int) -> str:
    return f"{Path(VIDEOS[view - 1]).name} at"


def check_set(out: Path, archive: Path) -> None:
    """Training reads what was written, and the card shows it."""
    windows = build_windows(out, out / "windows", seed=1, frame_height=64, input_height=32)
    assert np.bincount(windows.label[windows.label >= 0]).tolist() == [10, 20, 10]
    assert np.bincount(windows.dynamic[windows.learnable]).tolist() == [30, 10]
    assert len(windows.grid) == 30
    assert set(windows.light.tolist()) == {"day"}
    np.testing.assert_allclose(
        windows.xyxy[0], (20 / 160 + 4 / 480, 10 / 96, 60 / 160 + 4 / 480, 50 / 96), atol=1e-4
    )
    with (out / "split.csv").open() as file:
        parts = [row["part"] for row in csv.DictReader(file)]
    assert [parts.count(part) for part in ("train", "validation", "test")] == [8, 1, 1]
    with (out / "defects.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 5
    card = (out / "CARD.md").read_text()
    assert "| doze | 20 | 50.0 % | 20 | 0 |" in card
    assert "| wang - li | 30 | 40 - 40 | 40 |" in card
    for name in ("shares", "box_area", "box_aspect", "split_shares"):
        assert (out / "card" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    with (out / "card" / "split_shares.csv").open() as file:
        assert [row["class"] for row in csv.DictReader(file)] == [*BEHAVIOURS, "static", "dynamic"]
    with (out / "card" / "box_area.csv").open() as file:
        rows = {row["behaviour"]: row for row in csv.DictReader(file)}
    assert float(rows["doze"]["q50"]) == pytest.approx(100 * 40 * 40 / (160 * 96), abs=1e-3)
    assert (out / "archive").resolve() == archive.resolve()


def test_a_split_that_was_edited_is_kept(
    archive: Path, ethogram: Path, tmp_path: Path, write_via: WriteVia, capsys: pytest.CaptureFixture[str]
) -> None:
    """Mended annotations are split anew, but not where someone has chosen the parts."""
    path, out = tmp_path / "one.json", tmp_path / "set"
    write_via(path, VIDEOS, BEHAVIOURS, boxes())
    assert run(capsys, [path], archive, out, ethogram)[0] == 0
    assert "as the search wrote it" not in run(capsys, [path], archive, out, ethogram)[1]
    found = read_split(out)
    assert found is not None
    other = {"train": "validation", "validation": "test", "test": "train"}
    chosen = {video: other[part] for video, part in found.items()}
    left_out = f"reserve/{VIDEOS[-1]}"
    del chosen[left_out]
    write_split(out / "split.csv", chosen, {})
    _, text, _ = run(capsys, [path], archive, out, ethogram)
    assert f"note: {out / 'split.csv'} is not known to be as the search wrote it, and is kept" in text
    assert "note: 1 videos that it did not name are in the training part" in text
    assert read_split(out) == {**chosen, left_out: "train"}
    # A video that is missing once, as where its annotator's file is damaged, comes back to its part.
    absent = f"reserve/{VIDEOS[0]}"
    write_via(path, VIDEOS, BEHAVIOURS, {k: v for k, v in boxes().items() if not k.startswith("1_")})
    run(capsys, [path], archive, out, ethogram)
    assert absent not in (read_split(out) or {absent: ""})
    write_via(path, VIDEOS, BEHAVIOURS, boxes())
    run(capsys, [path], archive, out, ethogram)
    assert read_split(out) == {**chosen, left_out: "train"}
    (out / "split.csv").write_text("video_id,part\nreserve/cam0/x.mp4,exam\n")
    status, _, said = run(capsys, [path], archive, out, ethogram)
    assert (status, "part 'exam' of reserve/cam0/x.mp4" in said) == (1, True)
    (out / "split.csv").unlink()
    assert "as the search wrote it" not in run(capsys, [path], archive, out, ethogram)[1]
    assert read_split(out) == found


def test_a_video_of_others_alone_is_in_the_training_part(
    archive: Path, ethogram: Path, tmp_path: Path, write_via: WriteVia, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that truth and split name the same videos."""
    write_video(archive / "reserve" / "cam0" / "deer.mp4", 99)
    deer = {"11_deer": ("11", [0.4], [2, 10, 10, 60, 40], {"1": "3", "3": "0"})}
    path = write_via(
        tmp_path / "one.json", [*VIDEOS, "cam0/deer.mp4"], [*BEHAVIOURS, "other"], boxes() | deer
    )
    status, text, _ = run(capsys, [path], archive, tmp_path / "set", ethogram)
    (archive / "reserve" / "cam0" / "deer.mp4").unlink()
    assert status == 0
    assert "note: 1 videos with boxes of other alone are in the training part" in text
    part_of = read_split(tmp_path / "set")
    assert part_of is not None
    assert part_of["reserve/cam0/deer.mp4"] == "train"
    assert len(part_of) == 11


def test_an_individual_of_unknown_behaviour_is_no_empty_place(
    archive: Path, ethogram: Path, tmp_path: Path, write_via: WriteVia, capsys: pytest.CaptureFixture[str]
) -> None:
    metadata = boxes()
    place = ("1", [0.4], [2, 60, 50, 30, 30], {"1": "9", "2": "C"})  # beside A and B, with a label of its own
    alone = ("1", [1.0], [2, 60, 50, 30, 30], {"2": "C"})
    path = write_via(tmp_path / "one.json", VIDEOS, BEHAVIOURS, metadata | {"1_C": place, "1_D": alone})
    status, text, _ = run(capsys, [path], archive, tmp_path / "set", ethogram)
    assert status == 3
    assert "note: 1 boxes have no behaviour, or several: they teach none" in text
    assert "40 boxes in 10 videos" in text
    moments = read_truth(tmp_path / "set" / "truth")[f"reserve/{VIDEOS[0]}"]
    assert [[box.learnable for box in found] for found in moments.values()] == [
        [True, True, False],
        [True],
        [True],
    ]


def test_the_defects_are_a_table_for_people(
    archive: Path, ethogram: Path, tmp_path: Path, write_via: WriteVia, capsys: pytest.CaptureFixture[str]
) -> None:
    metadata = boxes() | {"1_x": ("1", [9.0], [2, 10, 10, 60, 40], {"1": "0"})}
    path = write_via(tmp_path / "one.json", VIDEOS, BEHAVIOURS, metadata)
    status, text, _ = run(capsys, [f"wang={path}"], archive, tmp_path / "set", ethogram)
    assert status == 3
    row = next(line for line in text.splitlines() if line.startswith("one.json"))
    assert row.split("  ")[0:2] == ["one.json", 'metadata["1_x"]']
    assert "time beyond the video" in row
    assert "9 s" in row
    assert "40 boxes in 10 videos (peck 10, doze 20, soar 10; 10 dynamic), from wang" in text


def test_ava_with_label_map_exclusions_and_motion_by_rule(
    archive: Path, ethogram: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, labels, excluded = tmp_path / "li.csv", tmp_path / "map.pbtxt", tmp_path / "excluded.csv"
    stem = Path(VIDEOS[0]).stem
    path.write_text(
        f"{stem},0001,0.1,0.1,0.5,0.5,12,0\n{stem},0000,0.1,0.1,0.5,0.5,17,0\n{stem},0001,0.6,0.1,0.9,0.5,17,1\n"
    )
    labels.write_text('item { name: "Soar" id: 12 }\nitem { name: "doze" id: 17 }\n')
    excluded.write_text(f"{stem},0\n")
    options = ("--labels", str(labels), "--excluded", str(excluded), "--json")
    status, text, _ = run(capsys, [path], archive, tmp_path / "set", ethogram, *options, "--dynamic", "soar")
    result = json.loads(text)
    assert status == 0
    assert (result["behaviours"], result["motion"]) == (
        {"peck": 0, "doze": 1, "soar": 1},
        {"static": 1, "dynamic": 1},
    )
    assert result["split"] is None
    assert "at least 10 annotated videos, there are 1" in result["notes"][1]
    _, text, _ = run(capsys, [path], archive, tmp_path / "set", ethogram, *options)
    assert json.loads(text)["motion"] == {"static": 2, "dynamic": 0}
    assert json.loads(text)["notes"][0].startswith("2 boxes have no motion state and are written as static")


def test_when_nothing_can_be_used_it_says_why(
    archive: Path, ethogram: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "li.csv"
    path.write_text("elsewhere,1,0.1,0.1,0.5,0.5,1,0\n")
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    status, text, error = run(capsys, [path, broken], archive, tmp_path / "set", ethogram)
    assert (status, text) == (1, "")
    assert "nothing in 2 annotation files can be used; 2 defects" in error
    with (tmp_path / "set" / "defects.csv").open() as file:
        assert [row["kind"] for row in csv.DictReader(file)] == ["unreadable", "unknown video"]
    status, _, error = run(capsys, [tmp_path / "none.csv"], archive, tmp_path / "set", ethogram)
    assert (status, "none.csv: there is no such file" in error) == (1, True)
    status, _, error = run(capsys, [path], archive, tmp_path / "set", ethogram, "--dynamic", "swim")
    assert (status, "no 'swim', only peck, doze, soar" in error) == (1, True)


def test_a_truth_is_never_written_over(
    archive: Path, ethogram: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = tmp_path / "set" / "truth"
    truth.mkdir(parents=True)
    path = truth / "boxes.csv"
    path.write_text(f"{Path(VIDEOS[0]).stem},1,0.1,0.1,0.5,0.5,1,0\n")
    for _ in range(2):
        status, _, error = run(capsys, [path], archive, tmp_path / "set", ethogram)
        assert (status, "holds a truth that would be lost" in error) == (1, True)
        path = path.rename(tmp_path / "boxes.csv")
        (truth / "reserve.json").write_text('{\n  "simulated": true\n}')
