"""The command line: ``aviaflow COMMAND``. Results go to stdout, progress and logs to stderr.

Exit status: 0 all done; 1 nothing could be done, one line on stderr says why; 3 done, but some videos were
quarantined or some annotations have defects.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from flows.commands.ablation import add_ablate, add_sweep
from flows.commands.evaluate import add_evaluate
from flows.errors import AviaflowError
from model.errors import ModelError
from storage.errors import StorageError
from workers.errors import WorkerError

EXIT_DONE, EXIT_NOTHING, EXIT_QUARANTINED = 0, 1, 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    arguments = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        return command(arguments)
    except (AviaflowError, ModelError, StorageError, WorkerError) as error:
        print(f"aviaflow: {error}", file=sys.stderr)
        return EXIT_NOTHING
    except KeyboardInterrupt:
        print("aviaflow: stopped; the same command goes on where it stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return EXIT_DONE


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with a command in one line, with the exit status of every bad request."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_NOTHING, f"aviaflow: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="aviaflow", description="From a reserve's video archive to per-individual behaviour events."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (
        _simulate,
        _run,
        _events,
        _score,
        _query,
        _annotations,
        _train,
        add_evaluate,
        add_ablate,
        add_sweep,
        _schedule,
        _models,
        _doctor,
        _demo,
    ):
        add(commands)
    return parser


def _command(commands: Any, name: str, summary: str, call: Callable[[argparse.Namespace], int]) -> Any:
    parser = commands.add_parser(name, help=summary, description=summary)
    parser.set_defaults(command=call)
    return parser


def _simulate(commands: Any) -> None:
    parser = _command(commands, "simulate", "Make a simulated archive with exact truth.", _call_simulate)
    parser.add_argument("directory", type=Path, metavar="DIR", help="gets archive/ and truth/")
    parser.add_argument("--videos", type=_positive_int, default=4, metavar="N")
    parser.add_argument("--seconds", type=_positive, default=90.0, metavar="S", help="length of each video")
    parser.add_argument(
        "--seed", type=int, default=1, metavar="K", help="the same seed gives the same pixels"
    )
    parser.add_argument("--scene", choices=("marsh", "forest", "night"), help="one kind of scene only")
    _json_option(parser)


def _run(commands: Any) -> None:
    parser = _command(commands, "run", "Turn an archive into events; does only what is not done.", _call_run)
    _run_options(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, how much, how long")
    _json_option(parser)


def _run_options(parser: Any) -> None:
    parser.add_argument("archive", metavar="ARCHIVE", help="folder of videos")
    parser.add_argument("--out", required=True, metavar="STORE", help="folder or s3://bucket/prefix")
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML; configs/local.yaml has every key")
    parser.add_argument("--segment-seconds", type=_positive, metavar="S", help="results do not depend on it")
    parser.add_argument("--decode-workers", type=_positive_int, metavar="N")
    parser.add_argument("--address", metavar="RAY", help="of a running Ray cluster, for example auto")
    parser.add_argument(
        "--reprocess", action="store_true", help="also redo videos made with another model or settings"
    )


def _events(commands: Any) -> None:
    parser = _command(
        commands,
        "events",
        "Recompute tracks and events from stored detections; needs no video.",
        _call_events,
    )
    parser.add_argument("store", metavar="STORE")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="YAML with the ethogram and track settings"
    )
    _json_option(parser)


def _score(commands: Any) -> None:
    parser = _command(
        commands, "score", "Compare a store with the truth of a simulated archive.", _call_score
    )
    parser.add_argument("store", metavar="STORE")
    parser.add_argument("--truth", type=Path, required=True, metavar="DIR")
    parser.add_argument("--archive", type=Path, metavar="DIR", help="the videos; by default beside the truth")
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML, the one of the run")
    _json_option(parser)


def _query(commands: Any) -> None:
    parser = _command(commands, "query", "Ask a store a question in SQL (DuckDB).", _call_query)
    parser.add_argument("store", metavar="STORE")
    parser.add_argument(
        "sql", metavar="SQL", help="tables: events individuals detections tracks effort videos"
    )
    parser.add_argument("--csv", action="store_true", help="comma separated instead of a table")
    _json_option(parser)


def _annotations(commands: Any) -> None:
    parser = _command(
        commands, "annotations", "Check annotation files and make a set to train on.", _call_annotations
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="VIA 3 project (.json) or AVA CSV; ANNOTATOR=FILE where the file's name is not the annotator's",
    )
    parser.add_argument("--archive", type=Path, required=True, metavar="DIR", help="folder of the videos")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="gets truth, split, defects, card"
    )
    parser.add_argument("--ethogram", type=Path, metavar="FILE", help="YAML; by default the crane's")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="label map of AVA files (.pbtxt)")
    parser.add_argument("--excluded", type=Path, metavar="FILE", help="moments of AVA files to leave out")
    parser.add_argument(
        "--dynamic", metavar="NAMES", help="behaviours that are dynamic where motion was not annotated"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="K", help="of the search for a split")
    _json_option(parser)


def _schedule(commands: Any) -> None:
    parser = _command(commands, "schedule", "Serve the run as a nightly Prefect deployment.", _call_schedule)
    _run_options(parser)
    parser.add_argument("--cron", required=True, metavar="CRON", help='for example "30 1 * * *"')
    parser.add_argument("--timezone", metavar="ZONE", help="of the cron; by default the site's")


def _doctor(commands: Any) -> None:
    parser = _command(commands, "doctor", "Check this machine and what is installed on it.", _call_doctor)
    parser.add_argument("--out", metavar="STORE", help="also check that this store can be written")
    _json_option(parser)


def _models(commands: Any) -> None:
    parser = _command(commands, "models", "Print size, cost and speed of each architecture.", _call_models)
    parser.add_argument("architecture", nargs="*", metavar="ARCHITECTURE", help="by default all")
    parser.add_argument(
        "--no-speed", action="store_true", help="count only; the large ones take minutes to time"
    )
    _json_option(parser)


def _demo(commands: Any) -> None:
    parser = _command(
        commands, "demo", "Simulate a small archive, run it, and compare with the truth.", _call_demo
    )
    parser.add_argument("directory", type=Path, metavar="DIR")


def _train(commands: Any) -> None:
    parser = _command(
        commands, "train", "Train the network on an annotated archive; goes on where it stopped.", _call_train
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML; configs/train.yaml has every key")
    parser.add_argument("--data", type=Path, metavar="DIR", help="holds archive/ and truth/")
    parser.add_argument("--test", type=Path, metavar="DIR", help="other videos, to score the network on")
    parser.add_argument("--out", type=Path, metavar="DIR", help="gets weights, history, plots and logs")
    parser.add_argument("--workers", type=_positive_int, metavar="N", help="the steps do not depend on it")
    parser.add_argument("--address", metavar="RAY", help="of a running Ray cluster, for example auto")
    _json_option(parser)


def _call_simulate(arguments: argparse.Namespace) -> int:
    from workers.simulate.archive import simulate_archive

    made = simulate_archive(
        arguments.directory,
        videos=arguments.videos,
        seconds=arguments.seconds,
        seed=arguments.seed,
        scene=arguments.scene,
    )
    summary = {
        "archive": str(made.archive),
        "truth": str(made.truth),
        "videos": made.videos,
        "birds": made.birds,
        "seconds": made.seconds,
        "simulated": True,
    }
    text = (
        f"simulated {made.videos} videos with {made.birds} birds\n"
        f"archive {made.archive}\ntruth   {made.truth}\nnext    aviaflow run {made.archive} --out STORE"
    )
    _print(summary, text, arguments.json)
    return EXIT_DONE


def _call_run(arguments: argparse.Namespace) -> int:
    from flows.nightly.run import dry_run, run_archive
    from flows.nightly.summary import describe_plan, describe_run

    settings = _settings(arguments)
    if arguments.dry_run:
        planned = dry_run(arguments.archive, arguments.out, settings, reprocess=arguments.reprocess)
        _print(planned, describe_plan(planned), arguments.json)
        return EXIT_DONE
    summary = run_archive(
        arguments.archive,
        arguments.out,
        settings,
        address=arguments.address,
        reprocess=arguments.reprocess,
    )
    _print(summary, describe_run(summary), arguments.json)
    quarantined = any(video["status"] == "quarantined" for video in summary["videos"])
    return EXIT_QUARANTINED if quarantined else EXIT_DONE


def _call_events(arguments: argparse.Namespace) -> int:
    from flows.nightly.recompute import recompute_events
    from flows.settings import load_settings

    summary = recompute_events(arguments.store, load_settings(arguments.config))
    text = (
        f"{summary['events']} events of {summary['individuals']} individuals on {summary['camera_days']} "
        f"camera-days, recomputed from stored detections in {summary['wall_s']:.1f} s"
    )
    _print(summary, text, arguments.json)
    return EXIT_DONE


def _call_score(arguments: argparse.Namespace) -> int:
    from flows.evaluation.score import describe_score
    from flows.evaluation.true_boxes import score_archive
    from flows.settings import load_settings

    archive = arguments.archive or arguments.truth.parent / "archive"
    scores = score_archive(arguments.store, arguments.truth, archive, load_settings(arguments.config))
    _print(scores, describe_score(scores), arguments.json)
    return EXIT_DONE


def _call_query(arguments: argparse.Namespace) -> int:
    from storage import Store

    rows = Store(arguments.store).sql(arguments.sql)
    if arguments.json:
        print(rows.to_json(orient="records", date_format="iso", indent=2))
    elif arguments.csv:
        print(rows.to_csv(index=False), end="")
    else:
        print(rows.to_string(index=False) if len(rows) else f"no rows (columns: {', '.join(rows.columns)})")
    return EXIT_DONE


def _call_annotations(arguments: argparse.Namespace) -> int:
    from flows.annotations.dataset import AnnotationRequest, import_dataset
    from flows.annotations.summary import describe_import
    from flows.settings import CONFIGS, load_ethogram

    dynamic = arguments.dynamic
    summary = import_dataset(
        AnnotationRequest(
            files=tuple(arguments.files),
            archive=arguments.archive,
            out=arguments.out,
            ethogram=load_ethogram(arguments.ethogram or CONFIGS / "ethogram_crane.yaml"),
            labels=arguments.labels,
            excluded=arguments.excluded,
            dynamic=None if dynamic is None else tuple(dynamic.replace(",", " ").split()),
            seed=arguments.seed,
        )
    )
    _print(summary.as_dict(), describe_import(summary), arguments.json)
    return EXIT_QUARANTINED if summary.defects else EXIT_DONE


def _call_schedule(arguments: argparse.Namespace) -> int:
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


def _call_doctor(arguments: argparse.Namespace) -> int:
    from flows.doctor import describe_checks, run_checks

    checks = run_checks(arguments.out)
    _print([check.as_dict() for check in checks], describe_checks(checks), arguments.json)
    return EXIT_NOTHING if any(check.status == "bad" for check in checks) else EXIT_DONE


def _call_models(arguments: argparse.Namespace) -> int:
    from flows.training.models import describe_models, survey_models

    survey = survey_models(
        arguments.architecture,
        speed=not arguments.no_speed,
        progress=lambda line: print(line, file=sys.stderr),
    )
    _print(survey.as_dict(), describe_models(survey), arguments.json)
    return EXIT_DONE


def _call_demo(arguments: argparse.Namespace) -> int:
    from flows.nightly.demo import run_demo

    print(run_demo(arguments.directory))
    return EXIT_DONE


def _call_train(arguments: argparse.Namespace) -> int:
    from flows.settings import CONFIGS, load_train_settings
    from flows.training.train import describe_training, train_archive

    names = ("data", "test", "out", "workers")
    settings = load_train_settings(
        arguments.config or CONFIGS / "train.yaml", {name: getattr(arguments, name) for name in names}
    )
    summary = train_archive(settings, address=arguments.address)
    _print(summary, describe_training(summary), arguments.json)
    return EXIT_DONE


def _settings(arguments: argparse.Namespace) -> Any:
    from flows.settings import load_settings

    overrides = {
        "decode": {"segment_seconds": arguments.segment_seconds, "workers": arguments.decode_workers}
    }
    return load_settings(arguments.config, overrides)


def _json_option(parser: Any) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def _print(document: Any, text: str, as_json: bool) -> None:
    print(json.dumps(_plain(document), indent=2, default=str, allow_nan=False) if as_json else text)


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: what has no value is null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be greater than 0, got {text}")
    return value


def _positive_int(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
