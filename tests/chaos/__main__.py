"""``make chaos``: kill a night's job in every way there is, many times, and compare what it leaves.

On a local disk and on S3 (a server on loopback) a small simulated archive is run while decode workers, inference
actors, tracking tasks, Ray's worker node and the driver are killed, and processes die at commits; what was killed is
started again until it is done. The rows must then be those of an undisturbed run, and readers that look all the time
must never have seen a part of a video.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.filesystem import open_filesystem
from tests.chaos.campaign import Job, Tally, campaign, compare, expected_rows, undisturbed
from tests.chaos.nodes import failing_nodes
from tests.chaos.reader import Readers
from tests.chaos.victims import NODE
from tests.s3_server import ENVIRONMENT, S3Server
from workers.simulate.archive import simulate_archive

SECONDS = 6.0
NODE_SHARE = 20
"""One kill in so many is of a worker node."""


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
    archive, notes = str(root / "reserve" / "archive"), root / "notes" / place
    reference = Job(archive, f"{uri}/undisturbed", notes / "undisturbed")
    whole_s = undisturbed(reference)
    mean_s = whole_s / 5
    tally = campaign(
        archive,
        reference.store,
        uri,
        notes,
        kills=kills - kills // NODE_SHARE,
        seed=seed,
        mean_s=mean_s,
    )
    _node_kills(archive, reference.store, uri, notes, kills // NODE_SHARE, seed, tally)
    say(f"{place}: {tally.kills.total()} kills in {tally.runs} runs ({tally.starts} starts of the job)")
    for kind, count in tally.kills.most_common():
        say(f"  {kind:<18}{count:>5}")
    say(f"  undisturbed run {whole_s:.1f} s")
    say(f"  objects published {tally.commits}, again after a kill {tally.published_again}")
    say(f"  processes left behind by a killed driver {tally.left_behind}")
    say(f"  rows missing {tally.missing}, too many {tally.extra}")
    say(f"  reads {tally.reads}, reader errors {len(tally.reader_errors)}")
    for error in tally.reader_errors[:5]:
        say(f"    {error}")
    return tally.missing + tally.extra + len(tally.reader_errors)


def _node_kills(
    archive: str, reference: str, uri: str, notes: Path, kills: int, seed: int, tally: Tally
) -> None:
    """Runs on a cluster whose worker node is killed and replaced, until that happened often enough."""
    killed, number = notes / "nodes-killed", 0
    killed.parent.mkdir(parents=True, exist_ok=True)
    killed.touch()
    while len(killed.read_text().splitlines()) < kills:
        job = Job(archive, f"{uri}/nodes-{number}", notes / f"nodes-{number}")
        expected = expected_rows(open_filesystem(reference))
        with (
            Readers(open_filesystem(job.store), expected) as readers,
            failing_nodes(seed + number, killed) as address,
        ):
            on_cluster = Job(job.archive, job.store, job.notes, address)
            undisturbed(on_cluster)
        undisturbed(Job(job.archive, job.store, job.notes))
        missing, extra = compare(open_filesystem(reference), open_filesystem(job.store))
        tally.missing += missing
        tally.extra += extra
        tally.reads += readers.reads
        tally.reader_errors += readers.errors
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
