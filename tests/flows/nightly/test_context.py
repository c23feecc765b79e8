"""What does not fit together is refused before any work, in one line that says what to change."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from flows.cluster import Node
from flows.errors import ClusterError, SettingsError
from flows.nightly.context import open_context
from flows.nightly.night import Night
from flows.nightly.pool import RunActors
from flows.nightly.progress import Progress
from flows.nightly.stages import StageClock
from flows.settings import Settings, load_settings
from model.checkpoint import embedded_checkpoint
from storage.errors import NewerSchemaError, PinnedValueError
from storage.schema import SCHEMA_VERSION
from workers.errors import DeadActorsError, UnstableClusterError

ETHOGRAM = """
name: cranes in another order
taxon: Grus japonensis
behaviours: [{name: vigilance}, {name: feeding}, {name: social}, {name: maintenance}, {name: walk}, {name: flight}]
"""


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    folder.mkdir()
    return folder


def test_an_ethogram_that_does_not_fit_the_model(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(ETHOGRAM)
    settings = load_settings(None, {}).model_copy(update={"ethogram": tmp_path / "own.yaml"})
    with pytest.raises(SettingsError) as error:
        open_context(str(archive), str(tmp_path / "store"), settings)
    said = str(error.value)
    assert said.startswith(f"{tmp_path / 'own.yaml'}: the ethogram has vigilance, feeding, social")
    assert "was trained for feeding, vigilance, social" in said
    assert "use the model's ethogram, or a model trained for yours" in said
    assert not (tmp_path / "store").exists()


def test_a_model_whose_digest_does_not_match(archive: Path, tmp_path: Path) -> None:
    with safe_open(embedded_checkpoint(), "pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
    tensors[name] = tensors[name] + 1
    save_file(tensors, tmp_path / "changed.safetensors", metadata)
    settings = load_settings(None, {"infer": {"checkpoint": str(tmp_path / "changed.safetensors")}})
    with pytest.raises(
        SettingsError, match=r"changed\.safetensors: the content does not match its sha256"
    ) as error:
        open_context(str(archive), str(tmp_path / "store"), settings)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("version", "error", "said"),
    [
        (SCHEMA_VERSION + 1, NewerSchemaError, "install the newer one"),
        (SCHEMA_VERSION, PinnedValueError, "use the first, or another --out"),
    ],
)
def test_a_store_that_was_begun_otherwise(
    archive: Path, tmp_path: Path, version: int, error: type[Exception], said: str
) -> None:
    store = tmp_path / "store"
    store.mkdir()
    pin = {"schema_version": version, "behaviours": ["feeding"], "path_pattern": "", "zones": {}}
    (store / "store.json").write_text(json.dumps(pin))
    with pytest.raises(error, match=said) as raised:
        open_context(str(archive), str(store), Settings())
    assert str(store) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert [path.name for path in store.iterdir()] == ["store.json"]


def test_an_engine_that_is_not_installed_or_does_not_run_there(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(**infer: str) -> str:
        with pytest.raises(SettingsError) as error:
            open_context(str(archive), str(tmp_path / "store"), load_settings(None, {"infer": infer}))
        assert not (tmp_path / "store").exists()
        return str(error.value)

    assert "tensorrt-rtx runs on a CUDA device" in refused(engine="tensorrt-rtx", device="cpu")
    monkeypatch.setattr("model.engines.choice.find_spec", lambda name: None)
    assert "pip install -e '.[onnx]'" in refused(engine="onnxruntime", device="cpu")


def test_the_engine_travels_to_the_actors_and_is_in_no_digest(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("infer: {engine: onnxruntime, engine_dir: kept, device: cpu}")
    own = load_settings(tmp_path / "a.yaml")
    context = open_context(str(archive), str(tmp_path / "store"), own)
    spec = context.scorer_spec(cpus=2)
    assert (spec.engine.name, spec.engine.folder) == ("onnxruntime", tmp_path / "kept")
    assert spec.batch_clips is None
    plain = open_context(str(archive), str(tmp_path / "store"), Settings())
    assert plain.digests == context.digests
    assert plain.scorer_spec(cpus=2).engine.folder is None


def test_a_gpu_takes_the_batches_that_fit_unless_told(archive: Path, tmp_path: Path) -> None:
    def batch(**infer: object) -> int | None:
        settings = load_settings(None, {"infer": {"device": "cuda", **infer}})
        return open_context(str(archive), str(tmp_path / "store"), settings).scorer_spec(2).batch_clips

    assert batch() is None
    assert batch(batch_clips=3) == 3


def test_nvdec_that_is_not_installed_is_refused(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings(None, {"decode": {"decoder": "nvdec"}})
    monkeypatch.setattr("workers.nvdec.is_installed", lambda: False)
    with pytest.raises(SettingsError, match=r"not installed: run .* install -e '\.\[nvdec\]'"):
        open_context(str(archive), str(tmp_path / "store"), settings)
    monkeypatch.setattr("workers.nvdec.is_installed", lambda: True)
    assert open_context(str(archive), str(tmp_path / "store"), settings).settings.decode.nvdec_share == 0.05
    assert load_settings(None, {"decode": {"gpu_share": 0.3}}).decode.nvdec_share == 0.0


@pytest.mark.parametrize(
    ("detect", "said"),
    [
        ({"detector": "given", "boxes_csv": "boxes.csv"}, r"boxes\.csv, line 1: "),
        ({"detector": "coco", "weights": "birds.pth"}, r"birds\.pth"),
        (
            {"detector": "coco", "weights": "fasterrcnn_mobilenet_v3_large_320_fpn.pth"},
            r"fasterrcnn_mobilenet_v3_large_320_fpn\.pth",
        ),
    ],
)
def test_a_detector_that_cannot_be_made_is_refused(
    archive: Path, tmp_path: Path, detect: dict[str, str], said: str
) -> None:
    named = {key: str(tmp_path / value) if "." in value else value for key, value in detect.items()}
    for path in (Path(value) for key, value in named.items() if key != "detector"):
        path.write_text("no boxes and no weights\n")
    with pytest.raises(SettingsError, match=said) as error:
        open_context(str(archive), str(tmp_path / "store"), load_settings(None, {"detect": named}))
    assert "\n" not in str(error.value)


def test_more_actors_than_gpus_are_refused_before_they_are_waited_for(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (archive / "east_20260301T090000Z.mp4").write_text("a video")
    settings = load_settings(None, {"infer": {"device": "cuda", "actors": 2}})
    night = Night(open_context(str(archive), str(tmp_path / "store"), settings), False, Progress())
    monkeypatch.setattr("flows.cluster.nodes", lambda: [Node(8, 1)])
    with pytest.raises(
        ClusterError, match=r"infer\.actors is 2, each .*, but the Ray cluster has 1 GPU; take fewer"
    ):
        night.begin([SimpleNamespace(to_score=("a recording",), day=None)])  # type: ignore[list-item]
    assert not (tmp_path / "store").exists()


class Pool:
    """Stands for actors that were started."""

    def __init__(self) -> None:
        self.given_back = 0

    def give_back(self) -> None:
        self.given_back += 1


def test_a_pool_that_died_too_often_is_ended_and_another_is_started(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools = [Pool(), Pool()]
    made = iter(pools)
    monkeypatch.setattr("workers.actors.start_inference_actors", lambda *_: next(made))
    actors = RunActors(open_context(str(archive), str(tmp_path / "store"), Settings()), StageClock())
    first = actors.start(2)
    with pytest.raises(UnstableClusterError), actors.given_up_if_dead(first):
        raise UnstableClusterError("nodes died that decoded for this camera-day alone")
    assert actors.start(2) is first
    for _ in range(2):  # two camera-days that shared it
        with pytest.raises(DeadActorsError), actors.given_up_if_dead(first):
            raise DeadActorsError("an actor died")
    assert [pool.given_back for pool in pools] == [1, 0]
    assert actors.start(2) is pools[1]
    actors.clear()
    assert [pool.given_back for pool in pools] == [1, 1]
