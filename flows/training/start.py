"""The weights that a training starts from: a checkpoint of ours, or weights that others have published."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flows.errors import TrainingError
from model.checkpoint import load_checkpoint
from model.network import ActionNetwork
from model.published import load_named


@dataclass(frozen=True, slots=True)
class PublishedStart:
    """Published weights by name, in a local file."""

    name: str
    """One of ``model.published.PUBLISHED``."""
    path: Path
    """File, or folder in which it lies."""
    sha256: str | None
    """What the file must hash to."""


Start = Path | PublishedStart
"""A checkpoint of ours by its path, or published weights."""


def start_identity(start: Start) -> str:
    """What the weights to start from are, wherever they lie.

    Raises:
        ModelError: they cannot be read.
    """
    if isinstance(start, PublishedStart):
        return f"{start.name} {start.sha256}"
    return f"checkpoint {load_checkpoint(start)[1].digest}"


def start_from(network: ActionNetwork, start: Start) -> str:
    """Fill a network with the weights to start from; heads are taken where they are of the same behaviours.

    Returns:
        What these weights are, as a clause that goes on from what the network is trained on.

    Raises:
        TrainingError: they are of another architecture.
        ModelError: they cannot be read, or are not the ones that were named.
    """
    if isinstance(start, PublishedStart):
        load_named(network, start.name, start.path, start.sha256)
        return f"from the published weights {start.name}"
    initial, info = load_checkpoint(start)
    if info.architecture != network.architecture.name:
        raise TrainingError(
            f"{start}: a {info.architecture}, but the training is of a {network.architecture.name}: "
            "change architecture or initial"
        )
    network.backbone.load_state_dict(initial.backbone.state_dict())
    if network.relation is not None and initial.relation is not None:
        network.relation.load_state_dict(initial.relation.state_dict())
    if info.behaviours == network.behaviours:
        network.heads.load_state_dict(initial.heads.state_dict())
    return f"from weights {info.trained_on}"
