"""The command line as a user and other tools meet it: Prefect and Ray included, in processes of its own.

A process costs seconds of imports, so what needs none of its own is called in this one.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from flows.cli import main
from storage.filesystem import open_filesystem
from storage.lease import take

START_S, RUN_S, END_S = 400.0, 500.0, 60.0
Here = Callable[..., subprocess.CompletedProcess[str]]


def aviaflow(*arguments: object, prefect_home: Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=RUN_S,
        env={**os.environ, "PREFECT_HOME": str(prefect_home)},
        check=False,
    )


@pytest.fixture
def aviaflow_here(capfd: pytest.CaptureFixture[str]) -> Here:
    """Run a command to its end in this process."""

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        given = [str(argument) for argument in arguments]
        capfd.readouterr()
        try:
            status = main(given)
        except SystemExit as end:
            status = int(str(end.code))
        return subprocess.CompletedProcess(given, status, *capfd.readouterr())

    return call


def servers_of_session(leader: int) -> list[Path]:
    """Prefect's servers that run in a session, as folders of /proc."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            _state, _parent, _group, session, *_ = stat.read_text().rpartition(")")[2].split()
            if int(session) == leader and b"prefect.server" in (stat.parent / "cmdline").read_bytes():
                found.append(stat.parent)
    return found


