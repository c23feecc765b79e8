from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import roi_align

from model.roi import roi_bins, roi_vectors


def some_boxes(count: int, seed: int) -> torch.Tensor:
    corners = torch.rand(count, 2, 2, generator=torch.Generator().manual_seed(seed)).sort(dim=1).values
    return corners.reshape(count, 4)


def test_a_flat_map_gives_its_value_whatever_the_box() -> None:
    maps = torch.tensor([2.0, -3.0, 0.5]).reshape(1, 3, 1, 1).expand(1, 3, 4, 6).contiguous()
    vectors = roi_vectors(
        maps, torch.tensor([[0.2, 0.1, 0.7, 0.8], [0.0, 0.0, 1.0, 1.0]]), torch.tensor([0, 0])
    )
    torch.testing.assert_close(vectors, torch.tensor([[2.0, -3.0, 0.5]] * 2))


def test_only_what_lies_in_the_box_counts() -> None:
    maps = torch.zeros(2, 1, 8, 16)
    maps[1, 0, 2, 12] = 5.0  # the centre of this cell lies at x 12.5 / 16, y 2.5 / 8
    around = [12 / 16, 2 / 8, 13 / 16, 3 / 8]
    left = [0.0, 0.0, 0.5, 1.0]
    vectors = roi_vectors(maps, torch.tensor([around, left, around]), torch.tensor([1, 1, 0]))
    assert vectors[0] > 3.5  # bilinear samples close to the centre
    assert vectors[1] == 0
    assert vectors[2] == 0


def test_temporal_mean_commutes_with_roi_align() -> None:
    """The paper aligns every frame and then averages over time; averaging first gives the same."""
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(2, 5, 16, 10, 18, generator=generator)
    boxes, clip = some_boxes(7, seed=2), torch.tensor([0, 1, 1, 0, 1, 0, 0])
    rois = torch.cat([clip[:, None].float(), boxes * torch.tensor([18.0, 10, 18, 10])], dim=1)
    frames = [roi_align(maps[:, :, t], rois, 8, aligned=True) for t in range(16)]
    papers_order = torch.stack(frames).mean(dim=0).amax(dim=(2, 3))
    torch.testing.assert_close(roi_vectors(maps.mean(dim=2), boxes, clip), papers_order, atol=5e-7, rtol=0)


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(6)), st.integers(0, 100))
def test_permuting_boxes_permutes_the_vectors(order: list[int], seed: int) -> None:
    maps = torch.randn(3, 4, 5, 9, generator=torch.Generator().manual_seed(seed))
    boxes, clip = some_boxes(6, seed), torch.tensor([0, 2, 1, 0, 2, 2])
    vectors = roi_vectors(maps, boxes, clip)
    assert torch.equal(roi_vectors(maps, boxes[order], clip[order]), vectors[order])


def test_no_boxes_give_no_vectors() -> None:
    assert roi_vectors(
        torch.zeros(1, 4, 5, 9), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    ).shape == (0, 4)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([(10, 18), (1, 1), (40, 71)]), st.integers(0, 100))
def test_a_training_sees_the_bins_and_gradients_of_torchvision(size: tuple[int, int], seed: int) -> None:
    height, width = size
    # In double precision: in single, a place far from the corner is rounded by more than the bins may differ.
    maps = torch.randn(3, 4, *size, generator=torch.Generator().manual_seed(seed)).double().requires_grad_()
    beyond, empty = torch.tensor([-0.2, -0.3, 1.4, 1.5]), torch.full((4,), 0.5)
    boxes = torch.cat([some_boxes(6, seed), beyond[None], empty[None]]).double()
    clip = torch.tensor([0, 2, 1, 0, 2, 2, 1, 0])
    rois = torch.cat([clip[:, None].double(), boxes * torch.tensor([width, height, width, height])], dim=1)
    expected, found = roi_align(maps, rois, 8, aligned=True), roi_bins(maps, boxes, clip)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    outward = torch.randn(expected.shape, generator=torch.Generator().manual_seed(seed)).double()
    (gradient,), (wanted,) = (torch.autograd.grad(bins, maps, outward) for bins in (found, expected))
    torch.testing.assert_close(gradient, wanted, atol=1e-11, rtol=1e-11)


def test_no_boxes_give_no_vectors_in_a_training() -> None:
    maps = torch.zeros(1, 4, 5, 9, requires_grad=True)
    assert roi_vectors(maps, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)).shape == (0, 4)
