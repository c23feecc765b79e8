from __future__ import annotations

import pytest

from flows.nightly.metrics import write_metrics
from flows.nightly.profile import profile_document, profile_run, profile_table
from flows.nightly.stages import StageClock, Work

WORKERS = {"decode": 2, "detect": 1, "infer": 1}


def clock(streamed_s: float, work: dict[str, Work], survey_s: float = 1.0) -> StageClock:
    """A clock that has counted this, without the time that it would take."""
    counted = StageClock()
    for stage, done in work.items():
        counted.add(stage, done)
    counted.add_span("survey", 0.0, survey_s)
    counted.add_span("decode and infer", 0.0, streamed_s)
    return counted


def test_decode_workers_that_never_wait_are_the_limit() -> None:
    work = {"decode": Work(19.6, 3000, 10_000_000), "detect": Work(1.1, 400), "infer": Work(2.0, 900)}
    profile = profile_run(clock(10.0, work), WORKERS, wall_s=20.0, video_s=200.0, device="cpu")
    assert profile.limiting_stage == "decode"
    assert profile.why == (
        "decode-bound: 2 decode workers at 98%, 1 inference actor at 31%; add decode workers (decode.workers) on more "
        "processors"
    )
    decode = profile.stages[0]
    assert decode.waiting_s == pytest.approx(2 * 10 - 19.6)
    assert decode.items_per_s == pytest.approx(3000 / 19.6, abs=0.01)
    assert decode.mb_per_s == pytest.approx(1.0)
    assert profile.realtime_factor == pytest.approx(10.0)
    assert profile.video_hours_per_day == pytest.approx(240.0)


def test_an_actor_is_busy_with_two_stages() -> None:
    work = {"decode": Work(4.0, 3000), "detect": Work(3.0, 400), "infer": Work(6.5, 900)}
    profile = profile_run(clock(10.0, work), WORKERS, wall_s=20.0, video_s=200.0, device="cuda")
    assert profile.limiting_stage == "infer"
    assert "1 inference actor at 95%; add another GPU (infer.actors)" in profile.why
    assert {stage.stage: stage.waiting_s for stage in profile.stages} == {
        "decode": 16.0,
        "detect": 0.5,
        "infer": 0.5,
    }


def test_a_run_that_mostly_prepares_says_so() -> None:
    work = {"decode": Work(2.0, 300), "detect": Work(0.5, 40), "infer": Work(1.0, 90)}
    long_survey = profile_run(clock(2.0, work, 9.0), WORKERS, wall_s=14.0, video_s=20.0, device="cpu")
    assert long_survey.why.startswith("survey-bound: it took 9 of 14 s")
    idle = profile_run(clock(10.0, work), WORKERS, wall_s=14.0, video_s=20.0, device="cpu")
    assert idle.why.startswith("bound by none of the stages")


def test_a_run_without_new_video_has_no_table() -> None:
    profile = profile_run(StageClock(), WORKERS, wall_s=3.0, video_s=0.0, device="")
    assert profile_document(profile)["stages"] == []
    assert (profile.limiting_stage, profile.why) == ("", "no frame was decoded")


def test_camera_days_side_by_side_count_once() -> None:
    counted = StageClock()
    for start_s, stop_s in [(0.0, 4.0), (1.0, 3.0), (3.5, 5.0), (7.0, 8.0)]:
        counted.add_span("derive", start_s, stop_s)
    counted.add_span("survey", 4.5, 6.0)
    assert counted.wall_s == {"derive": 6.0, "survey": 1.5}
    assert counted.summed_s["derive"] == pytest.approx(4 + 2 + 1.5 + 1)
    assert counted.covered_s == pytest.approx(6 + 1)


def test_the_peak_of_a_stage_is_that_of_its_largest_process() -> None:
    assert Work(1.0, 2, 3, 400) + Work(1.0, 2, 3, 100) == Work(2.0, 4, 6, 400)


def test_the_table_has_a_row_for_each_stage() -> None:
    decode = Work(19.6, 3000, 10_000_000, 812_000_000)
    work = {"decode": decode, "detect": Work(1.1, 400), "infer": Work(2.0, 900), "probe": Work(items=4)}
    profile = profile_run(clock(10.0, work), WORKERS, wall_s=20.0, video_s=200.0, device="cpu")
    head, decoded, _, _, phases, why, rate = profile_table(profile_document(profile))
    assert head.split() == [
        "stage",
        "workers",
        "busy",
        "s",
        "waiting",
        "s",
        "busy",
        "items",
        "items/s",
        "MB/s",
        "peak",
        "MB",
    ]
    assert decoded.split() == ["decode", "2", "19.6", "0.4", "98%", "3000", "frames", "153.1", "1.0", "812"]
    assert phases == "phases: survey 1.0 s, decode and infer 10.0 s"
    assert why == profile.why
    assert rate == "240 video-hours a day on this machine at this rate"


def test_metrics_are_what_prometheus_reads(tmp_path) -> None:
    work = {"decode": Work(19.6, 3000, 10_000_000)}
    profile = profile_run(clock(10.0, work), WORKERS, wall_s=20.0, video_s=200.0, device="cpu")
    summary = {
        **{
            "store": "/data/store",
            "wall_s": 20.0,
            "video_s": 200.0,
            "realtime_factor": 10.0,
            "frames_decoded": 3000,
        },
        **{"events": 7, "individuals": 2, "profile": profile_document(profile)},
        "videos": [{"status": "done"}, {"status": "done"}, {"status": "quarantined"}],
    }
    write_metrics(summary, tmp_path / "metrics" / "aviaflow.prom")
    lines = (tmp_path / "metrics" / "aviaflow.prom").read_text().splitlines()
    assert 'aviaflow_videos{status="done",store="/data/store"} 2.0' in lines
    assert 'aviaflow_stage_busy_seconds{stage="decode",store="/data/store"} 19.6' in lines
    assert 'aviaflow_phase_seconds{phase="survey",store="/data/store"} 1.0' in lines
    assert 'aviaflow_run_realtime_factor{store="/data/store"} 10.0' in lines
