import numpy as np
import pytest
import torch
from torchvision.models import get_model

from model.detector import DetectorShape, build_detector, save_detector
from workers.detect_learned import COCO_BIRD, CocoBirdDetector, LearnedDetector
from workers.errors import DetectorWeightsError
from workers.messages import Keyframes

TINY = DetectorShape(
    stem_channels=4, stage_channels=(6, 10), stage_blocks=(0, 1), head_channels=8, shared_convs=1
)
SSDLITE = "ssdlite320_mobilenet_v3_large"


def keyframes_of(frames):
    return Keyframes("0123456789abcdef", np.arange(len(frames)) * 4 / 15, np.stack(frames))


def noise_frames(count, height=44, width=70):
    return list(np.random.default_rng(5).integers(0, 256, (count, height, width, 3), dtype=np.uint8))


@pytest.fixture
def weights(tmp_path):
    """Untrained weights that see birds in every corner of noise."""
    torch.manual_seed(2)
    detector = build_detector(TINY).eval()
    torch.nn.init.constant_(detector.head.class_logits.bias, 0.0)
    torch.nn.init.normal_(detector.head.class_logits.weight, std=0.5)
    path = tmp_path / "birds.safetensors"
    save_detector(detector, path, TINY, "noise", min_score=0.3, nms_iou=0.5)
    return path


def test_each_keyframe_has_its_boxes_as_fractions_best_first(weights):
    found = LearnedDetector(weights).detect(keyframes_of(noise_frames(3)), ())
    assert len(found) == 3
    for boxes in found:
        assert len(boxes.score) > 1
        assert boxes.xyxy.dtype == boxes.score.dtype == np.float32
        assert boxes.xyxy.min() >= 0
        assert boxes.xyxy.max() <= 1
        assert (boxes.xyxy[:, 2:] > boxes.xyxy[:, :2]).all()
        assert (np.diff(boxes.score) <= 0).all()
        assert boxes.score.min() >= 0.3


def test_boxes_do_not_depend_on_which_keyframes_come_together(weights):
    frames = noise_frames(5)
    detector = LearnedDetector(weights)
    together = detector.detect(keyframes_of(frames), ())
    apart = [detector.detect(keyframes_of([frame]), ())[0] for frame in frames]
    for first, second in zip(together, apart, strict=True):
        assert np.array_equal(first.xyxy, second.xyxy)
        assert np.array_equal(first.score, second.score)


def test_least_score_and_most_boxes_are_kept_to(weights):
    frames = keyframes_of(noise_frames(2))
    everything = LearnedDetector(weights).detect(frames, ())
    limit = float(everything[0].score[1]) - 1e-6
    for all_boxes, sure, few in zip(
        everything,
        LearnedDetector(weights, min_score=limit).detect(frames, ()),
        LearnedDetector(weights, max_boxes=2).detect(frames, ()),
        strict=True,
    ):
        assert np.array_equal(sure.score, all_boxes.score[all_boxes.score > limit])
        assert np.array_equal(few.score, all_boxes.score[:2])


@pytest.mark.parametrize(("height", "width"), [(216, 384), (216, 216), (120, 90), (37, 64)])
def test_any_size_of_frame_is_looked_at(weights, height, width):
    (boxes,) = LearnedDetector(weights).detect(keyframes_of(noise_frames(1, height, width)), ())
    assert boxes.xyxy.shape == (len(boxes.score), 4)


def test_no_keyframes_no_boxes(weights):
    empty = Keyframes("0123456789abcdef", np.zeros(0), np.zeros((0, 44, 70, 3), np.uint8))
    assert LearnedDetector(weights).detect(empty, ()) == []


def test_embedded_weights_are_the_default():
    detector = LearnedDetector()
    assert "simulated" in detector.info.trained_on
    grey = np.full((216, 384, 3), 120, np.uint8)
    (boxes,) = detector.detect(keyframes_of([grey]), ())
    assert len(boxes.score) == 0


# --- COCO's bird class


