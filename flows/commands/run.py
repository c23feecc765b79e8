"""The commands ``aviaflow run`` and ``aviaflow schedule``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from flows.commands.shared import (
    EXIT_DONE,
    EXIT_QUARANTINED,
    add_command,
    json_option,
    positive,
    positive_int,
    print_result,
    wait_option,
)
from flows.errors import SettingsError


def add_run(commands: Any) -> None:
    """Add the command to the parser's commands."""
    parser = add_command(
        commands, "run", "Turn an archive into events; does only what is not done.", call_run, goes_on=True
    )
    _run_options(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, how much, how long")
    parser.add_argument(
        "--metrics",
        type=Path,
        metavar="FILE",
        help="write the run's figures for Prometheus, as the textfile collector of a node exporter reads them (.prom)",
    )
    wait_option(parser)
    json_option(parser)


def call_run(arguments: argparse.Namespace) -> int:
    """Run the archive, or say what a run would do."""
    from flows.nightly.run import dry_run, run_archive
    from flows.nightly.summary import describe_plan, describe_run

    settings = _settings(arguments)
    if arguments.dry_run:
        planned = dry_run(arguments.archive, arguments.out, settings, reprocess=arguments.reprocess)
        print_result(planned, describe_plan(planned), arguments.json)
        return EXIT_DONE
    if arguments.metrics:
        _check_writable(arguments.metrics)
    summary = run_archive(
        arguments.archive,
        arguments.out,
        settings,
        address=arguments.address,
        reprocess=arguments.reprocess,
        wait=arguments.wait,
    )
    if arguments.metrics:
        from flows.nightly.metrics import write_metrics

        write_metrics(summary, arguments.metrics)
    print_result(summary, describe_run(summary), arguments.json)
    quarantined = any(video["status"] == "quarantined" for video in summary["videos"])
    return EXIT_QUARANTINED if quarantined else EXIT_DONE


def _check_writable(path: Path) -> None:
    """Raise :class:`SettingsError` where a file cannot be written, before a night is spent."""
    if not os.access(path.parent, os.W_OK) or path.is_dir():
        raise SettingsError(
            f"--metrics {path}: no file can be written there; name one in a folder that is yours"
        )


def add_schedule(commands: Any) -> None:
    """Add the command to the parser's commands."""
    parser = add_command(
        commands, "schedule", "Serve the run as a nightly Prefect deployment.", call_schedule, goes_on=True
    )
    _run_options(parser)
    parser.add_argument("--cron", required=True, metavar="CRON", help='for example "30 1 * * *"')
    parser.add_argument("--timezone", metavar="ZONE", help="of the cron; by default the site's")


def call_schedule(arguments: argparse.Namespace) -> int:
    """Serve the schedule until interrupted."""
    from flows.nightly.schedule import serve_nightly

    settings = _settings(arguments)
    serve_nightly(
        arguments.archive,
        arguments.out,
        settings,
        cron=arguments.cron,
        zone=arguments.timezone or settings.archive.zone,
        address=arguments.address,
        reprocess=arguments.reprocess,
    )
    return EXIT_DONE


def _run_options(parser: Any) -> None:
    parser.add_argument("archive", metavar="ARCHIVE", help="folder of videos or s3://bucket/prefix")
    parser.add_argument("--out", required=True, metavar="STORE", help="folder or s3://bucket/prefix")
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML; configs/local.yaml has every key")
    parser.add_argument(
        "--segment-seconds",
        type=positive,
        metavar="S",
        help="cut what is decoded of a video at multiples of this, where there is an I-frame between; by default "
        "pieces are as long as keeps all workers busy; results do not depend on it",
    )
    parser.add_argument("--decode-workers", type=positive_int, metavar="N")
    parser.add_argument("--address", metavar="RAY", help="of a running Ray cluster, for example auto")
    parser.add_argument(
        "--reprocess",
        action="store_true",
        help="also redo videos made with another model or settings, and all that were replaced",
    )


def _settings(arguments: argparse.Namespace) -> Any:
    from flows.settings import load_settings

    overrides = {
        "decode": {"segment_seconds": arguments.segment_seconds, "workers": arguments.decode_workers}
    }
    return load_settings(arguments.config, overrides)
