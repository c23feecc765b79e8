"""How well a network names behaviours in boxes that are known to be true."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from flows.training.fit import make_batch
from model.augment import NO_AUGMENTATION
from model.engines.torch_engine import TorchEngine
from model.metrics import average_precision, instance_map
from model.network import ActionNetwork
from workers.clips import WindowSet

BATCH_CLIPS = 4
ALL, DAY, INFRARED = "all", "day and dim light", "infrared"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores over the boxes of unseen videos whose label is learnable."""

    average_precision: dict[str, dict[str, float | None]]
    """By lighting (``all``, ``day and dim light``, ``infrared``), then by behaviour."""
    mean_average_precision: dict[str, float | None]
    """By lighting."""
    instances: dict[str, int]
    """True instances per behaviour."""
    motion_accuracy: float | None
    """Share of instances whose motion state is right."""
    other_average_precision: float | None
    """Average precision of the reject score among birds, other movers and empty scene."""
    others_rejected: float | None
    """Share of the boxes of something else whose reject probability is at least a half."""
    birds_rejected: float | None
    """Share of the birds whose reject probability is at least a half."""
    confusion: list[list[int]]
    """How often the strongest behaviour (column) was said of instances of each true one (row)."""


@dataclass(frozen=True, slots=True, eq=False)
class WindowScores:
    """What a network says of the M boxes of some keyframes."""

    row: NDArray[np.int64]
    """Which box of the windows each is, shape ``(M,)``."""
    probabilities: NDArray[np.float32]
    """Of the behaviours, shape ``(M, C)``."""
    p_other: NDArray[np.float32]
    """Reject score, shape ``(M,)``."""
    p_dynamic: NDArray[np.float32]
    """Probability of moving, shape ``(M,)``."""


@torch.inference_mode()
def score_windows(
    network: ActionNetwork,
    windows: WindowSet,
    keyframes: NDArray[np.int64],
    *,
    single_frame: bool = False,
    device: str = "cpu",
) -> WindowScores:
    """Score the boxes of these keyframes, as the pipeline runs the network; there must be at least one."""
    network = network.to(device)
    engine, random = TorchEngine(network.backbone, device), np.random.default_rng(0)
    probabilities, other, dynamic, rows = [], [], [], []
    for start in range(0, len(keyframes), BATCH_CLIPS):
        chosen = keyframes[start : start + BATCH_CLIPS]
        batch = make_batch(
            windows,
            chosen,
            NO_AUGMENTATION,
            random,
            num_behaviours=len(network.behaviours),
            clip_frames=network.architecture.clip_frames,
            single_frame=single_frame,
        )
        maps = engine.pooled_maps(batch.clips)
        output = network.score_maps(maps, batch.boxes.to(device), batch.clip_index.to(device))
        probabilities.append(output.behaviour.sigmoid().cpu().numpy())
        other.append(output.other.sigmoid().cpu().numpy())
        dynamic.append(output.motion.softmax(dim=1)[:, 1].cpu().numpy())
        boxes = [windows.boxes_of(keyframe) for keyframe in chosen]
        rows.append(np.concatenate([np.arange(rows_of.start, rows_of.stop) for rows_of in boxes]))
    return WindowScores(
        np.concatenate(rows), np.concatenate(probabilities), np.concatenate(other), np.concatenate(dynamic)
    )


def accelerator() -> str:
    """The accelerator where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def evaluate(
    network: ActionNetwork,
    windows: WindowSet,
    *,
    every: int = 1,
    single_frame: bool = False,
    device: str = "cpu",
) -> Evaluation:
    """Scores on every ``every``-th keyframe with its true boxes, run as the pipeline runs the network."""
    keyframes = np.arange(0, len(windows.grid), every)
    scores = score_windows(network, windows, keyframes, single_frame=single_frame, device=device)
    return summarise(network.behaviours, windows, scores)


def summarise(names: tuple[str, ...], windows: WindowSet, scores: WindowScores) -> Evaluation:
    """What the scores of true boxes add up to."""
    row, probabilities, p_other = scores.row, scores.probabilities, scores.p_other
    learnable, other = windows.learnable[row], windows.other[row]
    labels = windows.label[row][:, None] == np.arange(len(names))
    infrared = is_infrared(windows)[video_of_boxes(windows)[row]]
    parts = {
        name: instance_map(probabilities[chosen], labels[chosen], names)
        for name, chosen in (
            (ALL, learnable),
            (DAY, learnable & ~infrared),
            (INFRARED, learnable & infrared),
        )
    }
    judged = learnable | other
    return Evaluation(
        average_precision={
            name: {key: _known(value) for key, value in part.per_class.items()}
            for name, part in parts.items()
        },
        mean_average_precision={name: _known(part.mean) for name, part in parts.items()},
        instances=parts[ALL].instances,
        motion_accuracy=_share(((scores.p_dynamic >= 0.5) == windows.dynamic[row])[learnable]),
        other_average_precision=_known(average_precision(p_other[judged], other[judged])),
        others_rejected=_share(p_other[other] >= 0.5),
        birds_rejected=_share(p_other[learnable] >= 0.5),
        confusion=_confusion(labels[learnable], probabilities[learnable]),
    )


def video_of_boxes(windows: WindowSet) -> NDArray[np.int64]:
    """Video of each box, shape ``(M,)``."""
    video: NDArray[np.int64] = np.repeat(windows.video, np.diff(windows.box_start))
    return video


def is_infrared(windows: WindowSet) -> NDArray[np.bool_]:
    """Whether each video was filmed in infrared, shape ``(V,)``."""
    infrared: NDArray[np.bool_] = np.char.startswith(windows.light, "infrared")
    return infrared


def _share(of: NDArray[np.bool_]) -> float | None:
    """Share that is true; None of nothing."""
    return float(of.mean()) if of.size else None


def _known(value: float) -> float | None:
    """JSON has no NaN."""
    return None if np.isnan(value) else value


def _confusion(labels: NDArray[np.bool_], probabilities: NDArray[np.float32]) -> list[list[int]]:
    """How often the strongest behaviour (column) was said of instances of each true one (row)."""
    count = labels.shape[1]
    table = np.zeros((count, count), dtype=np.int64)
    np.add.at(table, (labels.argmax(axis=1), probabilities.argmax(axis=1)), 1)
    rows: list[list[int]] = table.tolist()
    return rows
