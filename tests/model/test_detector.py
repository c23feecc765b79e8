import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from model.detector import (
    SIZE_UNIT_PX,
    DetectorShape,
    build_detector,
    content_digest,
    embedded_detector,
    fuse_batch_norms,
    load_detector,
    read_detector_info,
    save_detector,
)
from model.detector_augment import FrameTruth, augment
from model.detector_training import (
    NEUTRAL,
    RIGHT,
    WRONG,
    BoxCounts,
    DetectorRecipe,
    assign_cells,
    cell_centres,
    count_boxes,
    detector_loss,
    images_to_input,
    match_boxes,
    train_detector,
)
from model.errors import CheckpointDigestError, CheckpointFormatError, CheckpointKeysError

TINY = DetectorShape(
    stem_channels=4, stage_channels=(6, 10), stage_blocks=(0, 1), head_channels=8, shared_convs=1
)


def truth_of(*boxes, ignored=()):
    xyxy = np.array(boxes, np.float32).reshape(-1, 4)
    return FrameTruth(xyxy, np.array([i in ignored for i in range(len(xyxy))], bool))


def random_statistics(detector):
    """Batch norms that do something, as after training."""
    generator = torch.Generator().manual_seed(3)
    for module in detector.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.copy_(torch.randn(module.num_features, generator=generator) * 0.1)
            module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
    return detector


# --- the network


@pytest.mark.parametrize("processor_has_it", [False, True])
def test_bf16_is_for_processors_that_have_it_and_never_for_boxes(monkeypatch, processor_has_it):
    monkeypatch.setattr("model.detector.computes_bf16", lambda device: processor_has_it)
    detector, _ = load_detector(embedded_detector())
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        features = detector.backbone(image)
        outputs = detector.head([features])
    assert features.dtype == (torch.bfloat16 if processor_has_it else torch.float32)
    assert {output.dtype for output in outputs.values()} == {torch.float32}
    monkeypatch.setattr("model.detector.computes_bf16", lambda device: False)
    single, _ = load_detector(embedded_detector())
    with torch.inference_mode():
        expected = single.head([single.backbone(image)])
    sides = (outputs["bbox_regression"] - expected["bbox_regression"]).abs() * SIZE_UNIT_PX
    assert sides.mean() < 0.1  # pixels
    assert (outputs["cls_logits"].sigmoid() - expected["cls_logits"].sigmoid()).abs().max() < 0.01


def test_one_cell_per_four_pixels_and_every_cell_has_a_class_a_box_and_a_quality():
    detector = build_detector(TINY)
    features = detector.backbone(torch.zeros(2, 3, 64, 96))
    outputs = detector.head([features])
    assert features.shape == (2, 8, 16, 24)
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        "cls_logits": (2, 384, 1),
        "bbox_regression": (2, 384, 4),
        "bbox_ctrness": (2, 384, 1),
    }


def test_a_cell_decodes_to_the_box_around_its_own_pixel():
    """Cell (row 5, column 9) is pixel (x 36, y 20); sides of 0.25, 0.5, 0.75, 0.125 units of 32 px."""
    detector = build_detector(TINY, min_score=0.5).eval()
    outputs = {
        "cls_logits": torch.full((1, 384, 1), -9.0),
        "bbox_regression": torch.zeros(1, 384, 4),
        "bbox_ctrness": torch.full((1, 384, 1), 9.0),
    }
    cell = 5 * 24 + 9
    outputs["cls_logits"][0, cell] = 9.0
    outputs["bbox_regression"][0, cell] = torch.tensor([0.25, 0.5, 0.75, 0.125])
    detector.head.forward = lambda features: outputs
    (found,) = detector([torch.zeros(3, 64, 96)])
    assert found["boxes"].tolist() == [[28.0, 4.0, 60.0, 24.0]]
    assert cell_centres(16, 24)[cell].tolist() == [36.0, 20.0]


def test_images_are_not_scaled_and_training_sees_the_same_input_as_detection():
    detector = build_detector(TINY)
    frame = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    seen, _ = detector.transform([torch.from_numpy(frame).permute(2, 0, 1).float() / 255])
    assert seen.tensors.shape == (1, 3, 64, 96)
    assert seen.image_sizes == [(50, 70)]
    torch.testing.assert_close(seen.tensors, images_to_input(frame[None]), rtol=0, atol=1e-6)


