from __future__ import annotations

import pytest

from flows.cluster import Node, most_cpus_each


@pytest.mark.parametrize(
    ("cluster", "workers", "most"),
    [
        ([Node(8, 0)], 1, 8),
        ([Node(8, 0)], 3, 2),
        ([Node(8, 0), Node(8, 0)], 1, 8),
        ([Node(8, 0), Node(8, 0)], 2, 8),
        ([Node(8, 0), Node(8, 0)], 3, 4),
        ([Node(16, 0), Node(4, 0)], 3, 5),
        ([Node(2, 0)], 3, 0),
        ([], 1, 0),
    ],
)
def test_a_worker_s_processors_are_of_one_machine(cluster: list[Node], workers: int, most: int) -> None:
    assert most_cpus_each(cluster, workers) == most


def test_workers_with_gpus_are_where_gpus_are() -> None:
    cluster = [Node(64, 0), Node(16, 2), Node(8, 1)]
    assert [most_cpus_each(cluster, workers, gpu=True) for workers in (1, 2, 3, 4)] == [16, 8, 8, 0]
