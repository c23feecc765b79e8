"""Inference actors: how many chunks are with each, which of them get none for now, and one that is kept free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import RayActorError

from workers.actors import CHUNKS_AT_ONCE
from workers.errors import UnstableClusterError


class ActorPool:
    """What one camera-day knows of the actors that it shares with others."""

    def __init__(self, actors: Sequence[Any]) -> None:
        self._actors = actors
        self._load = [0] * len(actors)
        self._asked: dict[Any, int] = {}
        """Actors that are being asked where they are, by the reference of the answer."""
        self._kept_free: int | None = None
        self._node: str | None = None
        """Of the one that is kept free; None where it is to be asked."""

    @property
    def answers(self) -> list[Any]:
        """References to wait for; each that is there is to be taken by :meth:`take_answer`."""
        return list(self._asked)

    @property
    def has_room(self) -> bool:
        """Whether an actor takes one more chunk beside others."""
        return any(self._load[actor] < CHUNKS_AT_ONCE for actor in self._shared)

    def least_loaded(self) -> int:
        """The actor that gets the next chunk, where there is room."""
        return min(self._shared, key=self._load.__getitem__)

    def submit(self, actor: int, *chunk: Any) -> Any:
        """Give an actor a chunk; returns the reference of its scores, after which :meth:`returned` is to be called."""
        self._load[actor] += 1
        return self._actors[actor].score.remote(*chunk)

    def returned(self, actor: int) -> None:
        """Count a chunk as no longer with an actor."""
        self._load[actor] -= 1

    def ask(self, actor: int) -> None:
        """Ask an actor where it is, which it answers once it runs; until then it gets no chunk."""
        if actor not in self._asked.values():
            self._asked[self._actors[actor].node.remote()] = actor

    def take_answer(self, answer: Any) -> None:
        """Let an actor that was asked get chunks again.

        Raises:
            UnstableClusterError: it died too often to be started again.
        """
        actor = self._asked.pop(answer)
        try:
            node = str(ray.get(answer))
        except RayActorError as error:
            raise UnstableClusterError(
                "the actors that score keep dying; run again when the cluster is stable"
            ) from error
        if actor == self._kept_free:
            self._node = node

    def free_one(self) -> tuple[int, str] | None:
        """An actor that has no chunk and runs, with the id of its node; None where it is not so far.

        One is kept free from then on until :meth:`share_all`.
        """
        if self._kept_free is None:
            self._kept_free = min(self._shared, key=self._load.__getitem__, default=None)
            self._node = None
        actor, node = self._kept_free, self._node
        if actor is None or self._load[actor] or actor in self._asked.values():
            return None
        if node is None:
            self.ask(actor)
            return None
        self._node = None
        return actor, node

    def share_all(self) -> None:
        """Keep no actor free, once the one that was has no chunk."""
        if self._kept_free is not None and not self._load[self._kept_free]:
            self._kept_free = None

    @property
    def _shared(self) -> list[int]:
        away = {self._kept_free, *self._asked.values()}
        return [actor for actor in range(len(self._actors)) if actor not in away]