def test_folding_batch_norms_keeps_the_outputs():
    detector = random_statistics(build_detector(TINY)).eval()
    image = torch.rand(1, 3, 32, 64, generator=torch.Generator().manual_seed(1))
    before = detector.head([detector.backbone(image)])
    fuse_batch_norms(detector)
    after = detector.head([detector.backbone(image)])
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in detector.modules())
    for name in before:
        torch.testing.assert_close(after[name], before[name], rtol=1e-4, atol=1e-5)


# --- weights files


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "birds.safetensors"
    detector = random_statistics(build_detector(TINY)).eval()
    info = save_detector(detector, path, TINY, "simulated birds", min_score=0.35, nms_iou=0.55)
    return path, detector, info


def test_weights_file_rebuilds_the_detector(saved):
    path, detector, info = saved
    loaded, again = load_detector(path, max_boxes=7)
    assert again == info == read_detector_info(path)
    assert (again.trained_on, again.shape, len(again.digest)) == ("simulated birds", TINY, 64)
    assert (loaded.score_thresh, loaded.nms_thresh, loaded.detections_per_img) == (0.35, 0.55, 7)
    assert load_detector(path, min_score=0.8)[0].score_thresh == 0.8
    image = torch.rand(1, 3, 32, 64, generator=torch.Generator().manual_seed(1))
    expected, actual = detector.head([detector.backbone(image)]), loaded.head([loaded.backbone(image)])
    for name in expected:
        torch.testing.assert_close(
            actual[name], expected[name], rtol=0, atol=0.02
        )  # stored in half precision


def test_same_content_has_the_same_digest_and_other_content_another():
    tensors, facts = {"a": torch.zeros(2, 3), "b": torch.ones(4)}, {"min_score": 0.3, "trained_on": "frames"}
    digest = content_digest(tensors, facts)
    assert content_digest(dict(reversed(tensors.items())), dict(reversed(facts.items()))) == digest
    assert content_digest({**tensors, "b": torch.zeros(4)}, facts) != digest
    assert content_digest({**tensors, "a": torch.zeros(3, 2)}, facts) != digest
    assert content_digest(tensors, {**facts, "min_score": 0.4}) != digest


def rewrite(path, change, metadata=None):
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        kept = file.metadata()
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={**kept, **(metadata or {})})


def test_changed_tensor_is_refused(saved):
    path, _, _ = saved
    rewrite(path, lambda tensors: tensors["head.class_logits.bias"].add_(1))
    with pytest.raises(CheckpointDigestError, match=r"birds\.safetensors"):
        load_detector(path)


def test_foreign_safetensors_is_refused(saved):
    path, _, _ = saved
    rewrite(path, lambda tensors: None, {"format": "another"})
    with pytest.raises(CheckpointFormatError, match="another"):
        load_detector(path)


@pytest.mark.parametrize("content", [None, b"", b"not weights at all"])
def test_missing_empty_or_other_file_is_refused_by_name(tmp_path, content):
    path = tmp_path / "weights.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointFormatError, match=r"weights\.safetensors"):
        load_detector(path)


def test_tensors_of_another_shape_are_refused(tmp_path):
    path = tmp_path / "birds.safetensors"
    other = dataclasses.replace(TINY, head_channels=12)
    save_detector(build_detector(TINY), path, other, "simulated birds", 0.3, 0.6)
    with pytest.raises(CheckpointKeysError, match=r"birds\.safetensors"):
        load_detector(path)


def test_embedded_weights_are_small_and_say_that_their_birds_were_simulated():
    path = embedded_detector()
    assert path.stat().st_size < 3_000_000
    _, info = load_detector(path)
    assert "simulated" in info.trained_on


# --- which cell answers for which bird


def test_cells_near_a_centre_answer_for_its_box_and_the_nearest_centre_wins():
    """Centres at (20, 20) and (30, 20): the cell at x 24 is nearer to the first, x 28 to the second."""
    boxes = torch.tensor([[8.0, 4.0, 32.0, 36.0], [22.0, 8.0, 38.0, 32.0]])
    matched = assign_cells(boxes, torch.tensor([False, False]), cell_centres(10, 12)).reshape(10, 12)
    assert matched[5].tolist() == [-1, -1, -1, -1, 0, 0, 0, 1, 1, 1, -1, -1]
    assert matched[:, 5].tolist() == [-1, -1, -1, -1, 0, 0, 0, -1, -1, -1]


