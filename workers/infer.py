"""Infer: behaviour, reject and motion probabilities and an appearance embedding for every box."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.appearance import describe
from model.checkpoint import load_checkpoint
from model.engines.choice import EngineSpec
from model.engines.memory import clips_that_fit, free_and_needed_bytes
from model.engines.opening import open_engine
from model.engines.timing import Stopwatch, stopwatch
from model.engines.transfer import upload_to
from model.network import ActionOutput
from model.pathways import input_size, resize_frames
from workers.batching import PATIENCE_S, Batcher, Ticket
from workers.errors import UnscorableClipError
from workers.messages import Boxes, Scores
from workers.simulate.clips import gate_clips

TORCH = EngineSpec("torch")
CPU_BATCH_CLIPS = 4
Probabilities = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
"""Of boxes: of each behaviour, of being no animal, of motion."""


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """What the network sees around one keyframe, and the boxes to score in it."""

    frames: Tensor
    """Shared with other clips, uint8 on the device, ``(N, H, W, 3)``."""
    window: Tensor
    """Places of its frames among them, on the device, ``(T,)``."""
    xyxy: NDArray[np.float32]

    @property
    def shape(self) -> tuple[int, ...]:
        """Frames, height, width."""
        return len(self.window), *self.frames.shape[1:3]


class BatchOutput:
    """Logits of clips that went through the heads together, brought from the device once, when they are wanted."""

    def __init__(self, output: ActionOutput, boxes: Sequence[int], watch: Stopwatch, clips: int) -> None:
        """Keep logits on the device.

        Args:
            output: of the boxes of all clips, one clip's after the other's.
            boxes: of each clip.
            watch: of the batch that they were computed in, stopped.
            clips: in that batch.
        """
        self._output = output
        self._stops = np.cumsum([0, *boxes])
        self._watch, self._clips = watch, clips
        self._lock = threading.Lock()
        self._host: Probabilities | None = None

    def of_clip(self, row: int) -> Probabilities:
        """Probabilities of the boxes of one clip."""
        with self._lock:
            if self._host is None:
                self._host = _probabilities(self._output)
        rows = slice(self._stops[row], self._stops[row + 1])
        behaviour, other, dynamic = self._host
        return behaviour[rows], other[rows], dynamic[rows]

    @property
    def seconds_a_clip(self) -> float:
        """Each clip's share of the time that the batch took."""
        return self._watch.seconds / self._clips


@dataclass(frozen=True, slots=True, eq=False)
class Sent:
    """Keyframes whose clips wait for their batches."""

    frames: NDArray[np.uint8]
    centres: NDArray[np.int64]
    boxes: Sequence[Boxes]
    tickets: dict[int, Ticket[Clip, tuple[BatchOutput, int]]]
    """By the place of the keyframe."""
    prepared_s: float
    """Time that bringing the frames to the device took."""


