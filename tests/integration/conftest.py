"""A tiny simulated archive, one Ray cluster for all tests, and runs without Prefect."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flows.cluster import ray_cluster
from flows.nightly.context import open_context
from flows.nightly.night import Night
from flows.nightly.progress import Progress
from flows.nightly.summary import summarise
from flows.settings import Settings
from tests.s3_server import S3Server
from workers.simulate.archive import simulate_archive

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


@pytest.fixture(scope="session")
def cluster(s3_server: S3Server) -> Iterator[int]:
    """A local Ray cluster; the number of its processors. Its workers inherit the address of the S3 server."""
    with ray_cluster() as cpus:
        yield cpus


@pytest.fixture(scope="session")
def reserve(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One camera, two consecutive recordings of 12 s in which birds go on from one to the other."""
    root = tmp_path_factory.mktemp("reserve")
    simulate_archive(root, videos=2, seconds=12, seed=31, scene="marsh", workers=1)
    return root


@pytest.fixture(scope="session")
def run(cluster: int) -> Callable[[Path, Path, Settings], dict[str, Any]]:
    """What the nightly flow does, one camera-day after the other, without Prefect."""

    def run_night(archive: Path | str, store: Path | str, settings: Settings) -> dict[str, Any]:
        night = Night(open_context(str(archive), str(store), settings), False, Progress())
        outcomes = []
        if not night.lookup.nothing_to_do:
            with night.on_cluster(cluster):
                plans = night.plan()
                night.begin(plans)
                for plan in plans:
                    night.score_day(plan)
                    outcomes.append(night.derive_day(plan))
                outcomes += night.settle_following()
        return summarise(night, outcomes, 1.0)

    return run_night


@pytest.fixture(scope="session")
def first_run(
    tmp_path_factory: pytest.TempPathFactory,
    reserve: Path,
    run: Callable[[Path, Path, Settings], dict[str, Any]],
) -> tuple[Path, dict[str, Any]]:
    """A store and the summary of the run that made it."""
    store = tmp_path_factory.mktemp("store")
    return store, run(reserve / "archive", store, Settings())


@pytest.fixture(scope="session")
def rows() -> Callable[[Path, str], pd.DataFrame]:
    """All rows of a table in an order of their own."""
    return read_rows


def read_rows(store: Path, table: str) -> pd.DataFrame:
    """All rows of a table in an order of their own."""
    files = sorted((store / table).rglob("*.parquet"))
    frame = pd.concat([pd.read_parquet(file, partitioning=None) for file in files], ignore_index=True)
    return frame.sort_values(list(frame.columns.drop("embedding", errors="ignore"))).reset_index(drop=True)


@pytest.fixture(scope="session")
def same_results() -> Callable[[Path, Path], None]:
    """Fails where two stores differ in their results."""
    return assert_same_results


def assert_same_results(one: Path, other: Path) -> None:
    """Same detections (probabilities to 1e-4) and the same rows in what is derived from them."""
    a, b = read_rows(one, "detections"), read_rows(other, "detections")
    assert len(a) == len(b) > 0
    for name in a.columns.drop("embedding"):
        if a[name].dtype.kind == "f":
            np.testing.assert_allclose(a[name], b[name], atol=1e-4, err_msg=name)
        else:
            pd.testing.assert_series_equal(a[name], b[name])
    for table in ("tracks", "individuals", "events"):
        pd.testing.assert_frame_equal(read_rows(one, table), read_rows(other, table), atol=1e-4)


@pytest.fixture(scope="session")
def videos_of_others() -> Path:
    """The real videos, where they are present."""
    folder = SHARED / "videos"
    if not folder.is_dir():
        pytest.skip("the real videos of ../shared/data are not here")
    return folder
