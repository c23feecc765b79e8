"""Deriving: which refiner is used for what is stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.refiner import Refiner, RefinerShape, save_refiner
from storage.parquet import Footer
from workers.derive import fitting_refiner


def footer(model_digest: str) -> Footer:
    return Footer("detections", "inputs", model_digest, "config", ("stand", "walk"), "UTC")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A refiner of the scores of the checkpoint whose digest begins with sixteen a."""
    path = tmp_path / "refiner.safetensors"
    shape = RefinerShape(4, 1)
    tensors = {name: np.zeros(size, np.float32) for name, size in shape.tensors(2).items()}
    save_refiner(Refiner(shape, tensors), path, ("stand", "walk"), reads=64 * "a", trained_on="toys")
    return path


def test_it_is_used_where_all_scores_are_of_the_checkpoint_that_it_reads(weights: Path) -> None:
    refiner, note = fitting_refiner(weights, [footer(16 * "a"), footer(16 * "a")])
    assert refiner is not None
    assert note == "refiner trained on toys"


@pytest.mark.parametrize("digests", [("b",), ("a", "b"), ()])
def test_other_scores_are_left_as_they_are(weights: Path, digests: tuple[str, ...]) -> None:
    assert fitting_refiner(weights, [footer(16 * digest) for digest in digests]) == (None, "")


def test_without_one_nothing_is_refined() -> None:
    assert fitting_refiner(None, [footer(16 * "a")]) == (None, "")
