"""What a pose looks like: reach, least thickness, sub-pixel motion."""

import numpy as np
import pytest

from workers.simulate import draw
from workers.simulate.behaviour import FEEDING, Bout, make_bout
from workers.simulate.bird import Pose, Shape, bird_shapes, plumage
from workers.simulate.motion import stand

STANDING = Pose(0.5, 0.8, 0.0, 0.9, 0.1, 1.3, 1.4, -0.1, 1.0, 0.0, 0.3, 0.0, 0.0, 0.0, 0.0)


def area(shapes: list[Shape]) -> float:
    """What the shapes cover together, in squared frame heights."""
    mask = np.zeros((400, 711), np.uint8)
    draw.fill_mask(mask, draw.contours(shapes, 400), 1)
    return float(mask.sum()) / 400**2


def part(pose: Pose, name: str, height: float = 0.4) -> Shape:
    return next(shape for shape in bird_shapes(pose, height) if shape.paint == name)


def pecking_bout() -> Bout:
    rng = np.random.default_rng(3)
    return make_bout(rng, FEEDING, 6.0, "stand")


def test_a_pecking_bird_reaches_the_ground_with_its_bill():
    bird = stand(np.random.default_rng(1), 0.8, 0.7, 0.3, 0.2)
    track = bird.perform(pecking_bout(), np.random.default_rng(2))
    tips = [max(y for _, y in part(Pose(*pose), "bill", 0.3).outline) for pose in track.poses.tolist()]
    assert max(tips) >= 0.7 - 0.01 * 0.3
    assert max(tips) <= 0.7 + 0.15 * 0.3


def test_an_upright_bird_is_as_tall_as_its_height():
    upright = STANDING._replace(tilt=0.24, neck1=1.33, neck2=1.5)
    _, top, _, bottom = draw.extent(bird_shapes(upright, 0.4))
    assert bottom - top == pytest.approx(0.4, rel=0.08)


@pytest.mark.parametrize("angle", np.linspace(-1.2, 1.2, 25))
def test_a_wing_never_collapses_during_a_stroke(angle: float):
    flying = STANDING._replace(wing_open=1.0, wing_angle=float(angle), leg_trail=1.0)
    wing = [shape for shape in bird_shapes(flying, 0.4) if shape.paint == "near_wing"]
    assert area(wing) > 0.018 * 0.4**2


def test_a_body_seen_end_on_keeps_almost_half_its_length():
    xs = [x for x, _ in part(STANDING._replace(facing=0.01), "body").outline]
    side_on = [x for x, _ in part(STANDING._replace(facing=1.0), "body").outline]
    assert np.ptp(xs) == pytest.approx(0.45 * np.ptp(side_on), rel=0.05)


def test_drawing_moves_by_parts_of_a_pixel():
    colours = plumage(np.random.default_rng(0), "white", False)
    centres = []
    for step in range(5):
        image = np.zeros((120, 214, 3), np.uint8)
        draw.paint(image, bird_shapes(STANDING._replace(x=0.5 + step * 0.25 / 120), 0.25), colours)
        mass = image.sum(axis=(0, 2)).astype(float)
        centres.append(float((mass * np.arange(214)).sum() / mass.sum()))
    np.testing.assert_allclose(np.diff(centres), 0.25, atol=0.12)


def test_the_extent_is_what_was_drawn():
    shapes = bird_shapes(STANDING, 0.4)
    mask = np.zeros((200, 300), np.uint8)
    draw.fill_mask(mask, draw.contours(shapes, 200), 1)
    ys, xs = np.nonzero(mask)
    drawn = np.array([xs.min(), ys.min(), xs.max(), ys.max()])
    np.testing.assert_allclose(np.array(draw.extent(shapes)) * 200, drawn, atol=1.1)


def test_young_birds_are_brown_and_old_ones_are_not():
    young = plumage(np.random.default_rng(5), "white", True)["body"]
    adult = plumage(np.random.default_rng(5), "white", False)["body"]
    assert young[0] - young[2] > 30
    assert adult[0] - adult[2] < 12
