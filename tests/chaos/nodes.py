"""A Ray cluster of two nodes on this machine, one of which is killed and replaced."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.chaos.victims import NODE

PAUSE_S = 20.0


@contextmanager
def failing_nodes(seed: int, kills: list[str]) -> Iterator[str]:
    """Yield the cluster's address; its worker node is killed at random moments, each noted in ``kills``."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    rng, ended = random.Random(seed), threading.Event()

    def keep_killing() -> None:
        nonlocal node
        while not ended.wait(rng.uniform(0.5, 1.5) * PAUSE_S):
            cluster.remove_node(node, allow_graceful=False)
            kills.append(NODE)
            node = cluster.add_node(num_cpus=1)

    killer = threading.Thread(target=keep_killing, daemon=True)
    killer.start()
    try:
        yield cluster.address
    finally:
        ended.set()
        killer.join()
        cluster.shutdown()
