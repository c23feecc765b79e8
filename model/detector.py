"""A small bird detector: torchvision's FCOS on a light backbone, for birds of some 15 to 150 pixels.

One feature level at stride 4 serves every size (Zhou et al., *Objects as Points*, 2019): overlapping birds
whose centres are some pixels apart then fall on different cells, and the whole network fits in a few
megabytes. FCOS is Tian et al., ICCV 2019; the centre-ness output is trained as the IoU of the box instead
(Wu et al., *IoU-aware single-stage detector*, 2020), which ranks crowded boxes better.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from model.engines.torch_engine import computes_bf16
from model.errors import CheckpointDigestError, CheckpointFormatError, CheckpointKeysError

STRIDE_PX = 4
"""Pixels between neighbouring cells of the feature map."""
SIZE_UNIT_PX = 32.0
"""Distances from a cell to the sides of its box are learned in this unit."""
PADDING_PX = 32
"""Images are padded to a multiple of this, on the right and below."""
PIXEL_MEAN = (0.45, 0.45, 0.45)
PIXEL_STD = (0.25, 0.25, 0.25)
FORMAT = "aviaflow-detector-1"


@dataclass(frozen=True, slots=True)
class DetectorShape:
    """Everything that decides the shapes of the network's tensors."""

    stem_channels: int = 24
    stage_channels: tuple[int, ...] = (32, 64, 96, 128)
    """Channels at strides 4, 8, 16, ..."""
    stage_blocks: tuple[int, ...] = (1, 1, 2, 1)
    """Residual blocks of each stage after its downsampling block."""
    head_channels: int = 48
    shared_convs: int = 2
    """3x3 convolutions that classification and regression share, before one of their own each."""

    def __post_init__(self) -> None:
        if len(self.stage_channels) != len(self.stage_blocks) or not self.stage_channels:
            raise ValueError(
                f"need as many stage_blocks as stage_channels, at least one, got {self.stage_blocks} "
                f"and {self.stage_channels}"
            )


@dataclass(frozen=True, slots=True)
class DetectorInfo:
    """What a weights file says about itself."""

    shape: DetectorShape
    trained_on: str
    """In words, as ``simulated birds``; every output that these weights make repeats it."""
    min_score: float
    """Score at which precision and recall were balanced when it was trained."""
    nms_iou: float
    """Of two boxes that overlap more than this, only the better one is kept."""
    digest: str
    """sha256 of the tensors and of everything above, 64 hex digits."""


def _conv(inputs: int, outputs: int, stride: int = 1, size: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False),
        nn.BatchNorm2d(outputs, momentum=0.05),
    )


