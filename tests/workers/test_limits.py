"""What a process may use, each limit tried in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_address_space_is_limited() -> None:
    code = (
        "from workers.limits import limit_address_space\n"
        "limit_address_space(64 << 20)\n"
        "small = bytearray(16 << 20)\n"
        "try:\n    bytearray(256 << 20)\n"
        "except MemoryError:\n    print('refused')\n"
    )
    assert run(code).stdout.strip() == "refused"


def test_open_files_are_limited() -> None:
    code = (
        "from workers.limits import limit_open_files\n"
        "limit_open_files(5)\n"
        "opened = []\n"
        "try:\n    while True:\n        opened.append(open('/dev/null'))\n"
        "except OSError as error:\n    print(len(opened), error.strerror)\n"
    )
    assert run(code).stdout.strip() == "5 Too many open files"


def test_a_limit_is_never_raised() -> None:
    code = (
        "import resource\n"
        "from workers.limits import limit_open_files\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (20, 30))\n"
        "limit_open_files(500)\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE))\n"
    )
    assert run(code).stdout.strip() == "(20, 30)"


def test_progress_gives_a_block_its_time_again() -> None:
    code = (
        "import signal\n"
        "from workers.limits import ended_after, restart_limit\n"
        "with ended_after(60):\n    restart_limit(500)\n    print(signal.getitimer(signal.ITIMER_REAL)[0] > 400)\n"
        "print(signal.getitimer(signal.ITIMER_REAL))\n"
    )
    assert run(code).stdout.split("\n")[:2] == ["True", "(0.0, 0.0)"]


def test_a_block_that_takes_too_long_ends_the_process_even_in_c() -> None:
    code = (
        "import re\n"
        "from workers.limits import ended_after\n"
        "with ended_after(60):\n    pass\n"
        "with ended_after(0.2):\n    re.match('(a*)*b', 'a' * 99)\n"
    )
    assert run(code).returncode == -signal.SIGALRM
