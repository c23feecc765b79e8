"""Two processes over gloo with parts of a batch take the steps of one process with the whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

from model.batch_norm import freeze_batch_norm, synchronise_batch_norm
from model.dropout import SeededDropout
from model.losses import Targets
from model.network import ActionNetwork
from model.reduction import OneProcess, ProcessGroup, Reduction, share_state
from model.step import Batch, StepSettings, decay_groups, training_step
from model.weighting.registry import weighting_named

STEPS = 3
NAMES = ("feeding", "walk")
CASES = {
    "even": ("lgh", "synchronised", 2, [3, 3, 3, 3]),
    "uneven boxes and clips": ("pcgrad", "synchronised", 1, [2, 7, 4]),
    "uneven boxes, frozen": ("lgh", "frozen", 2, [9, 5, 2, 3]),
}
"""Rule, batch norm, how many clips the first process takes, and the boxes of each clip."""


def global_batch(step: int, boxes_per_clip: list[int]) -> list[Batch]:
    """One batch for each clip, so that any clips can be put together; its first box is no bird."""
    draw = torch.Generator().manual_seed(step)
    batches = []
    for number, count in enumerate(boxes_per_clip):
        corner = 0.5 * torch.rand(count, 2, generator=draw)
        other = torch.arange(count) == 0
        behaviour = torch.nn.functional.one_hot(torch.randint(0, 2, (count,), generator=draw), 2).float()
        targets = Targets(behaviour, torch.randint(0, 2, (count,), generator=draw), ~other, other)
        clip = torch.randint(0, 256, (1, 16, 32, 48, 3), generator=draw, dtype=torch.uint8)
        index = torch.zeros(count, dtype=torch.int64)
        boxes = torch.cat([corner, corner + 0.4], dim=1)
        batches.append(Batch(clip, boxes, index, targets, torch.tensor([100 * step + number])))
    return batches


def joined(batches: list[Batch]) -> Batch:
    targets = [batch.targets for batch in batches]
    return Batch(
        torch.cat([batch.clips for batch in batches]),
        torch.cat([batch.boxes for batch in batches]),
        torch.cat([batch.clip_index + number for number, batch in enumerate(batches)]),
        Targets(
            torch.cat([target.behaviour for target in targets]),
            torch.cat([target.dynamic for target in targets]),
            torch.cat([target.learnable for target in targets]),
            torch.cat([target.other for target in targets]),
        ),
        torch.cat([batch.dropout_seeds for batch in batches]),
    )


def _without_kinks(network: torch.nn.Module) -> None:
    """Where a value rounds to the other side of a kink, its gradient is another: which values do, depends on the
    processor. Smooth functions in place of the kinked ones leave nothing but rounding."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, torch.nn.ReLU):
                setattr(module, name, torch.nn.SiLU())
            if isinstance(child, torch.nn.MaxPool3d):
                setattr(module, name, torch.nn.AvgPool3d(child.kernel_size, child.stride, child.padding))


def trained(
    rule: str, norm: str, own_clips: slice, boxes_per_clip: list[int], reduction: Reduction, seed: int
) -> dict[str, torch.Tensor]:
    """Parameters, statistics and the last weights after some steps on these clips of every batch."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    network = ActionNetwork("slowfast_small", NAMES)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            torch.nn.init.uniform_(module.weight, 0.1, 0.6)  # some start at zero, and let nothing through
    _without_kinks(network)
    network.heads.dropout = SeededDropout(0.2)
    if norm == "frozen":
        freeze_batch_norm(network)
    elif isinstance(reduction, ProcessGroup):
        synchronise_batch_norm(network, reduction)
    share_state(network, reduction)
    optimizer = torch.optim.SGD(decay_groups(network, 1e-4), lr=0.02, momentum=0.9)
    weighting = weighting_named(rule)
    state = weighting.initial_state()
    for step in range(STEPS):
        batch = joined(global_batch(step, boxes_per_clip)[own_clips])
        report = training_step(network, optimizer, [batch], weighting, state, StepSettings(), reduction)
    cosine = report.gram.cosine if report.gram else 0.0
    told = [*report.weights, cosine, float(report.losses.behaviour), float(report.losses.motion)]
    return {**network.state_dict(), "told": torch.tensor(told)}


def process(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for name, (rule, norm, cut, boxes_per_clip) in CASES.items():
        own = slice(0, cut) if rank == 0 else slice(cut, None)
        # The second process starts from other weights, which the first one's replace.
        state = trained(rule, norm, own, boxes_per_clip, ProcessGroup(), seed=5 + rank)
        torch.save(state, Path(folder) / f"{name}.{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What each process of every case ended with; they are started once for all."""
    folder = tmp_path_factory.mktemp("processes")
    torch.multiprocessing.spawn(process, (str(folder),), nprocs=2)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_two_processes_take_the_steps_of_one(two_processes: Path, case: str) -> None:
    rule, norm, _, boxes_per_clip = CASES[case]
    one = trained(rule, norm, slice(None), boxes_per_clip, OneProcess(), seed=5)
    for rank in (0, 1):
        two = torch.load(two_processes / f"{case}.{rank}.pt", weights_only=True)
        assert two.keys() == one.keys()
        for name, value in one.items():
            torch.testing.assert_close(two[name], value, rtol=1e-5, atol=1e-5, msg=f"{name} of rank {rank}")
    torch.manual_seed(5)
    start = ActionNetwork("slowfast_small", NAMES).state_dict()
    moved = max(float((one[name] - start[name]).abs().max()) for name in start if "heads" in name)
    assert moved > 1e-3
