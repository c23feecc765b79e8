"""A Ray cluster of two nodes on this machine, one of which is killed and replaced.

``python -m tests.chaos.nodes SEED PAUSE_S NOTES`` is the process that owns it, since Ray starts nodes from a main
thread only; it ends when its standard input does.
"""

from __future__ import annotations

import random
import select
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def failing_nodes(seed: int, pause_s: float, killed: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Yield a cluster's address; its worker node is killed about every ``pause_s``, each time a line of ``killed``.

    The environment is that of all its processes.
    """
    command = [sys.executable, "-m", "tests.chaos.nodes", str(seed), str(pause_s), str(killed)]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdin is not None
        assert owner.stdout is not None
        try:
            yield next(line.split()[1] for line in owner.stdout if line.startswith("address "))
        finally:
            owner.stdin.close()
            owner.wait()


def _own(seed: int, pause_s: float, killed: Path) -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    sys.stdout.write(f"address {cluster.address}\n")
    sys.stdout.flush()
    rng = random.Random(seed)
    while not select.select([sys.stdin], [], [], rng.uniform(0.5, 1.5) * pause_s)[0]:
        cluster.remove_node(node, allow_graceful=False)
        with killed.open("a") as file:
            file.write("killed\n")
        node = cluster.add_node(num_cpus=1)
    cluster.shutdown()


if __name__ == "__main__":
    _own(int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]))
