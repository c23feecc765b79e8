"""One writer at a time, on a local disk and on S3; time and processes are made up."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from storage.errors import LeaseHeldError, LeaseLostError
from storage.filesystem import LocalFilesystem, StoreFilesystem
from storage.layout import LEASE_JSON
from storage.lease import EXPIRES_S, Clock, Holder, Lease, check_lease, store_lease, take
from tests.s3_server import Fault, S3Server

START_S = 1_764_100_000.0


class World:
    """A clock that only tests move, and processes that they end."""

    def __init__(self) -> None:
        self.now_s = START_S
        self.gone: set[str] = set()
        self.hidden: set[str] = set()
        self.at_sleep: list[Callable[[], None]] = []

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.now_s, self._sleep, self._is_running)

    def _is_running(self, holder: Holder) -> bool | None:
        return None if holder.token in self.hidden else holder.token not in self.gone

    def _sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.at_sleep.pop(0)()


@pytest.fixture
def world() -> World:
    return World()


def holder_of(fs: StoreFilesystem) -> Holder:
    return Holder(**json.loads(fs.read_bytes(LEASE_JSON)))


def move_to_another_machine(fs: StoreFilesystem) -> Holder:
    """The holder as if it had another kernel, where its process cannot be looked up."""
    moved = dataclasses.replace(holder_of(fs), host="reserve-2", machine="another kernel", process=77)
    fs.write_atomic(LEASE_JSON, json.dumps(dataclasses.asdict(moved)).encode())
    return moved


def test_the_second_is_told_who_is_at_work_and_gets_in_after_the_first(
    fs: StoreFilesystem, world: World
) -> None:
    first = take(fs, clock=world.clock)
    move_to_another_machine(fs)
    with pytest.raises(LeaseHeldError) as error:
        take(fs, clock=world.clock)
    said = str(error.value)
    assert "process 77 on reserve-2 since 2025-11-25 19:46:40 UTC" in said
    assert fs.uri in said
    assert "--wait" in said
    assert "\n" not in said
    first.release()
    assert not fs.exists(LEASE_JSON)
    take(fs, clock=world.clock).release()


def test_who_waits_says_so_once_and_gets_in_as_soon_as_the_first_is_done(
    fs: StoreFilesystem, world: World
) -> None:
    first = take(fs, clock=world.clock)
    said: list[str] = []
    world.at_sleep = [lambda: None, first.release]
    second = take(fs, wait=True, say=said.append, clock=world.clock)
    assert len(said) == 1
    assert "waiting for process" in said[0]
    assert world.at_sleep == []
    second.check()


def test_a_killed_holder_on_this_machine_is_noticed_at_once(fs: StoreFilesystem, world: World) -> None:
    take(fs, clock=world.clock)
    world.now_s += 1000 * EXPIRES_S  # a process that lives is not gone, however long it slept
    with pytest.raises(LeaseHeldError):
        take(fs, clock=world.clock)
    world.gone.add(holder_of(fs).token)
    take(fs, clock=world.clock)


def test_a_holder_on_this_machine_whose_process_is_hidden_expires_as_one_on_another(
    fs: StoreFilesystem, world: World
) -> None:
    take(fs, clock=world.clock)
    world.hidden.add(holder_of(fs).token)
    world.now_s += EXPIRES_S - 1
    with pytest.raises(LeaseHeldError):
        take(fs, clock=world.clock)
    world.now_s += 2
    take(fs, clock=world.clock).check()


def test_a_holder_on_another_machine_expires_unless_it_gives_a_sign_of_life(
    fs: StoreFilesystem, world: World
) -> None:
    first = take(fs, clock=world.clock)
    world.now_s += EXPIRES_S - 1
    first.renew()
    move_to_another_machine(fs)
    world.now_s += EXPIRES_S - 1
    with pytest.raises(LeaseHeldError):
        take(fs, clock=world.clock)
    world.now_s += 2
    second = take(fs, clock=world.clock)
    second.check()


def test_who_was_taken_over_notices_and_leaves_the_other_alone(fs: StoreFilesystem, world: World) -> None:
    first = take(fs, clock=world.clock)
    move_to_another_machine(fs)
    world.now_s += EXPIRES_S + 1
    second = take(fs, clock=world.clock)
    first.check()
    first.renew()
    with pytest.raises(LeaseLostError, match="took this store over"):
        first.check()
    first.release()
    second.renew()
    second.check()
    with pytest.raises(LeaseHeldError):
        take(fs, clock=world.clock)


def test_who_was_taken_over_by_one_that_is_done_notices_and_takes_nothing_back(
    fs: StoreFilesystem, world: World
) -> None:
    first = take(fs, clock=world.clock)
    move_to_another_machine(fs)
    world.now_s += EXPIRES_S + 1
    take(fs, clock=world.clock).release()
    first.renew()
    with pytest.raises(LeaseLostError, match="another process, which is done by now, took this store over"):
        first.check()
    assert not fs.exists(LEASE_JSON)


def test_a_lease_that_was_lost_to_one_that_let_it_go_at_once_is_taken(
    local: LocalFilesystem, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_if, written = LocalFilesystem.write_if, []

    def first_time_let_go(fs: LocalFilesystem, path: str, data: bytes, version: str | None) -> bool:
        written.append(path)
        return len(written) > 1 and write_if(fs, path, data, version)

    monkeypatch.setattr(LocalFilesystem, "write_if", first_time_let_go)
    take(local, clock=world.clock).check()
    assert written == [LEASE_JSON, LEASE_JSON]


def test_a_sign_of_life_that_is_under_way_at_the_end_leaves_no_lease(
    local: LocalFilesystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    renew = Lease.renew

    def slow(lease: Lease, ended: threading.Event) -> None:
        ended.wait()
        renew(lease)

    monkeypatch.setattr(Lease, "renew_until", slow)
    with store_lease(local):
        pass
    assert not local.exists(LEASE_JSON)


def test_a_lease_that_nobody_can_read_is_nobodys(fs: StoreFilesystem, world: World) -> None:
    fs.write_atomic(LEASE_JSON, b"{")
    take(fs, clock=world.clock).check()


def test_of_many_who_come_at_once_one_gets_in(local: LocalFilesystem, world: World) -> None:
    def attempt(number: int) -> Lease | None:
        try:
            return take(local, clock=world.clock)
        except LeaseHeldError:
            return None

    with ThreadPoolExecutor(8) as pool:
        taken = [lease for lease in pool.map(attempt, range(8)) if lease is not None]
    assert len(taken) == 1


def test_a_lease_is_held_by_the_process_and_let_go_at_its_end(local: LocalFilesystem) -> None:
    with store_lease(local):
        with store_lease(local):
            check_lease(local)
        assert local.exists(LEASE_JSON)
    assert not local.exists(LEASE_JSON)
    check_lease(local)


def test_running_processes_are_told_from_ended_ones() -> None:
    code = "from storage.lease import *; from storage.lease import _this_process; import dataclasses, json"
    code += "; print(json.dumps(dataclasses.asdict(_this_process(Clock()))), flush=True); input()"
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    holder = Holder(**json.loads(child.stdout.readline()))
    assert holder.process == child.pid
    assert Clock().is_running(holder)
    assert not Clock().is_running(dataclasses.replace(holder, process_start=1)), "an id that is used again"
    child.kill()
    while Clock().is_running(holder):  # not yet dead: the signal is on its way
        pass
    assert child.returncode is None, "nobody asked for its status: a zombie"
    child.communicate()


@pytest.mark.parametrize(
    ("answer", "is_running"),
    [(ProcessLookupError(), False), (PermissionError(), None), (None, None)],
)
def test_a_process_that_is_not_shown_is_asked_whether_it_is_there(
    answer: OSError | None, is_running: bool | None, local: LocalFilesystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with ``hidepid``, where those of other accounts are in no list."""
    take(local)
    asked: list[tuple[int, int]] = []

    def kill(process: int, signal: int) -> None:
        asked.append((process, signal))
        if answer is not None:
            raise answer

    holder = dataclasses.replace(holder_of(local), process=2**30)
    monkeypatch.setattr("storage.lease.os.kill", kill)
    assert Clock().is_running(holder) is is_running
    assert asked == [(2**30, 0)]


@pytest.mark.s3
def test_an_answer_lost_on_the_way_makes_no_stranger_of_oneself(
    s3: StoreFilesystem, s3_server: S3Server, world: World, no_backoff: Any
) -> None:
    with s3_server.failing_first(Fault(lose=True), method="PUT", path="lease") as left:
        lease = take(s3, clock=world.clock)
    assert left == []
    with s3_server.failing_first(Fault(lose=True), method="PUT", path="lease"):
        lease.renew()
    lease.renew()
    lease.check()


@pytest.mark.s3
def test_a_store_without_conditional_writes_will_do(
    s3: StoreFilesystem, s3_server: S3Server, world: World
) -> None:
    with s3_server.failing_first(Fault(status=501), method="PUT", path="lease") as left:
        take(s3, clock=world.clock)
    assert left == []
    with pytest.raises(LeaseHeldError):
        take(s3, clock=world.clock)
