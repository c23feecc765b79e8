"""Our decoding of the 15 Hz grid against bare loops of decord and PyAV, and two processes against one.

All take turns, each with one thread and pictures of one size. Times are processor seconds of the process that decodes,
which other work on the machine changes least; two processes against one are in wall time, too.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.pool import Pool
from pathlib import Path

import av
import numpy as np

from flows.settings import Settings
from workers.archive import list_archive
from workers.decode import BATCH_FRAMES, decode_span, frame_size
from workers.grid import FrameGrid
from workers.messages import GridSpan
from workers.probe import probe_video
from workers.simulate.archive import simulate_archive

SEED, SECONDS, HEIGHT, ROUNDS = 71, 20.0, 1080, 5
GOAL = 1.05
Loop = Callable[[str], int]
"""Decodes a file; returns how many pictures of the grid it had."""


def ours(path: str) -> int:
    """As a decode task does it, the probe left out."""
    probe = probe_video(path)
    span = GridSpan(0, FrameGrid.of(probe).length)
    chunks = decode_span(path, probe, span, size_of(path), video_id="")
    return sum(len(chunk.frames) for chunk in chunks)


def bare_decord(path: str) -> int:
    """The frames of the grid, in order, in batches as large as ours."""
    import decord

    wanted = FrameGrid.of(probe_video(path)).frame_indices
    height, width = size_of(path)
    reader = decord.VideoReader(path, ctx=decord.cpu(0), height=height, width=width, num_threads=1)
    count = 0
    for first in range(0, len(wanted), BATCH_FRAMES):
        count += len(reader.get_batch(wanted[first : first + BATCH_FRAMES].tolist()).asnumpy())
    return count


def bare_decord_all(path: str) -> int:
    """Every frame, in order."""
    import decord

    height, width = size_of(path)
    reader = decord.VideoReader(path, ctx=decord.cpu(0), height=height, width=width, num_threads=1)
    for first in range(0, len(reader), BATCH_FRAMES):
        reader.get_batch(list(range(first, min(first + BATCH_FRAMES, len(reader))))).asnumpy()
    return FrameGrid.of(probe_video(path)).length


def bare_pyav(path: str) -> int:
    """The frames of the grid, in order."""
    wanted = set(FrameGrid.of(probe_video(path)).frame_indices.tolist())
    height, width = size_of(path)
    count = 0
    with av.open(path) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for index, frame in enumerate(container.decode(video=0)):
            if index in wanted:
                frame.to_ndarray(width=width, height=height, format="rgb24", threads=1)
                count += 1
    return count


def size_of(path: str) -> tuple[int, int]:
    """Height and width of the pictures, as in a run with the default settings."""
    return frame_size(probe_video(path), Settings().decode.frame_height)


def timed(loop: Loop, path: str) -> float:
    """Processor seconds of a loop in this process."""
    started = time.process_time()
    loop(path)
    return time.process_time() - started


LOOPS: dict[str, Loop] = {
    "ours": ours,
    "bare decord": bare_decord,
    "bare decord, every frame": bare_decord_all,
    "bare PyAV": bare_pyav,
}


def compare(path: str, rounds: int) -> dict[str, list[float]]:
    """Processor seconds of each loop in each round, the loops taking turns."""
    counts = {name: loop(path) for name, loop in LOOPS.items()}  # once, to warm up
    if len(set(counts.values())) > 1:
        raise RuntimeError(f"the loops gave different numbers of pictures: {counts}")
    seconds: dict[str, list[float]] = {name: [] for name in LOOPS}
    for number in range(rounds):
        names = list(LOOPS) if number % 2 == 0 else list(reversed(LOOPS))
        for name in names:
            seconds[name].append(timed(LOOPS[name], path))
    return seconds


def two_against_one(loop: Loop, path: str, pool: Pool, rounds: int) -> tuple[float, float]:
    """Work of two processes in the wall time of one alone, at best 2, and how much more processor time each takes."""
    pool.starmap(timed, [(loop, path)] * 2, chunksize=1)
    faster: list[float] = []
    dearer: list[float] = []
    for _ in range(rounds):
        wall_s, cpu_s = [], []
        for processes in (1, 2):
            started = time.perf_counter()
            cpu_s.append(statistics.mean(pool.starmap(timed, [(loop, path)] * processes, chunksize=1)))
            wall_s.append(time.perf_counter() - started)
        faster.append(2 * wall_s[0] / wall_s[1])
        dearer.append(cpu_s[1] / cpu_s[0])
    return statistics.median(faster), statistics.median(dearer)


def rows(path: Path | None = None, rounds: int = ROUNDS) -> dict[str, float]:
    """Figures of one 1080p video, which is simulated where none is given."""
    with tempfile.TemporaryDirectory(prefix="aviaflow-decoding-") as folder:
        if path is None:
            made = simulate_archive(
                Path(folder),
                videos=1,
                seconds=SECONDS,
                seed=SEED,
                workers=1,
                keyint_s=1.0,
                frame_height=HEIGHT,
            )
            path = Path(list_archive(str(made.archive))[0].path)
        return {**ratio_rows(compare(str(path), rounds)), **process_rows(str(path), rounds)}


def ratio_rows(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Ours against the others, round by round."""
    found: dict[str, float] = {}
    for name in ("bare decord", "bare decord, every frame", "bare PyAV"):
        goal = f" (goal at most {GOAL})" if name == "bare decord" else ""
        found[f"the 15 Hz grid, ours against {name}, median{goal}"] = median_ratio(
            seconds["ours"], seconds[name]
        )
        found[f"the 15 Hz grid, ours against {name}, minima"] = min(seconds["ours"]) / min(seconds[name])
    return found


def process_rows(path: str, rounds: int) -> dict[str, float]:
    """Two processes against one, for a bare loop and for ours."""
    found: dict[str, float] = {}
    with multiprocessing.get_context("spawn").Pool(2) as pool:  # a fork of a process with a reader hangs
        for name in ("bare decord", "ours"):
            faster, dearer = two_against_one(LOOPS[name], path, pool, rounds)
            found[f"{name}, two processes: work in the wall time of one alone (at best 2)"] = faster
            found[f"{name}, two processes: processor time of each against one alone"] = dearer
    return found


def median_ratio(ours_s: Sequence[float], others_s: Sequence[float]) -> float:
    """Median of the ratios of each round."""
    return float(np.median(np.array(ours_s) / np.array(others_s)))


def main() -> None:
    """Simulate, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.decoding", description=__doc__)
    parser.add_argument("--video", type=Path, metavar="FILE", help="instead of a simulated one")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    for what, value in rows(options.video, options.rounds).items():
        print(f"{value:>10.3f}  {what}")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
