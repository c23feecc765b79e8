"""Settings of ``aviaflow train``, as frozen, checked models; ``flows.settings`` reads them from YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from flows.errors import SettingsError
from flows.training.recipe import LossWeights, Recipe
from flows.training.start import PublishedStart, Start
from model.backbones import ARCHITECTURES
from model.checkpoint import embedded_checkpoint
from model.errors import UnknownWeightsError
from model.published import published_named
from model.weighting.registry import weighting_named

EMBEDDED = "embedded"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class OptimizerSettings(_Frozen):
    """How the weights follow the gradient."""

    name: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = Field(default=1.5e-3, gt=0)
    """After the warm-up; from there it falls to zero over half a cosine."""
    learning_rate_at_clips: int | None = Field(default=None, ge=1)
    """Size of a batch that the learning rate is meant for: it is scaled linearly to ``batch_clips``. By default
    it is taken as it is."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Of SGD."""
    weight_decay: float = Field(default=0.02, ge=0)
    """Of all but norms and biases."""
    warmup_steps: int = Field(default=30, ge=0)
    max_grad_norm: float = Field(default=5.0, gt=0)


class WeightingSettings(_Frozen):
    """How the motion task's gradient is added to the behaviour task's."""

    name: str = "lgh"
    lambda_base: float = Field(default=0.1, ge=0)
    """Weight of the motion task, of the rules that have one."""
    parameters: dict[str, float] = {}
    """Of the rule, beside lambda_base: ``alpha`` and ``refresh_steps`` of ``lgh``, ``cap`` of ``capped_lgh``."""
    other: float = Field(default=0.5, ge=0)
    """Weight of the reject loss beside the behaviour loss."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        if "lambda_base" in self.parameters:
            raise ValueError(
                "lambda_base is beside the parameters, not one of them: write it one level higher"
            )
        weighting_named(self.name, **self.parameters)
        return self


class InitialSettings(_Frozen):
    """Weights to start from. A path alone stands for ``file``, the word ``embedded`` for the weights that ship here."""

    file: Path
    """Checkpoint of ours; of published weights their file, or the folder in which it lies."""
    published: str | None = None
    """Name of published weights, as ``aviaflow models`` lists them; by default the file is a checkpoint of ours."""
    sha256: str | None = None
    """What the file of published weights must hash to."""

    @model_validator(mode="before")
    @classmethod
    def _written_short(cls, value: Any) -> Any:
        if value == EMBEDDED:
            return {"file": embedded_checkpoint()}
        return {"file": value} if isinstance(value, str | Path) else value

    @field_validator("published")
    @classmethod
    def _known(cls, name: str | None) -> str | None:
        try:
            return None if name is None else published_named(name).name
        except UnknownWeightsError as error:
            raise ValueError(str(error)) from error

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if self.published is None and self.sha256 is not None:
            raise ValueError("sha256 is of published weights, a checkpoint carries its own: leave it out")
        return self

    def start(self) -> Start:
        """The same for the trainer, independent of the working directory."""
        path = self.file.resolve()
        return path if self.published is None else PublishedStart(self.published, path, self.sha256)


def initial_option(text: str | None, sha256: str | None) -> dict[str, str] | str | None:
    """What ``--initial`` and ``--sha256`` say: ``FILE``, ``embedded``, or ``NAME=FILE`` for published weights.

    Raises:
        SettingsError: there is nothing that the checksum could be of.
    """
    if text is None and sha256 is not None:
        raise SettingsError(
            "--sha256 is of weights that --initial names: name them too, or write both into the file"
        )
    if text is None or "=" not in text or Path(text).exists():
        return text if text is None or sha256 is None else {"file": text, "sha256": sha256}
    name, file = text.split("=", 1)
    return {"published": name, "file": file, **({} if sha256 is None else {"sha256": sha256})}


class TrainSettings(_Frozen):
    """Everything a training can be told."""

    data: Path | None = None
    """Folder with ``archive`` and ``truth``, as ``aviaflow simulate`` and ``aviaflow annotations`` write it. Where it
    has a ``split.csv``, the training part is trained on, and the trained network is scored on the two others."""
    test: Path | None = None
    """Such a folder of other videos: where it is named, the trained network is scored on all of it, and not on the
    test part of ``data``."""
    out: Path | None = None
    """Folder for weights, history, plots and logs."""
    storage: Path | str | None = None
    """Folder or URI (``s3://bucket/prefix``) for checkpoints, one that all machines see; by default in ``out``."""
    ethogram: Path | None = None
    """By default the crane's."""
    trained_on: str | None = None
    """What the weights' metadata says; by default that they were trained on simulated birds, or the folder's name."""

    architecture: str = "slowfast_small"
    initial: InitialSettings | None = None
    """Weights to start from; by default random ones."""
    frame_height: int = Field(default=216, ge=64, le=2160, multiple_of=2)
    """Lines at which the pipeline will decode; the network's input is scaled from there."""

    clips: int | None = Field(default=None, ge=1)
    """Length of the training in clips; this or ``epochs``."""
    epochs: float | None = Field(default=None, gt=0)
    """Length in passes over all keyframes."""
    sampling: Literal["balanced", "epochs"] = "balanced"
    batch_clips: int = Field(default=4, ge=1)
    """Clips of one step, of all workers together."""
    accumulate: int = Field(default=1, ge=1)
    """Batches that a step's clips are cut into, one after the other, to save memory."""
    optimizer: OptimizerSettings = OptimizerSettings()
    weighting: WeightingSettings = WeightingSettings()
    dropout: float = Field(default=0.2, ge=0, lt=1)
    batch_norm: Literal["synchronised", "frozen"] = "synchronised"
    batch_norm_momentum: float = Field(default=0.05, gt=0, le=1)
    mixed_precision: bool = True
    seed: int = Field(default=7, ge=0)

    workers: int = Field(default=1, ge=1)
    """The steps do not depend on it, but for rounding."""
    threads: int | None = Field(default=None, ge=1)
    """Processors of each worker; by default all of the cluster, shared evenly."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    checkpoint_steps: int = Field(default=200, ge=1)
    """Steps between two checkpoints: so many at most are lost in a kill."""
    max_failures: int = Field(default=3, ge=0)
    """How often Ray starts the workers again by itself."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.clips is None) == (self.epochs is None):
            raise ValueError("give either clips or epochs, the length of the training")
        if self.architecture not in ARCHITECTURES:
            raise ValueError(
                f"unknown architecture {self.architecture!r}: choose one of {', '.join(ARCHITECTURES)}"
            )
        return self

    def recipe(self, keyframes: int) -> Recipe:
        """What the steps depend on, for so many usable keyframes."""
        optimizer = self.optimizer
        scale = self.batch_clips / (optimizer.learning_rate_at_clips or self.batch_clips)
        clips = self.clips if self.epochs is None else round(self.epochs * keyframes)
        assert clips is not None
        return Recipe(
            architecture=self.architecture,
            total_clips=clips,
            batch_clips=self.batch_clips,
            learning_rate=optimizer.learning_rate * scale,
            weight_decay=optimizer.weight_decay,
            warmup_steps=optimizer.warmup_steps,
            max_grad_norm=optimizer.max_grad_norm,
            dropout=self.dropout,
            batch_norm_momentum=self.batch_norm_momentum,
            loss_weights=LossWeights(self.weighting.lambda_base, self.weighting.other),
            seed=self.seed,
            weighting=self.weighting.name,
            weighting_parameters=dict(self.weighting.parameters),
            optimizer=optimizer.name,
            momentum=optimizer.momentum,
            sampling=self.sampling,
            accumulate=self.accumulate,
            batch_norm=self.batch_norm,
            mixed_precision=self.mixed_precision,
        )
