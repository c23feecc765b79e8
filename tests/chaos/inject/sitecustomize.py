"""Python loads this in every process whose PYTHONPATH names its folder: it counts commits, and dies at chosen ones.

``AVIAFLOW_CHAOS`` names a folder. ``commits`` in it grows by a line for each object that a process is about to publish.
``kills.json`` says at which of them, counted over all processes, a process dies, and at which moment: ``before``
anything was written, ``staged`` (a local disk: written, not yet moved into place), or ``after`` it was published.
Where ``AVIAFLOW_CHAOS_STUB`` is set, a stub takes the place of the engine.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

LINE_BYTES = 128
CLASSES = {"storage.filesystem": "LocalFilesystem", "storage.remote": "RemoteFilesystem"}
ENGINE = "workers.infer"


def count(path: str) -> int:
    """Number of this commit among those of all processes, from 1."""
    line = f"{os.getpid()} {path}"[: LINE_BYTES - 1].ljust(LINE_BYTES - 1) + "\n"
    with (Path(os.environ["AVIAFLOW_CHAOS"]) / "commits").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(line)
        file.flush()
        return file.tell() // LINE_BYTES


def last_moment(number: int) -> str | None:
    """At which moment of this commit the process is to die."""
    kills = json.loads((Path(os.environ["AVIAFLOW_CHAOS"]) / "kills.json").read_text())
    return kills.get(str(number))


def die(number: int, moment: str) -> None:
    """End this process as kill -9 does."""
    with (Path(os.environ["AVIAFLOW_CHAOS"]) / "died").open("a") as file:
        file.write(f"{number} {moment} {os.getpid()}\n")
    os.kill(os.getpid(), signal.SIGKILL)


def watch(kind: type[Any]) -> None:
    """Let every ``write_atomic`` of a filesystem pass through the three moments."""
    publish, replace = kind.write_atomic, os.replace

    def write_atomic(self: Any, path: str, data: bytes) -> None:
        if not path.endswith(".parquet"):
            publish(self, path, data)
            return
        number = count(path)
        moment = last_moment(number)
        if moment == "before":
            die(number, moment)
        if moment == "staged":
            os.replace = lambda *_: die(number, "staged")
        try:
            publish(self, path, data)
        finally:
            os.replace = replace
        if moment == "after":
            die(number, moment)

    kind.write_atomic = write_atomic


def change(module: ModuleType) -> None:
    """What is done to a module that was just loaded."""
    if module.__name__ in CLASSES:
        watch(getattr(module, CLASSES[module.__name__]))
    elif "AVIAFLOW_CHAOS_STUB" in os.environ:
        from stub_engine import replace_engine

        replace_engine(module)


class _Watcher(MetaPathFinder, Loader):
    """Changes the modules that publish and the engine, once they are loaded."""

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in (*CLASSES, ENGINE):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                change(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if "AVIAFLOW_CHAOS" in os.environ:
    sys.meta_path.insert(0, _Watcher())
