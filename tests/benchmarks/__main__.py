"""``make bench``: where the time goes, as ratios of one run; rows are written as they come, to ``build/bench``.

Run it where nothing else runs. A section that fails is named, and costs no row of another one.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path

from tests.benchmarks.rows import Report, run_section
from tests.benchmarks.sections import SECTIONS
from tests.benchmarks.sizes import FULL, QUICK, Bench

BUSY_LOAD = 1.0
"""Of the minute before: from here on somebody else wants the processors."""


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write; 1 where a section failed."""
    import torch  # not where a process of a stage begins with this module

    from tests.benchmarks.machine import facts_of_machine, load_of_machine, versions_of

    options = _options(arguments)
    facts = facts_of_machine(torch.device("cpu")) | versions_of() | {"load": load_of_machine()}
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    if float(facts["load"]) > BUSY_LOAD:
        print(f"load {facts['load']}: others are at work here; run it again where nothing else runs")
    out = options.out or Path("build/bench") / f"{facts['date'][:19].replace(':', '-')}.json"
    report = Report(out, facts, is_quick=options.quick)
    report.write()
    wanted = [name for name in SECTIONS if name in (options.only or SECTIONS)]
    with tempfile.TemporaryDirectory(prefix="aviaflow-bench-") as folder:
        bench = Bench(Path(folder), QUICK if options.quick else FULL)
        for name in wanted:
            section = SECTIONS[name]
            if options.quick and not section.has_quick_sizes and not options.only:
                print(f"{report.elapsed_s():6.0f} s  {section.title}: left out, it has no quick sizes")
            else:
                run_section(report, section.title, partial(section.measure, bench))
    failed = f"; failed: {', '.join(one.partition(':')[0] for one in report.failed)}" if report.failed else ""
    print(f"{report.elapsed_s():.0f} s, {len(report.rows)} rows, written to {report.out}{failed}")
    return 1 if report.failed else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "--only", nargs="+", choices=list(SECTIONS), metavar="SECTION", help=", ".join(SECTIONS)
    )
    parser.add_argument("--out", type=Path, help="JSON file; by default build/bench/<date>.json")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: to try it, not for its figures")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
