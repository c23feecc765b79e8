from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flows.ablation.locks import held
from flows.errors import LockedError

HOLDER = """
import pathlib, sys, time
from flows.ablation.locks import held
with held(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_lock_has_one_holder_who_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cell.lock"
    with held(path):
        with (
            pytest.raises(LockedError, match=rf"cell.lock: held by process {os.getpid()} on \S+"),
            held(path),
        ):
            pass
        assert path.exists()
    assert not path.exists()
    with held(path):
        pass


def test_a_group_that_shares_a_folder_shares_its_locks(tmp_path: Path) -> None:
    old = os.umask(0o002)
    try:
        with held(tmp_path / "cell.lock"):
            assert stat.S_IMODE((tmp_path / "cell.lock").stat().st_mode) == 0o664
    finally:
        os.umask(old)


def test_a_lock_is_let_go_when_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), held(tmp_path / "lock"):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "cell.lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(LockedError, match=f"process {holder.pid} "), held(path):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert path.exists()
    with held(path):
        assert f"process {os.getpid()} " in path.read_text()


def test_a_file_that_its_holder_removes_while_one_waits_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, looks = tmp_path / "lock", []
    path_stat = Path.stat

    def stat(self: Path, **options: bool) -> os.stat_result:
        if self == path and not looks:
            looks.append(self)
            self.unlink()  # the last moment at which it can happen
        return path_stat(self, **options)

    monkeypatch.setattr(Path, "stat", stat)
    monkeypatch.setattr(Path, "exists", lambda self: True)  # what was seen a moment before counts for nothing
    with held(path, wait=True):
        assert looks == [path]
        assert path.read_text().startswith(f"process {os.getpid()} ")


def test_who_waits_gets_the_lock_that_is_there_and_not_the_one_that_was_removed(tmp_path: Path) -> None:
    path, entered = tmp_path / "lock", []

    def wait() -> None:
        with held(path, wait=True):
            entered.append(path.exists())
            with pytest.raises(LockedError), held(path):
                pass

    with held(path):
        waiters = [threading.Thread(target=wait) for _ in range(3)]
        for waiter in waiters:
            waiter.start()
        waiters[0].join(0.2)
        assert entered == []
    for waiter in waiters:
        waiter.join()
    assert entered == [True, True, True]
    assert not path.exists()