def test_cells_in_an_ignored_box_teach_nothing_unless_another_bird_is_there():
    boxes = torch.tensor([[6.0, 6.0, 34.0, 34.0], [14.0, 14.0, 26.0, 26.0]])
    matched = assign_cells(boxes, torch.tensor([True, False]), cell_centres(10, 10)).reshape(10, 10)
    assert matched[5].tolist() == [-1, -1, -2, -2, 1, 1, 1, -2, -2, -1]
    assert matched[0].tolist() == [-1] * 10


def test_frame_without_birds_is_all_background():
    matched = assign_cells(torch.zeros(0, 4), torch.zeros(0, dtype=torch.bool), cell_centres(2, 3))
    assert matched.tolist() == [-1] * 6


def perfect_outputs(boxes, cells, matched):
    sides = torch.zeros(1, len(cells), 4)
    for cell, box in enumerate(matched.tolist()):
        if box >= 0:
            x, y = cells[cell].tolist()
            x1, y1, x2, y2 = boxes[box].tolist()
            sides[0, cell] = torch.tensor([x - x1, y - y1, x2 - x, y2 - y]) / 32
    logits = torch.where(matched >= 0, 20.0, -20.0)[None, :, None]
    return {"cls_logits": logits, "bbox_regression": sides, "bbox_ctrness": torch.full_like(logits, 20.0)}


def test_loss_of_a_perfect_answer_is_zero_and_ignored_cells_are_free():
    boxes = torch.tensor([[6.0, 4.0, 30.0, 36.0], [40.0, 4.0, 56.0, 36.0]])
    ignored, cells = torch.tensor([False, True]), cell_centres(10, 16)
    outputs = perfect_outputs(boxes, cells, assign_cells(boxes, ignored, cells))
    losses = detector_loss(outputs, [boxes], [ignored], cells)
    assert all(float(loss) < 1e-4 for loss in losses.values())
    inside_ignored = 5 * 16 + 12
    outputs["cls_logits"][0, inside_ignored] = 20.0
    assert float(detector_loss(outputs, [boxes], [ignored], cells)["class"]) < 1e-4
    outputs["cls_logits"][0, 0] = 20.0
    assert float(detector_loss(outputs, [boxes], [ignored], cells)["class"]) > 0.5


def test_box_loss_grows_with_the_error_and_quality_is_the_iou():
    boxes, cells = torch.tensor([[4.0, 4.0, 36.0, 36.0]]), cell_centres(10, 10)
    ignored = torch.tensor([False])
    outputs = perfect_outputs(boxes, cells, assign_cells(boxes, ignored, cells))
    outputs["bbox_regression"][..., 2] *= 0.5  # boxes that reach half as far to the right
    losses = detector_loss(outputs, [boxes], [ignored], cells)
    assert float(losses["box"]) == pytest.approx(2 * 0.25, abs=0.05)  # IoU of the middle column: 24 / 32
    assert float(losses["quality"]) > 4  # it claimed an IoU of 1 with a logit of 20


# --- augmentation


def painted(height=120, width=200):
    """A grey frame with two white birds, the second of them ignored."""
    frame = np.full((height, width, 3), 90, np.uint8)
    truth = truth_of([30, 40, 60, 100], [120, 20, 150, 60], ignored=[1])
    for x1, y1, x2, y2 in truth.xyxy_px.astype(int):
        frame[y1:y2, x1:x2] = 250
    return frame, truth


def test_boxes_follow_the_picture():
    frame, truth = painted()
    contrasts = []
    for seed in range(40):
        changed, moved = augment(frame, truth, np.random.default_rng(seed))
        assert changed.shape == frame.shape
        assert changed.dtype == np.uint8
        inside = np.zeros(frame.shape[:2], bool)
        for x1, y1, x2, y2 in np.rint(moved.xyxy_px).astype(int):
            assert 0 <= x1 < x2 <= 200
            assert 0 <= y1 < y2 <= 120
            inside[y1:y2, x1:x2] = True
        grey = changed.mean(axis=2)
        contrasts.append(grey[inside].mean() - grey[~inside].mean() if inside.any() else 99.0)
    assert min(contrasts) > 15


def test_augmentation_keeps_ignored_boxes_ignored_and_is_set_by_its_generator():
    frame, truth = painted()
    for seed in range(10):
        first, second = (augment(frame, truth, np.random.default_rng(seed)) for _ in range(2))
        assert np.array_equal(first[0], second[0])
        assert np.array_equal(first[1].xyxy_px, second[1].xyxy_px)
        assert first[1].ignored.any() or len(first[1].ignored) < 2


def test_frames_without_boxes_can_be_augmented():
    changed, moved = augment(painted()[0], truth_of(), np.random.default_rng(2))
    assert moved.xyxy_px.shape == (0, 4)
    assert changed.shape == (120, 200, 3)


