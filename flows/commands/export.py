"""The command ``aviaflow export``."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from flows.commands.shared import EXIT_DONE, add_command, json_option, print_progress, print_result

TARGETS = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")


def add_export(commands: Any) -> None:
    """Add the command to the parser's commands."""
    parser = add_command(
        commands,
        "export",
        "Make an engine of a checkpoint, and hold it against the checkpoint before it is kept.",
        call_export,
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a file, or embedded")
    parser.add_argument("--engine", required=True, choices=("onnx", "tensorrt", "tensorrt-rtx"))
    parser.add_argument(
        "--target",
        choices=TARGETS,
        help="GPU to build for: sm89 is an RTX 4090, sm121 a DGX Spark; by default this machine's",
    )
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="gets the engine and its manifest"
    )
    parser.add_argument("--precision", choices=("fp32", "fp16"), help="by default fp32 for onnx, else fp16")
    parser.add_argument(
        "--video-size",
        type=video_size,
        default=(1920, 1080),
        metavar="WIDTHxHEIGHT",
        help="of the videos; engines are for one shape, by default 1920x1080, which is that of all 16:9",
    )
    json_option(parser)


def call_export(arguments: argparse.Namespace) -> int:
    """Export and print what was made."""
    from flows.export import describe_export, export_checkpoint
    from model.checkpoint import embedded_checkpoint

    named = arguments.checkpoint
    export = export_checkpoint(
        embedded_checkpoint() if named == "embedded" else Path(named),
        arguments.engine,
        arguments.out,
        target=arguments.target,
        precision=arguments.precision,
        video_size=arguments.video_size,
        progress=print_progress,
    )
    print_result(export.as_dict(), describe_export(export), arguments.json)
    return EXIT_DONE


def video_size(text: str) -> tuple[int, int]:
    """Width and height, as the type of an argument."""
    found = re.fullmatch(r"([1-9]\d{1,4})x([1-9]\d{1,4})", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"must be like 1920x1080, got {text}")
    return int(found[1]), int(found[2])
