"""The simulated run against cases whose times can be derived by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from flows.planning.loads import DayLoad, VideoLoad
from flows.planning.simulation import (
    CHUNK_S,
    CHUNKS_AHEAD,
    CHUNKS_AT_ONCE,
    Means,
    Rates,
    Simulated,
    SimulatedRun,
    chunks_of,
)

NOTHING = Rates(**dict.fromkeys((field.name for field in dataclasses.fields(Rates)), 0.0))
ONE = Means(cpus=1, decode_workers=1, actors=1, camera_days_at_once=1)
STREAMED = "decode and infer"


def rates(**seconds: float) -> Rates:
    """Rates of which all others take no time."""
    return dataclasses.replace(NOTHING, **seconds)


def means(**numbers: int) -> Means:
    return dataclasses.replace(ONE, **numbers)


def day(*videos: int, after: int | None = None) -> DayLoad:
    """Videos of so many chunks, each one segment."""
    return DayLoad(tuple(VideoLoad(count * CHUNK_S, (count * CHUNK_S,)) for count in videos), after)


def simulated(*days: DayLoad, of: Rates, on: Means = ONE, files: int = 0) -> Simulated:
    return SimulatedRun(days, files, of, on).run()


def per_chunk(seconds: float) -> float:
    """Seconds for a second of video, where a chunk takes so many."""
    return seconds / CHUNK_S


def test_the_bounds_are_those_of_the_stream() -> None:
    import workers.pool
    import workers.stream

    assert (CHUNKS_AHEAD, CHUNKS_AT_ONCE) == (workers.stream.CHUNKS_AHEAD, workers.pool.CHUNKS_AT_ONCE)


@pytest.mark.parametrize(
    ("stage", "wall_s"),
    [
        ({"start_s": 5.0}, 5.0),
        ({"probe_s": 2.0}, 3 * 2.0),  # 5 files on 2 processors
        ({"plates_s": 3.0}, 3.0),
        ({"survey_s": per_chunk(1.0)}, 4.0),  # 4 chunks on one processor, 2 and 1 on the other
        ({"survey_start_s": 6.0}, 6.0),  # once on each processor
        ({"actors_s": 7.0}, 7.0),
        ({"decode_start_s": 2.0}, 3 * 2.0),  # 3 segments, one decode worker
        ({"decode_s": per_chunk(2.0)}, 7 * 2.0),
        ({"detect_s": per_chunk(2.0)}, 7 * 2.0),
        ({"infer_s": per_chunk(2.0)}, 7 * 2.0),
        ({"derive_s": 4.0}, 4.0),
    ],
)
def test_one_stage_alone_takes_its_own_time(stage: dict[str, float], wall_s: float) -> None:
    found = simulated(day(4, 2, 1), of=rates(**stage), on=means(cpus=2), files=5)
    assert found.wall_s == pytest.approx(wall_s)


def test_decode_bound_the_actor_adds_its_last_chunk_only() -> None:
    found = simulated(day(5), of=rates(decode_s=per_chunk(4.0), infer_s=per_chunk(1.0)))
    assert found.wall_s == pytest.approx(5 * 4.0 + 1.0)
    assert found.clock.busy_s == pytest.approx({"decode": 20.0, "infer": 5.0})


def test_actor_bound_decoding_adds_its_first_chunk_only() -> None:
    found = simulated(
        day(5), of=rates(decode_s=per_chunk(1.0), detect_s=per_chunk(1.0), infer_s=per_chunk(3.0))
    )
    assert found.wall_s == pytest.approx(1.0 + 5 * 4.0)


def test_two_decode_workers_halve_what_decoding_takes_where_there_are_processors() -> None:
    decoding = rates(decode_s=per_chunk(3.0))
    assert simulated(day(4, 4), of=decoding, on=means(cpus=2, decode_workers=2)).wall_s == pytest.approx(12.0)
    assert simulated(day(4, 4), of=decoding, on=means(cpus=1, decode_workers=2)).wall_s == pytest.approx(24.0)
    assert simulated(day(4, 4), of=decoding, on=means(cpus=2, decode_workers=1)).wall_s == pytest.approx(24.0)


def test_two_actors_share_the_chunks() -> None:
    found = simulated(day(8), of=rates(infer_s=per_chunk(3.0)), on=means(actors=2))
    assert found.wall_s == pytest.approx(4 * 3.0)


@pytest.mark.parametrize(("workers", "actors"), [(1, 1), (2, 1), (1, 2), (3, 2)])
def test_no_more_chunks_wait_than_the_bounds_let(workers: int, actors: int) -> None:
    slow_actor = rates(decode_s=per_chunk(0.001), infer_s=per_chunk(5.0))
    on = means(cpus=workers, decode_workers=workers, actors=actors)
    found = simulated(day(*[20] * workers), of=slow_actor, on=on)
    assert found.most_chunks == CHUNKS_AHEAD * workers + CHUNKS_AT_ONCE * actors


def test_a_decode_task_keeps_its_place_until_its_chunks_are_taken() -> None:
    # The first segment's four chunks are decoded at 4 s; by then the actor has two, and it takes 10 s for each. At
    # 21 s it has room for the last of them, and the second segment can begin.
    slow_actor = rates(decode_s=per_chunk(1.0), infer_s=per_chunk(10.0), decode_start_s=0.0)
    found = simulated(day(4, 1), of=slow_actor)
    assert found.wall_s == pytest.approx(1.0 + 5 * 10.0)
    assert found.most_chunks == 4


def test_camera_days_side_by_side_share_the_actor() -> None:
    both = rates(decode_s=per_chunk(4.0), infer_s=per_chunk(1.0))
    one_by_one = simulated(day(5), day(5), of=both, on=means(cpus=2))
    assert one_by_one.wall_s == pytest.approx(2 * 21.0)
    at_once = simulated(day(5), day(5), of=both, on=means(cpus=2, camera_days_at_once=2))
    assert at_once.wall_s == pytest.approx(5 * 4.0 + 2 * 1.0)
    assert at_once.clock.wall_s[STREAMED] == pytest.approx(22.0)


def test_a_day_is_derived_after_the_day_before_it_of_the_same_camera() -> None:
    deriving = rates(derive_s=10.0)
    side_by_side = means(cpus=2, camera_days_at_once=2)
    assert simulated(day(1), day(1), of=deriving, on=side_by_side).wall_s == pytest.approx(10.0)
    assert simulated(day(1), day(1, after=0), of=deriving, on=side_by_side).wall_s == pytest.approx(20.0)


def test_a_third_day_waits_until_one_is_scored() -> None:
    found = simulated(
        day(2), day(2), day(2), of=rates(decode_s=per_chunk(3.0)), on=means(cpus=3, camera_days_at_once=2)
    )
    assert found.wall_s == pytest.approx(2 * 6.0)


def test_what_goes_in_is_worked_on_once_and_the_same_each_time() -> None:
    given: Any = {"decode_s": 0.3, "detect_s": 0.1, "infer_s": 0.2, "survey_s": 0.01, "actors_s": 3.0}
    days = (day(7, 3), DayLoad((VideoLoad(90.0, (10.0, 21.5)), VideoLoad(60.0, ()))), day(2, after=0))
    present_s = 12 * CHUNK_S + 31.5
    on = means(cpus=3, decode_workers=2, actors=2, camera_days_at_once=2)
    first, second = (simulated(*days, of=rates(**given), on=on, files=6) for _ in range(2))
    assert first.wall_s == second.wall_s
    assert first.clock.busy_s == pytest.approx(
        {"decode": 0.3 * present_s, "detect": 0.1 * present_s, "infer": 0.2 * present_s}, abs=1e-3
    )
    for stage, workers in on.workers(3).items():
        assert first.clock.busy_s[stage] <= workers * first.clock.wall_s[STREAMED]


@pytest.mark.parametrize(("loading_s", "wall_s"), [(2.0, 5.0), (9.0, 9.0)])
def test_actors_load_beside_the_survey(loading_s: float, wall_s: float) -> None:
    found = simulated(day(1), of=rates(plates_s=5.0, actors_s=loading_s))
    assert found.wall_s == pytest.approx(wall_s)
    assert found.clock.wall_s["starting actors"] == pytest.approx(wall_s - 5.0)


def test_nothing_to_do_takes_the_start_only() -> None:
    assert simulated(of=rates(start_s=3.0, actors_s=9.0)).wall_s == pytest.approx(3.0)


def test_chunks_add_up_to_their_segment() -> None:
    assert chunks_of(2 * CHUNK_S) == pytest.approx([CHUNK_S, CHUNK_S])
    assert chunks_of(2.5 * CHUNK_S) == pytest.approx([CHUNK_S, CHUNK_S, 0.5 * CHUNK_S])
    assert chunks_of(1.0) == [1.0]
