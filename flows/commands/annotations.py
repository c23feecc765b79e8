"""The command ``aviaflow annotations``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from flows.commands.shared import EXIT_DONE, EXIT_QUARANTINED, add_command, json_option, print_result


def add_annotations(commands: Any) -> None:
    """Add the command to the parser's commands."""
    parser = add_command(
        commands, "annotations", "Check annotation files and make a set to train on.", call_annotations
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
    json_option(parser)


def call_annotations(arguments: argparse.Namespace) -> int:
    """Check the files, write the set, and print what was found."""
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
    print_result(summary.as_dict(), describe_import(summary), arguments.json)
    return EXIT_QUARANTINED if summary.defects else EXIT_DONE
