"""Clips of simulated birds with their true boxes, painted in memory: no file is written, no codec needed."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from model.parity import SampleClips
from model.pathways import resize_frames
from workers.messages import GRID_HZ, KEYFRAME_STEP
from workers.simulate.reserve import Camera, Painter, plan_camera
from workers.simulate.truth import boxes_at

FRAME_HEIGHT = 216
"""Lines at which the frames are painted, those of the pipeline's decoder."""
RECORDING_S = 40.0
GATE_CLIPS, GATE_SEED = 24, 4711
_LOOKS = 24
"""Moments of a recording among which that with most birds is taken."""


def sample_clips(
    count: int, clip_frames: int, size: tuple[int, int], *, seed: int, clips_per_camera: int = 4
) -> SampleClips:
    """Clips around neighbouring keyframes of as many cameras as it takes, where most birds are.

    Args:
        count: number of clips.
        clip_frames: frames of a clip.
        size: height and width to which the painted frames, of 16:9, are brought.
        seed: of the reserve.
        clips_per_camera: clips that share a camera, and frames.

    Raises:
        ValueError: ``count`` is less than 1.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    clips: list[NDArray[np.uint8]] = []
    boxes: list[NDArray[np.float32]] = []
    for number in range(-(-count // clips_per_camera)):
        camera = plan_camera(seed, number, 1, RECORDING_S)
        some = min(clips_per_camera, count - len(clips))
        first_s = _busiest(camera, some, clip_frames)
        frames = _frames(camera, first_s, clip_frames + KEYFRAME_STEP * (some - 1), size)
        for k in range(some):
            clips.append(frames[k * KEYFRAME_STEP :][:clip_frames])
            keyframe_s = first_s + (k * KEYFRAME_STEP + clip_frames // 2) / GRID_HZ
            boxes.append(
                np.array([box.xyxy for box in boxes_at(camera, keyframe_s)], np.float32).reshape(-1, 4)
            )
    counts = [len(one) for one in boxes]
    return SampleClips(np.stack(clips), np.concatenate(boxes), np.repeat(np.arange(count), counts))


def _busiest(camera: Camera, some: int, clip_frames: int) -> float:
    """Second at which the frames begin so that most birds are seen at the first keyframe."""
    length_s = (clip_frames + KEYFRAME_STEP * some) / GRID_HZ
    starts_s = np.linspace(0.0, RECORDING_S - length_s, _LOOKS)
    birds = [len(boxes_at(camera, float(start) + clip_frames / 2 / GRID_HZ)) for start in starts_s]
    return float(starts_s[int(np.argmax(birds))])


def _frames(camera: Camera, first_s: float, count: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Frames of the 15 Hz grid at the network's size, shape ``(count, H, W, 3)``."""
    painter = Painter(camera, FRAME_HEIGHT)
    painted = np.stack([painter.frame(first_s + k / GRID_HZ) for k in range(count)])
    resized: NDArray[np.uint8] = resize_frames(torch.from_numpy(painted), size).numpy()
    return resized


def gate_clips(clip_frames: int, size: tuple[int, int]) -> SampleClips:
    """The clips on which every engine is held against its checkpoint: some hundred boxes of four cameras."""
    return sample_clips(GATE_CLIPS, clip_frames, size, seed=GATE_SEED)
