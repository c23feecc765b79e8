"""An S3 server on loopback (moto's, over HTTP) that fails as it is told to."""

from __future__ import annotations

import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "loopback",
    "AWS_SECRET_ACCESS_KEY": "loopback",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}
"""What a client needs beside ``AWS_ENDPOINT_URL``; nothing of the machine's own profile counts."""
CODES = {
    500: "InternalError",
    501: "NotImplemented",
    503: "SlowDown",
    400: "ExpiredToken",
    403: "AccessDenied",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to a request instead of, or before, its answer."""

    status: int = 0
    """This status with the code that S3 gives it; 0: the true answer."""
    delay_s: float = 0.0
    drop: bool = False
    """The connection is closed without an answer."""
    cut: bool = False
    """The connection is closed in the middle of the answer's body."""
    lose: bool = False
    """The request is carried out, and the connection closed without an answer."""


Choose = Callable[[str, str], Fault | None]
"""From method and path to what happens; None: the true answer."""


class S3Server:
    """Starts with ``with``; ``url`` is its address."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # not a line for each request
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._choose: Choose | None = None
        self._lock = threading.Lock()
        self.requests: list[tuple[str, str]] = []
        """Method and path of every request."""
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> S3Server:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @contextmanager
    def failing(self, choose: Choose) -> Iterator[None]:
        """Let ``choose`` decide about every request within."""
        self._choose = choose
        try:
            yield
        finally:
            self._choose = None

    @contextmanager
    def failing_first(self, *faults: Fault, method: str = "", path: str = "") -> Iterator[list[Fault]]:
        """Let the first requests that match fail, one after the other; yields the faults that are left."""
        left = list(faults)

        def choose(this: str, where: str) -> Fault | None:
            with self._lock:
                matches = method in ("", this) and re.search(path, where) is not None
                return left.pop(0) if left and matches else None

        with self.failing(choose):
            yield left

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        with self._lock:
            self.requests.append((method, path))
        fault = self._choose(method, path) if self._choose else None
        if fault is None:
            return self._moto(environ, start_response)
        time.sleep(fault.delay_s)
        if fault.drop:
            _close(environ)
        if fault.lose:
            b"".join(self._moto(environ, lambda *said: None))
            _close(environ)
        if fault.status:
            _read_body(environ)
            return _refuse(fault.status, start_response)
        if fault.cut:
            return _half(environ, self._moto(environ, start_response))
        return self._moto(environ, start_response)


def _read_body(environ: dict[str, Any]) -> None:
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))


def _close(environ: dict[str, Any]) -> None:
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionError("closed on purpose")


def _refuse(status: int, start_response: Callable[..., Any]) -> list[bytes]:
    code = CODES[status]
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>on purpose</Message></Error>".encode()
    start_response(
        f"{status} {code}", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
    )
    return [body]


def _half(environ: dict[str, Any], answer: Iterable[bytes]) -> Iterator[bytes]:
    body = b"".join(answer)
    yield body[: len(body) // 2]
    _close(environ)
