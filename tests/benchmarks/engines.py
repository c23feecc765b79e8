"""``python -m tests.benchmarks.engines``: the engines of a CPU against each other, as ratios of one run."""

from __future__ import annotations

import argparse
import sys
import warnings
from functools import partial

import numpy as np
import torch

from model.backbones import ARCHITECTURES, architecture_named
from model.cost import scene_size
from model.engines.base import Engine
from model.engines.onnx_engine import OnnxEngine
from model.engines.onnx_graph import onnx_graph
from model.engines.torch_engine import TorchEngine, computes_bf16
from tests.benchmarks.timing import one_s

CLIPS, ROUNDS = 4, 7
EAGER = "torch, float32"


def engines_of(name: str, size: tuple[int, int]) -> dict[str, Engine]:
    """The same random weights in each engine."""
    torch.manual_seed(0)
    backbone = architecture_named(name).build().eval()
    threads = torch.get_num_threads()
    single = TorchEngine(backbone, "cpu")
    single._bf16 = False
    return {
        f"torch{', bf16' if computes_bf16('cpu') else ''}": TorchEngine(backbone, "cpu"),
        EAGER: single,
        "onnxruntime": OnnxEngine(onnx_graph(backbone, size, "fp32"), threads),
    }


def measure(name: str, clips: int, rounds: int) -> dict[str, float]:
    """Median seconds a clip, the engines taking turns, so that what else the machine does hits all of them."""
    architecture = architecture_named(name)
    size = scene_size(architecture)
    engines = engines_of(name, size)
    pixels = np.random.default_rng(0).integers(0, 256, (clips, architecture.clip_frames, *size, 3), np.uint8)
    batch = torch.from_numpy(pixels)
    seconds: dict[str, list[float]] = {engine: [] for engine in engines}
    for turn in range(rounds + 1):
        for engine, runner in engines.items():
            spent_s = one_s(partial(runner.pooled_maps, batch), runner.device)
            if turn:  # the first one warms up
                seconds[engine].append(spent_s / clips)
    return {engine: float(np.median(values)) for engine, values in seconds.items()}


def main(arguments: list[str] | None = None) -> None:
    """Measure each architecture and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.engines", description=__doc__)
    parser.add_argument("architectures", nargs="*", default=["slowfast_small"], choices=sorted(ARCHITECTURES))
    parser.add_argument("--clips", type=int, default=CLIPS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    for name in options.architectures:
        seconds = measure(name, options.clips, options.rounds)
        least_s = min(seconds.values())
        for engine, clip_s in seconds.items():
            print(
                f"{name:20} {engine:16} {1000 * clip_s:8.1f} ms a clip, {clip_s / least_s:5.2f} of the fastest"
            )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