class Scorer:
    """A network on a device, fed with clips in batches of one fixed shape; may be used from several threads.

    A batch that is not full is padded, so that a clip's probabilities do not depend on which clips share its batch,
    and hence not on how a video was cut into segments.
    """

    def __init__(
        self,
        checkpoint: Path,
        device: str = "cpu",
        batch_clips: int | None = 4,
        engine: EngineSpec = TORCH,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Load the checkpoint.

        Args:
            checkpoint: file of the network.
            device: ``cpu`` or ``cuda``.
            batch_clips: clips that are computed at once; None, on CUDA, for as many as fit into its free memory when
                the first ones come.
            engine: what runs the backbone; one that is not there yet is built when the first clips come.
            patience_s: longest time that a clip waits for those of other threads to fill its batch.

        Raises:
            ModelError: what :func:`model.checkpoint.load_checkpoint` and :func:`model.engines.opening.open_engine`
                raise.
        """
        if batch_clips is not None and batch_clips < 1:
            raise ValueError(f"batch_clips must be at least 1, got {batch_clips}")
        self._network, self.info = load_checkpoint(checkpoint)
        """What the checkpoint says about itself: behaviours, what it was trained on, digest."""
        self._network.to(device)
        self._engine, self.engine = open_engine(engine, self._network, self.info, device, gate_clips)
        """Which engine runs the backbone, and why."""
        self._upload = upload_to(self._engine.device)
        self._turn = threading.Lock()
        self._aside = threading.Lock()
        on_cuda = self._engine.device.type == "cuda"
        self._side = torch.cuda.Stream(self._engine.device) if on_cuda else None  # type: ignore[no-untyped-call]
        self._batcher: Batcher[Clip, tuple[BatchOutput, int]] = Batcher(
            self._compute, batch_clips or CPU_BATCH_CLIPS, self._turn, patience_s
        )
        self._is_fitted = batch_clips is not None or not on_cuda

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
            UnscorableClipError: the network gives no finite numbers.
        """
        with self.expecting():
            sent = self.send(frames, centres, boxes)
        return self.collect(sent)[0]

    def expecting(self) -> AbstractContextManager[None]:
        """Say that :meth:`send` may be called within, so that clips of other threads wait a little for these."""
        return self._batcher.expecting()

    def send(self, frames: NDArray[np.uint8], centres: NDArray[np.int64], boxes: Sequence[Boxes]) -> Sent:
        """Bring clips to the device and compute the batches that are full; as :meth:`score` beside that."""
        if len(boxes) != len(centres):
            raise ValueError(f"need boxes for each of {len(centres)} keyframes, got {len(boxes)}")
        if len(centres) and not (int(np.min(centres)) >= 0 and int(np.max(centres)) < len(frames)):
            raise ValueError(f"keyframes must lie within the {len(frames)} frames, got {np.asarray(centres)}")
        tickets: dict[int, Ticket[Clip, tuple[BatchOutput, int]]] = {}
        prepared_s = 0.0
        for keyframes, clips, seconds in self._clips(frames, centres, boxes):
            tickets |= zip(keyframes, self._batcher.submit(clips), strict=True)
            prepared_s += seconds
        return Sent(frames, centres, boxes, tickets, prepared_s)

    def collect(self, sent: Sent) -> tuple[list[Scores], float]:
        """The scores of each keyframe, and the seconds that they took, those of a batch shared between its clips.

        Raises:
            UnscorableClipError: the network gives no finite numbers.
            Exception: what computing one of the clips, by itself if need be, raised.
        """
        results, busy_s = [self._no_scores() for _ in sent.boxes], sent.prepared_s
        for keyframe, ticket in sent.tickets.items():
            output, row = self._batcher.result(ticket)
            probabilities = output.of_clip(row)
            busy_s += output.seconds_a_clip
            if not _are_finite(probabilities):
                probabilities = self._alone(ticket.item, keyframe)
            with self._while_no_batch():
                started = time.perf_counter()
                looks = describe(sent.frames[int(sent.centres[keyframe])], sent.boxes[keyframe].xyxy)
                busy_s += time.perf_counter() - started
            results[keyframe] = Scores(*probabilities, looks)
        return results, busy_s

    @contextmanager
    def other_work(self) -> Iterator[None]:
        """Use the same processors or device for other work: in turn with the batches, on CUDA on its own stream."""
        if self._side is None:
            with self._turn:
                yield
        else:
            with self._aside, torch.cuda.stream(self._side):
                yield

    def _while_no_batch(self) -> AbstractContextManager[object]:
        """On a CPU batches take all processors that the scorer may use."""
        return self._turn if self._side is None else nullcontext()

    def _alone(self, clip: Clip, keyframe: int) -> Probabilities:
        """Probabilities of a clip that may have been spoilt by another one of its batch."""
        output, row = self._batcher.alone(clip)
        probabilities = output.of_clip(row)
        if not _are_finite(probabilities):
            raise UnscorableClipError(keyframe)
        return probabilities

    def _clips(
        self, frames: NDArray[np.uint8], centres: NDArray[np.int64], boxes: Sequence[Boxes]
    ) -> Iterator[tuple[list[int], list[Clip], float]]:
        """Keyframes with boxes, a batch at a time, their clips, and the seconds that bringing these took."""
        occupied = [k for k, of_keyframe in enumerate(boxes) if len(of_keyframe.score)]
        if not occupied:
            return
        around = np.arange(self.info.clip_frames) - self.info.clip_frames // 2
        windows = np.clip(np.asarray(centres)[occupied][:, None] + around, 0, len(frames) - 1)
        # Clips overlap, so each frame that any of them needs is sent and resized once, when the first one needs it.
        needed, position = np.unique(windows, return_inverse=True)
        position = position.reshape(windows.shape)
        size = input_size(frames.shape[1], frames.shape[2], self.info.input_height)
        self._fit_batches((self.info.clip_frames, *size))
        resized = torch.empty((len(needed), *size, 3), dtype=torch.uint8, device=self._engine.device)
        places = torch.from_numpy(position).to(self._engine.device, non_blocking=True)
        there, step = 0, self._batcher.most_items
        for start in range(0, len(occupied), step):
            rows = range(start, min(start + step, len(occupied)))
            stop = int(position[rows.start : rows.stop].max()) + 1
            with self._while_no_batch():
                started = time.perf_counter()
                for part in _parts(np.arange(there, stop)):
                    resized[part[0] : part[-1] + 1] = resize_frames(self._upload(frames[needed[part]]), size)
                seconds = time.perf_counter() - started
            there = max(there, stop)
            keyframes = [occupied[row] for row in rows]
            yield (
                keyframes,
                [Clip(resized, places[row], boxes[occupied[row]].xyxy) for row in rows],
                seconds,
            )

    def _fit_batches(self, clip: tuple[int, int, int]) -> None:
        """Choose the size of a batch by the memory of the device, where it is not given, before the first one."""
        with self._turn, self._aside:  # what others do at the same time would be measured with it
            if self._is_fitted:
                return
            try:
                free, needed = free_and_needed_bytes(self._network.backbone, clip, self._engine.device)
                self._batcher.most_items = clips_that_fit(free, needed)
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                self._batcher.most_items = 1
            self._is_fitted = True

    @torch.inference_mode()
    def _compute(self, clips: Sequence[Clip], size: int) -> list[tuple[BatchOutput, int]]:
        """Logits of up to ``size`` clips, padded with copies of the last one, still on the device."""
        watch = stopwatch(self._engine.device)
        windows = [clips[min(row, len(clips) - 1)] for row in range(size)]
        pixels = torch.stack([clip.frames[clip.window] for clip in windows])
        maps = self._engine.pooled_maps(pixels)
        together = (
            [range(row, row + 1) for row in range(len(clips))] if self._side is None else [range(len(clips))]
        )
        outputs = [self._heads(maps, clips, rows) for rows in together]
        watch.stop()
        return [
            (BatchOutput(output, [len(clips[row].xyxy) for row in rows], watch, len(clips)), row - rows.start)
            for output, rows in zip(outputs, together, strict=True)
            for row in rows
        ]

    def _heads(self, maps: Tensor, clips: Sequence[Clip], rows: range) -> ActionOutput:
        """Logits of the boxes of some rows of a batch.

        On a GPU all of them at once, which saves launches; on a CPU each alone, which saves nothing but keeps the last
        bit of a box's probabilities free of the other keyframes.
        """
        boxes = [clips[row].xyxy for row in rows]
        xyxy = torch.from_numpy(np.concatenate(boxes).astype(np.float32))
        clip = torch.from_numpy(np.repeat(np.arange(len(rows)), [len(one) for one in boxes]))
        there = (part.to(maps.device, non_blocking=True) for part in (xyxy, clip))
        return self._network.score_maps(maps[rows.start : rows.stop], *there)

    def _no_scores(self) -> Scores:
        return Scores(
            p_behaviour=np.zeros((0, len(self.info.behaviours)), dtype=np.float32),
            p_other=np.zeros(0, dtype=np.float32),
            p_dynamic=np.zeros(0, dtype=np.float32),
            embedding=describe(np.zeros((2, 2, 3), dtype=np.uint8), np.zeros((0, 4), dtype=np.float32)),
        )


@torch.inference_mode()
def _probabilities(output: ActionOutput) -> Probabilities:
    """In the host's memory."""
    return (
        output.behaviour.sigmoid().cpu().numpy(),
        output.other.sigmoid().cpu().numpy(),
        output.motion.softmax(dim=1)[:, 1].cpu().numpy(),
    )


def _are_finite(probabilities: Probabilities) -> bool:
    return all(np.isfinite(part).all() for part in probabilities)


def _parts(indices: NDArray[np.int64], count: int = 64) -> Iterator[NDArray[np.int64]]:
    """Runs of at most ``count`` indices: resizing makes copies of what it is given."""
    for start in range(0, len(indices), count):
        yield indices[start : start + count]
