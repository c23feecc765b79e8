"""``aviaflow models``: what each architecture costs, like the paper's Table 6, and which weights fit it."""

from __future__ import annotations

import dataclasses
import functools
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from model.backbones import ARCHITECTURES, Architecture, SlowFastArchitecture, architecture_named
from model.cost import clips_per_second, count_cost, scene_size
from model.errors import MissingExtraError
from model.published import PUBLISHED

NUM_BEHAVIOURS = 6
"""Behaviours of the crane's ethogram; heads are counted for as many."""
TIMED_CLIPS, TIMED_LIMIT_S = 3, 20.0
PAPER_GMACS = 65.7
"""AviaTAD-LGH, Table 6."""
_PAPER_SIZES = (224, 256)
"""Crops at which SlowFast is published."""
_HEADER = (
    *("architecture", "M", "with heads", "GMACs", "square", "per box", "clips/s", "frames/s"),
    *("channels", "frames", "input"),
)


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """One row of the table."""

    architecture: str
    summary: str
    frames: int
    """Frames of a clip, at 15 Hz."""
    slow_frames: int
    height: int
    width: int
    """Of the input for a 16:9 scene, in pixels."""
    channels: int
    backbone_parameters_m: float | None = None
    """Millions."""
    network_parameters_m: float | None = None
    """Millions, with heads for six behaviours, motion and reject."""
    gmacs: float | None = None
    """Billions of multiply-accumulates of the backbone for one clip of a 16:9 scene."""
    gmacs_square: float | None = None
    """The same for a square input of the same height, as the literature gives it."""
    gmacs_per_box: float | None = None
    clips_per_s: float | None = None
    """None where it was not measured, as above where a package is missing."""
    frames_per_s: float | None = None
    """Frames of clips that pass in a second: ``clips_per_s`` times ``frames``."""
    weights: tuple[str, ...] = ()
    """Names of published weights that fit."""
    note: str = ""
    """Why figures are absent; empty otherwise."""


@dataclass(frozen=True, slots=True)
class PaperVariant:
    """The variant whose cost is nearest to the one that the paper states."""

    architecture: str
    size: int
    """Height and width of the input in pixels."""
    dilated_res5: bool
    gmacs: float
    paper_gmacs: float


@dataclass(frozen=True, slots=True)
class ModelSurvey:
    """The table, what it was measured on, and where the paper's figure stands."""

    models: tuple[ModelFacts, ...]
    device: str
    threads: int
    paper: PaperVariant

    def as_dict(self) -> dict[str, object]:
        """As JSON values."""
        weights = [dataclasses.asdict(one) for one in PUBLISHED.values()]
        return {**dataclasses.asdict(self), "published_weights": weights}


def survey_models(
    names: Sequence[str], *, speed: bool, progress: Callable[[str], None] = lambda _: None
) -> ModelSurvey:
    """Count, and with ``speed`` also time, the architectures of these names; of all where there are none.

    Raises:
        UnknownArchitectureError: a name is unknown.
    """
    chosen = [architecture_named(name) for name in names] or list(ARCHITECTURES.values())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    models = []
    for architecture in chosen:
        progress(f"{architecture.name}: {'counting and timing' if speed else 'counting'}")
        models.append(_facts(architecture, device if speed else None))
    return ModelSurvey(tuple(models), _device_name(device), torch.get_num_threads(), paper_variant())


@functools.cache
def paper_variant() -> PaperVariant:
    """The SlowFast R50 variant whose arithmetic is nearest to the paper's 65.7 G, found by counting them all."""
    variants = []
    for name in ("slowfast_r50", "slowfast_r50_8x8"):
        base = architecture_named(name)
        assert isinstance(base, SlowFastArchitecture)
        for size in _PAPER_SIZES:
            for dilated in (True, False):
                architecture = dataclasses.replace(base, dilated_res5=dilated)
                gmacs = count_cost(architecture, NUM_BEHAVIOURS, (size, size)).clip_macs / 1e9
                variants.append(PaperVariant(name, size, dilated, gmacs, PAPER_GMACS))
    return min(variants, key=lambda variant: abs(variant.gmacs - PAPER_GMACS))


def _facts(architecture: Architecture, device: str | None) -> ModelFacts:
    height, width = scene_size(architecture)
    facts = _what_the_name_says(architecture)
    try:
        scene = count_cost(architecture, NUM_BEHAVIOURS, (height, width))
        square = count_cost(architecture, NUM_BEHAVIOURS, (height, height))
    except MissingExtraError as error:
        return dataclasses.replace(facts, note=str(error))
    facts = dataclasses.replace(
        facts,
        backbone_parameters_m=scene.backbone_parameters / 1e6,
        network_parameters_m=scene.network_parameters / 1e6,
        gmacs=scene.clip_macs / 1e9,
        gmacs_square=square.clip_macs / 1e9,
        gmacs_per_box=scene.box_macs / 1e9,
    )
    if device is None:
        return facts
    rate = clips_per_second(
        architecture, (height, width), device=device, clips=TIMED_CLIPS, limit_s=TIMED_LIMIT_S
    )
    return dataclasses.replace(facts, clips_per_s=rate, frames_per_s=rate * architecture.clip_frames)


def _what_the_name_says(architecture: Architecture) -> ModelFacts:
    height, width = scene_size(architecture)
    return ModelFacts(
        architecture=architecture.name,
        summary=architecture.summary,
        frames=architecture.clip_frames,
        slow_frames=architecture.slow_frames,
        height=height,
        width=width,
        channels=architecture.channels,
        weights=tuple(one.name for one in PUBLISHED.values() if architecture.name in one.architectures),
    )


def describe_models(survey: ModelSurvey) -> str:
    """The survey as a table for a terminal."""
    rows = [_HEADER, *(_row(model) for model in survey.models)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    lines = [_line(row, widths) for row in rows]
    lines += ["", *(f"{model.architecture}: {model.note}" for model in survey.models if model.note)]
    paper = survey.paper
    lines += [
        "M: millions of parameters of the backbone. GMACs: of the backbone for one clip of a 16:9 scene; square: for",
        "a square input of the same height; per box: of heads and relations. Frames are 15 a second, slow/fast.",
        f"Speed: one clip with one box at a time on {survey.device}, {survey.threads} threads; '-' is not measured.",
        f"The paper's {paper.paper_gmacs} G (Table 6) is {paper.architecture} at {paper.size}x{paper.size} with res5 "
        + ("dilated (stride 16)" if paper.dilated_res5 else "at stride 32, as its classifier has it")
        + f": {paper.gmacs:.2f} G. Here res5 is dilated, which costs more.",
        "",
        "Published weights (nothing is fetched; no publisher states a sha256, so loading by name asks for yours):",
    ]
    lines += [f"  {one.name}: {one.url} for {', '.join(one.architectures)}" for one in PUBLISHED.values()]
    return "\n".join(lines)


def _row(model: ModelFacts) -> tuple[str, ...]:
    return (
        model.architecture,
        _number(model.backbone_parameters_m, 2),
        _number(model.network_parameters_m, 2),
        _number(model.gmacs, 2),
        _number(model.gmacs_square, 2),
        _number(model.gmacs_per_box, 3),
        _number(model.clips_per_s, 2),
        _number(model.frames_per_s, 1),
        str(model.channels),
        f"{model.slow_frames}/{model.frames}",
        f"{model.height}x{model.width}",
    )


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (
        cell.ljust(width) if column == 0 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join([first, *others])


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _device_name(device: str) -> str:
    if device == "cuda":
        return str(torch.cuda.get_device_name())
    return f"{platform.machine()} processor"
