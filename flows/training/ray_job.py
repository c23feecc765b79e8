"""A training as a Ray Train job: what each worker runs, and what starts the workers."""

from __future__ import annotations

import signal
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from flows.errors import AviaflowError, TrainingError
from flows.training.recipe import Recipe
from flows.training.start import Start
from flows.training.trainer import HistoryRow, Trainer, set_threads
from model.errors import DivergedError, ModelError
from workers.clips import open_windows

CHECKPOINT_FILE = "training.pt"
KEPT_CHECKPOINTS = 2
POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Job:
    """What every worker is told."""

    windows: Path
    """Folder of windows, on a disk that every worker's machine sees."""
    behaviours: tuple[str, ...]
    recipe: Recipe
    initial: Start | None
    device: str
    threads: int
    checkpoint_steps: int


@dataclass(frozen=True, slots=True)
class Resources:
    """What Ray gives a job."""

    storage: str
    """Folder or URI; checkpoints go to ``checkpoints`` in it."""
    workers: int
    max_failures: int


def run_job(
    job: Job, resources: Resources, log: Callable[[list[HistoryRow]], None]
) -> tuple[dict[str, Any], list[HistoryRow]]:
    """Run a job on the Ray cluster that this process has joined; it goes on from its last checkpoint.

    Returns:
        The trainer's final state, and the history of all its steps.

    Raises:
        TrainingError: it failed more often than it may.
    """
    import ray
    from ray.exceptions import RayActorError
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    board = ray.remote(num_cpus=0)(_Board).remote()
    trainer = TorchTrainer(
        _worker_loop,
        train_loop_config={"job": job, "board": board},
        scaling_config=ScalingConfig(
            num_workers=resources.workers,
            use_gpu=job.device == "cuda",
            resources_per_worker={"CPU": job.threads, **({"GPU": 1} if job.device == "cuda" else {})},
        ),
        run_config=RunConfig(
            name="checkpoints",
            storage_path=resources.storage,
            failure_config=FailureConfig(max_failures=resources.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=KEPT_CHECKPOINTS),
        ),
    )
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(board, log, stop), daemon=True)
    watcher.start()
    try:
        result = _fit(trainer)
    except TrainingFailedError as error:
        raise TrainingError(f"the training stopped: {_cause(error)}") from error
    finally:
        stop.set()
        watcher.join()
    with suppress(RayActorError):  # lost with its machine; so is what it would say
        refused = ray.get(board.refused.remote())
        if refused is not None:
            raise TrainingError(f"the training stopped: {refused}")
    if result.checkpoint is None:
        raise TrainingError(f"{resources.storage}: Ray Train ended without a checkpoint")
    with result.checkpoint.as_directory() as folder:
        return _read(Path(folder))


def _fit(trainer: Any) -> Any:
    """``trainer.fit()``; Ctrl-C within is a ``KeyboardInterrupt`` as elsewhere, and afterwards no longer Ray's.

    Ray Train takes the signal for itself, ends the process without a word and keeps its handler when it is done.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        return trainer.fit()
    except SystemExit as error:
        raise KeyboardInterrupt from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)


class _Board:
    """An actor to which the first worker hands its steps, and from which the driver takes them."""

    def __init__(self) -> None:
        self._rows: list[HistoryRow] = []
        self._refused: str | None = None

    def push(self, row: HistoryRow) -> None:
        self._rows.append(row)

    def take(self) -> list[HistoryRow]:
        rows, self._rows = self._rows, []
        return rows

    def refuse(self, why: str) -> None:
        self._refused = why

    def refused(self) -> str | None:
        return self._refused


def _watch(board: Any, log: Callable[[list[HistoryRow]], None], stop: threading.Event) -> None:
    import ray

    stopping = False
    while not stopping:
        stopping = stop.wait(POLL_S)
        log(ray.get(board.take.remote()))


def _worker_loop(config: dict[str, Any]) -> None:
    """What each worker runs."""
    import ray
    import ray.train
    from ray.exceptions import RayActorError

    job: Job = config["job"]
    context = ray.train.get_context()
    rank = context.get_world_rank()
    set_threads(job.threads, job.device)
    trainer = Trainer(
        open_windows(job.windows),
        job.behaviours,
        job.recipe,
        initial=job.initial,
        rank=rank,
        workers=context.get_world_size(),
        device=job.device,
        threads=job.threads,
    )
    try:
        _train(trainer, job, config["board"], rank)
    except (TrainingError, DivergedError) as error:
        # All workers find the same, and would find it again: nothing that Ray should begin anew.
        if rank == 0:
            with suppress(RayActorError):
                ray.get(config["board"].refuse.remote(str(error)))


def _train(trainer: Trainer, job: Job, board: Any, rank: int) -> None:
    """From the last checkpoint, if there is one, to the last step."""
    import ray.train

    history: list[HistoryRow] = []
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            state, history = _read(Path(folder))
        trainer.restore(state)
    while trainer.step < job.recipe.total_steps:
        row = trainer.advance()
        history.append(row)
        if rank == 0:
            board.push.remote(row)
        if row.step % job.checkpoint_steps == 0 or row.step == job.recipe.total_steps:
            _report(trainer, history, rank)


def _report(trainer: Trainer, history: list[HistoryRow], rank: int) -> None:
    """Publish a checkpoint; all workers take part, the first one writes."""
    import ray.train

    last = history[-1]
    metrics = {"step": last.step, "loss_behaviour": last.loss_behaviour, "loss_motion": last.loss_motion}
    if rank != 0:
        ray.train.report(metrics)
        return
    with tempfile.TemporaryDirectory(prefix="aviaflow-checkpoint-") as folder:
        stored = {"trainer": trainer.state(), "history": [asdict(row) for row in history]}
        torch.save(stored, Path(folder) / CHECKPOINT_FILE)
        ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))


def _read(folder: Path) -> tuple[dict[str, Any], list[HistoryRow]]:
    # Tensors and plain values only: no code of the file runs.
    stored = torch.load(folder / CHECKPOINT_FILE, map_location="cpu", weights_only=True)
    return stored["trainer"], [HistoryRow(**row) for row in stored["history"]]


def _cause(error: BaseException) -> str:
    """The first worker's own words; a traceback of Ray's ends with what happened, other errors begin with it."""
    failures = getattr(error, "worker_failures", None) or {0: getattr(error, "controller_failure", error)}
    first: BaseException = failures[min(failures)]
    while not isinstance(first, AviaflowError | ModelError):
        inner = getattr(first, "cause", None) or first.__cause__
        if inner is None or inner is first:
            lines = [type(first).__name__, *filter(str.strip, str(first).splitlines())]
            return lines[-1].strip() if type(first).__module__.startswith("ray.") else ": ".join(lines[:2])
        first = inner
    return str(first)
