"""The 15 Hz grid of a video: which of its frames stands for which moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from workers.messages import GRID_HZ, GridSpan, Probe

ROUNDING_STEPS = 1e-6
"""Grid steps that rounding of the times may be off by."""


@dataclass(frozen=True, slots=True, eq=False)
class FrameGrid:
    """The frame nearest in time to each grid moment ``k / GRID_HZ``, up to the time of the last frame."""

    frame_indices: NDArray[np.int64]
    """Index in the video of the frame at each grid point, never decreasing, shape ``(K,)``."""
    times_s: NDArray[np.float64]
    """Presentation time of that frame in seconds from the start of the video, shape ``(K,)``."""

    @classmethod
    def of(cls, probe: Probe) -> Self:
        """Lay the grid over a video: of two frames equally near, the earlier is taken."""
        times_s = probe.times_s
        length = int(np.floor(times_s[-1] * GRID_HZ + ROUNDING_STEPS)) + 1
        moments_s = np.arange(length) / GRID_HZ
        after = np.searchsorted(times_s, moments_s).clip(max=len(times_s) - 1)
        before = (after - 1).clip(min=0)
        is_before_nearer = (
            moments_s - times_s[before] <= times_s[after] - moments_s + ROUNDING_STEPS / GRID_HZ
        )
        nearest = np.where(is_before_nearer, before, after)
        indices = np.searchsorted(times_s, times_s[nearest]).astype(np.int64)
        return cls(indices, times_s[indices])

    @property
    def length(self) -> int:
        """Number of grid points."""
        return int(self.frame_indices.shape[0])

    def frames_of(self, span: GridSpan) -> NDArray[np.int64]:
        """Frame index at each grid point of a span; raises ``ValueError`` for a span beyond the video."""
        if span.stop > self.length:
            raise ValueError(f"the video has {self.length} grid points, got a span up to {span.stop}")
        return self.frame_indices[span.first : span.stop]
