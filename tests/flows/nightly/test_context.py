"""What does not fit together is refused before any work, in one line that says what to change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from flows.errors import SettingsError
from flows.nightly.context import open_context
from flows.settings import Settings, load_settings
from model.checkpoint import embedded_checkpoint
from storage.errors import NewerSchemaError, PinnedValueError
from storage.schema import SCHEMA_VERSION

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
