"""The action network: a backbone, ROI features and three heads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.backbones import Architecture, architecture_named
from model.relation import ActorContext
from model.roi import roi_vectors


@dataclass(frozen=True, slots=True, eq=False)
class ActionOutput:
    """Logits of M boxes."""

    behaviour: Tensor
    """One logit per behaviour, for independent sigmoids, shape ``(M, C)``."""
    motion: Tensor
    """Logits of static and dynamic, for a softmax, shape ``(M, 2)``."""
    other: Tensor
    """Logit that the box holds no animal of the ethogram's taxon, shape ``(M,)``."""


class ActionHeads(nn.Module):
    """Behaviour, motion and reject head over ROI vectors of ``channels`` features."""

    def __init__(self, channels: int, num_behaviours: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.behaviour = nn.Linear(channels, num_behaviours)
        self.motion = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, 2))
        self.other = nn.Linear(channels, 1)

    def forward(self, vectors: Tensor) -> ActionOutput:
        """Logits of ROI vectors ``(M, D)``."""
        vectors = self.dropout(vectors)
        return ActionOutput(self.behaviour(vectors), self.motion(vectors), self.other(vectors)[:, 0])


class ActionNetwork(nn.Module):
    """A backbone with a behaviour head, an auxiliary motion head (AviaTAD, section 3) and a reject head.

    The heads run in float32 whatever the precision of the feature maps, so that a box's probabilities do not
    depend on how many boxes share its clip.
    """

    def __init__(
        self, architecture: str | Architecture, behaviours: Sequence[str], dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.architecture = (
            architecture_named(architecture) if isinstance(architecture, str) else architecture
        )
        self.behaviours = tuple(behaviours)
        if not self.behaviours:
            raise ValueError("an action network needs at least one behaviour")
        self.backbone = self.architecture.build()
        self.relation = ActorContext(self.architecture.channels) if self.architecture.actor_context else None
        self.heads = ActionHeads(self.architecture.channels, len(self.behaviours), dropout)

    def forward(self, slow: Tensor, fast: Tensor, boxes: Tensor, clip_index: Tensor) -> ActionOutput:
        """Logits of M boxes in B clips; shapes as in :meth:`Backbone.forward` and ``roi_vectors``."""
        return self.score_maps(self.backbone(slow, fast), boxes, clip_index)

    def score_maps(self, maps: Tensor, boxes: Tensor, clip_index: Tensor) -> ActionOutput:
        """Logits of M boxes from pooled maps ``(B, D, h, w)`` that an engine made."""
        with torch.autocast(maps.device.type, enabled=False):
            maps = maps.float()
            vectors = roi_vectors(maps, boxes, clip_index)
            if self.relation is not None:
                vectors = self.relation(vectors, maps, clip_index)
            output: ActionOutput = self.heads(vectors)
        return output

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters that every task's loss reaches: all but the heads'."""
        yield from self.backbone.parameters()
        if self.relation is not None:
            yield from self.relation.parameters()