def end_session(leader: int) -> None:
    """End what a killed run left: Ray's processes take their time."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def test_a_run_killed_in_the_middle_is_finished_by_the_same_command(
    reserve: Path,
    first_run: tuple[Path, dict[str, Any]],
    same_results: Callable[[Path, Path], None],
    tmp_path: Path,
) -> None:
    archive, store = reserve / "archive", tmp_path / "store"
    command = [sys.executable, "-m", "flows.cli", "run", str(archive), "--out", str(store)]
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path / "prefect")}
    run = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, start_new_session=True
    )
    try:
        deadline = time.monotonic() + START_S
        while not list(store.glob("detections/**/*.parquet")):
            assert run.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline, "the run stored nothing"
            time.sleep(0.02)
        assert servers_of_session(run.pid)
        run.kill()
        run.wait()
        deadline = time.monotonic() + END_S
        while servers_of_session(run.pid):
            assert time.monotonic() < deadline, "Prefect's server outlives the run"
            time.sleep(0.1)
    finally:
        run.kill()
        run.wait()
        end_session(run.pid)
    assert not list(store.glob("events/**/*.parquet"))

    again = aviaflow("run", archive, "--out", store, "--json", prefect_home=tmp_path / "prefect")
    assert again.returncode == 0, again.stderr
    summary = json.loads(again.stdout)
    assert {video["status"] for video in summary["videos"]} == {"done"}
    assert summary["frames_decoded"] < first_run[1]["frames_decoded"]
    same_results(first_run[0], store)


def test_a_scheduled_run_starts_by_itself_and_is_seen_through_prefects_api(
    reserve: Path,
    first_run: tuple[Path, dict[str, Any]],
    same_results: Callable[[Path, Path], None],
    tmp_path: Path,
) -> None:
    store, said = tmp_path / "store", tmp_path / "stderr.txt"
    shutil.copytree(first_run[0], store)
    shutil.rmtree(store / "events")  # the night has only these to make again
    command = [sys.executable, "-m", "flows.cli", "schedule", str(reserve / "archive"), "--out", str(store)]
    with said.open("w") as stderr:
        serving = subprocess.Popen(
            [*command, "--cron", "* * * * *", "--timezone", "UTC"],
            stdout=stderr,
            stderr=stderr,
            env={
                **os.environ,
                "PREFECT_HOME": str(tmp_path / "prefect"),
                "PREFECT_RUNNER_POLL_FREQUENCY": "1",
            },
            cwd=tmp_path,
        )
    try:
        api, run = wait_for_first_run(serving, said)
    finally:
        serving.terminate()  # where tests run in the background SIGINT is ignored
        status = serving.wait(END_S)
    assert status == 0, said.read_text()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{api}/health")
    assert run["state_type"] == "COMPLETED"
    assert run["auto_scheduled"]
    assert run["name"] == f"nightly-{reserve / 'archive'}"
    same_results(first_run[0], store)


def wait_for_first_run(serving: subprocess.Popen[bytes], said: Path) -> tuple[str, dict[str, Any]]:
    """The API that the schedule names on stderr, and the first flow run that has ended, as it shows it."""
    deadline = time.monotonic() + RUN_S
    ended = {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED"]}}}
    while time.monotonic() < deadline:
        assert serving.poll() is None, said.read_text()
        if api := re.search(r"Prefect API (\S+)", said.read_text()):
            # A busy server answers late, or that its database is locked.
            with contextlib.suppress(httpx.TransportError):
                answer = httpx.post(f"{api[1]}/flow_runs/filter", json={"flow_runs": ended}, timeout=30.0)
                if answer.is_success and answer.json():
                    first: dict[str, Any] = answer.json()[0]
                    return api[1], first
        time.sleep(1.0)
    raise AssertionError(f"no run ended within {RUN_S:.0f} s; it said: {said.read_text()}")


def test_a_run_with_nothing_to_do_starts_neither_prefect_nor_ray(
    reserve: Path, first_run: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    done = aviaflow("run", reserve / "archive", "--out", first_run[0], prefect_home=tmp_path / "prefect")
    assert done.returncode == 0, done.stderr
    assert "nothing to do" in done.stdout
    assert "no frame decoded" in done.stdout
    assert not (tmp_path / "prefect").exists()


def test_a_dry_run_says_what_would_be_done_and_stores_no_rows(
    cluster: int, reserve: Path, aviaflow_here: Here, tmp_path: Path
) -> None:
    planned = aviaflow_here("run", reserve / "archive", "--out", tmp_path / "s", "--dry-run", "--json")
    assert planned.returncode == 0, planned.stderr
    plan = json.loads(planned.stdout)
    assert (plan["to_score"], plan["done"]) == (2, 0)
    assert plan["video_s"] == pytest.approx(24.0, abs=0.1)
    assert plan["estimate_s"] > 0
    assert not list((tmp_path / "s").rglob("*.parquet"))


def test_a_question_in_sql_is_answered_as_a_table_and_as_json(
    first_run: tuple[Path, dict[str, Any]], aviaflow_here: Here, tmp_path: Path
) -> None:
    store, summary = first_run
    sql = "SELECT count(*) AS n FROM individuals"
    table = aviaflow("query", store, sql, prefect_home=tmp_path)
    assert table.stdout.split() == ["n", str(summary["individuals"])]
    rows = json.loads(aviaflow_here("query", store, sql, "--json").stdout)
    assert rows == [{"n": summary["individuals"]}]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "no-such-folder", "--out", "store"), "no-such-folder"),
        (("run", ".", "--out", "store", "--config", "missing.yaml"), "missing.yaml"),
        (("query", "no-store-here", "SELECT 1"), "no-store-here"),
        (("events", "no-store-here"), "no-store-here"),
        (("simulate", "d", "--videos", "0"), "must be at least 1, got 0"),
        (("run", ".", "--out", "store", "--metrics", "no/such/x.prom"), "--metrics no/such/x.prom: no file"),
        (("run", ".", "--out", "store", "--metrics", "."), "--metrics .: no file can be written there"),
        (
            ("schedule", ".", "--out", "s", "--cron", "1 1 * * *", "--timezone", "Shanghai"),
            "no IANA time zone",
        ),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(
    arguments: tuple[str, ...],
    said: str,
    aviaflow_here: Here,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "no-store-here").mkdir()
    (tmp_path / "no-store-here" / "something.txt").write_text("not a store")
    monkeypatch.chdir(tmp_path)
    assert_one_clear_line(aviaflow_here(*arguments), said)


def test_a_run_that_cannot_write_says_so_before_it_starts_anything(
    reserve: Path, aviaflow_here: Here, tmp_path: Path
) -> None:
    failed = aviaflow_here("run", reserve / "archive", "--out", "/sys/kernel/store")
    assert_one_clear_line(failed, "could not be written: ")
    (tmp_path / "file").write_text("no folder")
    assert_one_clear_line(
        aviaflow_here("run", reserve / "archive", "--out", tmp_path / "file"), "Not a directory"
    )


def test_the_second_of_two_runs_says_who_is_at_work_and_leaves(
    reserve: Path, first_run: tuple[Path, dict[str, Any]], aviaflow_here: Here, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    shutil.copytree(first_run[0], store)
    shutil.rmtree(store / "events")
    lease = take(open_filesystem(store))
    try:
        for command in (("run", reserve / "archive", "--out", store), ("events", store), ("upgrade", store)):
            assert_one_clear_line(
                aviaflow_here(*command), f"at work on this store: process {os.getpid()} on "
            )
        asked = aviaflow_here("query", store, "SELECT count(*) AS n FROM detections", "--json")
        assert asked.returncode == 0, "readers take no lease"
    finally:
        lease.release()
    assert aviaflow_here("events", store, "--wait").returncode == 0
    assert aviaflow_here("upgrade", store).stdout == "nothing to do\n"
    assert not (store / "lease.json").exists()


def test_nothing_else_is_said_by_a_process_of_its_own(tmp_path: Path) -> None:
    missing = tmp_path / "no-such-folder"
    failed = aviaflow("run", missing, "--out", tmp_path / "store", prefect_home=tmp_path)
    assert_one_clear_line(failed, "no-such-folder")


def assert_one_clear_line(failed: subprocess.CompletedProcess[str], said: str) -> None:
    assert failed.returncode == 1
    assert failed.stdout == ""
    lines = failed.stderr.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("aviaflow: ")
    assert said in lines[0]
