from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from flows.evaluation.instances import evaluate
from flows.training.embedded import parse
from flows.training.fit import Recipe, learning_rate_share, make_batch, sampling_weights, train
from flows.training.model_card import Beginning, CardFacts, DataUsed, read_facts, render_card, write_facts
from model.augment import NO_AUGMENTATION
from model.checkpoint import embedded_checkpoint, load_checkpoint
from model.network import ActionNetwork
from workers.clips import WindowSet

NAMES = ("still", "blinking", "never")


def scene(keyframes: int = 12) -> WindowSet:
    """One video by day and one in infrared in which a patch blinks from the middle on, and one is grey.

    Every keyframe has the blinking or still patch, a hidden bird and a box of empty ground.
    """
    rng = np.random.default_rng(0)
    length = 8 * keyframes
    frames = rng.integers(40, 60, (2 * length, 32, 48, 3), dtype=np.uint8)
    for video in range(2):
        for k in range(length):
            bright = k < length // 2 or k % 2 == 0
            frames[video * length + k, 8:24, 6:22] = 220 if bright else 90
    grid = np.tile(8 * np.arange(keyframes), 2)
    count = 3 * 2 * keyframes
    kind = np.tile([0, 1, 2], 2 * keyframes)  # patch, hidden, empty
    moment = np.repeat(grid, 3)
    label = np.where(kind == 0, (moment >= length // 2).astype(int), np.where(kind == 1, 0, -1))
    patch, hidden, empty = [6 / 48, 0.25, 22 / 48, 0.75], [0.5, 0.5, 0.6, 0.9], [0.6, 0.1, 0.9, 0.9]
    return WindowSet(
        frames=frames,
        video_start=np.array([0, length, 2 * length]),
        light=np.array(["day", "infrared"]),
        video=np.repeat([0, 1], keyframes),
        grid=grid,
        box_start=np.arange(0, count + 1, 3),
        xyxy=np.array([patch, hidden, empty], dtype=np.float32)[kind],
        label=label,
        dynamic=(label == 1).astype(np.int64),
        learnable=kind == 0,
        other=kind == 2,
        individual=np.where(kind == 2, "", "7"),
    )


def test_keyframes_are_drawn_by_their_rarest_class() -> None:
    windows = scene(4)
    windows.label[3 * 7] = (
        2  # the last keyframe's patch: the only one of its kind among 8 patches and 8 others
    )
    weights = sampling_weights(windows, len(NAMES))
    assert weights.sum() == pytest.approx(1)
    # Shares of the 16 usable boxes: still 4, blinking 3, never 1, others 8.
    expected = 1 / np.sqrt(np.array([4, 4, 3, 3, 4, 4, 3, 1]) / 16)
    np.testing.assert_allclose(weights, expected / expected.sum())


def test_a_keyframe_without_usable_boxes_is_never_drawn() -> None:
    windows = scene(4)
    windows.learnable[:3] = False
    windows.other[:3] = False
    weights = sampling_weights(windows, len(NAMES))
    assert weights[0] == 0
    assert (weights[1:] > 0).all()


def test_a_batch_has_the_boxes_of_its_clips_in_order() -> None:
    windows = scene(6)
    batch = make_batch(
        windows, np.array([1, 10]), NO_AUGMENTATION, np.random.default_rng(0), num_behaviours=len(NAMES)
    )
    assert batch.clips.shape == (2, 16, 32, 48, 3)
    assert batch.clip_index.tolist() == [0, 0, 0, 1, 1, 1]
    assert batch.targets.behaviour.tolist() == [
        [1, 0, 0],
        [1, 0, 0],
        [0, 0, 0],
        [0, 1, 0],
        [1, 0, 0],
        [0, 0, 0],
    ]
    assert batch.targets.learnable.tolist() == [True, False, False] * 2
    assert batch.targets.other.tolist() == [False, False, True] * 2
    assert batch.targets.dynamic.tolist() == [0, 0, 0, 1, 0, 0]
    assert np.array_equal(batch.clips[1].numpy(), windows.window(10))
    longer = make_batch(
        windows, np.array([10]), NO_AUGMENTATION, np.random.default_rng(0), num_behaviours=3, clip_frames=32
    )
    assert longer.clips.shape == (1, 32, 32, 48, 3)
    assert np.array_equal(longer.clips[0, 8:24].numpy(), windows.window(10))
    single = make_batch(
        windows,
        np.array([10]),
        NO_AUGMENTATION,
        np.random.default_rng(0),
        num_behaviours=3,
        single_frame=True,
    )
    assert (single.clips[0] == batch.clips[1, 8]).all()


def test_learning_rate_warms_up_and_falls_to_zero_at_the_end_of_the_budget() -> None:
    recipe = Recipe(total_clips=1000, batch_clips=4, warmup_steps=30)
    shares = [learning_rate_share(step, recipe) for step in range(251)]
    assert shares[0] == pytest.approx(1 / 30)
    assert max(shares) == shares[30] == 1.0
    assert shares[140] == pytest.approx(0.5)
    assert shares[250] == pytest.approx(0.0)
    assert all(later <= earlier for earlier, later in pairwise(shares[30:]))


def test_training_learns_to_tell_blinking_from_still() -> None:
    windows = scene()
    recipe = Recipe(total_clips=160, learning_rate=2e-3, augmentation=NO_AUGMENTATION, warmup_steps=5)
    lines: list[str] = []
    network = train(windows, NAMES, recipe, lines.append)
    scores = evaluate(network, windows)
    assert not network.training
    assert network.behaviours == NAMES
    assert scores.instances == {"still": 12, "blinking": 12, "never": 0}
    assert scores.average_precision["all"]["still"] > 0.9
    assert scores.average_precision["all"]["blinking"] > 0.9
    assert scores.average_precision["all"]["never"] is None
    assert scores.other_average_precision is not None
    assert scores.other_average_precision > 0.9
    assert sum(map(sum, scores.confusion)) == 24
    assert sum(scores.confusion[0]) == sum(scores.confusion[1]) == 12


def test_evaluation_is_split_by_light() -> None:
    torch.manual_seed(0)
    windows = scene(6)
    windows.label[3 * 6 :: 3] = 0  # nothing blinks in infrared
    scores = evaluate(ActionNetwork("slowfast_small", NAMES).eval(), windows, every=1)
    assert scores.average_precision["infrared"]["blinking"] is None
    assert scores.average_precision["day and dim light"]["blinking"] is not None
    assert scores.average_precision["infrared"]["still"] == 1.0
    half = evaluate(ActionNetwork("slowfast_small", NAMES).eval(), windows, every=2)
    assert sum(half.instances.values()) == 6


def facts(single_frame: bool) -> CardFacts:
    torch.manual_seed(0)
    windows = scene(4)
    scores = evaluate(ActionNetwork("slowfast_small", NAMES).eval(), windows)
    used = DataUsed(1000, 90, 40, 3.0, 8, {"still": 4, "blinking": 4, "never": 0}, 8)
    return CardFacts(
        architecture="slowfast_small",
        input_height=160,
        digest="ab" * 32,
        parameters=1_030_739,
        recipe=Recipe(),
        training=used,
        test=used,
        minutes=22.4,
        threads=2,
        evaluation=scores,
        single_frame=scores if single_frame else None,
        single_frame_clips=6000,
        command="python -m flows.training.embedded",
    )


def test_the_card_says_what_it_must(tmp_path: Path) -> None:
    written = facts(single_frame=True)
    write_facts(written, tmp_path)
    assert read_facts(tmp_path) == written
    card = " ".join((tmp_path / "CARD.md").read_text().split())
    assert "Trained on simulated birds only" in card
    assert "ab" * 32 in card
    assert "17500 clips" in card
    assert "| never | 0 | - | - | - |" in card
    assert "(6000 clips)" in card
    assert "Not measured" in render_card(facts(single_frame=False))


def test_the_embedded_weights_have_the_scores_that_their_card_says() -> None:
    weights = embedded_checkpoint()
    if not weights.with_name("scores.json").exists():
        pytest.skip("no scores beside the embedded weights: run 'make weights'")
    known = read_facts(weights.parent)
    assert known.digest == load_checkpoint(weights)[1].digest
    assert weights.with_name("CARD.md").read_text() == render_card(known)
    overall = known.evaluation.mean_average_precision["all"]
    assert overall is not None
    assert overall > 0.85


def test_posture_alone_does_not_suffice_in_the_simulated_reserve() -> None:
    weights = embedded_checkpoint()
    if not weights.with_name("scores.json").exists():
        pytest.skip("no scores beside the embedded weights: run 'make weights'")
    known = read_facts(weights.parent)
    if known.single_frame is None:
        pytest.skip("not measured for these weights: run 'python -m flows.training.embedded --single-frame'")
    posture_alone = known.single_frame.mean_average_precision["all"]
    assert posture_alone is not None
    assert posture_alone <= 0.72


def test_seeds_are_far_from_the_benchmarks() -> None:
    from flows.training.simulated import TEST_CAMERAS, TEST_SEED, TRAINING_SEED
    from workers.simulate.archive import BENCHMARK_SEEDS

    assert TEST_CAMERAS > 0
    for seed in BENCHMARK_SEEDS:
        assert min(abs(seed - TRAINING_SEED), abs(seed - TEST_SEED)) > 1000
    assert abs(TRAINING_SEED - TEST_SEED) > 1000


def test_options_have_the_values_of_the_recipe() -> None:
    options = parse([])
    assert (options.clips, options.out, options.single_frame) == (None, embedded_checkpoint(), False)


def test_the_card_says_what_the_training_went_on_from() -> None:
    assert "began with random weights" in render_card(facts(single_frame=False))
    begun = Beginning("cd" * 32, "fixed_lambda", 17_500, 1000, 0.921)
    card = " ".join(render_card(replace(facts(single_frame=False), start=begun)).split())
    assert "went on from the weights of digest `" + "cd" * 32 in card
    assert "mAP of 0.921 on the same test cameras" in card
