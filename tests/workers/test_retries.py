"""What Ray lost is done again, and what was worked on answers only for processes that died of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from ray.exceptions import NodeDiedError, ObjectLostError, OutOfMemoryError, WorkerCrashedError

from workers import retries
from workers.errors import ProcessEndedError, UnstableClusterError
from workers.retries import MOST_LOSSES, Interruptions, Retried

NODE, PROCESS = NodeDiedError("its node is dead"), WorkerCrashedError()
LOST = ObjectLostError("ab" * 28, None, "")


def calls(outcomes: Sequence[Any]) -> tuple[Callable[[], Any], list[Any]]:
    """A task that comes to one of these after the other, and the list of those that it came to."""
    left, came_to = list(outcomes), list[Any]()

    def submit() -> Any:
        came_to.append(left.pop(0))
        return came_to[-1]

    return submit, came_to


@pytest.fixture(autouse=True)
def _without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def get(outcome: Any) -> Any:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(retries.ray, "get", get)


def test_nodes_that_die_are_not_counted_as_deaths_of_the_process() -> None:
    submit, came_to = calls([NODE, NODE, PROCESS, OutOfMemoryError("full"), LOST, "the result"])
    assert Retried("a.mp4", submit).result() == "the result"
    assert len(came_to) == 6


def test_a_process_that_dies_in_every_try_is_given_up_whatever_nodes_did_in_between() -> None:
    submit, came_to = calls([PROCESS, NODE, NODE, PROCESS, "never reached"])
    with pytest.raises(ProcessEndedError, match=r"a\.mp4: its process was ended in every try"):
        Retried("a.mp4", submit).result()
    assert len(came_to) == 4


def test_more_tries_for_work_that_reads_no_strange_file() -> None:
    submit, _ = calls([PROCESS, PROCESS, "the result"])
    assert Retried("a camera-day", submit, tries=3).result() == "the result"


def test_a_cluster_that_keeps_dying_ends_the_work_with_what_to_do() -> None:
    interruptions = Interruptions("a.mp4")
    for _ in range(MOST_LOSSES):
        interruptions.count(NODE)
    with pytest.raises(UnstableClusterError, match=r"a\.mp4: the nodes .* 11 times; run again when"):
        interruptions.count(LOST)


def test_what_a_task_raised_is_not_tried_again() -> None:
    submit, came_to = calls([ValueError("wrong"), "never reached"])
    with pytest.raises(ValueError, match="wrong"):
        Retried("a.mp4", submit).result()
    assert len(came_to) == 1
