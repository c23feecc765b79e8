"""Recomputing events: what would have no effect is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flows.errors import SettingsError
from flows.nightly.recompute import recompute_events
from flows.settings import CONFIGS, Settings, load_ethogram, load_settings
from model.refiner import Refiner, RefinerShape, save_refiner
from storage.catalog import StorePin, pin_or_check
from storage.filesystem import open_filesystem


def test_a_refiner_that_reads_none_of_the_scores_is_refused(tmp_path: Path) -> None:
    names, shape, path = (
        load_ethogram(CONFIGS / "ethogram_crane.yaml").names,
        RefinerShape(),
        tmp_path / "r.safetensors",
    )
    tensors = {name: np.zeros(size, np.float32) for name, size in shape.tensors(len(names)).items()}
    save_refiner(Refiner(shape, tensors), path, names, reads="f" * 64, trained_on="toys")
    store = str(tmp_path / "store")
    pin_or_check(open_filesystem(store), StorePin(names, Settings().archive.path_pattern, {"site": "UTC"}))
    assert recompute_events(store, Settings())["camera_days"] == 0
    with pytest.raises(SettingsError, match=r"checkpoint ffffffffffffffff, .* has those of none"):
        recompute_events(store, load_settings(None, {"segment": {"refiner": path}}))
