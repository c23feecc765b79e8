"""``aviaflow train``: from an annotated archive to weights that can be deployed, with logs, plots and scores."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from flows.cluster import ray_cluster
from flows.errors import TrainingError
from flows.evaluation.instances import Evaluation, evaluate
from flows.quiet import notice
from flows.settings import CONFIGS, digest, load_ethogram
from flows.training.batches import sampling_weights
from flows.training.curves import draw_losses, draw_rho, write_history
from flows.training.log import TrainingLog
from flows.training.ray_job import Job, Resources, gpus_of_cluster, run_job
from flows.training.recipe import Recipe
from flows.training.settings import TrainSettings
from flows.training.trainer import HistoryRow, check_recipe
from model.backbones import architecture_named
from model.checkpoint import load_checkpoint, save_checkpoint
from model.ethogram import Ethogram
from model.network import ActionNetwork
from workers.clips import WindowSet, build_windows, open_windows

EVALUATE_EVERY = 2
"""Every second keyframe of the test archive is scored; neighbours differ by a quarter of a second."""


def train_archive(settings: TrainSettings, *, address: str | None = None) -> dict[str, Any]:
    """Train on an annotated archive; the same call goes on from the last checkpoint after a kill.

    Args:
        settings: of the training.
        address: of a running Ray cluster; None starts one on this machine.

    Returns:
        Where weights, history and plots are, how many steps were taken, the last losses, and the scores.

    Raises:
        TrainingError: it cannot start or came to no end.
        ClusterError: there is no cluster at that address.
        BadTruthError: the truth and the archive do not fit together.
    """
    data, out = _folders(settings)
    ethogram = load_ethogram(settings.ethogram or CONFIGS / "ethogram_crane.yaml")
    windows_folder = cut_windows(data, settings, out)
    windows = open_windows(windows_folder)
    _check_labels(windows, ethogram, data)
    keyframes = int(np.count_nonzero(sampling_weights(windows, len(ethogram.names))))
    recipe = settings.recipe(keyframes)
    check_recipe(recipe, settings.workers, settings.initial)
    with ray_cluster(address) as cpus:
        job = _job(settings, recipe, ethogram, windows_folder, cpus)
        resources = Resources(settings.storage or str(out.resolve()), settings.workers, settings.max_failures)
        with TrainingLog(out / "tensorboard") as log:
            state, history = run_job(job, resources, lambda rows: log.write(rows, recipe.total_steps))
    weights = out / "weights.safetensors"
    save_checkpoint(
        _trained(state),
        weights,
        trained_on=settings.trained_on or _trained_on(data),
        ethogram=ethogram.name,
    )
    scores = _scores(weights, settings, out)
    return _finish(out, weights, recipe, history, scores)


def cut_windows(data: Path, settings: TrainSettings, out: Path) -> Path:
    """The folder of the windows of an annotated archive, cut once and used again."""
    height = architecture_named(settings.architecture).input_height
    key = digest(str(data.resolve()), settings.frame_height, height, settings.seed)
    folder = out / "windows" / key
    if not folder.exists():
        partial = folder.with_name(f"{key}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        build_windows(
            data,
            partial,
            seed=settings.seed,
            frame_height=settings.frame_height,
            input_height=height,
            progress=notice,
        )
        partial.replace(folder)
    return folder.resolve()


def _folders(settings: TrainSettings) -> tuple[Path, Path]:
    if settings.data is None or settings.out is None:
        missing = "data" if settings.data is None else "out"
        raise TrainingError(f"no {missing} folder: name it with --{missing}, or as {missing}: in the file")
    for part in ("archive", "truth/boxes.csv"):
        if not (settings.data / part).exists():
            raise TrainingError(
                f"{settings.data / part}: not there; a training needs archive/ and truth/ as "
                "'aviaflow simulate DIR' writes them"
            )
    settings.out.mkdir(parents=True, exist_ok=True)
    return settings.data, settings.out


def _check_labels(windows: WindowSet, ethogram: Ethogram, data: Path) -> None:
    highest = int(windows.label.max(initial=-1)) + 1
    if highest > len(ethogram.names):
        raise TrainingError(
            f"{data / 'truth' / 'boxes.csv'}: label {highest}, but the ethogram {ethogram.name!r} has "
            f"{len(ethogram.names)} behaviours: name the ethogram of these annotations under 'ethogram'"
        )


def _job(settings: TrainSettings, recipe: Recipe, ethogram: Ethogram, windows: Path, cpus: int) -> Job:
    gpus = gpus_of_cluster()
    device = settings.device
    if device == "auto":
        device = "cuda" if gpus >= settings.workers else "cpu"
    if device == "cuda" and gpus < settings.workers:
        raise TrainingError(
            f"{settings.workers} workers need as many GPUs, the cluster has {gpus}: take device cpu"
        )
    threads = settings.threads or cpus // settings.workers
    if threads < 1 or threads * settings.workers > cpus:
        raise TrainingError(
            f"{settings.workers} workers with {max(1, threads)} processors each are more than the cluster's "
            f"{cpus}: take fewer with --workers"
        )
    initial = None if settings.initial is None else settings.initial.resolve()
    return Job(windows, ethogram.names, recipe, initial, device, threads, settings.checkpoint_steps)


def _trained(state: dict[str, Any]) -> ActionNetwork:
    network = ActionNetwork(state["recipe"]["architecture"], state["behaviours"])
    network.load_state_dict(state["network"])
    return network.eval()


def _trained_on(data: Path) -> str:
    simulated = (data / "truth" / "reserve.json").exists()
    return "trained on simulated birds" if simulated else f"trained on {data.resolve().name}"


def _scores(weights: Path, settings: TrainSettings, out: Path) -> Evaluation | None:
    """Of the weights as they were written, rounded to half precision, on the test archive."""
    if settings.test is None:
        return None
    network, _ = load_checkpoint(weights)
    return evaluate(network, open_windows(cut_windows(settings.test, settings, out)), every=EVALUATE_EVERY)


def _finish(
    out: Path, weights: Path, recipe: Recipe, history: list[HistoryRow], scores: Evaluation | None
) -> dict[str, Any]:
    write_history(history, out / "history.csv")
    draw_losses(history, out / "losses.png")
    plots = [out / "losses.png"]
    if any(row.rho is not None for row in history):
        draw_rho(history, out / "rho.png")
        plots.append(out / "rho.png")
    summary: dict[str, Any] = {
        "weights": str(weights),
        "history": str(out / "history.csv"),
        "plots": [str(plot) for plot in plots],
        "tensorboard": str(out / "tensorboard"),
        "steps": len(history),
        "clips": history[-1].clips,
        "train_s": sum(recipe.batch_clips / row.clips_per_s for row in history),
        "loss_behaviour": history[-1].loss_behaviour,
        "loss_motion": history[-1].loss_motion,
        "recipe": asdict(recipe),
        "scores": None if scores is None else asdict(scores),
    }
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    return summary


def describe_training(summary: dict[str, Any]) -> str:
    """The summary for a person."""
    lines = [
        f"trained {summary['steps']} steps, {summary['clips']} clips; last losses: behaviour "
        f"{summary['loss_behaviour']:.4f}, motion {summary['loss_motion']:.4f}",
    ]
    if summary["scores"] is not None:
        overall = summary["scores"]["mean_average_precision"]["all"]
        lines.append(
            f"mAP over instances of the test archive: {'-' if overall is None else f'{overall:.3f}'}"
        )
    lines += [f"{name:<12}{summary[name]}" for name in ("weights", "history", "tensorboard")]
    lines += [f"{'plot':<12}{plot}" for plot in summary["plots"]]
    return "\n".join(lines)
