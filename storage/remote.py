"""Objects of an S3 store, through s3fs: what is asked again, how long, and what is said when that does not help.

Requests that may succeed later (500, 503, SlowDown, a broken connection, no answer in time) are repeated by botocore
with growing pauses; broken downloads once more by s3fs. Both numbers multiply, so they are set here together.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import fsspec
import pyarrow.fs
from botocore.exceptions import BotoCoreError, NoCredentialsError, PartialCredentialsError

from storage.errors import ObjectReadError, StorageError, StoreAccessError, StoreUnavailableError
from storage.filesystem import DISK_ERRNOS, ObjectEntry, write_error

REQUEST_ATTEMPTS: Final = 4
"""Of one request, with up to 1, 2 and 4 s between them."""
TRANSFER_ATTEMPTS: Final = 3
"""Of a request whose attempts are used up, or whose answer broke off."""
CONNECT_TIMEOUT_S: Final = 5.0
READ_TIMEOUT_S: Final = 60.0
"""Longest silence; it also counts while an object is sent."""
SINGLE_PUT_BYTES: Final = 2 * 2**30
"""Objects up to twice this size go to S3 as one PUT."""

_CREDENTIALS: Final = frozenset(
    {
        "CredentialsNotSupported",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    }
)
_CHANGED_SINCE: Final = frozenset({"PreconditionFailed", "412", "ConditionalRequestConflict", "409"})
_NO_CONDITIONS: Final = frozenset({"NotImplemented", "501"})


def open_s3(uri: str) -> RemoteFilesystem:
    """The objects under ``s3://bucket/prefix``; nothing is asked of the store yet."""
    fs = fsspec.filesystem(
        "s3",
        use_listings_cache=False,
        config_kwargs={
            "retries": {"mode": "standard", "total_max_attempts": REQUEST_ATTEMPTS},
            "connect_timeout": CONNECT_TIMEOUT_S,
            "read_timeout": READ_TIMEOUT_S,
            # Stores other than AWS refuse the checksums that botocore adds of its own accord.
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        },
    )
    fs.retries = TRANSFER_ATTEMPTS
    return RemoteFilesystem(fs, uri.rstrip("/"))


