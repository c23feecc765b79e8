"""The commands that need a store and no run: ``aviaflow events``, ``upgrade``, ``score`` and ``query``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from flows.commands.shared import EXIT_DONE, add_command, json_option, print_result, wait_option


def add_events(commands: Any) -> None:
    """Add the command to the parser's commands."""
    parser = add_command(
        commands,
        "events",
        "Recompute tracks and events from stored detections; needs no video.",
        call_events,
        goes_on=True,
    )
    parser.add_argument("store", metavar="STORE")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="YAML with the ethogram and track settings"
    )
    wait_option(parser)
    json_option(parser)


def call_events(arguments: argparse.Namespace) -> int:
    """Recompute the events and print how many there are."""
    from flows.nightly.recompute import recompute_events
    from flows.settings import load_settings

    summary = recompute_events(arguments.store, load_settings(arguments.config), wait=arguments.wait)
    text = (
        f"{summary['events']} events of {summary['individuals']} individuals on {summary['camera_days']} "
        f"camera-days, recomputed from stored detections in {summary['wall_s']:.1f} s"
    )
    print_result(summary, text, arguments.json)
    return EXIT_DONE


def add_upgrade(commands: Any) -> None:
    """Add the command to the parser's commands."""
    parser = add_command(
        commands,
        "upgrade",
        "Bring a store of an earlier version up to date; needs no video.",
        call_upgrade,
        goes_on=True,
    )
    parser.add_argument("store", metavar="STORE")
    wait_option(parser)
    json_option(parser)


def call_upgrade(arguments: argparse.Namespace) -> int:
    """Upgrade the store and print how many objects were rewritten."""
    from flows.quiet import notice
    from storage import Store
    from storage.filesystem import open_filesystem
    from storage.lease import store_lease
    from storage.schema import SCHEMA_VERSION
    from storage.upgrade import upgrade_store

    Store(arguments.store)  # a folder without a store gets no lease
    fs = open_filesystem(arguments.store)
    with store_lease(fs, wait=arguments.wait, say=notice):
        count = upgrade_store(fs, notice)
    summary = {"store": fs.uri, "objects": count, "schema_version": SCHEMA_VERSION}
    text = f"{count} objects rewritten, schema version {SCHEMA_VERSION}" if count else "nothing to do"
    print_result(summary, text, arguments.json)
    return EXIT_DONE


def add_score(commands: Any) -> None:
    """Add the command to the parser's commands."""
    parser = add_command(
        commands, "score", "Compare a store with the truth of a simulated archive.", call_score
    )
    parser.add_argument("store", metavar="STORE")
    parser.add_argument("--truth", type=Path, required=True, metavar="DIR")
    parser.add_argument("--archive", type=Path, metavar="DIR", help="the videos; by default beside the truth")
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML, the one of the run")
    json_option(parser)


def call_score(arguments: argparse.Namespace) -> int:
    """Compare the store with the truth and print the scores."""
    from flows.evaluation.score import describe_score
    from flows.evaluation.true_boxes import score_archive
    from flows.settings import load_settings

    archive = arguments.archive or arguments.truth.parent / "archive"
    scores = score_archive(arguments.store, arguments.truth, archive, load_settings(arguments.config))
    print_result(scores, describe_score(scores), arguments.json)
    return EXIT_DONE


def add_query(commands: Any) -> None:
    """Add the command to the parser's commands."""
    parser = add_command(commands, "query", "Ask a store a question in SQL (DuckDB).", call_query)
    parser.add_argument("store", metavar="STORE")
    parser.add_argument(
        "sql", metavar="SQL", help="tables: events individuals detections tracks effort videos"
    )
    parser.add_argument("--csv", action="store_true", help="comma separated instead of a table")
    json_option(parser)


def call_query(arguments: argparse.Namespace) -> int:
    """Print the rows that answer the question."""
    from storage import Store

    rows = Store(arguments.store).sql(arguments.sql)
    if arguments.json:
        print(rows.to_json(orient="records", date_format="iso", indent=2))
    elif arguments.csv:
        print(rows.to_csv(index=False), end="")
    else:
        print(rows.to_string(index=False) if len(rows) else f"no rows (columns: {', '.join(rows.columns)})")
    return EXIT_DONE
