"""Plates and presence of a camera-day, on small encoded videos and on the real ones."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from workers.detect import Detector, MotionDetector
from workers.detect_combined import CombinedDetector
from workers.errors import DamagedVideoError
from workers.messages import ArchiveFile, Boxes, Keyframes, Plate, Presence, Probe, Recording, Survey
from workers.probe import probe_video
from workers.pyav_reader import decode_iframes, read_frames, to_rgb
from workers.survey import (
    MARGIN_S,
    _at_rest,
    camera_day_plates,
    near_enough,
    presence_from_iframes,
    survey_video,
    whole_video,
    without_pauses,
)

SIZE = (108, 192)
FPS = 10
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
Frame = NDArray[np.uint8]


def survey_of(recordings: list[Recording], size: tuple[int, int]) -> Survey:
    """Plates and presence of one camera-day."""
    plates = camera_day_plates(recordings, size)
    return Survey(plates, {r.file.video_id: survey_video(r, plates, size) for r in recordings})


def scene() -> Frame:
    coarse = np.random.default_rng(21).uniform(90, 150, (12, 20, 3)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC), np.uint8)


def encode(path: Path, visits: dict[tuple[float, float], int], seconds: int, iframe_gap_s: int) -> Path:
    """A fixed camera; during each visit (start, end in seconds) an animal walks from the given column."""
    empty = scene()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuv420p"
        gop = str(FPS * iframe_gap_s)
        stream.options = {
            "crf": "20",
            "preset": "ultrafast",
            "x264-params": f"keyint={gop}:min-keyint={gop}:scenecut=0",
        }
        for index in range(seconds * FPS):
            frame = empty.copy()
            for (start_s, end_s), column in visits.items():
                if start_s <= index / FPS < end_s:
                    x = column + round(6 * (index / FPS - start_s))
                    frame[50:66, x : x + 20] = 20
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def recording_of(path: Path, number: int = 0) -> Recording:
    moment = dt.datetime(2025, 11, 3, 6, 0, tzinfo=dt.UTC) + dt.timedelta(hours=number)
    file = ArchiveFile(f"{number:016x}", path.name, str(path), path.stat().st_size, "f", moment)
    return Recording(file, probe_video(path), "s", "c", moment, "path", moment.date())


def difference(plate: Plate, picture: Frame) -> int:
    return int(np.abs(plate.pixels.astype(np.int16) - cv2.blur(picture, (3, 3))).max())


@pytest.fixture(scope="module")
def visited(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """40 s with an I-frame each second and visits from 6 to 9.5 s and from 20 to 27 s."""
    path = tmp_path_factory.mktemp("visited") / "a.mp4"
    return recording_of(encode(path, {(6.0, 9.5): 30, (20.0, 27.0): 100}, 40, 1))


class Still:
    """A detector that knows one animal which is at rest from ``start_s`` to ``end_s``."""

    def __init__(self, start_s: float, end_s: float) -> None:
        self._span = (start_s, end_s)
        self.asked_s: list[float] = []

    def detect(self, keyframes: Keyframes, plates: tuple[Plate, ...]) -> list[Boxes]:
        found = []
        for time_s in keyframes.times_s.tolist():
            self.asked_s.append(time_s)
            count = int(self._span[0] <= time_s < self._span[1])
            found.append(Boxes(np.zeros((count, 4), np.float32), np.ones(count, np.float32)))
        return found


def test_spans_cover_the_visits_and_leave_the_rest_out(visited: Recording) -> None:
    survey = survey_of([visited], SIZE)
    presence = survey.presence[visited.file.video_id]
    assert presence.mode == "spans"
    assert presence.spans_s == pytest.approx(np.array([[4.8, 10.2], [18.8, 27.2]]), abs=1.01)
    assert (presence.spans_s[:, 0] <= (6.0, 20.0)).all()
    assert (presence.spans_s[:, 1] >= (9.5, 27.0)).all()


def test_the_plate_of_a_camera_day_is_the_empty_scene(visited: Recording) -> None:
    (plate,) = camera_day_plates([visited], SIZE)
    assert difference(plate, scene()) <= 12


def test_recordings_are_opened_one_at_a_time_and_one_that_cannot_be_is_left_out(
    visited: Recording, tmp_path: Path
) -> None:
    gone = recording_of(encode(tmp_path / "gone.mp4", {}, 30, 1), 1)
    elsewhere = replace(visited, file=replace(visited.file, path="s3://bucket/visited.mp4"))
    held: list[str] = []

    @contextmanager
    def opened(recording: Recording) -> Iterator[Recording]:
        assert held == []
        if recording is gone:
            raise DamagedVideoError("it is gone", "gone.mp4")
        held.append(recording.file.path)
        yield visited
        held.pop()

    (plate,) = camera_day_plates([gone, elsewhere], SIZE, opened)
    assert difference(plate, scene()) <= 12
    assert held == []


def test_a_late_video_is_surveyed_with_stored_plates(visited: Recording, tmp_path: Path) -> None:
    plates = camera_day_plates([visited], SIZE)
    late = recording_of(encode(tmp_path / "late.mp4", {(0.0, 12.0): 20}, 20, 1), 1)
    presence = survey_video(late, plates, SIZE)
    assert presence.spans_s == pytest.approx(np.array([[0.0, 12.2]]), abs=1.01)


def test_two_recordings_of_a_day_share_their_plate(visited: Recording, tmp_path: Path) -> None:
    resting = recording_of(encode(tmp_path / "b.mp4", {(0.0, 12.0): 60}, 12, 1), 1)
    survey = survey_of([visited, resting], SIZE)
    assert len(survey.plates) == 1
    assert survey.presence[resting.file.video_id].mode == "whole"


def test_with_few_iframes_the_plate_comes_from_the_frames_between(tmp_path: Path) -> None:
    recording = recording_of(encode(tmp_path / "c.mp4", {(0.0, 20.0): 30}, 24, 6))
    (plate,) = camera_day_plates([recording], SIZE)
    assert int(recording.probe.is_iframe.sum()) == 4
    assert difference(plate, scene()) <= 12


def test_a_video_with_one_iframe_is_decoded_whole(tmp_path: Path) -> None:
    recording = recording_of(encode(tmp_path / "d.mp4", {}, 5, 5))
    presence = survey_video(recording, camera_day_plates([recording], SIZE), SIZE)
    assert presence.mode == "whole"
    assert "1 I-frame" in presence.reason
    assert presence.blind_s == 5.0
    assert presence.spans_s.tolist() == [[0.0, 5.0]]


def test_iframes_too_far_apart_are_not_even_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = recording_of(encode(tmp_path / "e.mp4", {}, 24, 6))
    plates = camera_day_plates([recording], SIZE)
    empty = survey_video(recording, plates, SIZE, max_iframe_gap_s=6.0)
    assert (empty.spans_s.size, empty.blind_s) == (0, 0.0)
    monkeypatch.setattr("workers.survey.decode_iframes", None)
    presence = survey_video(recording, plates, SIZE, max_iframe_gap_s=5.9)
    assert (presence.mode, presence.spans_s.tolist(), presence.blind_s) == ("whole", [[0.0, 24.0]], 24.0)
    assert "I-frames are 6.0 s apart or more" in presence.reason


def test_without_a_plate_everything_is_decoded(visited: Recording) -> None:
    presence = survey_video(visited, (), SIZE)
    assert presence.mode == "whole"
    assert presence.spans_s == pytest.approx(np.array([[0.0, 40.0]]))


@pytest.mark.parametrize("content", [None, bytes(5000)], ids=["gone", "overwritten"])
def test_a_file_that_is_lost_during_a_run_costs_the_others_nothing(
    content: bytes | None, visited: Recording, tmp_path: Path
) -> None:
    path = encode(tmp_path / "lost.mp4", {}, seconds=30, iframe_gap_s=1)
    lost = recording_of(path, number=1)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    survey = survey_of([visited, lost], SIZE)
    assert survey.plates
    assert survey.presence[visited.file.video_id].mode == "spans"
    assert survey.presence[lost.file.video_id].mode == "whole"
    assert "the I-frames cannot be read" in survey.presence[lost.file.video_id].reason
    with pytest.raises(DamagedVideoError, match="copy the file again"):
        list(read_frames(lost.file.path, lost.probe, 0, 5))


def test_damaged_iframes_mean_that_the_decoder_decides(visited: Recording, tmp_path: Path) -> None:
    plates = camera_day_plates([visited], SIZE)
    content = bytearray(Path(visited.file.path).read_bytes())
    start = content.index(b"mdat") + 4
    broken = tmp_path / "broken.mp4"
    stop = content.index(b"moov") - 4 if content.index(b"moov") > start else len(content)
    content[start:stop] = bytes(stop - start)
    broken.write_bytes(content)
    damaged = replace(visited, file=replace(visited.file, path=str(broken)))
    presence = survey_video(damaged, plates, SIZE)
    assert presence.mode == "whole"
    assert "cannot be read" in presence.reason
    assert camera_day_plates([damaged], SIZE) == ()


@pytest.mark.parametrize("combined", [False, True], ids=["learned", "combined"])
def test_an_animal_at_rest_is_present_if_a_learned_detector_sees_it(
    visited: Recording, combined: bool
) -> None:
    learned = Still(28.0, 50.0)
    detector: Detector = CombinedDetector(learned, MotionDetector()) if combined else learned
    plates = camera_day_plates([visited], SIZE)
    presence = survey_video(visited, plates, SIZE, detector)
    # Visits are from 6 to 9.5 s and from 20 to 27 s. It is asked first, after each visit, and 8 s after it found some.
    assert learned.asked_s == pytest.approx([0.0, 10.0, 28.0, 36.0], abs=1e-3)
    assert presence.spans_s[-1] == pytest.approx([18.8, 40.0])
    nobody = Still(100.0, 200.0)
    survey_video(visited, plates, SIZE, nobody)
    assert nobody.asked_s == pytest.approx([0.0, 10.0, 28.0], abs=1e-3)  # then not within half a minute


def test_what_a_later_look_finds_was_there_since_anything_moved_or_the_look_before() -> None:
    still = np.zeros(8, np.bool_)
    assert _at_rest([0, 4], [False, True], still).tolist() == [False] + [True] * 7
    assert _at_rest([0, 4], [True, False], still).tolist() == [True] * 4 + [False] * 4
    moved = np.arange(8) == 2
    assert _at_rest([0, 4], [False, True], moved).tolist() == [False] * 3 + [True] * 5
    assert not _at_rest([], [], still).any()


def test_iframes_nearer_than_needed_are_looked_at_only_beside_something(
    visited: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    plates = camera_day_plates([visited], SIZE)
    every = survey_video(visited, plates, SIZE, max_iframe_gap_s=1.0)
    looked_at: list[list[int]] = []

    def counted(path: str, probe: Probe, size: tuple[int, int], wanted: frozenset[int]) -> Iterator[Any]:
        looked_at.append(sorted(frame // FPS for frame in wanted))
        return decode_iframes(path, probe, size, wanted)

    monkeypatch.setattr("workers.survey.decode_iframes", counted)
    fewer = survey_video(visited, plates, SIZE, max_iframe_gap_s=2.0)
    np.testing.assert_array_equal(fewer.spans_s, every.spans_s)
    # Visits from 6 to 9.5 s and from 20 to 27 s: seen at 6 and 8, and from 20 to 26.
    assert looked_at == [[*range(0, 40, 2), 39], [5, 9, 19, 27]]


def test_as_few_moments_as_may_be_none_too_far_from_the_next() -> None:
    times_s = np.array([0.0, 0.5, 1.0, 2.5, 5.0, 5.5, 6.0, 7.0])
    assert near_enough(times_s, 2.0).tolist() == [0, 2, 3, 4, 7]
    assert near_enough(times_s, 0.1).tolist() == list(range(8))
    assert near_enough(times_s, 100.0).tolist() == [0, 7]


EVERY_SECOND = np.arange(10.0)


def presence_at(*present_s: int) -> NDArray[np.bool_]:
    return np.isin(np.arange(10), present_s)


def test_a_span_reaches_the_empty_iframes_on_both_sides() -> None:
    presence = presence_from_iframes(EVERY_SECOND, presence_at(4, 5), 10.0)
    assert presence.spans_s.tolist() == [[3 - MARGIN_S, 6 + MARGIN_S]]
    assert "2 of 10 I-frames" in presence.reason


def test_spans_stay_within_the_video_and_near_ones_are_one() -> None:
    presence = presence_from_iframes(EVERY_SECOND, presence_at(0, 3, 9), 10.0)
    assert presence.spans_s.tolist() == [[0.0, 4 + MARGIN_S], [8 - MARGIN_S, 10.0]]


def test_nothing_seen_means_no_span() -> None:
    presence = presence_from_iframes(EVERY_SECOND, presence_at(), 10.0)
    assert presence.spans_s.shape == (0, 2)
    assert presence.mode == "spans"


def test_a_long_gap_between_empty_iframes_is_not_known_to_be_empty() -> None:
    times_s = np.array([0.0, 1.0, 2.0, 3.0, 7.0, 8.0, 9.0])
    presence = presence_from_iframes(times_s, np.zeros(7, np.bool_), 10.0, max_iframe_gap_s=2.5)
    assert presence.spans_s.tolist() == [[3.0, 7.0]]
    assert "4.0 s apart" in presence.reason
    assert presence.blind_s == 4.0


def test_a_video_that_is_occupied_throughout_is_whole() -> None:
    presence = presence_from_iframes(EVERY_SECOND, presence_at(*range(1, 10, 2)), 10.0)
    assert (presence.mode, presence.spans_s.tolist()) == ("whole", [[0.0, 10.0]])


def test_a_pause_of_the_camera_is_not_looked_at() -> None:
    times_s = np.concatenate([np.arange(30) / 10, 20 + np.arange(30) / 10])
    found = without_pauses(Presence(np.array([[0.0, 1.0], [2.0, 21.5]]), "spans", "seen"), times_s)
    np.testing.assert_allclose(found.spans_s, [[0.0, 1.0], [2.0, 3.0], [20.0, 21.5]])
    assert found.reason == "seen; nothing was recorded for 17.0 s within it"


def test_frames_far_apart_throughout_are_no_pause() -> None:
    whole = Presence(np.array([[0.0, 300.0]]), "whole", "")
    assert without_pauses(whole, np.arange(60) * 5.0) is whole
    assert without_pauses(whole, np.zeros(1)) is whole


def test_whole_video_covers_it_from_end_to_end(visited: Recording) -> None:
    presence = whole_video(visited, "asked for")
    assert presence.reason == "asked for"
    assert presence.spans_s == pytest.approx(np.array([[0.0, 40.0]]))


def real_video(name: str) -> tuple[Recording, tuple[int, int]]:
    path = DATA / "videos" / name
    if not path.exists():
        pytest.skip(f"the real videos are not here: {path} is missing")
    recording = recording_of(path)
    return recording, (216, round(216 * recording.probe.width / recording.probe.height / 2) * 2)


def found_in(recording: Recording, size: tuple[int, int], plates: tuple[Plate, ...]) -> list[Boxes]:
    """Motion boxes of all keyframes of a recording."""
    step_s, times, frames = 4 / 15, [], []
    for index, picture in read_frames(
        recording.file.path, recording.probe, 0, recording.probe.frame_count - 1
    ):
        time_s = float(recording.probe.times_s[index])
        if time_s + 1e-6 >= len(times) * step_s:
            times.append(time_s)
            frames.append(to_rgb(picture, recording.probe, size))
    return MotionDetector().detect(Keyframes("v", np.array(times), np.stack(frames)), plates)


def test_people_who_stand_at_one_spot_are_found_and_the_empty_room_is_not() -> None:
    recording, size = real_video("intel_one-by-one-person.mp4")
    survey = survey_of([recording], size)
    presence = survey.presence[recording.file.video_id]
    assert presence.mode == "spans"
    # The room is empty from the start to 5 s, 46 to 50 s, 71 to 74 s and 88 to 92 s.
    for empty_s in (2.0, 48.0, 72.5, 90.0):
        assert not ((presence.spans_s[:, 0] <= empty_s) & (empty_s <= presence.spans_s[:, 1])).any()
    counts = np.array([len(boxes.score) for boxes in found_in(recording, size, survey.plates)])
    at_s = np.arange(len(counts)) * 4 / 15
    standing = ((at_s > 8) & (at_s < 19)) | ((at_s > 26) & (at_s < 43)) | ((at_s > 96) & (at_s < 118))
    empty = (at_s < 4.5) | ((at_s > 46.5) & (at_s < 49.5)) | ((at_s > 88.5) & (at_s < 91.5))
    assert (counts[standing] >= 1).mean() >= 0.99
    assert (counts[empty] == 0).mean() >= 0.95


@pytest.mark.slow
def test_two_flies_are_found_while_they_move_and_while_they_sit() -> None:
    recording, size = real_video("sleap_flies_tracks_clip.mp4")
    counts = [len(boxes.score) for boxes in found_in(recording, size, camera_day_plates([recording], size))]
    assert np.mean(np.array(counts) == 2) >= 0.95


@pytest.mark.slow
def test_the_mouse_is_found_in_nearly_every_keyframe() -> None:
    recording, size = real_video("tracktor_mouse.mp4")
    found = found_in(recording, size, camera_day_plates([recording], size))
    # The arena is the disc around (0.48, 0.48) of a radius of 0.47 of the height.
    centres = [(boxes.xyxy[:, :2] + boxes.xyxy[:, 2:]) / 2 for boxes in found]
    inside = [bool((np.hypot((c[:, 0] - 0.48) * 4 / 3, c[:, 1] - 0.48) < 0.47).any()) for c in centres]
    assert np.mean(inside) >= 0.97
