"""``make badinput``: what comes of every case, as a table; exit status 1 if one is not as expected."""

from __future__ import annotations

import sys

from tests.badinput.corpus import CASES
from tests.badinput.sandbox import run_case

WIDTH = 100


def main() -> int:
    """Run every case, or those whose names hold one of the arguments; print a row for each."""
    wanted = [case for case in CASES if not sys.argv[1:] or any(part in case.name for part in sys.argv[1:])]
    unexpected = 0
    print(f"{'case':<48} {'outcome':<12} {'time':>6}  reason")
    for case in wanted:
        found, seconds = run_case(case)
        reason = " ".join(found.reason.split())
        shown = reason if len(reason) <= WIDTH else f"{reason[: WIDTH - 3]}..."
        print(f"{case.name:<48} {found.outcome:<12} {seconds:5.1f}s  {shown}")
        if not case.expects(found):
            unexpected += 1
            print(f"  NOT AS EXPECTED: {case.outcome}, with a reason like {case.reason!r}; got {reason}")
        sys.stdout.flush()
    print(f"{len(wanted)} cases, {unexpected} not as expected")
    return 1 if unexpected else 0


if __name__ == "__main__":
    sys.exit(main())
