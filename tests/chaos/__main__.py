"""``make chaos``: kill a night's job in every way there is, many times, and compare what it leaves.

On a local disk and on S3 (a server on loopback) a small simulated archive is run while decode workers, inference
actors, tracking tasks, Ray's worker node and the driver are killed, and processes die at commits; what was killed is
started again until it is done. The rows must then be those of an undisturbed run, and readers that look all the time
must never have seen a part of a video.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.campaign import Job, Tally, beside, campaign, compared, undisturbed, with_one_kill
from tests.chaos.nodes import failing_nodes
from tests.chaos.victims import NODE
from tests.s3_server import ENVIRONMENT, S3Server
from workers.simulate.archive import simulate_archive

SECONDS = 6.0
NODE_SHARE = 20
"""One kill in so many is of a worker node."""
ENGINE_SHARE = 8
"""One kill in so many is in a run with the real engine; a stub keeps the others short."""
COSTLY = ("decode worker", "inference actor", "tracking task")
"""What is killed where the time that a kill costs is measured: once each, in a run of its own."""


def main() -> int:
    """Run the campaigns, print the report; 1 where a row or a reader went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="on both filesystems together")
    parser.add_argument("--videos", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--on", choices=("both", "local", "s3"), default="both")
    options = parser.parse_args()
    places = ("local", "s3") if options.on == "both" else (options.on,)
    with tempfile.TemporaryDirectory(prefix="aviaflow-chaos-") as folder:
        root = Path(folder)
        simulate_archive(root / "reserve", videos=options.videos, seconds=SECONDS, seed=61)
        failures = 0
        for place in places:
            with stores(place, root) as uri:
                failures += _one_place(place, uri, root, options.kills // len(places), options.seed)
    return 1 if failures else 0


@contextmanager
def stores(place: str, root: Path) -> Iterator[str]:
    """Where the stores of a campaign lie."""
    if place == "local":
        yield str(root / "stores")
        return
    with S3Server() as server:
        os.environ.update(ENVIRONMENT, AWS_ENDPOINT_URL=server.url)
        import fsspec

        fsspec.filesystem("s3").call_s3("create_bucket", Bucket="chaos")
        yield "s3://chaos/stores"


def _one_place(place: str, uri: str, root: Path, kills: int, seed: int) -> int:
    archive, rng, tally = str(root / "reserve" / "archive"), random.Random(seed), Tally()
    of_nodes, of_engine = kills // NODE_SHARE, kills // ENGINE_SHARE
    for engine, share in (("stub", kills - of_nodes - of_engine), ("real", of_engine)):
        stores, notes = f"{uri}/{engine}", root / "notes" / place / engine
        reference = Job(archive, f"{stores}/undisturbed", notes / "undisturbed", engine == "stub")
        whole_s = undisturbed(reference)
        before, runs = tally.kills.total(), tally.runs
        campaign(reference, stores, kills=share, rng=rng, mean_s=whole_s / 5, tally=tally)
        if engine == "stub":
            _node_kills(reference, stores, of_nodes, seed, whole_s / 3, tally)
        killed = f"{tally.kills.total() - before} kills in {tally.runs - runs} runs"
        say(f"{place}, {engine} engine: {killed}; undisturbed {whole_s:.1f} s")
    _report(place, tally)
    _cost(reference, stores, rng)
    return tally.missing + tally.extra + len(tally.reader_errors)


def _report(place: str, tally: Tally) -> None:
    say(f"{place}: {tally.kills.total()} kills in {tally.runs} runs ({tally.starts} starts of the job)")
    for kind, count in tally.kills.most_common():
        say(f"  {kind:<18}{count:>5}")
    say(f"  objects published {tally.commits}, again after a kill {tally.published_again}")
    say(f"  processes left behind by a killed driver {tally.left_behind}")
    say(f"  rows missing {tally.missing}, too many {tally.extra}")
    say(f"  reads {tally.reads}, reader errors {len(tally.reader_errors)}")
    for error in tally.reader_errors[:5]:
        say(f"    {error}")


def _cost(reference: Job, stores: str, rng: random.Random) -> None:
    """Measure runs with one kill against undisturbed ones before and after them."""
    plain_s = [undisturbed(beside(reference, stores, "before"))]
    killed_s = {kind: with_one_kill(beside(reference, stores, f"one {kind}"), kind, rng) for kind in COSTLY}
    plain_s.append(undisturbed(beside(reference, stores, "after")))
    mean_s = sum(plain_s) / len(plain_s)
    say(f"  undisturbed {' and '.join(f'{seconds:.1f}' for seconds in plain_s)} s; with one kill of a")
    for kind, seconds in killed_s.items():
        say(f"    {kind:<18}{seconds:>7.1f} s, {seconds / mean_s:.2f}x")
    say(f"  on average {sum(killed_s.values()) / len(killed_s) / mean_s:.2f}x")


def _node_kills(reference: Job, stores: str, kills: int, seed: int, pause_s: float, tally: Tally) -> None:
    """Runs on a cluster whose worker node is killed and replaced, until that happened often enough."""
    killed, number = reference.notes.parent / "nodes-killed", 0
    killed.touch()
    while len(killed.read_text().splitlines()) < kills:
        job = beside(reference, stores, f"nodes-{number}")
        with compared(reference, job, tally):
            with failing_nodes(seed + number, pause_s, killed, job.environment) as address:
                undisturbed(dataclasses.replace(job, address=address))
            undisturbed(job)
        tally.runs += 1
        tally.starts += 1
        number += 1
    tally.kills[NODE] += len(killed.read_text().splitlines())


def say(line: str) -> None:
    """A line of the report."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    started = time.monotonic()
    status = main()
    say(f"{'survived' if status == 0 else 'FAILED'} after {(time.monotonic() - started) / 60:.1f} min")
    sys.exit(status)
