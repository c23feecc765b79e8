"""Tiny windows on disk, and a training of cells on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from flows.ablation.benchmark import Benchmark
from flows.ablation.training import CellTraining
from flows.training.settings import TrainSettings
from workers.clips import WindowSet, open_windows, windows_digest

NAMES = ("feeding", "vigilance", "social", "maintenance", "walk", "flight")
KEYFRAMES = 4


def scene(seed: int) -> WindowSet:
    """Two videos of noise with four keyframes each, at each of which one bird is seen and one empty place."""
    rng, videos = np.random.default_rng(seed), 2
    keyframes = videos * KEYFRAMES
    kind = np.tile([0, 1], keyframes)
    corner = rng.uniform(0, 0.5, (2 * keyframes, 2))
    return WindowSet(
        frames=rng.integers(0, 256, (8 * keyframes, 32, 48, 3), dtype=np.uint8),
        video_start=8 * KEYFRAMES * np.arange(videos + 1),
        light=np.array(["day", "infrared"]),
        video=np.arange(keyframes) // KEYFRAMES,
        grid=8 * (np.arange(keyframes) % KEYFRAMES),
        box_start=np.arange(0, 2 * keyframes + 1, 2),
        xyxy=np.concatenate([corner, corner + 0.4], axis=1).astype(np.float32),
        label=np.where(kind == 0, np.arange(2 * keyframes) // 2 % 3, -1),
        dynamic=np.arange(2 * keyframes) // 2 % 2,
        learnable=kind == 0,
        other=kind == 1,
        individual=np.where(kind == 1, "", "7"),
    )


def write_scene(folder: Path, seed: int) -> Path:
    folder.mkdir(parents=True)
    windows = scene(seed)
    arrays = {field.name: getattr(windows, field.name) for field in fields(windows)}
    np.save(folder / "frames.npy", arrays.pop("frames"))
    np.savez(folder / "index.npz", **arrays)
    return folder


@pytest.fixture
def benchmark(tmp_path: Path) -> Benchmark:
    """Windows to train on and others to test on."""
    training, test = (write_scene(tmp_path / name, seed) for seed, name in enumerate(("train", "test")))
    facts = {
        "simulated": True,
        "training_videos": 2,
        "training_digest": windows_digest(open_windows(training)),
    }
    return Benchmark(training, test, facts)


@pytest.fixture
def training_in(benchmark: Benchmark) -> Callable[[Path], CellTraining]:
    """A training of four steps for each cell, kept at every second step."""

    def training(folder: Path) -> CellTraining:
        folder.mkdir(exist_ok=True)
        return CellTraining(
            folder=folder,
            training=benchmark.training,
            test=benchmark.test,
            behaviours=NAMES,
            settings=TrainSettings(clips=12, batch_clips=3, checkpoint_steps=2),
            initial=None,
            every=1,
            threads=1,
            device="cpu",
            command="aviaflow ablate",
            progress=lambda _: None,
        )

    return training
