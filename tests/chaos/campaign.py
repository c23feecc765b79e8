"""Runs of a job that are killed at seeded random moments, started again until they are done, and compared.

What is killed, and when, follows from the seed and from which processes are there at that time; the commits at which a
process dies follow from the seed alone.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from storage.filesystem import StoreFilesystem, open_filesystem
from tests.chaos.reader import Readers
from tests.chaos.victims import (
    AGENTS,
    COMMIT,
    DRIVER,
    ONCE_A_RUN,
    Process,
    descendants,
    kill,
    process,
    victims,
)

INJECT = Path(__file__).parent / "inject"
MOMENTS = ("before", "staged", "after")
POLL_S = 0.03
MOST_KILLS = 8
"""Of one run; more would keep it from ever ending."""
KILLED = -9
TOO_SLOW = "The current node timed out during startup"
"""Ray gives its own node half a minute to start, which a machine that is shared with others may not have."""
GONE_S = 30.0
"""Ray's processes end by themselves within this time after their driver."""
TABLES = ("detections", "tracks", "individuals", "effort", "events", "videos")


@dataclass(slots=True)
class Tally:
    """What a campaign came to."""

    kills: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    starts: int = 0
    """Of the job; more than runs where the driver was killed."""
    commits: int = 0
    published_again: int = 0
    """Commits of an object that had been published in the same run before."""
    missing: int = 0
    """Rows of the undisturbed run that a disturbed one lacks."""
    extra: int = 0
    """Rows that only a disturbed run has, doubled ones among them."""
    left_behind: int = 0
    """Processes of a killed job that were still there ``GONE_S`` later."""
    reads: int = 0
    reader_errors: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Job:
    """What is run: an archive into a store, with the folder in which its commits are counted."""

    archive: str
    store: str
    notes: Path
    is_stub: bool
    """Whether a stub takes the place of the engine, which keeps runs short."""
    address: str | None = None

    def start(self) -> subprocess.Popen[bytes]:
        """Start it in a process of its own."""
        self.notes.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "tests.chaos.job", self.archive, self.store]
        command += ["--address", self.address] if self.address else []
        command += ["--stub"] if self.is_stub else []
        with (self.notes / "said").open("wb") as log:
            return subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)

    @property
    def environment(self) -> dict[str, str]:
        """Of its processes."""
        path = os.pathsep.join(filter(None, [str(INJECT), os.environ.get("PYTHONPATH")]))
        stub = {"AVIAFLOW_CHAOS_STUB": "1"} if self.is_stub else {}
        ours = {"PYTHONPATH": path, "PYTHONFAULTHANDLER": "1", "AVIAFLOW_CHAOS": str(self.notes)}
        return {**os.environ, **ours, **stub}

    def plan_deaths(self, deaths: Mapping[int, str]) -> None:
        """Say at which commits, counted from 1, a process dies, and at which moment."""
        self.notes.mkdir(parents=True, exist_ok=True)
        (self.notes / "kills.json").write_text(json.dumps(deaths))

    def deaths(self) -> int:
        """How many processes died at a commit so far."""
        died = self.notes / "died"
        return len(died.read_text().splitlines()) if died.exists() else 0

    def commits(self) -> list[str]:
        """Objects that were about to be published, in order."""
        path = self.notes / "commits"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.split(maxsplit=1)[1].strip() for line in lines]


def undisturbed(job: Job) -> float:
    """Run a job to its end; returns the seconds that it took.

    Raises:
        RuntimeError: it failed.
    """
    job.plan_deaths({})
    started = time.perf_counter()
    _must_end(job, job.start())
    return time.perf_counter() - started


def disturbed(
    job: Job, rng: random.Random, most_kills: int, commits: int, tally: Tally, mean_s: float
) -> None:
    """Run a job that is killed up to ``most_kills`` times, started again until it is done.

    Args:
        job: what is run.
        rng: of all that is random.
        most_kills: at commits and at other moments together.
        commits: of an undisturbed run.
        tally: gets what happens.
        mean_s: mean pause between two kills.

    Raises:
        RuntimeError: it failed for another reason than being killed.
    """
    at_commits = rng.sample(range(1, commits + 1), k=min(2, most_kills))
    job.plan_deaths({number: rng.choice(MOMENTS) for number in at_commits})
    spared: set[str] = set()
    left = most_kills - len(at_commits)
    status = KILLED
    tally.runs += 1
    while status == KILLED or (status and _is_too_slow(job)):
        started = job.start()
        tally.starts += 1
        left = _harass(started, rng, left, spared, tally, mean_s)
        status = started.wait()
    if status:
        raise RuntimeError(f"{job.store}: the job ended with {status}:\n{_tail(job)}")
    tally.kills[COMMIT] += job.deaths()
    # A task that was killed twice has its video quarantined; the next night tries it again.
    _must_end(job, job.start())
    published = job.commits()
    tally.commits += len(published)
    tally.published_again += len(published) - len(set(published))


def _harass(
    running: subprocess.Popen[bytes],
    rng: random.Random,
    left: int,
    spared: set[str],
    tally: Tally,
    mean_s: float,
) -> int:
    """Kill processes of a running job until it ends; returns how many kills are left."""
    due_s = time.monotonic() + rng.expovariate(1 / mean_s)
    driver, below = process(running.pid), dict[Process, str]()
    while running.poll() is None:
        below |= descendants(running.pid)
        time.sleep(POLL_S)
        if left < 1 or time.monotonic() < due_s:
            continue
        there = {kind: who for kind, who in victims(running.pid).items() if kind not in spared}
        if not there:
            continue
        kind = rng.choice([*sorted(there), *([DRIVER] if rng.random() < 0.3 else [])])
        if kill(driver if kind == DRIVER else rng.choice(there[kind])):
            tally.kills[kind] += 1
            left -= 1
            if kind in ONCE_A_RUN:
                spared.add(kind)
        due_s = time.monotonic() + rng.expovariate(1 / mean_s)
    tally.left_behind += _end_leftovers(below)
    return left


