"""Work that Ray lost: done again, and laid to what was worked on only where a process died of it.

Ray counts the death of a process and that of its node alike. Its tasks here therefore have no retries of their own
(``max_retries=0``): they are submitted again by what this module counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import NodeDiedError, ObjectLostError, OutOfMemoryError, WorkerCrashedError

from workers.errors import ProcessEndedError, UnstableClusterError

LOST = (NodeDiedError, ObjectLostError, OutOfMemoryError)
"""A node died or had no memory left, or took a result with it: nobody's fault."""
INTERRUPTED = (WorkerCrashedError, *LOST)
PROCESS_TRIES = 2
"""Of a piece of work whose process was ended."""
MOST_LOSSES = 10
"""Nodes that one piece of work may lose; more, and the cluster is to be looked at."""


def is_alive(node: str) -> bool:
    """Whether a node of the cluster, by its id, is still there."""
    return any(one["NodeID"] == node and one["Alive"] for one in ray.nodes())


class Interruptions:
    """How often one piece of work was interrupted, and by whose fault."""

    def __init__(self, what: str, tries: int = PROCESS_TRIES) -> None:
        self._what = what
        self._tries_left = tries
        self._losses_left = MOST_LOSSES
        self.ended_a_process = False
        """Whether a process was ended in one of the tries, by what it worked on or by what it worked with."""

    def count(self, error: Exception) -> None:
        """Return where the work is to be tried again.

        Raises:
            ProcessEndedError: its process was ended in every try.
            UnstableClusterError: node after node was lost.
        """
        if isinstance(error, LOST):
            self.count_loss(error)
            return
        self.ended_a_process = True
        self._tries_left -= 1
        if self._tries_left == 0:
            raise ProcessEndedError(f"{self._what}: its process was ended in every try") from error

    def count_loss(self, error: Exception) -> None:
        """Count an interruption that was nobody's fault.

        Raises:
            UnstableClusterError: node after node was lost.
        """
        self._losses_left -= 1
        if self._losses_left < 0:
            raise UnstableClusterError(
                f"{self._what}: the nodes that worked on it died or ran out of memory {MOST_LOSSES + 1} times; "
                "run again when the cluster is stable"
            ) from error


class Retried:
    """A task under way, submitted again where it was interrupted."""

    def __init__(self, what: str, submit: Callable[[], Any], tries: int = PROCESS_TRIES) -> None:
        self._submit = submit
        self._interruptions = Interruptions(what, tries)
        self._reference = submit()

    def result(self) -> Any:
        """Wait for its result.

        Raises:
            ProcessEndedError: its process was ended in every try.
            UnstableClusterError: node after node was lost.
            RayTaskError: what the task raised.
        """
        while True:
            try:
                return ray.get(self._reference)
            except INTERRUPTED as error:
                self._interruptions.count(error)
                self._reference = self._submit()
