"""How many clips are computed at once on a device, by the memory that is free there."""

from __future__ import annotations

import torch

from model.backbones import Backbone
from model.engines.half import HalfNetwork

MOST_CLIPS = 32
"""What benchmarks were made with (``docs/benchmarks``); what more at once would bring was not measured."""
SHARE = 0.5
"""Of the free memory that a batch may take: recorded graphs, other sizes of videos and the detector take theirs."""


def clips_that_fit(free_bytes: int, bytes_a_clip: int, most: int = MOST_CLIPS) -> int:
    """Clips in a batch: a power of two, at least 1 and at most ``most``."""
    fitting = max(1, min(most, int(SHARE * free_bytes) // max(1, bytes_a_clip)))
    return int(2 ** (fitting.bit_length() - 1))


@torch.no_grad()
def free_and_needed_bytes(
    backbone: Backbone, clip: tuple[int, int, int], device: torch.device
) -> tuple[int, int]:
    """Bytes that are free on a CUDA device, and those that one more clip in a batch takes there, in FP16, uncompiled.

    Args:
        backbone: in single precision, on the device.
        clip: frames, height and width.
        device: on CUDA.
    """
    network = HalfNetwork(backbone).to(device)
    peaks = []
    for count in (1, 3):
        clips = torch.zeros((count, *clip, 3), dtype=torch.uint8, device=device)
        torch.cuda.reset_peak_memory_stats(device)
        network(clips)
        peaks.append(torch.cuda.max_memory_allocated(device))
    del network, clips
    torch.cuda.empty_cache()
    return torch.cuda.mem_get_info(device)[0], (peaks[1] - peaks[0]) // 2