def _end_leftovers(below: Mapping[Process, str]) -> int:
    """Wait for the processes of a job to end after it, and end those that do not; returns how many.

    Ray's agents take longer than that to notice that their node is gone; they hold nothing, and are not waited for.
    """
    agents = [one for one in below if one.command.startswith(AGENTS)]
    workers = below.keys() - set(agents)
    until_s = time.monotonic() + GONE_S
    while (left := [one for one in workers if one.is_there]) and time.monotonic() < until_s:
        time.sleep(POLL_S)
    for agent in agents:
        kill(agent)
    return sum(map(kill, left))


def _must_end(job: Job, running: subprocess.Popen[bytes]) -> None:
    while status := running.wait():
        if not _is_too_slow(job):
            raise RuntimeError(f"{job.store}: the job failed with {status}:\n{_tail(job)}")
        running = job.start()


def _is_too_slow(job: Job) -> bool:
    """Whether the job, which failed, never began."""
    return TOO_SLOW in _tail(job)


def _tail(job: Job) -> str:
    return (job.notes / "said").read_text(errors="replace")[-4000:]


def compare(reference: StoreFilesystem, store: StoreFilesystem) -> tuple[int, int]:
    """Rows of the reference that a store lacks, and rows that only the store has, over all tables."""
    missing = extra = 0
    for table in TABLES:
        one, other = (Counter(rows_of(fs, table)) for fs in (reference, store))
        missing += sum((one - other).values())
        extra += sum((other - one).values())
    return missing, extra


def rows_of(fs: StoreFilesystem, table: str) -> list[str]:
    """Every row of a table as a text; numbers to four digits, since processors round differently."""
    paths = [entry.path for entry in fs.list(table) if entry.path.endswith(".parquet")]
    opened = fs.arrow_filesystem()
    texts: list[str] = []
    for path in paths:
        with opened.open_input_file(fs.arrow_path(path)) as file:
            frame = pd.read_parquet(file)
        floats = frame.select_dtypes(np.floating).columns
        frame[floats] = frame[floats].astype(float).round(4) + 0.0
        texts += [f"{path} {row}" for row in frame.to_csv(index=False, header=False).splitlines()]
        texts += [] if len(frame) else [f"{path} has no rows"]
    return texts


def object_paths(fs: StoreFilesystem) -> list[str]:
    """All Parquet objects of a store."""
    return [entry.path for entry in fs.list("") if entry.path.endswith(".parquet")]


def expected_rows(fs: StoreFilesystem) -> dict[str, int]:
    """Detections of each video of a finished store."""
    counts: Counter[str] = Counter()
    for entry in fs.list("detections"):
        with fs.arrow_filesystem().open_input_file(fs.arrow_path(entry.path)) as file:
            counts.update(pd.read_parquet(file, columns=["video_id"])["video_id"].tolist())
    return dict(counts)


def campaign(
    reference: Job, stores: str, *, kills: int, rng: random.Random, mean_s: float, tally: Tally
) -> None:
    """Disturbed runs into fresh stores below ``stores`` until there were ``kills``, each compared with the reference.

    Args:
        reference: an undisturbed run that has ended.
        stores: folder or S3 prefix.
        kills: so many.
        rng: of all that is random.
        mean_s: mean pause between two kills.
        tally: gets what happens.
    """
    whole = open_filesystem(reference.store)
    commits, goal, number = len(object_paths(whole)), tally.kills.total() + kills, 0
    while tally.kills.total() < goal:
        job = beside(reference, stores, f"run-{number}")
        with compared(reference, job, tally):
            disturbed(job, rng, min(MOST_KILLS, goal - tally.kills.total()), commits, tally, mean_s)
        number += 1
        show(
            f"{stores}: {tally.kills.total()} of {goal} kills, rows {tally.missing} missing, {tally.extra} too many"
        )


def show(line: str) -> None:
    """A line on how far a campaign is, beside its report."""
    sys.stderr.write(line + "\n")


def beside(reference: Job, stores: str, name: str) -> Job:
    """The same job into another store."""
    return dataclasses.replace(reference, store=f"{stores}/{name}", notes=reference.notes.parent / name)


@contextmanager
def compared(reference: Job, job: Job, tally: Tally) -> Iterator[None]:
    """Let readers look at a job's store all the time, and compare it with the reference when all is done."""
    whole, store = open_filesystem(reference.store), open_filesystem(job.store)
    with Readers(store, expected_rows(whole)) as readers:
        yield
    missing, extra = compare(whole, store)
    tally.missing += missing
    tally.extra += extra
    tally.reads += readers.reads
    tally.reader_errors += readers.errors


def with_one_kill(job: Job, kind: str, rng: random.Random) -> float:
    """Run a job in which one process of a kind is killed; returns the seconds that it took, all in all.

    Raises:
        RuntimeError: it failed, or nothing of that kind was there to be killed.
    """
    job.plan_deaths({})
    started = time.perf_counter()
    running, is_killed = job.start(), False
    while running.poll() is None and not is_killed:
        time.sleep(POLL_S)
        there = victims(running.pid).get(kind, [])
        is_killed = bool(there) and kill(rng.choice(there))
    _must_end(job, running)
    if not is_killed:
        raise RuntimeError(f"{job.store}: there was no {kind}")
    return time.perf_counter() - started
