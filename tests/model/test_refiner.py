"""The refiner: what it reads, what it may not depend on, and that it learns what only neighbours can tell."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from numpy.typing import NDArray

from model.checkpoint import embedded_checkpoint, load_checkpoint
from model.errors import CheckpointDigestError, CheckpointFormatError
from model.refiner import (
    REFERENCE_KEYFRAMES,
    REFERENCE_STEP,
    Refiner,
    RefinerShape,
    embedded_refiner,
    load_refiner,
    refine,
    save_refiner,
    series_channels,
)
from model.refiner_training import (
    UNKNOWN,
    LabelledSeries,
    RefinerNetwork,
    RefinerRecipe,
    _stretch,
    refiner_loss,
    taught,
    train_refiner,
)

BOX = np.array([0.4, 0.5, 0.5, 0.7], np.float32)
SMALL = RefinerShape(channels=8, layers=3, members=2)


def boxes(count: int) -> NDArray[np.float32]:
    return np.tile(BOX, (count, 1))


def random_refiner(shape: RefinerShape = SMALL) -> Refiner:
    torch.manual_seed(3)
    return taught([RefinerNetwork(2, shape) for _ in range(shape.members)], shape)


def series(
    count: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]:
    random = np.random.default_rng(5)
    return np.arange(count), random.uniform(0.05, 0.95, (count, 2)), random.uniform(0, 1, count), boxes(count)


def test_channels_hold_log_odds_motion_size_and_presence() -> None:
    tall = np.array([0.4, 0.3, 0.5, 0.7], np.float32)
    p = np.array([[0.5, 1.0], [np.nan, np.nan], [0.5, 0.0], [0.5, 0.5]])
    channels = series_channels(
        np.array([7, 8, 10, 11]), p, np.array([0.5, 0.9, 0.5, 0.5]), np.stack([BOX, tall, tall, BOX])
    )
    assert channels.shape == (6, 5)
    assert channels[0].tolist() == [0, 0, 0, 0, 0]
    assert channels[1].tolist() == [2, 0, 0, -2, 0]  # log-odds end at 8, in units of 4
    assert channels[2].tolist() == [0, 0, 0, 0, 0]
    assert channels[3] == pytest.approx([0, 0, 0, 2, 0])  # twice as tall as its median
    assert channels[4] == pytest.approx([0, 0, 0, 0, 0], abs=1e-6)
    assert channels[5].tolist() == [1, 0, 0, 1, 1]  # an unscored box is as good as unseen


def test_a_box_is_tall_or_not_against_the_minutes_around_it() -> None:
    # An hour of feeding, bent low, with three minutes of upright rest in it: what came long before must not matter.
    count, rest = 13_500, slice(9_000, 9_000 + REFERENCE_KEYFRAMES)
    xyxy = boxes(count)
    xyxy[rest, 1] -= 0.2
    xyxy += np.random.default_rng(8).normal(0, 0.001, xyxy.shape).astype(np.float32)
    neutral = np.full((count, 2), 0.5), np.full(count, 0.5)
    channels = series_channels(np.arange(count), *neutral, xyxy)
    around = slice(rest.start - REFERENCE_KEYFRAMES, rest.stop + REFERENCE_KEYFRAMES)
    assert around.start % REFERENCE_STEP == 0
    by_itself = series_channels(
        np.arange(3 * REFERENCE_KEYFRAMES), *(part[around] for part in neutral), xyxy[around]
    )
    np.testing.assert_array_equal(
        channels[:, rest], by_itself[:, REFERENCE_KEYFRAMES : 2 * REFERENCE_KEYFRAMES]
    )
    assert (
        abs(channels[3, rest][320:350]).max() < 0.1
    )  # its own height, not the feeding bird's, is the measure
    assert channels[3, 100] == pytest.approx(0, abs=0.1)


def test_up_to_three_minutes_have_one_measure_and_what_is_unknown_none() -> None:
    count = REFERENCE_KEYFRAMES
    xyxy = boxes(count)
    xyxy[:50, 3] += 0.2  # twice as tall, for less than half of the time
    p = np.full((count, 2), 0.5)
    p[50:80] = np.nan
    channels = series_channels(np.arange(count), p, np.full(count, 0.5), xyxy)
    assert channels[3, :50] == pytest.approx(2.0, abs=1e-6)
    assert channels[3, 50:] == pytest.approx(0.0, abs=1e-6)
    assert channels[5].sum() == count - 30


def test_a_gap_of_minutes_leaves_each_part_its_own_measure() -> None:
    place = np.concatenate([np.arange(100), np.arange(5_000, 5_100)])
    xyxy = boxes(200)
    xyxy[100:, 3] += 0.2
    channels = series_channels(place, np.full((200, 2), 0.5), np.full(200, 0.5), xyxy)
    assert abs(channels[3]).max() < 1e-6


def test_without_what_it_learnt_the_scores_stay_as_they_are() -> None:
    refiner = random_refiner()
    refiner.tensors["leave.weight"][:] = 0.0
    refiner.tensors["leave.bias"][:] = 0.0
    p = np.array([[0.8, 0.2], [0.5, 0.5], [np.nan, np.nan]])
    refined = refine(refiner, np.array([0, 1, 2]), p, np.full(3, 0.5), boxes(3))
    odds = np.array([0.8 / 0.2, 0.2 / 0.8])
    assert refined[0] == pytest.approx(odds / odds.sum())
    assert refined[1] == pytest.approx([0.5, 0.5])
    assert np.isnan(refined[2]).all()


def test_the_result_depends_on_distances_between_keyframes_not_on_their_numbers() -> None:
    refiner, (place, p, moving, xyxy) = random_refiner(), series(40)
    with_holes = np.delete(place, [5, 6, 20])
    there = refine(refiner, with_holes, p[with_holes], moving[with_holes], xyxy[with_holes])
    later = refine(refiner, with_holes + 1000, p[with_holes], moving[with_holes], xyxy[with_holes])
    assert later == pytest.approx(there, abs=1e-6)
    assert there.sum(axis=1) == pytest.approx(np.ones(37), abs=1e-5)


def test_it_looks_as_far_as_its_layers_say_and_no_farther() -> None:
    refiner, (place, p, moving, xyxy) = random_refiner(), series(60)
    changed = p.copy()
    changed[30] = [0.99, 0.01]
    difference = np.abs(
        refine(refiner, place, changed, moving, xyxy) - refine(refiner, place, p, moving, xyxy)
    )
    assert set(np.flatnonzero(difference.max(axis=1) > 1e-7)) <= set(
        range(23, 38)
    )  # 1 + 2 + 4 to either side
    assert difference[23].max() > 0


def test_what_is_taught_in_torch_is_what_numpy_says() -> None:
    torch.manual_seed(4)
    shape = RefinerShape(5, 4, members=3)
    members = [RefinerNetwork(3, shape).eval() for _ in range(shape.members)]
    channels = np.random.default_rng(1).normal(size=(7, 30)).astype(np.float32)
    with torch.inference_mode():
        logits = [member(torch.from_numpy(channels[None]))[0].numpy() for member in members]
    assert abs(logits[0] - logits[1]).max() > 0.01
    np.testing.assert_allclose(taught(members, shape).logits(channels), np.mean(logits, axis=0), atol=1e-5)


def test_it_learns_what_no_single_score_tells() -> None:
    """Both states score alike but for a blink every ten keyframes in the second: the rest is told by neighbours."""
    random = np.random.default_rng(2)

    def one(state: int) -> LabelledSeries:
        p = np.tile([0.6, 0.4], (120, 1)) + random.normal(0, 0.02, (120, 2))
        if state:
            p[int(random.integers(10)) :: 10] = [0.2, 0.8]
        return LabelledSeries(
            series_channels(np.arange(120), p, np.full(120, 0.5), boxes(120)), np.full(120, state)
        )

    recipe = RefinerRecipe(steps=200, batch_series=8, length=60, bias=0.1, learning_rate=0.01)
    refiner = train_refiner([one(k % 2) for k in range(12)], 2, RefinerShape(12, 4, members=1), recipe)
    said = [refiner.logits(one(k).channels).argmax(axis=0).mean() for k in (0, 1)]
    assert said[0] < 0.1
    assert said[1] > 0.9


def test_sizes_alone_are_shifted_and_by_the_same_throughout_a_stretch() -> None:
    count = 40
    channels = series_channels(np.arange(count), np.full((count, 2), 0.5), np.full(count, 0.7), boxes(count))
    channels[:, 10] = 0.0  # unseen
    recipe = RefinerRecipe(length=count, bias=0.0, size_shift=0.5, unseen=0.0)
    shifted, _ = _stretch(
        LabelledSeries(channels, np.zeros(count, np.int64)), 2, recipe, np.random.default_rng(1)
    )
    seen = np.arange(count) != 10
    height, width = (shifted - channels)[3:5]
    assert np.ptp(height[seen]) == np.ptp(width[seen]) == 0
    assert abs(height[0]) > 0.1
    assert abs(width[0]) > 0.1
    assert height[0] != width[0]
    np.testing.assert_array_equal(shifted[[0, 1, 2, 5]], channels[[0, 1, 2, 5]])
    assert (shifted[:, 10] == 0).all()


def test_what_is_kept_is_the_mean_of_the_last_weights() -> None:
    one = LabelledSeries(
        series_channels(np.arange(40), np.full((40, 2), 0.5), np.full(40, 0.5), boxes(40)),
        np.zeros(40, np.int64),
    )

    def bias(averaged: float) -> NDArray[np.float32]:
        recipe = RefinerRecipe(steps=4, batch_series=2, length=40, averaged=averaged, learning_rate=0.1)
        return train_refiner([one], 2, SMALL, recipe).tensors["leave.bias"]

    last, mean = bias(0.0), bias(1.0)
    assert (abs(last[:, 0]) > abs(mean[:, 0])).all()  # the weights move away from where they began
    assert (abs(mean[:, 0]) > 0).all()


def test_the_members_learn_from_other_random_numbers_and_their_steps_are_counted_on() -> None:
    one = LabelledSeries(
        series_channels(np.arange(40), np.full((40, 2), 0.5), np.full(40, 0.5), boxes(40)),
        np.zeros(40, np.int64),
    )
    steps: list[int] = []
    recipe = RefinerRecipe(steps=2, batch_series=2, length=40)
    both = train_refiner([one], 2, SMALL, recipe, lambda step, _loss: steps.append(step)).tensors
    assert steps == [0, 1, 2, 3]
    assert (both["enter.weight"][0] != both["enter.weight"][1]).any()
    second = replace(recipe, seed=recipe.seed + 1)
    alone = train_refiner([one], 2, replace(SMALL, members=1), second).tensors
    np.testing.assert_array_equal(alone["enter.weight"][0], both["enter.weight"][1])


def test_unknown_labels_teach_nothing_and_steady_series_cost_nothing() -> None:
    logits = torch.tensor([[[2.0, 2.0, 2.0], [0.0, 0.0, 0.0]]])
    nothing = refiner_loss(logits, torch.full((1, 3), UNKNOWN), RefinerRecipe())
    assert float(nothing) == 0.0
    one = refiner_loss(logits, torch.tensor([[UNKNOWN, 0, UNKNOWN]]), RefinerRecipe())
    assert float(one) == pytest.approx(np.log1p(np.exp(-2.0)))


def test_weights_come_back_and_a_changed_file_is_refused(tmp_path: Path) -> None:
    refiner, path = random_refiner(), tmp_path / "refiner.safetensors"
    written = save_refiner(refiner, path, ("a", "b"), reads="abc", trained_on="toys")
    again, info = load_refiner(path)
    assert info == written
    place, p, moving, xyxy = series(20)
    assert (refine(again, place, p, moving, xyxy) == refine(refiner, place, p, moving, xyxy)).all()
    path.write_bytes(path.read_bytes()[:-4] + b"\x00\x00\x80\x3f")
    with pytest.raises(CheckpointDigestError):
        load_refiner(path)
    earlier = safetensors.numpy.save(dict(refiner.tensors), metadata={"format": "aviaflow-refiner-2"})
    path.write_bytes(earlier)
    with pytest.raises(CheckpointFormatError, match=r"aviaflow-refiner-2.* train-refiner"):
        load_refiner(path)
    path.write_bytes(safetensors.numpy.save(dict(refiner.tensors), metadata={"format": "other"}))
    with pytest.raises(CheckpointFormatError, match="no refiner of this project"):
        load_refiner(path)
    path.write_bytes(b"no weights")
    with pytest.raises(CheckpointFormatError, match=r"refiner\.safetensors"):
        load_refiner(path)


def test_the_embedded_refiner_reads_the_embedded_checkpoint() -> None:
    checkpoint = load_checkpoint(embedded_checkpoint())[1]
    _, info = load_refiner(embedded_refiner())
    assert info.reads == checkpoint.digest
    assert info.behaviours == checkpoint.behaviours
    assert checkpoint.trained_on.endswith(info.trained_on)
