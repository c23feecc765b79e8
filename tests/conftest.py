"""Fixtures that tests of several packages share, and how the tests share a machine."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.s3_server import ENVIRONMENT, S3Server

# Before torch is imported. Its networks are tiny here, and where processors are shared two threads that wait
# for each other at every layer take five times as long as one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ViaWriter = Callable[..., Path]
VIA_BEHAVIOUR, VIA_INDIVIDUAL, VIA_MOTION, VIA_BOUT, VIA_ANNOTATOR, VIA_SEVERAL = "1", "2", "3", "4", "5", "6"


RAY = {
    "ray, in this process": (
        "test_run.py",
        "test_replay.py",
        "test_s3.py",
        "test_chaos.py",
        "test_real_videos.py",
    ),
    "ray, in others": ("test_cli.py", "test_own_ethogram.py", "test_train.py", "test_stream.py"),
}
"""Files whose tests need Ray and share a cluster and a store: two groups that take about as long."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A process takes a whole file, or all files of a group that needs Ray."""
    from xdist.scheduler import LoadScopeScheduling

    class FilesTogether(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return ray_group(file) or file

    return FilesTogether(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of several processes each begins with the tests that take longest."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: ray_group(item.nodeid.partition("::")[0]) is None)


def ray_group(file: str) -> str | None:
    name = Path(file).name
    return next((group for group, names in RAY.items() if name in names), None)


def _attribute(name: str, anchor: str, kind: int, options: Sequence[str] = ()) -> dict[str, Any]:
    return {
        "aname": name,
        "anchor_id": anchor,
        "type": kind,
        "desc": "",
        "options": {str(k): text for k, text in enumerate(options)},
        "default_option_id": "",
    }


@pytest.fixture
def write_via() -> ViaWriter:
    """Write a project as VIA 3 saves it: ``write_via(path, videos, behaviours, {id: (view, z, xy, av)})``."""

    def write(
        path: Path,
        videos: Sequence[str],
        behaviours: Sequence[str],
        metadata: dict[str, tuple[str, list[Any], list[Any], dict[str, str]]],
    ) -> Path:
        views = [str(k + 1) for k in range(len(videos))]
        project = {
            "project": {
                "pid": "__VIA_PROJECT_ID__",
                "rev": "__VIA_PROJECT_REV_ID__",
                "rev_timestamp": "__VIA_PROJECT_REV_TIMESTAMP__",
                "pname": path.stem,
                "creator": "VGG Image Annotator (http://www.robots.ox.ac.uk/~vgg/software/via)",
                "created": 1_700_000_000_000,
                "data_format_version": "3.1.1",
                "vid_list": views,
            },
            "config": {"file": {"loc_prefix": {"1": "", "2": "", "3": "", "4": ""}}, "ui": {}},
            "attribute": {
                VIA_BEHAVIOUR: _attribute("Behaviour", "FILE1_Z1_XY1", 4, behaviours),
                VIA_INDIVIDUAL: _attribute("individual id", "FILE1_Z1_XY1", 1),
                VIA_MOTION: _attribute("motion", "FILE1_Z1_XY1", 3, ("static", "dynamic")),
                VIA_BOUT: _attribute("activity", "FILE1_Z2_XY0", 4, behaviours),
                VIA_ANNOTATOR: _attribute("Annotator", "FILE1_Z0_XY0", 1),
                VIA_SEVERAL: _attribute("action", "FILE1_Z1_XY1", 2, behaviours),
                "7": _attribute("weather", "FILE1_Z0_XY0", 1),
            },
            "file": {
                view: {"fid": view, "fname": video, "type": 4, "loc": 1, "src": ""}
                for view, video in zip(views, videos, strict=True)
            },
            "metadata": {
                key: {"vid": view, "flg": 0, "z": z, "xy": xy, "av": av}
                for key, (view, z, xy, av) in metadata.items()
            },
            "view": {view: {"fid_list": [view]} for view in views},
        }
        path.write_text(json.dumps(project), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """An S3 server on loopback; the environment of this process, and of those that it starts, names it."""
    with pytest.MonkeyPatch.context() as patch, S3Server() as server:
        for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": server.url}.items():
            patch.setenv(name, value)
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
            patch.delenv(name, raising=False)
        yield server


@pytest.fixture(scope="session")
def s3_bucket(s3_server: S3Server) -> Callable[[str], str]:
    """Make a bucket whose name is a digest of the given words; returns ``s3://bucket``."""
    import fsspec

    def make(words: str) -> str:
        bucket = f"b{hashlib.blake2b(words.encode(), digest_size=10).hexdigest()}"
        fsspec.filesystem("s3").call_s3("create_bucket", Bucket=bucket)
        return f"s3://{bucket}"

    return make


@pytest.fixture
def s3_prefix(s3_bucket: Callable[[str], str], request: pytest.FixtureRequest) -> str:
    """``s3://bucket/prefix`` in an empty bucket of its own; the prefix has a space and looks like a partition."""
    return f"{s3_bucket(request.node.nodeid)}/site=elsewhere/a store"
