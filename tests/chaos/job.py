"""``python -m tests.chaos.job ARCHIVE STORE``: a night's job in a process that may be killed, without Prefect."""

from __future__ import annotations

import argparse
import json

from flows.cluster import ray_cluster
from flows.nightly.context import open_context
from flows.nightly.night import Night
from flows.nightly.progress import Progress
from flows.settings import Settings
from storage.lease import store_lease


def main() -> None:
    """Bring the store up to date; print how much was decoded."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.job", description=__doc__)
    parser.add_argument("archive")
    parser.add_argument("store")
    parser.add_argument("--address", help="of a running Ray cluster")
    parser.add_argument("--stub", action="store_true", help="a detector that costs little")
    options = parser.parse_args()
    settings = Settings.model_validate({"detect": {"detector": "motion"}} if options.stub else {})
    context = open_context(options.archive, options.store, settings)
    with store_lease(context.catalog.fs, wait=True):
        night = Night(context, False, Progress())
        if not night.lookup.nothing_to_do:
            with ray_cluster(options.address) as cpus, night.on_cluster(cpus):
                plans = night.plan()
                night.begin(plans)
                for plan in plans:
                    night.score_day(plan)
                    night.derive_day(plan)
                night.settle_following()
    print(json.dumps({"frames_decoded": night.frames_decoded}))


if __name__ == "__main__":
    main()
