"""Infer: behaviour, reject and motion probabilities and an appearance embedding for every box."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.appearance import describe
from model.checkpoint import load_checkpoint
from model.engines.choice import EngineSpec
from model.engines.opening import open_engine
from model.engines.transfer import upload_to
from model.network import ActionOutput
from model.pathways import input_size, resize_frames
from workers.messages import Boxes, Scores
from workers.simulate.clips import gate_clips

TORCH = EngineSpec("torch")


class Scorer:
    """A network on a device, fed with clips in batches of one fixed shape.

    The last batch is padded, so that a clip's probabilities do not depend on which clips share its batch, and
    hence not on how a video was cut into segments.
    """

    def __init__(
        self,
        checkpoint: Path,
        device: str = "cpu",
        batch_clips: int = 4,
        engine: EngineSpec = TORCH,
    ) -> None:
        """Load the checkpoint.

        Args:
            checkpoint: file of the network.
            device: ``cpu`` or ``cuda``.
            batch_clips: clips that are computed at once.
            engine: what runs the backbone; one that is not there yet is built when the first clips come.

        Raises:
            ModelError: what :func:`model.checkpoint.load_checkpoint` and :func:`model.engines.opening.open_engine`
                raise.
        """
        if batch_clips < 1:
            raise ValueError(f"batch_clips must be at least 1, got {batch_clips}")
        self._network, self.info = load_checkpoint(checkpoint)
        """What the checkpoint says about itself: behaviours, what it was trained on, digest."""
        self._network.to(device)
        self._engine, self.engine = open_engine(engine, self._network, self.info, device, gate_clips)
        """Which engine runs the backbone, and why."""
        self._upload = upload_to(self._engine.device)
        self._batch_clips = batch_clips

    def score(
        self, frames: NDArray[np.uint8], centres: NDArray[np.int64], boxes: Sequence[Boxes]
    ) -> list[Scores]:
        """Score the boxes of K keyframes.

        Args:
            frames: consecutive frames of the 15 Hz grid, RGB, shape ``(T, H, W, 3)``. Where a clip leaves
                them, the first or last frame is repeated.
            centres: index of each keyframe within ``frames``, shape ``(K,)``.
            boxes: the boxes of each keyframe; one without boxes costs nothing.

        Returns:
            One per keyframe, rows in the order of its boxes.

        Raises:
            ValueError: a keyframe lies outside ``frames``, or the numbers of keyframes differ.
        """
        if len(boxes) != len(centres):
            raise ValueError(f"need boxes for each of {len(centres)} keyframes, got {len(boxes)}")
        if len(centres) and not (int(np.min(centres)) >= 0 and int(np.max(centres)) < len(frames)):
            raise ValueError(f"keyframes must lie within the {len(frames)} frames, got {np.asarray(centres)}")
        results = [self._no_scores() for _ in boxes]
        occupied = [k for k, of_keyframe in enumerate(boxes) if len(of_keyframe.score)]
        outputs: list[tuple[list[int], ActionOutput]] = []
        for batch, clips in self._batches(frames, centres, occupied):
            maps = self._engine.pooled_maps(clips)
            for rows in self._together(len(batch)):
                of_rows = [boxes[batch[row]].xyxy for row in rows]
                outputs.append(([batch[row] for row in rows], self._outputs(maps, rows, of_rows)))
        # Only now is a GPU waited for: until here it computed while the next frames were on their way.
        for keyframes, output in outputs:
            embeddings = [describe(frames[int(centres[k])], boxes[k].xyxy) for k in keyframes]
            for k, scores in zip(keyframes, _scores(output, embeddings), strict=True):
                results[k] = scores
        return results

    def _batches(
        self, frames: NDArray[np.uint8], centres: NDArray[np.int64], occupied: list[int]
    ) -> Iterator[tuple[list[int], Tensor]]:
        """Keyframes of each batch, with their clips and copies of the last one up to the fixed batch size."""
        if not occupied:
            return
        around = np.arange(self.info.clip_frames) - self.info.clip_frames // 2
        windows = np.clip(np.asarray(centres)[occupied][:, None] + around, 0, len(frames) - 1)
        # Clips overlap, so each frame that any of them needs is sent and resized once, when the first one needs it.
        needed, position = np.unique(windows, return_inverse=True)
        position = position.reshape(windows.shape)
        size = input_size(frames.shape[1], frames.shape[2], self.info.input_height)
        device = self._engine.device
        resized = torch.empty((len(needed), *size, 3), dtype=torch.uint8, device=device)
        there = 0
        for start in range(0, len(occupied), self._batch_clips):
            rows = np.arange(start, start + self._batch_clips).clip(max=len(occupied) - 1)
            stop = int(position[rows].max()) + 1
            for part in _parts(np.arange(there, stop)):
                resized[part[0] : part[-1] + 1] = resize_frames(self._upload(frames[needed[part]]), size)
            there = max(there, stop)
            batch = occupied[start : start + self._batch_clips]
            yield batch, resized[torch.from_numpy(position[rows]).to(device, non_blocking=True)]

    def _together(self, count: int) -> list[list[int]]:
        """Rows of a batch whose boxes go through the heads at once.

        On a GPU all of them, which saves launches; on a CPU each alone, which saves nothing but keeps the last bit
        of a box's probabilities free of the other keyframes.
        """
        if self._engine.device.type == "cpu":
            return [[row] for row in range(count)]
        return [list(range(count))]

    @torch.inference_mode()
    def _outputs(self, maps: Tensor, rows: list[int], boxes: list[NDArray[np.float32]]) -> ActionOutput:
        """Logits of the boxes of some rows of a batch, on the engine's device."""
        xyxy = torch.from_numpy(np.concatenate(boxes).astype(np.float32)).to(maps.device, non_blocking=True)
        clip = torch.from_numpy(np.repeat(np.arange(len(rows)), [len(one) for one in boxes])).to(
            maps.device, non_blocking=True
        )
        return self._network.score_maps(maps[rows[0] : rows[-1] + 1], xyxy, clip)

    def _no_scores(self) -> Scores:
        return Scores(
            p_behaviour=np.zeros((0, len(self.info.behaviours)), dtype=np.float32),
            p_other=np.zeros(0, dtype=np.float32),
            p_dynamic=np.zeros(0, dtype=np.float32),
            embedding=describe(np.zeros((2, 2, 3), dtype=np.uint8), np.zeros((0, 4), dtype=np.float32)),
        )


@torch.inference_mode()
def _scores(output: ActionOutput, embeddings: Sequence[NDArray[np.int8]]) -> Iterator[Scores]:
    """Scores of each keyframe whose boxes an output has one after the other."""
    p_behaviour = output.behaviour.sigmoid().cpu().numpy()
    p_other = output.other.sigmoid().cpu().numpy()
    p_dynamic = output.motion.softmax(dim=1)[:, 1].cpu().numpy()
    start = 0
    for embedding in embeddings:
        rows = slice(start, start + len(embedding))
        yield Scores(p_behaviour[rows], p_other[rows], p_dynamic[rows], embedding)
        start = rows.stop


def _parts(indices: NDArray[np.int64], count: int = 64) -> Iterator[NDArray[np.int64]]:
    """Runs of at most ``count`` indices: resizing makes copies of what it is given."""
    for start in range(0, len(indices), count):
        yield indices[start : start + count]
