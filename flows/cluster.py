"""Start or join a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from flows.errors import ClusterError
from workers.scratch import Scratch

OBJECT_STORE_BYTES = 2 * 2**30
"""Object store of a local cluster; the stream keeps far less than this in flight."""

CLEAR_S = 60.0
"""Longest wait for nodes to remove copies of videos."""


@contextmanager
def ray_cluster(address: str | None = None) -> Iterator[int]:
    """Yield the number of processors of a Ray cluster, and leave it afterwards.

    Args:
        address: of a running cluster (``auto``, ``host:6379``); None starts one on this machine. A cluster
            that this process has already joined is used and left alone.

    Raises:
        ClusterError: there is no cluster at that address.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "1")
    import ray

    if ray.is_initialized():
        yield _cpus()
        return
    try:
        if address is None:
            # A bare ray.init() would first look for another cluster, and trip over a stale address file.
            ray.init(
                "local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
                object_store_memory=OBJECT_STORE_BYTES,
            )
        else:
            ray.init(address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # Ray raises a bare one where its node does not start in time
        where = "on this machine" if address is None else f"at {address}"
        raise ClusterError(f"no Ray cluster {where}: {' '.join(str(error).split())}") from error
    try:
        yield _cpus()
    finally:
        ray.shutdown()


def _cpus() -> int:
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))


@dataclass(frozen=True, slots=True)
class Node:
    """What a machine of a cluster offers."""

    cpus: int
    gpus: int


def nodes() -> list[Node]:
    """The machines of the cluster that was joined."""
    import ray

    offers = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Node(int(offer.get("CPU", 0)), int(offer.get("GPU", 0))) for offer in offers]


def most_cpus_each(cluster: Sequence[Node], workers: int, *, gpu: bool = False) -> int:
    """The most processors that each of these workers can have, a worker being on one machine; 0 where they do not fit.

    Args:
        cluster: its machines.
        workers: how many.
        gpu: each takes a GPU besides.
    """

    def fitting(cpus: int) -> int:
        return sum(min(node.cpus // cpus, node.gpus if gpu else workers) for node in cluster)

    most = max((node.cpus for node in cluster), default=0)
    return next((cpus for cpus in range(most, 0, -1) if fitting(cpus) >= workers), 0)


def check_gpus(least: int, because: str, advice: str) -> None:
    """Raise ``ClusterError`` where the cluster has fewer GPUs: what asks for them would wait for ever."""
    gpus = sum(node.gpus for node in nodes())
    if gpus < least:
        raise ClusterError(
            f"{because}, but the Ray cluster has {gpus or 'no'} GPU; {advice}, or add a node with one"
        )


def clear_scratch_of_all_nodes(scratch: Scratch) -> None:
    """Remove, on every node of the cluster that was joined, the copies of videos that nobody reads.

    Where a node does not answer the next run does it.
    """
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from workers.actors import clear_scratch

    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    places = [NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes]
    with suppress(RayError):
        clearing = [clear_scratch.options(scheduling_strategy=place).remote(scratch) for place in places]
        ray.get(clearing, timeout=CLEAR_S)