# --- counting


def test_counts_match_the_best_boxes_first_and_leave_the_ignored_out():
    truth = truth_of([0, 0, 10, 20], [50, 0, 60, 20], [100, 0, 120, 20], ignored=[2])
    boxes = np.array(
        [
            [0, 0, 10, 18],  # right
            [0, 0, 10, 20],  # the same bird again: wrong
            [100, 0, 120, 21],  # on an ignored one: neither
            [104, 2, 116, 18],  # a small part of an ignored one: wrong
            [200, 0, 220, 40],  # on nothing: wrong
        ],
        np.float32,
    )
    counts = count_boxes(boxes, np.array([0.9, 0.8, 0.7, 0.6, 0.5]), truth)
    assert counts == BoxCounts(truth=2, found=1, wrong=3)
    assert (counts.recall, counts.precision) == (0.5, 1 / 4)
    assert counts + BoxCounts(2, 2, 0) == BoxCounts(4, 3, 3)


def test_match_says_which_birds_were_found_and_what_each_box_was():
    truth = truth_of([0, 0, 10, 20], [50, 0, 60, 20], [100, 0, 120, 20], ignored=[2])
    boxes = np.array([[100, 0, 120, 20], [50, 0, 60, 19], [51, 0, 61, 20]], np.float32)
    match = match_boxes(boxes, np.array([0.2, 0.3, 0.4]), truth)
    assert match.bird.tolist() == [-1, -1, 1]
    assert match.verdict.tolist() == [NEUTRAL, WRONG, RIGHT]


def test_of_two_overlapping_birds_each_box_finds_its_own():
    truth = truth_of([0, 0, 20, 20], [8, 0, 28, 20])
    boxes = np.array([[7, 0, 27, 20], [1, 0, 21, 20]], np.float32)
    assert count_boxes(boxes, np.array([0.9, 0.8]), truth) == BoxCounts(truth=2, found=2, wrong=0)


def test_nothing_found_and_nothing_there():
    nothing = np.zeros((0, 4), np.float32)
    assert count_boxes(nothing, np.zeros(0), truth_of()) == BoxCounts(0, 0, 0)
    counts = count_boxes(nothing, np.zeros(0), truth_of([0, 0, 5, 5]))
    assert counts.recall == 0.0
    assert np.isnan(counts.precision)


# --- learning


def bright_squares(count, seed):
    """Dark frames of 64 x 96 with one to three bright squares of 14 to 24 pixels."""
    rng = np.random.default_rng(seed)
    frames, truths = rng.integers(20, 60, (count, 64, 96, 3), dtype=np.uint8), []
    for frame in frames:
        boxes = []
        for slot in range(rng.integers(1, 4)):
            side = int(rng.integers(14, 25))
            x, y = 32 * slot + int(rng.integers(0, 32 - side)), int(rng.integers(0, 64 - side))
            frame[y : y + side, x : x + side] = rng.integers(180, 240)
            boxes.append([x, y, x + side, y + side])
        truths.append(truth_of(*boxes))
    return frames, truths


def test_learns_to_find_bright_squares_that_it_has_not_seen():
    torch.manual_seed(0)
    detector = build_detector(dataclasses.replace(TINY, head_channels=16), min_score=0.4)
    steps = []
    recipe = DetectorRecipe(frame_budget=3200, batch_size=8, learning_rate=5e-3, warmup_steps=10)
    train_detector(
        detector, *bright_squares(64, 1), recipe, lambda step, losses: steps.append(sum(losses.values()))
    )
    assert len(steps) == recipe.steps == 400
    assert np.mean(steps[-20:]) < 0.6 * np.mean(steps[:20])
    counts = BoxCounts(0, 0, 0)
    frames, truths = bright_squares(24, 2)
    with torch.inference_mode():
        for frame, truth in zip(frames, truths, strict=True):
            (found,) = detector([torch.from_numpy(frame).permute(2, 0, 1).float() / 255])
            counts += count_boxes(found["boxes"].numpy(), found["scores"].numpy(), truth)
    assert counts.recall > 0.85
    assert counts.precision > 0.85


def test_training_refuses_frames_without_truth():
    with pytest.raises(ValueError, match="2 frames, 1 truths"):
        train_detector(
            build_detector(TINY),
            np.zeros((2, 32, 32, 3), np.uint8),
            [truth_of()],
            DetectorRecipe(),
            lambda *_: None,
        )
