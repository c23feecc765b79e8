"""What can go wrong with a model, by name."""

from __future__ import annotations


def how_to_install(extra: str) -> str:
    """What a message tells someone to do who needs an optional part of the project."""
    return f"run .venv/bin/pip install -e '.[{extra}]' in the project's folder"


class ModelError(Exception):
    """Base of everything that the model package raises on purpose."""


class UnknownArchitectureError(ModelError):
    """The checkpoint or the caller names an architecture that this version does not have."""


class MissingExtraError(ModelError):
    """An architecture needs a package that is not installed."""


class UnknownWeightsError(ModelError):
    """There are no published weights of that name."""


class UnfitWeightsError(ModelError):
    """Published weights are another architecture's than the network's."""


class CheckpointFormatError(ModelError):
    """The file is no checkpoint of this project, or its metadata is incomplete."""


class CheckpointKeysError(ModelError):
    """Tensors of the architecture are missing from the checkpoint, or there are some too many."""


class CheckpointShapeError(ModelError):
    """A tensor of the checkpoint has another shape than the architecture's."""


class CheckpointDigestError(ModelError):
    """The checkpoint's content does not match the sha256 digest that it carries."""


class DivergedError(ModelError):
    """A training step met a gradient that is not finite."""


class DeviceMemoryError(ModelError):
    """Not even one clip fits into the memory of the device."""


class EngineMissingError(ModelError):
    """The package of an engine is not installed, or cannot run on this machine."""


class EngineBuildError(ModelError):
    """An engine could not be built from the network."""


class EngineParityError(ModelError):
    """An engine says something else than the checkpoint that it was made from."""


class EngineArtifactError(ModelError):
    """The file of an engine is missing, was changed after it was written, or is of another kind."""
