"""``python -m tests.badinput.fuzz TARGET SECONDS``: search, by coverage, for bytes of which no named error comes.

Targets are ``via`` and ``ava`` (the importers of annotations) and ``sniff`` (what is read of a container before a
demuxer sees it). Needs ``pip install atheris``, which is no dependency of the project. What it finds is kept as an
``@example`` of ``tests/storage/formats/test_any_input.py`` or a change of ``tests/badinput/mutations.py``.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["storage.formats", "workers.containers"]):
    from tests.badinput.mutations import SEEDS, write_seed
    from tests.storage.formats.test_any_input import LINE, PROJECT, read_every_way, read_project
    from workers.containers import check_length, read_mp4, sniff_format
    from workers.errors import UnreadableVideoError


def sniff(path: Path) -> None:
    """Everything that the probe reads of a file by itself."""
    with suppress(UnreadableVideoError):
        container = sniff_format(path)
        if container == "mov":
            read_mp4(path)
        else:
            check_length(path, container)


def project(path: Path) -> None:
    """A file as a VIA project."""
    read_project(path, path.read_bytes().decode("utf-8", "replace"))


def seeds_of(target: str, folder: Path) -> list[bytes]:
    """Valid files to begin with."""
    if target == "via":
        return [json.dumps(PROJECT).encode()]
    if target == "ava":
        return [f"{LINE}\n{LINE}\n".encode(), b'item {\n name: "walk"\n id: 1\n}\n', b"one.mp4,0002\n"]
    return [write_seed(folder, suffix) for suffix in SEEDS]


TARGETS: dict[str, Callable[[Path], None]] = {"via": project, "ava": read_every_way, "sniff": sniff}


def main() -> None:
    """Fuzz one target; ends with the input at the first surprise."""
    target, seconds = sys.argv[1], int(sys.argv[2])
    with tempfile.TemporaryDirectory(prefix="aviaflow-fuzz-") as name:
        folder, corpus = Path(name), Path(name) / "corpus"
        corpus.mkdir()
        for number, content in enumerate(seeds_of(target, folder)):
            (corpus / f"{number}").write_bytes(content)

        def try_one(content: bytes) -> None:
            path = folder / "tried"
            path.write_bytes(content)
            TARGETS[target](path)

        flags = [f"-max_total_time={seconds}", "-max_len=8192", "-timeout=20", "-print_final_stats=1"]
        atheris.Setup([sys.argv[0], *flags, f"-artifact_prefix={target}-", str(corpus)], try_one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