class _Block(nn.Module):
    """Two 3x3 convolutions with a shortcut (He et al., 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = _conv(inputs, outputs, stride)
        self.second = _conv(outputs, outputs)
        same = inputs == outputs and stride == 1
        self.stride = stride
        self.shortcut: nn.Module = nn.Identity() if same else _conv(inputs, outputs, size=1)

    def forward(self, x: Tensor) -> Tensor:
        # Sliced, because the backward pass of a strided 1x1 convolution corrupted memory on the CPU in torch
        # 2.15 for some small numbers of channels (8 to 16, for one).
        skipped = self.shortcut(x[:, :, :: self.stride, :: self.stride])
        return relu(skipped + self.second(relu(self.first(x))))


class _Backbone(nn.Module):
    """Residual stages, brought back to stride 4 by adding upsampled deeper ones (Lin et al., FPN, 2017)."""

    def __init__(self, shape: DetectorShape) -> None:
        super().__init__()
        self.out_channels = shape.head_channels
        self.stem = _conv(3, shape.stem_channels, stride=2)
        self.stages = nn.ModuleList()
        inputs = shape.stem_channels
        for outputs, blocks in zip(shape.stage_channels, shape.stage_blocks, strict=True):
            strides = [2] + [1] * blocks
            self.stages.append(
                nn.Sequential(*(_Block(inputs if s == 2 else outputs, outputs, s) for s in strides))
            )
            inputs = outputs
        self.laterals = nn.ModuleList(
            _conv(channels, shape.head_channels, size=1) for channels in shape.stage_channels
        )
        self.bf16 = False

    def forward(self, x: Tensor) -> Tensor:
        """Features of images ``(N, 3, H, W)``: ``(N, head_channels, H / 4, W / 4)``."""
        with _bf16(x, self.bf16):
            return self._features(x)

    def _features(self, x: Tensor) -> Tensor:
        x = relu(self.stem(x))
        maps = []
        for stage, lateral in zip(self.stages, self.laterals, strict=True):
            x = stage(x)
            maps.append(lateral(x))
        merged = maps[-1]
        for finer in reversed(maps[:-1]):
            merged = finer + interpolate(merged, size=finer.shape[-2:], mode="nearest")
        return relu(merged)


class _Head(nn.Module):
    """Class, box and box quality of every cell, in the layout that torchvision's FCOS reads."""

    def __init__(self, shape: DetectorShape) -> None:
        super().__init__()
        channels = shape.head_channels
        self.shared = nn.ModuleList(_conv(channels, channels) for _ in range(shape.shared_convs))
        self.class_conv = _conv(channels, channels)
        self.box_conv = _conv(channels, channels)
        self.class_logits = nn.Conv2d(channels, 1, 1)
        self.box_sides = nn.Conv2d(channels, 4, 1)
        self.box_quality = nn.Conv2d(channels, 1, 1)
        nn.init.constant_(self.class_logits.bias, -4.6)  # type: ignore[arg-type]  # one cell in a hundred is a bird
        nn.init.constant_(self.box_sides.bias, 0.7)  # type: ignore[arg-type]  # 22 px: a bird's half height
        nn.init.normal_(self.box_sides.weight, std=0.01)
        self.bf16 = False

    def forward(self, features: list[Tensor]) -> dict[str, Tensor]:
        """Outputs of ``(N, head_channels, h, w)`` features: ``(N, h * w, K)`` each, K = 1, 4 and 1."""
        (x,) = features
        with _bf16(x, self.bf16):
            for conv in self.shared:
                x = relu(conv(x))
            for_class, for_box = relu(self.class_conv(x)), relu(self.box_conv(x))
        if self.bf16:  # what becomes a number of pixels is computed in single precision
            for_class, for_box = for_class.float(), for_box.float()
        return {
            "cls_logits": _by_cell(self.class_logits(for_class)),
            "bbox_regression": relu(_by_cell(self.box_sides(for_box))),
            "bbox_ctrness": _by_cell(self.box_quality(for_box)),
        }


def _bf16(x: Tensor, wanted: bool) -> AbstractContextManager[None]:
    return torch.autocast(x.device.type, torch.bfloat16) if wanted else nullcontext()


