"""What every backbone is: an architecture that can build it, and a module from two pathways to pooled maps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from model.pathways import SLOW_STEP

FEATURE_STRIDE = 16
"""Input pixels per cell of the feature maps, in both directions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture(ABC):
    """Name, input and kind of a network; a subclass says how its backbone is built."""

    name: str
    summary: str
    """What it is, in a few words."""
    input_height: int
    """Lines of the network's input."""
    clip_frames: int = 16
    """Frames of a clip on the 15 Hz grid, the keyframe at index ``clip_frames // 2``."""
    actor_context: bool = False
    """Whether each individual's features are related to the whole scene's (ACRN)."""

    @property
    @abstractmethod
    def channels(self) -> int:
        """Channels of the pooled feature maps, and length of an individual's feature vector."""

    @abstractmethod
    def build(self) -> Backbone:
        """A backbone with random weights."""

    @property
    def slow_frames(self) -> int:
        """Frames of a clip that the slow pathway sees."""
        return self.clip_frames // SLOW_STEP


class Backbone(nn.Module, ABC):
    """From a clip's slow and fast frames to one pooled map."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture

    def forward(self, slow: Tensor, fast: Tensor) -> Tensor:
        """Temporal means of the feature maps, shape ``(B, D, H / 16, W / 16)``.

        ``slow`` has shape ``(B, 3, T / 4, H, W)`` and ``fast`` ``(B, 3, T, H, W)``, with T the architecture's
        ``clip_frames``, both normalised as :func:`model.pathways.to_pathways` does.

        Raises:
            ValueError: the clips have another number of frames.
        """
        if fast.shape[2] != self.architecture.clip_frames:
            raise ValueError(
                f"{self.architecture.name} looks at clips of {self.architecture.clip_frames} frames, got "
                f"{fast.shape[2]}"
            )
        return self.pooled_maps(slow, fast)

    @abstractmethod
    def pooled_maps(self, slow: Tensor, fast: Tensor) -> Tensor:
        """What :meth:`forward` returns, for clips of the right length."""
