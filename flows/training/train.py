"""``aviaflow train``: from an annotated archive to weights that can be deployed, with logs, plots and scores."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from flows.annotations.labelled import LabelledFolder, read_labelled, read_split
from flows.cluster import Node, most_cpus_each, nodes, ray_cluster
from flows.errors import TrainingError
from flows.evaluation.instances import Evaluation, accelerator, evaluate
from flows.quiet import notice
from flows.settings import CONFIGS, load_ethogram
from flows.training.batches import sampling_weights
from flows.training.curves import draw_losses, draw_rho, write_history
from flows.training.log import TrainingLog
from flows.training.ray_job import Job, Resources, run_job
from flows.training.recipe import Recipe
from flows.training.settings import TrainSettings
from flows.training.start import Start, start_from
from flows.training.trainer import HistoryRow, check_recipe
from flows.training.windows import check_labels, check_learnable, cut_windows
from model.checkpoint import load_checkpoint, save_checkpoint
from model.ethogram import Ethogram
from model.network import ActionNetwork
from workers.clips import open_windows

EVALUATE_EVERY = 2
"""Every second keyframe of a test archive is scored; neighbours differ by a quarter of a second."""
TRAINED, HELD_OUT = "train", ("validation", "test")
"""Part of a split that is trained on, and parts that the trained network is scored on, at all their keyframes."""

WITHOUT_MOTION = "without the motion task"

Scores = dict[str, Evaluation]
"""By what was scored: ``validation`` and ``test``."""
Unseen = dict[str, tuple[Path, int]]
"""Likewise: a folder of windows, and every how-manieth keyframe of it is scored."""


def train_archive(settings: TrainSettings, *, address: str | None = None) -> dict[str, Any]:
    """Train on an annotated archive; the same call goes on from the last checkpoint after a kill.

    Where the archive has a ``split.csv``, only its training part is trained on. The validation part is scored when
    the training is over, and so is the test part, unless another test archive is named: nothing is chosen by them.
    That they can be scored is made sure of before the training.

    Args:
        settings: of the training.
        address: of a running Ray cluster; None starts one on this machine.

    Returns:
        Where weights, history and plots are, how many steps were taken, the last losses, and the scores.

    Raises:
        TrainingError: it cannot start or came to no end.
        ClusterError: there is no cluster at that address.
        SettingsError: the annotations are of another ethogram.
        SplitFileError: truth and split do not fit together.
        BadTruthError: the truth and the archive do not fit together.
        ModelError: the weights to start from cannot be used.
    """
    data, out = _folders(settings)
    ethogram = load_ethogram(settings.ethogram or CONFIGS / "ethogram_crane.yaml")
    labelled = _check_folders(settings, ethogram)
    start = None if settings.initial is None else settings.initial.start()
    started = "" if start is None else _try_start(settings, ethogram, start)
    part_of = read_split(data)
    part = None if part_of is None else TRAINED
    windows_folder = cut_windows(data, settings, out, part)
    windows = open_windows(windows_folder)
    check_labels(windows, ethogram, data)
    check_learnable(windows, data, part)
    keyframes = int(np.count_nonzero(sampling_weights(windows, len(ethogram.names))))
    recipe = settings.recipe(keyframes)
    check_recipe(recipe, settings.workers, start)
    _check_warmup(recipe)
    unseen = _unseen(settings, data, out, part_of, ethogram)
    with ray_cluster(address):
        job = _job(settings, recipe, ethogram, windows_folder, start, nodes())
        storage = out if settings.storage is None else settings.storage
        where = storage if "://" in str(storage) else Path(storage).resolve()
        resources = Resources(str(where), settings.workers, settings.max_failures)
        with TrainingLog(out / "tensorboard") as log:
            state, history = run_job(job, resources, lambda rows: log.write(rows, recipe.total_steps))
    plots = _draw(history, out)
    words = settings.trained_on or _trained_on(data, labelled, started)
    if all(row.weight_mov == 0 for row in history):
        words += f", {WITHOUT_MOTION}"
        notice(f"{WITHOUT_MOTION}: what these weights say of static and dynamic means little or nothing")
    weights = out / "weights.safetensors"
    save_checkpoint(_trained(state), weights, trained_on=words, ethogram=ethogram.name)
    scores = _scores(weights, unseen, settings.device)
    return _finish(out, weights, recipe, history, plots, scores, len(windows.light))


def _folders(settings: TrainSettings) -> tuple[Path, Path]:
    if settings.data is None or settings.out is None:
        missing = "data" if settings.data is None else "out"
        raise TrainingError(f"no {missing} folder: name it with --{missing}, or as {missing}: in the file")
    for root in filter(None, (settings.data, settings.test)):
        for part in ("archive", "truth/boxes.csv"):
            if not (root / part).exists():
                raise TrainingError(
                    f"{root / part}: not there; a training needs archive/ and truth/ as "
                    "'aviaflow simulate DIR' writes them"
                )
    settings.out.mkdir(parents=True, exist_ok=True)
    return settings.data, settings.out


def _check_folders(settings: TrainSettings, ethogram: Ethogram) -> LabelledFolder:
    """What the data say about themselves; raises where they or the test archive are of another ethogram."""
    assert settings.data is not None
    for root in (settings.data, settings.test):
        if root is not None:
            read_labelled(root).check_behaviours(root, ethogram.names, f"the ethogram {ethogram.name!r}")
    return read_labelled(settings.data)


def _try_start(settings: TrainSettings, ethogram: Ethogram, start: Start) -> str:
    """What the training starts from, in words; found out before videos are decoded for it."""
    return start_from(ActionNetwork(settings.architecture, ethogram.names), start)


def _check_warmup(recipe: Recipe) -> None:
    if recipe.warmup_steps >= recipe.total_steps:
        raise TrainingError(
            f"the learning rate would rise through all {recipe.total_steps} steps, {recipe.warmup_steps} of them "
            "warm-up: train longer, or make optimizer.warmup_steps smaller"
        )


def _unseen(
    settings: TrainSettings, data: Path, out: Path, part_of: dict[str, str] | None, ethogram: Ethogram
) -> Unseen:
    """Windows of what the trained network will be scored on, cut before it is trained: so they can be."""
    parts = [part for part in HELD_OUT if part in (part_of or {}).values()]
    sources: dict[str, tuple[Path, str | None, int]] = {part: (data, part, 1) for part in parts}
    if settings.test is not None:
        sources["test"] = (settings.test, None, EVALUATE_EVERY)
    unseen = {}
    for name, (root, part, every) in sources.items():
        folder = cut_windows(root, settings, out, part)
        check_labels(open_windows(folder), ethogram, root)
        unseen[name] = (folder, every)
    return unseen


def _job(
    settings: TrainSettings,
    recipe: Recipe,
    ethogram: Ethogram,
    windows: Path,
    start: Start | None,
    cluster: Sequence[Node],
) -> Job:
    gpus = sum(node.gpus for node in cluster)
    device = settings.device
    if device == "auto":
        device = "cuda" if gpus >= settings.workers else "cpu"
    if device == "cuda" and gpus < settings.workers:
        raise TrainingError(
            f"{settings.workers} workers need as many GPUs, the cluster has {gpus}: take device cpu"
        )
    most = most_cpus_each(cluster, settings.workers, gpu=device == "cuda")
    threads = settings.threads or most
    if not 1 <= threads <= most:
        raise TrainingError(
            f"{settings.workers} workers with {max(1, threads)} processors each are more than the cluster's machines "
            f"have, {', '.join(str(node.cpus) for node in cluster)}: take fewer with --workers, or fewer threads"
        )
    return Job(windows, ethogram.names, recipe, start, device, threads, settings.checkpoint_steps)


def _trained(state: dict[str, Any]) -> ActionNetwork:
    network = ActionNetwork(state["recipe"]["architecture"], state["behaviours"])
    network.load_state_dict(state["network"])
    return network.eval()


def _trained_on(data: Path, labelled: LabelledFolder, started: str) -> str:
    taught = "simulated birds" if labelled.simulated else data.resolve().name
    return ", ".join(filter(None, (f"trained on {taught}", started)))


def _scores(weights: Path, unseen: Unseen, device: str) -> Scores:
    """Of the weights as they were written, rounded to half precision, on what was not trained on."""
    network, _ = load_checkpoint(weights)
    where = "cpu" if device == "cpu" else accelerator()
    return {
        name: evaluate(network, open_windows(folder), every=every, device=where)
        for name, (folder, every) in unseen.items()
    }


def _draw(history: list[HistoryRow], out: Path) -> list[Path]:
    """Write the history and draw it."""
    write_history(history, out / "history.csv")
    draw_losses(history, out / "losses.png")
    if all(row.rho is None for row in history):
        return [out / "losses.png"]
    draw_rho(history, out / "rho.png")
    return [out / "losses.png", out / "rho.png"]


def _finish(
    out: Path,
    weights: Path,
    recipe: Recipe,
    history: list[HistoryRow],
    plots: list[Path],
    scores: Scores,
    videos: int,
) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "weights": str(weights),
        "history": str(out / "history.csv"),
        "plots": [str(plot) for plot in plots],
        "tensorboard": str(out / "tensorboard"),
        "videos": videos,
        "steps": len(history),
        "clips": history[-1].clips,
        "train_s": sum(recipe.batch_clips / row.clips_per_s for row in history),
        "loss_behaviour": history[-1].loss_behaviour,
        "loss_motion": history[-1].loss_motion,
        "recipe": asdict(recipe),
        "validation": asdict(scores["validation"]) if "validation" in scores else None,
        "scores": asdict(scores["test"]) if "test" in scores else None,
    }
    (out / "summary.json").write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n")
    return summary


def describe_training(summary: dict[str, Any]) -> str:
    """The summary for a person."""
    lines = [
        f"trained {summary['steps']} steps, {summary['clips']} clips of {summary['videos']} videos; last losses: "
        f"behaviour {summary['loss_behaviour']:.4f}, motion {summary['loss_motion']:.4f}",
    ]
    for key, of in (("validation", "validation part"), ("scores", "test videos")):
        if summary[key] is not None:
            overall = summary[key]["mean_average_precision"]["all"]
            lines.append(f"mAP over instances of the {of}: {'-' if overall is None else f'{overall:.3f}'}")
    lines += [f"{name:<12}{summary[name]}" for name in ("weights", "history", "tensorboard")]
    lines += [f"{'plot':<12}{plot}" for plot in summary["plots"]]
    return "\n".join(lines)
