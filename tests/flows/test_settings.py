"""Settings: what a person gets wrong is said in one line, before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from flows.errors import SettingsError
from flows.nightly.context import open_context
from flows.nightly.digests import digests_of
from flows.settings import CONFIGS, Settings, load_ethogram, load_settings
from flows.training.settings import TrainSettings
from model.refiner import Refiner, RefinerShape, save_refiner
from workers.survey import presence_from_iframes
from workers.track import TrackSettings


def written(folder: Path, text: str) -> Path:
    path = folder / "settings.yaml"
    path.write_text(text)
    return path


def keys_of(values: dict[str, Any]) -> set[str]:
    """Names of all settings, those of a group after its own."""
    nested = {name: keys_of(value) for name, value in values.items() if isinstance(value, dict)}
    return set(values).union(*({f"{name}.{key}" for key in keys} for name, keys in nested.items()))


def test_the_local_configuration_writes_out_the_defaults() -> None:
    path = CONFIGS / "local.yaml"
    assert load_settings(path) == Settings()
    assert keys_of(yaml.safe_load(path.read_text())) == keys_of(Settings().model_dump())


def test_the_configuration_of_a_training_shows_every_setting() -> None:
    path = CONFIGS / "train.yaml"
    assert keys_of(yaml.safe_load(path.read_text())) >= keys_of(TrainSettings(clips=1).model_dump())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("decode: {frame_heigth: 216}", "decode.frame_heigth: there is no such setting"),
        ("archive: {zone: Mars/Olympus}", "'Mars/Olympus' is no IANA time zone"),
        ("decode: {memory_mb: 4096}", "decode.memory_mb: there is no such setting, perhaps memory_gib; see"),
        ("decode: {memory_gib: 4 GiB}", "decode.memory_gib: Input should be a valid number"),
        ("decode: {memory_gib: 4096}", "decode.memory_gib: Input should be less than or equal to 1024"),
        (
            "decode: {stall_seconds: 60000}",
            "decode.stall_seconds: Input should be less than or equal to 3600",
        ),
        ("track: {max_gap_s: 10000}", "track.max_gap_s: Input should be less than or equal to 3600"),
        (
            "track: {max_gap_s: 60}",
            "track: Value error, max_gap_s, 60, is more than max_occlusion_s, 12: nobody would be taken up again",
        ),
        ("camera_days_at_once: 32", "camera_days_at_once: Input should be less than or equal to 16"),
        ("archive: {scratch_gib: 20e9}", "archive.scratch_gib: Input should be less than or equal to"),
        ("archive: {path_pattern: '(?P<site>'}", "archive.path_pattern: Value error, no regular expression"),
        (
            "archive: {path_pattern: '.*'}",
            "one or more of the named groups camera, site, time and no other, has none",
        ),
        ("archive: {path_pattern: '(?P<kamera>.*)'}", "and no other, has kamera"),
        ("decode: {segment_seconds: -3}", "decode.segment_seconds"),
        ("survey: {recall_target: 99}", "survey.recall_target: Input should be less than or equal to 1"),
        ("survey: {recall_target: 0}", "survey.recall_target: Input should be greater than 0"),
        (
            "survey: {shortest_visit_s: 2000}",
            "survey.shortest_visit_s: Input should be less than or equal to",
        ),
        ("survey: {max_iframe_gap_s: 2.5}", "survey.max_iframe_gap_s: there is no such setting"),
        ("detect: {detector: given}", "needs boxes_csv"),
        ("infer: {engine: onnx}", "infer.engine: Input should be 'auto', 'torch', 'onnxruntime', 'tensorrt'"),
        ("infer: {engine_folder: x}", "infer.engine_folder: there is no such setting, perhaps engine_dir"),
        ("- a list", "expected a mapping"),
        ("a: [1", "settings.yaml"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError) as error:
        load_settings(written(tmp_path, text))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("target", "visit_s"), [(0.99, 2.0), (0.5, 3.0), (1.0, 4.0)])
def test_as_many_of_the_shortest_visits_touch_an_iframe_as_the_target_says(
    target: float, visit_s: float
) -> None:
    survey = load_settings(None, {"survey": {"recall_target": target, "shortest_visit_s": visit_s}}).survey
    gap_s = survey.max_iframe_gap_s
    begins_s = (np.arange(10_000) + 0.5) / 10_000 * gap_s  # after the I-frame before
    assert np.mean(begins_s + visit_s >= gap_s) == pytest.approx(target, abs=1e-3)
    iframes_s, nobody = gap_s * np.arange(8), np.zeros(8, np.bool_)
    assert presence_from_iframes(iframes_s, nobody, 8 * gap_s, gap_s).spans_s.size == 0
    apart = presence_from_iframes(1.01 * iframes_s, nobody, 8.08 * gap_s, gap_s)
    assert apart.mode == "whole"
    assert apart.blind_s == pytest.approx(8.08 * gap_s)


def test_the_recall_counts_for_detections_only_by_the_gap_that_follows_from_it() -> None:
    ethogram = load_ethogram(CONFIGS / "ethogram_crane.yaml")

    def detections(**survey: Any) -> str:
        settings = load_settings(None, {"survey": survey})
        return digests_of(settings, ethogram, TrackSettings(), "m", "d", "r").detections

    assert detections(recall_target=0.99, shortest_visit_s=1.98) == detections(
        recall_target=1.0, shortest_visit_s=2.0
    )
    assert detections(recall_target=0.9) != detections()


def test_values_of_the_command_line_win_and_none_means_not_given(tmp_path: Path) -> None:
    path = written(tmp_path, "decode: {segment_seconds: 50, workers: 3}")
    settings = load_settings(path, {"decode": {"segment_seconds": 20.0, "workers": None}})
    assert (settings.decode.segment_seconds, settings.decode.workers) == (20.0, 3)


def test_paths_in_a_file_are_relative_to_the_file(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, "infer: {checkpoint: mine.safetensors}"))
    assert settings.infer.checkpoint == tmp_path / "mine.safetensors"


def test_the_crane_ethogram_has_the_six_behaviours_in_the_order_of_the_paper() -> None:
    ethogram = load_ethogram(CONFIGS / "ethogram_crane.yaml")
    assert ethogram.names == ("feeding", "vigilance", "social", "maintenance", "walk", "flight")
    assert ethogram.label_id("walk") == 5


def test_an_unknown_bout_rule_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, "{name: x, taxon: y, behaviours: [{name: rest, rule: {min_bout: 2}}]}")
    with pytest.raises(SettingsError, match="min_bout"):
        load_ethogram(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{name: x, taxon: y}", "behaviours: Field required"),
        ("{name: x, taxon: y, behaviours: rest}", "behaviours: Input should be a valid tuple"),
        ("{name: x, taxon: y, behaviours: [rest]}", "behaviours.0: Input should be a valid dictionary"),
        (
            "{name: x, taxon: y, behaviours: [{name: rest, rules: {}}]}",
            "behaviours.0.rules: there is no such setting",
        ),
        ("{name: x, taxon: y, behaviour: []}", "perhaps behaviours"),
        (
            "{name: x, taxon: y, behaviours: [{name: rest, rule: {min_bout_s: 1000}}]}",
            "behaviours.0.rule.min_bout_s: Input should be less than or equal to 600",
        ),
        (
            "{name: x, taxon: y, behaviours: [{name: rest, rule: {enter_score: 45}}]}",
            "need 0 < leave_score <= enter_score < 1",
        ),
        ("{name: x, taxon: y, behaviours: [{name: other}]}", "'other' cannot name a behaviour"),
    ],
)
def test_a_mistake_in_an_ethogram_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(SettingsError) as error:
        load_ethogram(path)
    assert said in str(error.value)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_bout_rule_touches_events_and_not_detections() -> None:
    ethogram = load_ethogram(CONFIGS / "ethogram_crane.yaml")
    base = digests_of(Settings(), ethogram, TrackSettings(), "m", "d", "r")
    cut_finer = load_settings(None, {"decode": {"segment_seconds": 5.0, "workers": 7}})
    assert digests_of(cut_finer, ethogram, TrackSettings(), "m", "d", "r") == base
    taller = load_settings(None, {"decode": {"frame_height": 288}})
    on_gpu = load_settings(None, {"decode": {"decoder": "nvdec", "gpu_share": 0.1}})
    other_share = load_settings(None, {"decode": {"decoder": "nvdec"}})
    found = digests_of(on_gpu, ethogram, TrackSettings(), "m", "d", "r")
    assert found.detections != base.detections
    assert found.events == base.events
    assert digests_of(other_share, ethogram, TrackSettings(), "m", "d", "r") == found
    changed = digests_of(taller, ethogram, TrackSettings(), "m", "d", "r")
    assert changed.detections != base.detections
    assert changed.events == base.events
    patient = digests_of(Settings(), ethogram, TrackSettings(max_gap_s=99.0), "m", "d", "r")
    assert patient.detections == base.detections
    assert patient.events != base.events
    refined = digests_of(Settings(), ethogram, TrackSettings(), "m", "d", "another")
    assert refined.detections == base.detections
    assert refined.events != base.events


def test_a_refiner_that_reads_another_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    names = load_ethogram(CONFIGS / "ethogram_crane.yaml").names
    shape = RefinerShape()
    tensors = {name: np.zeros(size, np.float32) for name, size in shape.tensors(len(names)).items()}
    save_refiner(Refiner(shape, tensors), path, names, reads="f" * 64, trained_on="toys")
    settings = load_settings(written(tmp_path, "segment: {refiner: other.safetensors}"))
    assert settings.segment.refiner == path
    with pytest.raises(SettingsError, match="reads the scores of the checkpoint ffffffffffffffff"):
        open_context(str(tmp_path), str(tmp_path / "store"), settings)
    assert not (tmp_path / "store").exists()


def test_a_section_that_is_no_mapping_is_named_with_options_of_the_command_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="decode"):
        load_settings(written(tmp_path, "decode: 5"), {"decode": {"workers": 2}})


def test_no_setting_is_infinite() -> None:
    with pytest.raises(SettingsError, match="segment_seconds"):
        load_settings(None, {"decode": {"segment_seconds": float("inf")}})