@pytest.fixture(scope="module")
def coco_file(tmp_path_factory):
    """A generated file with the keys of torchvision's, under the name that it publishes."""
    torch.manual_seed(4)
    path = tmp_path_factory.mktemp("coco") / f"{SSDLITE}_coco-a79551df.pth"
    torch.save(get_model(SSDLITE, weights=None, weights_backbone=None, num_classes=91).state_dict(), path)
    return path


def test_published_file_name_tells_the_architecture(coco_file):
    (boxes,) = CocoBirdDetector(coco_file).detect(keyframes_of(noise_frames(1, 64, 96)), ())
    assert boxes.xyxy.shape == (len(boxes.score), 4)


def test_only_sure_birds_are_kept(coco_file):
    detector = CocoBirdDetector(coco_file, min_score=0.5, max_boxes=2)
    detector._network = lambda images: [
        {
            "boxes": torch.tensor(
                [[0.0, 0, 48, 32], [9, 9, 18, 18], [24, 16, 96, 64], [1, 2, 3, 4], [0, 0, 9, 9]]
            ),
            "labels": torch.tensor([COCO_BIRD, 1, COCO_BIRD, COCO_BIRD, COCO_BIRD]),
            "scores": torch.tensor([0.9, 0.8, 0.7, 0.6, 0.4]),
        }
    ]
    (boxes,) = detector.detect(keyframes_of(noise_frames(1, 64, 96)), ())
    assert boxes.xyxy.tolist() == [[0, 0, 0.5, 0.5], [0.25, 0.25, 1, 1]]
    assert boxes.score.tolist() == pytest.approx([0.9, 0.7])


def test_bird_is_where_torchvision_has_it():
    from torchvision.models.detection import SSDLite320_MobileNet_V3_Large_Weights

    assert SSDLite320_MobileNet_V3_Large_Weights.COCO_V1.meta["categories"][COCO_BIRD] == "bird"


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["fasterrcnn_mobilenet_v3_large_fpn", "fcos_resnet50_fpn"])
def test_weights_with_frozen_batch_norms_fit(tmp_path, architecture):
    """Files made with frozen batch norms lack the counters of ordinary ones."""
    tensors = get_model(architecture, weights=None, weights_backbone=None, num_classes=91).state_dict()
    published = {name: value for name, value in tensors.items() if not name.endswith("num_batches_tracked")}
    torch.save(published, tmp_path / "weights.pth")
    detector = CocoBirdDetector(tmp_path / "weights.pth", architecture=architecture, min_score=0.99)
    (boxes,) = detector.detect(keyframes_of(noise_frames(1, 64, 96)), ())
    assert boxes.xyxy.shape[1] == 4


def test_weights_of_another_architecture_are_refused(coco_file):
    with pytest.raises(DetectorWeightsError, match=r"a79551df\.pth does not fit ssd300_vgg16"):
        CocoBirdDetector(coco_file, architecture="ssd300_vgg16")


def test_weights_of_another_number_of_classes_are_refused(tmp_path):
    path = tmp_path / f"{SSDLITE}.pth"
    torch.save(get_model(SSDLITE, weights=None, weights_backbone=None, num_classes=5).state_dict(), path)
    with pytest.raises(DetectorWeightsError, match="does not fit"):
        CocoBirdDetector(path)


def test_name_without_architecture_is_refused(tmp_path):
    with pytest.raises(DetectorWeightsError, match=r"mine\.pth does not say"):
        CocoBirdDetector(tmp_path / "mine.pth")


def test_unknown_architecture_is_refused(coco_file):
    with pytest.raises(DetectorWeightsError, match="yolo"):
        CocoBirdDetector(coco_file, architecture="yolo")


class Malice:
    def __reduce__(self):
        return (pytest.fail, ("code in the weights file ran",))


@pytest.mark.parametrize("content", [None, b"", b"text", Malice(), [1, 2], {"epoch": 3}])
def test_file_that_is_no_state_dict_is_refused_and_runs_no_code(tmp_path, content):
    path = tmp_path / f"{SSDLITE}.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(DetectorWeightsError, match=SSDLITE):
        CocoBirdDetector(path)
