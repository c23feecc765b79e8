"""Detectors with learned weights: the project's small one, and torchvision's with COCO's bird class.

Both look at one frame at a time, so that a box never depends on which frames happened to come with it, and
neither needs the background plate: they see birds that never move.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models import get_model

from model.detector import DetectorInfo, embedded_detector, load_detector
from workers.errors import DetectorWeightsError
from workers.messages import Boxes, Keyframes, Plate

COCO_BIRD = 16
"""Class id of a bird in torchvision's 91 COCO classes."""
COCO_MIN_SCORE = 0.4
COCO_ARCHITECTURES = (
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn_resnet50_fpn",
    "fcos_resnet50_fpn",
    "retinanet_resnet50_fpn_v2",
    "retinanet_resnet50_fpn",
    "ssd300_vgg16",
    "ssdlite320_mobilenet_v3_large",
)
"""torchvision detectors whose published COCO weights are understood."""
_ZERO_EPSILON = ("fasterrcnn_resnet50_fpn", "retinanet_resnet50_fpn")
"""Their published weights want a batch norm epsilon of 0; torchvision sets it when it loads them."""


class LearnedDetector:
    """The project's small bird detector; by default with the weights that ship with it."""

    info: DetectorInfo
    """What the weights say about themselves: on what they were trained, their digest."""

    def __init__(
        self,
        weights: Path | None = None,
        device: str = "cpu",
        min_score: float | None = None,
        max_boxes: int = 100,
    ) -> None:
        """Load the weights.

        Args:
            weights: a file of :func:`model.detector.save_detector`; None takes the embedded one.
            device: where the network runs, ``cpu`` or ``cuda``.
            min_score: boxes below this score are left out; None takes the file's own balance.
            max_boxes: at most this many boxes in a keyframe, the best.

        Raises:
            model.errors.ModelError: the file is missing, damaged, or no detector of this project.
        """
        self._network, self.info = load_detector(weights or embedded_detector(), min_score, max_boxes, device)
        self._device = device

    def detect(self, keyframes: Keyframes, plates: tuple[Plate, ...] = ()) -> list[Boxes]:
        """Boxes of the birds in each keyframe, best first; the plates are not looked at."""
        return [_look(self._network, frame, self._device, _all_boxes) for frame in keyframes.frames]


class CocoBirdDetector:
    """A torchvision detector with its published COCO weights, of which only the bird class is kept."""

    def __init__(
        self,
        weights: Path,
        architecture: str | None = None,
        device: str = "cpu",
        min_score: float = COCO_MIN_SCORE,
        max_boxes: int = 100,
    ) -> None:
        """Load the weights from a local file; nothing is downloaded.

        Args:
            weights: a state dict as torchvision publishes it (``.pth``), read without running code in it.
            architecture: one of ``COCO_ARCHITECTURES``; None takes it from the file's name.
            device: where the network runs, ``cpu`` or ``cuda``.
            min_score: boxes below this score are left out.
            max_boxes: at most this many boxes in a keyframe, the best.

        Raises:
            DetectorWeightsError: the file cannot be read, or holds another architecture's tensors.
        """
        name = architecture or _architecture_of(weights)
        if name not in COCO_ARCHITECTURES:
            raise DetectorWeightsError(
                f"{name!r} is no detector that is understood; use one of {COCO_ARCHITECTURES}"
            )
        network: nn.Module = get_model(name, weights=None, weights_backbone=None, num_classes=91)
        _fill(network, weights, name)
        if name in _ZERO_EPSILON:
            for module in network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eps = 0.0
        self._network = network.eval().requires_grad_(False).to(device)
        self._device = device
        self._min_score = min_score
        self._max_boxes = max_boxes

    def detect(self, keyframes: Keyframes, plates: tuple[Plate, ...] = ()) -> list[Boxes]:
        """Boxes of the birds in each keyframe, best first; the plates are not looked at."""
        return [_look(self._network, frame, self._device, self._sure_birds) for frame in keyframes.frames]

    def _sure_birds(self, found: dict[str, Tensor]) -> Tensor:
        kept = (found["labels"] == COCO_BIRD) & (found["scores"] >= self._min_score)
        return torch.nonzero(kept)[: self._max_boxes, 0]


def _all_boxes(found: dict[str, Tensor]) -> Tensor:
    return torch.arange(len(found["scores"]), device=found["scores"].device)


def _look(
    network: nn.Module, frame: NDArray[np.uint8], device: str, choose: Callable[[dict[str, Tensor]], Tensor]
) -> Boxes:
    """Run a torchvision detector on one frame ``(H, W, 3)`` and keep the boxes that ``choose`` picks."""
    height, width = frame.shape[:2]
    image = torch.from_numpy(np.array(frame)).to(device).permute(2, 0, 1).float().div_(255)
    with torch.inference_mode():
        found: dict[str, Any] = network([image])[0]
    chosen = choose(found)
    sizes = np.array([width, height, width, height], np.float32)
    return Boxes(
        np.clip(found["boxes"][chosen].cpu().numpy() / sizes, 0.0, 1.0).astype(np.float32),
        found["scores"][chosen].cpu().numpy().astype(np.float32),
    )


def _architecture_of(weights: Path) -> str:
    """The architecture in the name of a published file, as ``fcos_resnet50_fpn_coco-99b0c9b7.pth``."""
    fitting = [name for name in COCO_ARCHITECTURES if weights.name.startswith(name)]
    if not fitting:
        raise DetectorWeightsError(
            f"the name of {weights} does not say which torchvision detector it is; keep the published name, "
            f"which starts with one of {COCO_ARCHITECTURES}, or name the architecture"
        )
    return max(fitting, key=len)


def _in_a_line(error: Exception, lines: int = 2) -> str:
    """The beginning of what torch says, which may be pages."""
    return " ".join(" ".join(str(error).splitlines()[:lines]).split()) or type(error).__name__


def _fill(network: nn.Module, weights: Path, name: str) -> None:
    try:
        tensors = torch.load(weights, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise DetectorWeightsError(
            f"there are no detector weights at {weights}: fetch them from torchvision"
        ) from error
    except (
        Exception
    ) as error:  # torch.load raises whatever its unpickler meets: RuntimeError, EOFError, KeyError, ...
        raise DetectorWeightsError(
            f"{weights} is no weights file that can be read safely: {_in_a_line(error)}"
        ) from error
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise DetectorWeightsError(f"{weights} holds no plain state dict, but {type(tensors).__name__}")
    try:
        report = network.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise DetectorWeightsError(f"{weights} does not fit {name}: {_in_a_line(error)}") from error
    # Frozen batch norms, with which some of the files were made, do not count batches.
    missing = [key for key in report.missing_keys if not key.endswith("num_batches_tracked")]
    if missing or report.unexpected_keys:
        raise DetectorWeightsError(
            f"{weights} does not fit {name}: {len(missing)} tensors are missing and "
            f"{len(report.unexpected_keys)} too many, as {[*missing, *report.unexpected_keys][:2]}"
        )