def _by_cell(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


class _NormaliseAndPad(GeneralizedRCNNTransform):  # type: ignore[misc]  # torchvision has no types
    """torchvision's input step without its scaling: the caller chose the size when decoding."""

    def resize(self, image: Tensor, target: object = None) -> tuple[Tensor, object]:
        return image, target


def build_detector(
    shape: DetectorShape = DetectorShape(),
    min_score: float = 0.3,
    nms_iou: float = 0.6,
    max_boxes: int = 100,
) -> nn.Module:
    """A detector with fresh weights: torchvision's FCOS, one class, images kept at their own size.

    In evaluation mode it takes a list of ``(3, H, W)`` images from 0 to 1 and returns, per image, a dict with
    ``boxes`` (corners in pixels, ``(M, 4)``), ``scores`` and ``labels`` (all 0: a bird).
    """
    detector: nn.Module = FCOS(
        _Backbone(shape),
        num_classes=1,
        anchor_generator=AnchorGenerator(sizes=((int(SIZE_UNIT_PX),),), aspect_ratios=((1.0,),)),
        head=_Head(shape),
        score_thresh=min_score,
        nms_thresh=nms_iou,
        detections_per_img=max_boxes,
    )
    detector.transform = _NormaliseAndPad(1, 1, list(PIXEL_MEAN), list(PIXEL_STD), size_divisible=PADDING_PX)
    return detector


def fuse_batch_norms(module: nn.Module) -> None:
    """Fold every batch norm into the convolution before it, in place; needs evaluation mode."""
    for child in module.children():
        if isinstance(child, nn.Sequential) and len(child) == 2 and isinstance(child[1], nn.BatchNorm2d):
            child[0] = fuse_conv_bn_eval(cast(nn.Conv2d, child[0]), child[1])
            child[1] = nn.Identity()
        else:
            fuse_batch_norms(child)


def content_digest(tensors: Mapping[str, Tensor], facts: Mapping[str, object]) -> str:
    """sha256 over the facts and over names, types, shapes and bytes of the tensors, by name."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_detector(
    detector: nn.Module, path: Path, shape: DetectorShape, trained_on: str, min_score: float, nms_iou: float
) -> DetectorInfo:
    """Write a detector's weights in half precision with what :func:`load_detector` needs to rebuild it."""
    tensors = {
        name: tensor.detach().cpu().half().contiguous()
        for name, tensor in detector.state_dict().items()
        if tensor.is_floating_point()
    }
    facts: dict[str, Any] = {
        "shape": asdict(shape),
        "trained_on": trained_on,
        "min_score": min_score,
        "nms_iou": nms_iou,
    }
    digest = content_digest(tensors, facts)
    metadata = {"format": FORMAT, "facts": json.dumps({**facts, "digest": digest}, sort_keys=True)}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(save(tensors, metadata))
    temporary.replace(path)
    return DetectorInfo(shape, trained_on, min_score, nms_iou, digest)


def read_detector_info(path: Path) -> DetectorInfo:
    """What a weights file says about itself.

    Raises:
        CheckpointFormatError: the file cannot be read, or is not a detector of this project.
        CheckpointDigestError: its content is not what was written.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[DetectorInfo, dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no iterator
    except (OSError, SafetensorError) as error:
        raise CheckpointFormatError(f"cannot read detector weights from {path}: {error}") from error
    if metadata.get("format") != FORMAT:
        raise CheckpointFormatError(
            f"{path} is no detector of this project: its format is {metadata.get('format')!r}, not {FORMAT!r}"
        )
    facts = json.loads(metadata["facts"])
    digest = facts.pop("digest")
    if content_digest(tensors, facts) != digest:
        raise CheckpointDigestError(
            f"{path} is damaged: its content does not match the digest {digest[:12]} in it"
        )
    sizes: dict[str, Any] = {
        key: tuple(v) if isinstance(v, list) else v for key, v in facts.pop("shape").items()
    }
    return DetectorInfo(shape=DetectorShape(**sizes), digest=digest, **facts), tensors


def load_detector(
    path: Path, min_score: float | None = None, max_boxes: int = 100, device: str = "cpu"
) -> tuple[nn.Module, DetectorInfo]:
    """Rebuild a detector from its weights, ready to evaluate, batch norms folded away.

    On a CPU that multiplies in bf16 all convolutions but the last ones are computed so, in half the time.

    Args:
        path: a file that :func:`save_detector` wrote.
        min_score: boxes below this score are dropped; None takes the file's own.
        max_boxes: at most this many boxes in an image.
        device: where it will run.

    Raises:
        CheckpointFormatError: the file cannot be read, or is not a detector of this project.
        CheckpointDigestError: its content is not what was written.
        CheckpointKeysError: its tensors are not those of the architecture that it names.
    """
    detector, info = load_trainable(path, min_score, max_boxes)
    detector.eval().requires_grad_(False)
    fuse_batch_norms(detector)
    half = device == "cpu" and computes_bf16(device)
    for part in (detector.get_submodule("backbone"), detector.get_submodule("head")):
        cast(_Backbone | _Head, part).bf16 = half
    return detector.to(device, memory_format=torch.channels_last), info  # type: ignore[call-overload]


def load_trainable(
    path: Path, min_score: float | None = None, max_boxes: int = 100
) -> tuple[nn.Module, DetectorInfo]:
    """Rebuild a detector as it was trained, to train it further; arguments and errors as :func:`load_detector`."""
    info, tensors = _read(path)
    detector = build_detector(
        info.shape, info.min_score if min_score is None else min_score, info.nms_iou, max_boxes
    )
    counters = {name: t for name, t in detector.state_dict().items() if not t.is_floating_point()}
    try:
        detector.load_state_dict({**counters, **{name: tensor.float() for name, tensor in tensors.items()}})
    except RuntimeError as error:
        raise CheckpointKeysError(f"{path}: its tensors are not those of {info.shape}: {error}") from error
    return detector, info


def embedded_detector() -> Path:
    """Where the weights lie that ship with the project, trained on simulated birds."""
    return Path(__file__).parent / "weights" / "crane_detector.safetensors"
