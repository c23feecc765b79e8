"""Weights that others have published, by name. Nothing is fetched: the files lie in a folder of the user's."""

from __future__ import annotations

from dataclasses import dataclass

from model.errors import UnknownWeightsError

_PYTORCHVIDEO = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo"
_HUGGING_FACE = "https://huggingface.co/MCG-NJU"
_SLOWFAST = ("slowfast_r50", "slowfast_r50_8x8", "acrn_slowfast_r50")


@dataclass(frozen=True, slots=True)
class PublishedWeights:
    """Where weights come from, what they are called and which architectures they fit.

    None of the publishers states a sha256 in public documents, so none is recorded here: who loads weights by
    name gives the one that they trust.
    """

    name: str
    file_name: str
    """File or folder, as it is called at its source."""
    url: str
    layout: str
    """Name of a layout in ``model.published.layouts``."""
    architectures: tuple[str, ...]


_ALL = (
    PublishedWeights(
        "kinetics400_slowfast_8x8_r50",
        "SLOWFAST_8x8_R50.pyth",
        f"{_PYTORCHVIDEO}/kinetics/SLOWFAST_8x8_R50.pyth",
        "slowfast classification",
        _SLOWFAST,
    ),
    PublishedWeights(
        "ava_slowfast_8x8_r50",
        "SLOWFAST_8x8_R50_DETECTION.pyth",
        f"{_PYTORCHVIDEO}/ava/SLOWFAST_8x8_R50_DETECTION.pyth",
        "slowfast detection",
        _SLOWFAST,
    ),
    PublishedWeights(
        "kinetics400_slow_8x8_r50",
        "SLOW_8x8_R50.pyth",
        f"{_PYTORCHVIDEO}/kinetics/SLOW_8x8_R50.pyth",
        "slow classification",
        ("slowonly_r50",),
    ),
    PublishedWeights(
        "kinetics400_videomae_base",
        "videomae-base-finetuned-kinetics",
        f"{_HUGGING_FACE}/videomae-base-finetuned-kinetics",
        "transformers folder",
        ("videomae_base",),
    ),
    PublishedWeights(
        "kinetics400_videomae_large",
        "videomae-large-finetuned-kinetics",
        f"{_HUGGING_FACE}/videomae-large-finetuned-kinetics",
        "transformers folder",
        ("videomae_large",),
    ),
)
PUBLISHED = {weights.name: weights for weights in _ALL}


def published_named(name: str) -> PublishedWeights:
    """The published weights of that name.

    Raises:
        UnknownWeightsError: there are none.
    """
    try:
        return PUBLISHED[name]
    except KeyError:
        raise UnknownWeightsError(
            f"unknown published weights {name!r}: this version knows {', '.join(sorted(PUBLISHED))}; "
            "any other file of these layouts can be given by its path"
        ) from None
