"""/metrics, /healthz and /readyz over HTTP, for Prometheus, systemd's neighbours and people.

Each request has a thread of its own and a time limit, so that a slow client holds up nobody.
"""

import os
import socket
import socketserver
import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

from hcs_daemon.errors import SettingsError
from hcs_daemon.telemetry import CONTENT_TYPE, Event, get_log

CLIENT_TIMEOUT_S = 5.0
"""Seconds that a client may be silent, or not take its answer, before its connection is closed."""
_WORDS = "text/plain; charset=utf-8"

Answer = tuple[HTTPStatus, str, bytes]
"""Status, content type, body."""


class Endpoints:
    """The HTTP server, in a thread of its own from `start` to `stop`. Owned by whoever starts it.

    host, port: where to listen; port 0 takes a free one (`port` then tells which).
    telemetry_render: gives the text that Prometheus scrapes.
    health, readiness: give None when all is well, else in words what is not.
    """

    def __init__(
        self,
        host: str,
        port: int,
        telemetry_render: Callable[[], bytes],
        health: Callable[[], str | None],
        readiness: Callable[[], str | None],
    ) -> None:
        self._host = host
        self._port = port
        self._pages: dict[str, Callable[[], Answer]] = {
            "/metrics": lambda: (HTTPStatus.OK, CONTENT_TYPE, telemetry_render()),
            "/healthz": lambda: _state(health()),
            "/readyz": lambda: _state(readiness()),
        }
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port in use; before `start`, the one asked for."""
        return self._server.server_port if self._server else self._port

    def start(self) -> None:
        """Listen and answer. Raises SettingsError when host and port cannot be listened on."""
        self._server = self._listen()
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="http", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Listen no more. Answers under way are not waited for. Does nothing when not started."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._server = self._thread = None

    def _listen(self) -> "_Server":
        try:
            return _Server(self._host, self._port, self._pages)
        except socket.gaierror as error:
            raise SettingsError(
                f"http.host = {self._host!r} is no address of this machine: {error.strerror}",
                'give its name or number; "127.0.0.1" answers this machine only, "0.0.0.0" all',
            ) from error
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            raise SettingsError(
                f"http.port = {self._port} on {self._host} cannot be listened on: {why}",
                "stop what uses it, or set http.port to a free one (0: none)",
            ) from error


def _state(problem: str | None) -> Answer:
    if problem is None:
        return HTTPStatus.OK, _WORDS, b"ok\n"
    return HTTPStatus.SERVICE_UNAVAILABLE, _WORDS, f"{problem}\n".encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a client that never finishes must not hold back the end
    allow_reuse_address = sys.platform != "win32"  # there it would let two daemons share a port
    allow_reuse_port = False

    def __init__(self, host: str, port: int, pages: dict[str, Callable[[], Answer]]) -> None:
        self.pages = pages
        self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Bind as TCPServer does: HTTPServer also asks the name service for our name, which can hang."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment] # host: str | bytes

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 (the library's signature)
        """Say what failed in the log; a client that left or fell silent is not worth a line."""
        error = sys.exception()
        if not isinstance(error, OSError):
            get_log().error(Event.THREAD_FAILED, thread="http", error=repr(error))


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout: ClassVar[float] = CLIENT_TIMEOUT_S
    server_version = "hcs-daemon"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer with the page, its failure in words, or what there is."""
        status, content_type, body = self._answer()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 (the library's name)

    def _answer(self) -> Answer:
        page = self.server.pages.get(self.path.partition("?")[0])
        if page is None:
            known = ", ".join(self.server.pages)
            return HTTPStatus.NOT_FOUND, _WORDS, f"nothing is here; there are {known}\n".encode()
        try:
            return page()
        except Exception as error:  # noqa: BLE001 (whoever asks must get an answer that is not "ok")
            get_log().error(Event.THREAD_FAILED, thread="http", error=repr(error))
            return HTTPStatus.INTERNAL_SERVER_ERROR, _WORDS, f"failed: {error!r}\n".encode()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the library's name)
        """Nothing: a scrape each few seconds would bury the log."""
