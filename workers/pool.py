"""Inference actors: how many chunks are with each, which of them get none for now, and one that is kept free."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import RayActorError

from workers.errors import DeadActorsError

CHUNKS_AT_ONCE = 3
"""Chunks that an actor works on side by side, so that their clips fill batches and frames are brought to the device
while it computes."""


class SharedActors:
    """Inference actors that several camera-days give chunks to, each from a thread and through a pool of its own."""

    def __init__(self, handles: Sequence[Any]) -> None:
        self.handles = handles
        self._lock = threading.Lock()
        self._load = [0] * len(handles)
        self._claims: dict[int, object] = {}

    def reserve(self, actors: Sequence[int], owner: object) -> int | None:
        """Count a chunk as with the first of these actors that others have not claimed; None where they have all."""
        with self._lock:
            actor = next((a for a in actors if self._claims.get(a, owner) is owner), None)
            if actor is not None:
                self._load[actor] += 1
            return actor

    def returned(self, actor: int, chunks: int = 1) -> None:
        """Count chunks as no longer with an actor."""
        with self._lock:
            self._load[actor] -= chunks

    def is_idle(self, actor: int) -> bool:
        """Whether no camera-day has a chunk with it."""
        with self._lock:
            return self._load[actor] == 0

    def claim(self, actor: int, owner: object) -> bool:
        """Have others give no further chunk to an actor; False where it is another's already."""
        with self._lock:
            return self._claims.setdefault(actor, owner) is owner

    def release(self, owner: object) -> None:
        """Let others use what was claimed."""
        with self._lock:
            self._claims = {actor: of for actor, of in self._claims.items() if of is not owner}

    def claimed_by_others(self, owner: object) -> set[int]:
        """Actors that get no chunk from this one for now."""
        with self._lock:
            return {actor for actor, of in self._claims.items() if of is not owner}


class ActorPool:
    """What one camera-day knows of the actors that it shares with others."""

    def __init__(self, actors: SharedActors) -> None:
        self._actors = actors
        self._load = [0] * len(actors.handles)
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
        return bool(self._with_room)

    def reserve(self) -> int | None:
        """The least loaded actor, for one chunk until :meth:`returned`; None where there is no room, of which another
        camera-day may have taken the last since :attr:`has_room` was asked."""
        return self._reserve(sorted(self._with_room, key=self._load.__getitem__))

    def submit(self, actor: int, *chunk: Any) -> Any:
        """Give a chunk to an actor that is reserved for it; returns the reference of its scores."""
        return self._actors.handles[actor].score.remote(*chunk)

    def returned(self, actor: int) -> None:
        """Count a chunk as no longer with an actor, or as never given to the one that was reserved for it."""
        self._load[actor] -= 1
        self._actors.returned(actor)

    def ask(self, actor: int) -> None:
        """Ask an actor where it is, which it answers once it runs; until then it gets no chunk."""
        if actor not in self._asked.values():
            self._asked[self._actors.handles[actor].node.remote()] = actor

    def take_answer(self, answer: Any) -> None:
        """Let an actor that was asked get chunks again.

        Raises:
            DeadActorsError: it died too often to be started again.
        """
        actor = self._asked.pop(answer)
        try:
            node = str(ray.get(answer))
        except RayActorError as error:
            raise DeadActorsError(
                "the actors that score keep dying; run again when the cluster is stable"
            ) from error
        if actor == self._kept_free:
            self._node = node

    @property
    def waits_for_others(self) -> bool:
        """Whether what another camera-day does next may make room, of which no reference tells."""
        kept = self._kept_free
        is_held_up = kept is not None and not self._load[kept] and not self._actors.is_idle(kept)
        return is_held_up or bool(self._actors.claimed_by_others(self))

    def free_one(self) -> tuple[int, str] | None:
        """An actor that runs, has no chunk of any camera-day and is reserved for one, with the id of its node; None
        where it is not so far.

        One is kept free from then on until :meth:`share_all`.
        """
        if self._kept_free is None:
            self._kept_free, self._node = self._claimed(), None
        actor, node = self._kept_free, self._node
        if actor is None or not self._actors.is_idle(actor) or actor in self._asked.values():
            return None
        if node is None:
            self.ask(actor)
            return None
        self._node = None
        self._reserve([actor])
        return actor, node

    def share_all(self) -> None:
        """Keep no actor free, once the one that was has no chunk."""
        if self._kept_free is not None and not self._load[self._kept_free]:
            self._kept_free = None
            self._actors.release(self)

    def close(self) -> None:
        """Be done, with chunks under way or not."""
        for actor, chunks in enumerate(self._load):
            self._actors.returned(actor, chunks)
        self._actors.release(self)

    def _reserve(self, actors: Sequence[int]) -> int | None:
        actor = self._actors.reserve(actors, self)
        if actor is not None:
            self._load[actor] += 1
        return actor

    def _claimed(self) -> int | None:
        by_load = sorted(self._shared, key=self._load.__getitem__)
        return next((actor for actor in by_load if self._actors.claim(actor, self)), None)

    @property
    def _with_room(self) -> list[int]:
        return [actor for actor in self._shared if self._load[actor] < CHUNKS_AT_ONCE]

    @property
    def _shared(self) -> list[int]:
        away = {self._kept_free, *self._asked.values(), *self._actors.claimed_by_others(self)}
        return [actor for actor in range(len(self._load)) if actor not in away]
