from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import torch

from model.backbones import ARCHITECTURES
from model.checkpoint import save_checkpoint
from model.network import ActionNetwork
from workers.infer import Scorer
from workers.messages import Boxes, Scores


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(11)
    network = ActionNetwork("slowfast_small", ("feeding", "walk", "flight"))
    for module in network.modules():  # statistics unlike those of a fresh network
        if isinstance(module, torch.nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    save_checkpoint(network, path, trained_on="trained on nothing", ethogram="test")
    return path


@pytest.fixture(scope="module")
def scorer(checkpoint: Path) -> Scorer:
    return Scorer(checkpoint, batch_clips=3)


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """A bright patch that wanders over a noisy scene for 40 grid frames of 54 lines."""
    rng = np.random.default_rng(0)
    frames = rng.integers(60, 90, (40, 54, 96, 3), dtype=np.uint8)
    for k in range(40):
        frames[k, 10:30, 2 * k : 2 * k + 12] = 230
    return frames


def boxes(count: int, seed: int = 0) -> Boxes:
    corners = np.sort(np.random.default_rng(seed).random((count, 2, 2)), axis=1)
    return Boxes(corners.reshape(count, 4).astype(np.float32), np.ones(count, dtype=np.float32))


def assert_same(first: Scores, second: Scores, atol: float = 1e-4) -> None:
    np.testing.assert_allclose(first.p_behaviour, second.p_behaviour, atol=atol)
    np.testing.assert_allclose(first.p_other, second.p_other, atol=atol)
    np.testing.assert_allclose(first.p_dynamic, second.p_dynamic, atol=atol)
    assert np.array_equal(first.embedding, second.embedding)


def test_shapes_ranges_and_order(scorer: Scorer, frames: np.ndarray) -> None:
    results = scorer.score(frames, np.array([4, 8, 12, 20]), [boxes(2), boxes(0), boxes(5, 1), boxes(1, 2)])
    assert [len(scores.p_other) for scores in results] == [2, 0, 5, 1]
    for scores in results:
        assert scores.p_behaviour.shape == (len(scores.p_other), 3)
        assert scores.p_dynamic.shape == scores.p_other.shape
        assert scores.embedding.shape == (len(scores.p_other), 64)
        assert scores.embedding.dtype == np.int8
        for values in (scores.p_behaviour, scores.p_other, scores.p_dynamic):
            assert values.dtype == np.float32
            assert ((values > 0) & (values < 1)).all()


def test_a_clip_does_not_depend_on_its_batch(scorer: Scorer, frames: np.ndarray) -> None:
    centres = np.arange(0, 40, 4)
    of_keyframe = [boxes(k % 3, seed=k) for k in range(10)]
    together = scorer.score(frames, centres, of_keyframe)
    order = np.random.default_rng(1).permutation(10)
    shuffled = scorer.score(frames, centres[order], [of_keyframe[k] for k in order])
    for position, k in enumerate(order):
        assert_same(shuffled[position], together[k])
    for k in range(10):
        (alone,) = scorer.score(frames, centres[k : k + 1], [of_keyframe[k]])
        assert_same(alone, together[k])


def test_two_threads_fill_batches_together_and_each_gets_its_own(
    scorer: Scorer, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    centres, of_keyframe = np.array([8, 12, 16, 20]), [boxes(2, k) for k in range(4)]
    both = (frames, frames[:, ::-1].copy())
    alone = [scorer.score(one, centres, of_keyframe) for one in both]
    shapes, inner = [], scorer._engine.pooled_maps
    monkeypatch.setattr(
        scorer._engine, "pooled_maps", lambda clips: shapes.append(clips.shape) or inner(clips)
    )
    both_expect = Barrier(2)

    def score(one: np.ndarray) -> list[Scores]:
        with scorer.expecting():
            both_expect.wait()
            sent = scorer.send(one, centres, of_keyframe)
        return scorer.collect(sent)[0]

    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(score, both))
    for first, second in zip(chain(*alone), chain(*together), strict=True):
        assert_same(first, second)
    assert [shape[0] for shape in shapes] == [3, 3, 3]  # not four, each its last one alone


def test_a_clip_does_not_depend_on_where_the_video_is_cut(scorer: Scorer, frames: np.ndarray) -> None:
    whole = scorer.score(frames, np.array([12, 16, 20, 24]), [boxes(2, k) for k in range(4)])
    part = scorer.score(frames[4:34], np.array([8, 12, 16, 20]), [boxes(2, k) for k in range(4)])
    for first, second in zip(whole, part, strict=True):
        assert_same(first, second)


def test_beyond_the_edge_the_edge_frame_is_repeated(scorer: Scorer, frames: np.ndarray) -> None:
    of_keyframe = [boxes(3)]
    (start,) = scorer.score(frames, np.array([2]), of_keyframe)
    padded = np.concatenate([np.repeat(frames[:1], 6, axis=0), frames])
    assert_same(start, scorer.score(padded, np.array([8]), of_keyframe)[0])
    (end,) = scorer.score(frames, np.array([39]), of_keyframe)
    padded = np.concatenate([frames, np.repeat(frames[-1:], 7, axis=0)])
    assert_same(end, scorer.score(padded, np.array([39]), of_keyframe)[0])
    assert np.abs(start.p_behaviour - end.p_behaviour).max() > 1e-3  # it does look at the frames


def test_what_happens_outside_the_clip_does_not_matter(scorer: Scorer, frames: np.ndarray) -> None:
    changed = frames.copy()
    changed[:12] = 0
    changed[28:] = 255
    of_keyframe = [boxes(2)]
    (before,), (after,) = (scorer.score(f, np.array([20]), of_keyframe) for f in (frames, changed))
    assert_same(before, after)
    changed[12] = 0
    (later,) = scorer.score(changed, np.array([20]), of_keyframe)
    assert np.abs(before.p_behaviour - later.p_behaviour).max() > 1e-4


def test_keyframes_without_boxes_cost_nothing(scorer: Scorer, frames: np.ndarray, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("the backbone ran for keyframes without boxes")

    monkeypatch.setattr(scorer._engine, "pooled_maps", fail)
    (scores,) = scorer.score(frames, np.array([4]), [boxes(0)])
    assert scores.p_behaviour.shape == (0, 3)
    assert scorer.score(frames, np.zeros(0, dtype=np.int64), []) == []


def test_a_network_of_longer_clips_sees_them_whole(
    tmp_path: Path, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = dataclasses.replace(ARCHITECTURES["slowfast_small"], name="slowfast_long", clip_frames=32)
    monkeypatch.setitem(ARCHITECTURES, long.name, long)
    torch.manual_seed(11)
    network = ActionNetwork(long.name, ("feeding", "walk"))
    save_checkpoint(network, tmp_path / "net.safetensors", trained_on="nothing", ethogram="test")
    scorer = Scorer(tmp_path / "net.safetensors")
    (whole,) = scorer.score(frames, np.array([20]), [boxes(2)])
    (cut,) = scorer.score(frames[4:36], np.array([16]), [boxes(2)])
    assert_same(whole, cut)
    changed = frames.copy()
    changed[4] = 255 - changed[4]
    (other,) = scorer.score(changed, np.array([20]), [boxes(2)])
    assert not np.allclose(other.p_behaviour, whole.p_behaviour, atol=1e-4)


def test_wrong_calls_are_refused(scorer: Scorer, checkpoint: Path, frames: np.ndarray) -> None:
    with pytest.raises(ValueError, match="boxes for each of 2 keyframes, got 1"):
        scorer.score(frames, np.array([4, 8]), [boxes(1)])
    with pytest.raises(ValueError, match="within the 40 frames"):
        scorer.score(frames, np.array([40]), [boxes(1)])
    with pytest.raises(ValueError, match="batch_clips must be at least 1"):
        Scorer(checkpoint, batch_clips=0)


def test_agrees_with_the_network_in_single_precision(checkpoint: Path, frames: np.ndarray) -> None:
    """bf16, where the processor has it, may move a probability a little, not much."""
    from model.checkpoint import load_checkpoint
    from model.pathways import resize_frames, to_pathways

    network, info = load_checkpoint(checkpoint)
    of_keyframe = boxes(4)
    clip = resize_frames(torch.from_numpy(frames[12:28]), (160, 288))[None]
    with torch.inference_mode():
        output = network(
            *to_pathways(clip), torch.from_numpy(of_keyframe.xyxy), torch.zeros(4, dtype=torch.int64)
        )
    (scores,) = Scorer(checkpoint).score(frames, np.array([20]), [of_keyframe])
    np.testing.assert_allclose(scores.p_behaviour, output.behaviour.sigmoid().numpy(), atol=0.02)
    np.testing.assert_allclose(scores.p_dynamic, output.motion.softmax(1)[:, 1].numpy(), atol=0.02)
    assert info.digest == Scorer(checkpoint).info.digest
