"""Truth of the benchmark's reserves, computed once."""

from dataclasses import dataclass

import pytest

from workers.simulate.archive import BENCHMARK_SECONDS, BENCHMARK_SEEDS, BENCHMARK_VIDEOS, site_name
from workers.simulate.reserve import Camera, plan_reserve
from workers.simulate.tables import Tables, reserve_truth


@dataclass(frozen=True)
class Benchmark:
    cameras: dict[int, tuple[Camera, ...]]
    tables: dict[int, Tables]

    def rows(self, name: str) -> list[tuple[object, ...]]:
        return [row for tables in self.tables.values() for row in tables.rows[name]]


@pytest.fixture(scope="session")
def benchmark_truth() -> Benchmark:
    cameras = {seed: plan_reserve(seed, BENCHMARK_VIDEOS, BENCHMARK_SECONDS) for seed in BENCHMARK_SEEDS}
    return Benchmark(cameras, {seed: reserve_truth(cameras[seed], site_name(seed)) for seed in cameras})
