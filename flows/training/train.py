"""``aviaflow train``: from an annotated archive to weights that can be deployed, with logs, plots and scores."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from flows.annotations.labelled import LabelledFolder, read_labelled, read_split, videos_of_part
from flows.cluster import ray_cluster
from flows.errors import TrainingError
from flows.evaluation.instances import Evaluation, evaluate
from flows.nightly.digests import file_digest
from flows.quiet import notice
from flows.settings import CONFIGS, digest, load_ethogram
from flows.training.batches import sampling_weights
from flows.training.curves import draw_losses, draw_rho, write_history
from flows.training.log import TrainingLog
from flows.training.ray_job import Job, Resources, gpus_of_cluster, run_job
from flows.training.recipe import Recipe
from flows.training.settings import TrainSettings
from flows.training.start import Start, start_from
from flows.training.trainer import HistoryRow, check_recipe
from model.backbones import architecture_named
from model.checkpoint import load_checkpoint, save_checkpoint
from model.ethogram import Ethogram
from model.network import ActionNetwork
from workers.clips import WindowSet, build_windows, open_windows, read_truth
from workers.errors import BadTruthError

EVALUATE_EVERY = 2
"""Every second keyframe of a test archive is scored; neighbours differ by a quarter of a second."""
TRAINED, HELD_OUT = "train", ("validation", "test")
"""Part of a split that is trained on, and parts that the trained network is scored on, at all their keyframes."""

Scores = dict[str, Evaluation]
"""By what was scored: ``validation`` and ``test``."""


def train_archive(settings: TrainSettings, *, address: str | None = None) -> dict[str, Any]:
    """Train on an annotated archive; the same call goes on from the last checkpoint after a kill.

    Where the archive has a ``split.csv``, only its training part is trained on. The validation part is scored when
    the training is over, and so is the test part, unless another test archive is named: nothing of them is seen
    before, and nothing is chosen by them.

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
    windows_folder = cut_windows(data, settings, out, None if part_of is None else TRAINED)
    windows = open_windows(windows_folder)
    _check_labels(windows, ethogram, data)
    keyframes = int(np.count_nonzero(sampling_weights(windows, len(ethogram.names))))
    recipe = settings.recipe(keyframes)
    check_recipe(recipe, settings.workers, start)
    with ray_cluster(address) as cpus:
        job = _job(settings, recipe, ethogram, windows_folder, start, cpus)
        storage = out if settings.storage is None else settings.storage
        where = storage if "://" in str(storage) else Path(storage).resolve()
        resources = Resources(str(where), settings.workers, settings.max_failures)
        with TrainingLog(out / "tensorboard") as log:
            state, history = run_job(job, resources, lambda rows: log.write(rows, recipe.total_steps))
    weights = out / "weights.safetensors"
    save_checkpoint(
        _trained(state),
        weights,
        trained_on=settings.trained_on or _trained_on(data, labelled, started),
        ethogram=ethogram.name,
    )
    scores = _scores(weights, settings, data, out, part_of)
    return _finish(out, weights, recipe, history, scores, len(windows.light))


def cut_windows(data: Path, settings: TrainSettings, out: Path, part: str | None = None) -> Path:
    """The folder of the windows of an annotated archive, or of one part of its split, cut once and used again.

    Raises:
        SplitFileError: truth and split do not fit together.
        BadTruthError: the truth and the archive do not fit together.
    """
    height = architecture_named(settings.architecture).input_height
    videos = None
    if part is not None:
        videos = videos_of_part(data, read_split(data) or {}, part)
    truth = [file_digest(path) for path in _truth_files(data)]
    stamps = _video_stamps(data, videos)
    key = digest(str(data.resolve()), settings.frame_height, height, settings.seed, truth, stamps)
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
            videos=videos,
            workers=os.cpu_count() or 1,
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


def _truth_files(data: Path) -> list[Path]:
    """What the windows depend on beside the videos."""
    names = ("boxes.csv", "others.csv", "reserve.json")
    return [path for name in names if (path := data / "truth" / name).exists()]


def _video_stamps(data: Path, videos: list[str] | None) -> list[tuple[str, int, int]]:
    """Name, bytes and time of the last change of the videos, by default of all that the truth has boxes of."""
    stamps = []
    for video in videos or sorted(read_truth(data / "truth")):
        path = data / "archive" / video
        if not path.is_file():
            raise BadTruthError(f"{path}: the truth has boxes of this video, but it is not there")
        stamps.append((video, path.stat().st_size, path.stat().st_mtime_ns))
    return stamps


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


def _check_labels(windows: WindowSet, ethogram: Ethogram, data: Path) -> None:
    highest = int(windows.label.max(initial=-1)) + 1
    if highest > len(ethogram.names):
        raise TrainingError(
            f"{data / 'truth' / 'boxes.csv'}: label {highest}, but the ethogram {ethogram.name!r} has "
            f"{len(ethogram.names)} behaviours: name the ethogram of these annotations under 'ethogram'"
        )


def _job(
    settings: TrainSettings,
    recipe: Recipe,
    ethogram: Ethogram,
    windows: Path,
    start: Start | None,
    cpus: int,
) -> Job:
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
    return Job(windows, ethogram.names, recipe, start, device, threads, settings.checkpoint_steps)


def _trained(state: dict[str, Any]) -> ActionNetwork:
    network = ActionNetwork(state["recipe"]["architecture"], state["behaviours"])
    network.load_state_dict(state["network"])
    return network.eval()


def _trained_on(data: Path, labelled: LabelledFolder, started: str) -> str:
    taught = "simulated birds" if labelled.simulated else data.resolve().name
    return ", ".join(filter(None, (f"trained on {taught}", started)))


def _scores(
    weights: Path, settings: TrainSettings, data: Path, out: Path, part_of: dict[str, str] | None
) -> Scores:
    """Of the weights as they were written, rounded to half precision, on what was not trained on."""
    network, _ = load_checkpoint(weights)
    scores = {}
    for part in HELD_OUT if part_of is not None else ():
        if part != "test" or settings.test is None:
            scores[part] = evaluate(network, open_windows(cut_windows(data, settings, out, part)))
    if settings.test is not None:
        windows = open_windows(cut_windows(settings.test, settings, out))
        scores["test"] = evaluate(network, windows, every=EVALUATE_EVERY)
    return scores


def _finish(
    out: Path, weights: Path, recipe: Recipe, history: list[HistoryRow], scores: Scores, videos: int
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
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
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
