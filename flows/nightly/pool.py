"""The inference actors of a run, which its camera-days share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from flows.nightly.context import RunContext
from flows.nightly.stages import StageClock
from flows.quiet import notice
from workers.errors import DeadActorsError

if TYPE_CHECKING:
    from workers.actors import StartedActors


class RunActors:
    """Started once, and again where they died too often; may be used from several threads."""

    def __init__(self, context: RunContext, clock: StageClock) -> None:
        self._context, self._clock = context, clock
        self._lock = threading.Lock()
        self._started: StartedActors | None = None
        self._awaited: StartedActors | None = None
        """Those of which it is known that they have their weights."""
        self.device = ""
        """``cpu`` or ``cuda``; empty before they are started."""

    def start(self, cpus: int) -> StartedActors:
        """The actors, begun to be started if there are none: they load their weights meanwhile."""
        from workers.actors import GPU_SHARE_BESIDE_NVDEC, start_inference_actors

        settings = self._context.settings
        with self._lock:
            if self._started is None:
                spec = self._context.scorer_spec(cpus)
                self.device = spec.device
                share = GPU_SHARE_BESIDE_NVDEC if settings.decode.nvdec_share else 1.0
                self._started = start_inference_actors(spec, settings.infer.actors, share)
            return self._started

    def ready(self, cpus: int) -> StartedActors:
        """The actors, once they have their weights; which engine they run is said once."""
        from workers.actors import wait_for_actors

        actors = self.start(cpus)
        if self._awaited is not actors:
            with self._clock.wall("starting actors"):
                engines = wait_for_actors(actors.handles)
            with self._lock:
                if self._awaited is not actors:
                    notice("; ".join(engines))
                self._awaited = actors
        return actors

    @contextmanager
    def given_up_if_dead(self, actors: StartedActors) -> Iterator[None]:
        """Let the next camera-day start actors of its own where these died too often."""
        try:
            yield
        except DeadActorsError:
            with self._lock:
                if self._started is actors:
                    self._let_go()
            raise

    def clear(self) -> None:
        """Let them go."""
        with self._lock:
            self._let_go()

    def _let_go(self) -> None:
        if self._started is not None:
            self._started.give_back()
        self._started = self._awaited = None