@dataclass(frozen=True, slots=True)
class RemoteFilesystem:
    """A prefix of an S3 bucket, through s3fs.

    Beside ``FileNotFoundError`` every method raises ``StoreAccessError`` (credentials, rights, no such bucket: trying
    again does not help) or ``StoreUnavailableError`` (all attempts failed).
    """

    fs: Any
    """An ``s3fs.S3FileSystem`` that does not cache listings."""
    uri: str
    """For example ``s3://bucket/prefix``."""
    reads_at_once: int = 16

    def read_bytes(self, path: str) -> bytes:
        """The whole object."""
        with self._explained(path):
            return bytes(self.fs.cat_file(self.arrow_path(path), max_concurrency=1))

    def read_tail(self, path: str, size_bytes: int) -> bytes:
        """The end of an object, with one request."""
        return self._read_part(path, start=-size_bytes)

    def read_range(self, path: str, start: int, size_bytes: int) -> bytes:
        """Bytes from ``start`` on, with one request."""
        return self._read_part(path, start=start, end=start + size_bytes)

    def fetch(self, path: str, target: Path) -> None:
        """Download an object into a file that may be there already; broken downloads go on where they broke.

        Raises:
            ObjectWriteError: the file cannot be written.
        """
        with self._explained(path):
            try:
                self.fs.get_file(self.arrow_path(path), str(target), max_concurrency=1)
            except OSError as error:
                if error.errno in DISK_ERRNOS and not _code(error):
                    raise write_error(target, error) from error
                raise

    def write_atomic(self, path: str, data: bytes) -> None:
        """One PUT of the finished bytes: an object store shows all of it or the old one."""
        with self._explained(path):
            self.fs.pipe_file(self.arrow_path(path), data, chunksize=SINGLE_PUT_BYTES)

    def read_versioned(self, path: str) -> tuple[bytes, str] | None:
        """An object and its ETag, or None where there is none."""
        bucket, _, key = self.arrow_path(path).partition("/")
        with self._explained(path):
            try:
                answer = self.fs.call_s3("get_object", Bucket=bucket, Key=key)
                # The body is a stream of the filesystem's own event loop.
                return bytes(fsspec.asyn.sync(self.fs.loop, answer["Body"].read)), str(answer["ETag"])
            except FileNotFoundError as error:
                if _code(error) == "NoSuchBucket":
                    raise
                return None

    def write_if(self, path: str, data: bytes, version: str | None) -> bool:
        """A conditional PUT (``If-Match``, ``If-None-Match``); without condition where the store knows none."""
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        target = self.arrow_path(path)
        with self._explained(path):
            try:
                self.fs.pipe_file(target, data, chunksize=SINGLE_PUT_BYTES, **condition)
            except FileNotFoundError as error:
                if _code(error) == "NoSuchBucket":
                    raise
                return False
            except OSError as error:
                if _code(error) in _NO_CONDITIONS:
                    self.fs.pipe_file(target, data, chunksize=SINGLE_PUT_BYTES)
                elif _code(error) in _CHANGED_SINCE:
                    return False
                else:
                    raise
        return True

    def list(self, folder: str) -> list[ObjectEntry]:
        """All objects below a folder."""
        root = self.arrow_path("")
        with self._explained(folder):
            try:
                found = self.fs.find(self.arrow_path(folder), detail=True)
            except FileNotFoundError as error:
                if _code(error) == "NoSuchBucket":
                    raise
                return []
        return [
            ObjectEntry(path.removeprefix(root), int(info["size"]), _version(info), _changed(info))
            for path, info in sorted(found.items())
        ]

    def exists(self, path: str) -> bool:
        """Whether there is an object."""
        with self._explained(path):
            return bool(self.fs.isfile(self.arrow_path(path)))

    def delete(self, path: str) -> None:
        """Remove an object."""
        with self._explained(path), suppress(FileNotFoundError):
            self.fs.rm_file(self.arrow_path(path))

    def arrow_path(self, path: str) -> str:
        """Bucket and key."""
        return f"{self.fs._strip_protocol(self.uri)}/{path}"

    def arrow_filesystem(self) -> Any:
        """The fsspec filesystem as pyarrow sees it."""
        return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(self.fs))

    def _read_part(self, path: str, **limits: int) -> bytes:
        with self._explained(path):
            try:
                return bytes(self.fs.cat_file(self.arrow_path(path), **limits))
            except OSError as error:
                # S3 refuses a range of an object that has no such byte; here that is no byte.
                if _code(error) in ("InvalidRange", "416"):
                    return b""
                raise

    @contextmanager
    def _explained(self, path: str) -> Iterator[None]:
        """Say in one line what was asked for, what the store answered and what to do."""
        try:
            yield
        except FileNotFoundError as error:
            if _code(error) != "NoSuchBucket":
                raise
            bucket = self.arrow_path("").partition("/")[0]
            raise StoreAccessError(
                f"{self.uri}: there is no bucket {bucket}; create it, or correct the address"
            ) from error
        except (OSError, BotoCoreError, aiohttp.ClientError) as error:
            raise _store_error(f"{self.uri}/{path}", error) from error


def _store_error(name: str, error: Exception) -> StorageError:
    code = _code(error)
    said = " ".join(str(error).split())
    answer = f"{code}: {said}" if code and code not in said else said
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return StoreAccessError(
            f"{name}: no credentials for S3 ({said}); set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if code in _CREDENTIALS:
        return StoreAccessError(
            f"{name}: the store refuses the credentials ({answer}); renew them and run the same command again"
        )
    if code == "InvalidObjectState":
        return ObjectReadError(f"{name}: the object is in cold storage; restore it first")
    if isinstance(error, PermissionError):
        return StoreAccessError(
            f"{name}: access is denied ({answer}); the credentials need GetObject, PutObject, DeleteObject and "
            "ListBucket there"
        )
    return StoreUnavailableError(
        f"{name}: the store does not answer as it should, asked {REQUEST_ATTEMPTS} times and more ({answer}); "
        "run the same command again later, what is finished is kept"
    )


def _code(error: BaseException) -> str:
    """S3's name of an error that s3fs made one of Python's; empty where it has none."""
    response = getattr(error.__cause__, "response", None) or getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _version(info: dict[str, Any]) -> str:
    return f"{info.get('ETag') or info.get('LastModified')}-{info['size']}"


def _changed(info: dict[str, Any]) -> dt.datetime:
    moment = info.get("LastModified")
    return moment if isinstance(moment, dt.datetime) else dt.datetime.fromtimestamp(0, dt.UTC)
