from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from flows.errors import PlanError
from flows.planning.loads import even_days
from flows.planning.rates import Hardware, last_measured, means_for, measured, rates_for
from flows.planning.simulation import Means, SimulatedRun
from storage.filesystem import open_filesystem
from storage.runs import write_run
from tests.flows.planning.records import record

LIKE_THE_PROFILE = Hardware(cpus=4, gpus=0)


def test_rates_are_seconds_for_what_each_stage_works_on() -> None:
    run = measured(record())
    rates = run.rates
    assert rates.start_s == pytest.approx(9 + 3)
    assert rates.probe_s == pytest.approx((7 - 3) * 4 / 8)
    assert rates.plates_s == pytest.approx(5 / 2)
    assert rates.survey_s == pytest.approx(16 / 800)
    assert rates.actors_s == pytest.approx(33 / 2 + 11)
    assert (rates.decode_s, rates.detect_s, rates.infer_s) == pytest.approx((200 / 400, 100 / 400, 300 / 400))
    assert rates.derive_s == pytest.approx(6)
    assert run.frames_per_s == pytest.approx(30)
    assert run.individuals_per_s == pytest.approx(10)
    assert run.decoded_bytes_per_s == pytest.approx(4e6 * 500 / 400)
    assert (run.presence.share, run.presence.span_s) == (0.5, 50.0)
    cut = measured(record(segments=10, cuts=2, segment_s=None))
    assert (cut.presence.span_s, cut.presence.segment_s) == (50.0, None)


def test_starts_make_the_simulated_profile_take_as_long_as_it_did() -> None:
    run = measured(record())
    # A camera-day's four surveys of 2 s run side by side on four processors. Of the second day one waits until the
    # first day is derived, 6 s after the second's plates of 2.5 s were begun.
    assert run.rates.survey_start_s == pytest.approx((33 - 2 * 2.5 - 2 * 2 - (6 - 2.5)) / 2, abs=0.01)
    assert run.rates.decode_start_s > 0
    days = even_days(2, 8, 800.0, run.presence, workers=2)
    again = SimulatedRun(days, 8, run.rates, Means(4, 2, 1, 1)).run()
    assert again.clock.wall_s["decode and infer"] == pytest.approx(500, rel=0.001)


def test_no_start_is_below_zero() -> None:
    quick = record(survey_busy_s=800.0)
    quick["scale"]["phase_sums_s"] = {**quick["scale"]["phase_sums_s"], "decode and infer": 1.0}
    rates = measured(quick).rates
    assert (rates.survey_start_s, rates.decode_start_s) == (0.0, 0.0)


def test_an_actor_with_fewer_threads_is_slower_and_one_with_more_no_faster() -> None:
    run = measured(record())
    for cpus, actors, slower, word in (
        (4, 1, 1, "as in"),
        (4, 2, 2, "slower in proportion"),
        (16, 1, 1, "no faster"),
    ):
        rates, (assumption,) = rates_for(Hardware(cpus, 0), actors, run)
        assert rates.infer_s == pytest.approx(slower * run.rates.infer_s)
        assert rates.decode_s == run.rates.decode_s
        assert word in assumption


def test_a_processor_says_nothing_of_a_gpu_unless_its_rate_is_given() -> None:
    run = measured(record())
    with pytest.raises(PlanError, match=r"measured on cpu.*--clips-per-s"):
        rates_for(Hardware(16, 2), 2, run)
    rates, assumptions = rates_for(Hardware(16, 2, clips_per_s=750.0), 2, run)
    assert (rates.detect_s, rates.infer_s) == (0.0, pytest.approx(3.75 / 750))
    assert "as given" in assumptions[0]
    assert "compiling" in assumptions[1]
    with pytest.raises(PlanError, match="measured on cuda"):
        rates_for(LIKE_THE_PROFILE, 1, measured(record("cuda")))
    assert rates_for(Hardware(16, 2), 2, measured(record("cuda")))[0].infer_s == run.rates.infer_s


def test_workers_are_those_that_a_run_would_start() -> None:
    run = measured(record())
    assert means_for(Hardware(16, 2), run) == Means(16, 8, 2, 1)
    assert means_for(Hardware(1, 0), run) == Means(1, 1, 1, 1)
    assert means_for(Hardware(16, 0, actors=4, decode_workers=3), run) == Means(16, 3, 4, 1)
    with pytest.raises(PlanError, match="3 actors on 2 GPUs"):
        means_for(Hardware(16, 2, actors=3), run)


def test_the_last_run_that_scored_a_video_counts(tmp_path: Path) -> None:
    fs = open_filesystem(str(tmp_path))
    with pytest.raises(PlanError, match="no run of this store scored a video"):
        last_measured(fs)
    write_run(fs, dt.datetime(2026, 3, 1, tzinfo=dt.UTC), {"video_s": 5.0})
    with pytest.raises(PlanError, match="an earlier Aviaflow"):
        last_measured(fs)
    write_run(fs, dt.datetime(2026, 3, 2, tzinfo=dt.UTC), record())
    write_run(fs, dt.datetime(2026, 3, 3, tzinfo=dt.UTC), {"video_s": 0.0})
    assert last_measured(fs).scale.videos == 8


def test_an_empty_profile_is_refused() -> None:
    with pytest.raises(PlanError, match="found nothing in its videos"):
        measured(record(present_s=0.0))
