"""A server on one machine that shows a session as a page, and lets nobody but its own page drive the robot.

Whoever knows the token of the address may look and act. Pages of other sites do not: they cannot know the token, and a
name that they let point to this machine (DNS rebinding) is refused by its `Host`.
"""

import hmac
import json
import logging
import secrets
import socket
import socketserver
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

from kilolayer.errors import ConfigurationError, KilolayerError
from kilolayer.files import json_text
from kilolayer.render.play.address import (
    LOOPBACK,
    bracketed,
    explained,
    family_of,
    is_every_interface,
    own_host,
    reached_as,
)
from kilolayer.render.play.controls import parse
from kilolayer.render.play.page import floor_json, page_files
from kilolayer.render.play.session import Session

PORT = 8421
"""Port of the address unless another is asked for; 0 takes any free one."""

LONGEST_BODY = 64 * 1024
"""Bytes of a request's body."""

LONGEST_REST = 4 * 1024 * 1024
"""Bytes of a body that is too long that are read nevertheless, so that the answer arrives."""

MOST_STREAMS = 16
"""Pages that can look on at the same time."""

SECONDS = 30.0
"""How long a connection may say nothing."""

HEARTBEAT = 1.0
"""Seconds after which a stream without frames says that it is still there."""

FAREWELL = 2.0 * HEARTBEAT
"""Seconds that streams have to end."""

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Headers of every answer. There are none that would let pages of other sites read it."""


class PlayServer:
    """Serves the page of a session. Use it as a context."""

    def __init__(self, session: Session, *, host: str = LOOPBACK, port: int = PORT, token: str | None = None):
        """Bind the port; `start` answers.

        Args:
            session: what is shown.
            host: name or address of this machine to listen on.
            port: 0 takes any free one.
            token: what the address has to contain; None draws one.

        Raises:
            ConfigurationError: if the port is taken, or there is no such host.
        """
        self._token = secrets.token_urlsafe(24) if token is None else token
        with explained(host, port):
            self._server = _Server(session, host, port, self._token)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True, name="kilolayer play server")
        self.host, self.port = host, int(self._server.server_address[1])

    @property
    def address(self) -> str:
        """The address of the page, token included, as this machine reaches it."""
        return self._address_of(reached_as(self.host))

    @property
    def address_elsewhere(self) -> str | None:
        """The address by which other machines reach the page, if the server listens on all addresses of this one."""
        return self._address_of(socket.gethostname()) if is_every_interface(self.host) else None

    def _address_of(self, host: str) -> str:
        return f"http://{bracketed(host)}:{self.port}/{self._token}/"

    def start(self) -> None:
        """Answer requests in threads of their own."""
        self._thread.start()

    def close(self) -> None:
        """Answer no more, free the port, and tell the pages that look on."""
        self._server.ends.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        end = time.monotonic() + FAREWELL
        for _ in range(MOST_STREAMS):  # pages that look on are told
            self._server.streams.acquire(timeout=max(end - time.monotonic(), 0.0))

    def __enter__(self) -> "PlayServer":
        """Start."""
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Close."""
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, session: Session, host: str, port: int, token: str):
        self.address_family = family_of(host, port)
        self.session, self.host, self.token = session, host, token
        self.files = page_files(session.about())
        self.streams = threading.BoundedSemaphore(MOST_STREAMS)
        self.ends = threading.Event()
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        """Bind, without the question to a name server that the base class asks."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.host, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that a browser cuts off."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            logging.getLogger("kilolayer").error("a request to play failed: %r", error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = SECONDS
    server: _Server
    _has_read = False
    kinds: ClassVar[dict[str, str]] = {
        "html": "text/html; charset=utf-8",
        "css": "text/css; charset=utf-8",
        "js": "text/javascript; charset=utf-8",
    }

    def do_GET(self) -> None:
        """Answer with a file of the page, the stream of frames, or the numbers of the floor."""
        path = self._path()
        if path is None:
            return
        if path == "frames":
            self._stream()
        elif path == "floor":
            found = self.server.session.floor()
            if found is None:
                self._answer(HTTPStatus.NOT_FOUND, b"there are no numbers of the floor\n")
            else:
                self._answer(HTTPStatus.OK, floor_json(found), "application/json")
        elif path in self.server.files:
            kind = (path or "page.html").rpartition(".")[2]
            self._answer(HTTPStatus.OK, self.server.files[path], self.kinds[kind])
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"there is no such page\n")

    def do_POST(self) -> None:
        """Take controls."""
        self._has_read = False
        path = self._path()
        if path is None:
            return
        if path != "controls":
            self._refuse(HTTPStatus.NOT_FOUND, "there are no such controls")
            return
        length = self.headers.get("Content-Length", "")
        if not _is_length(length) or "Transfer-Encoding" in self.headers:
            self._refuse(HTTPStatus.BAD_REQUEST, "a Content-Length is missing")
            return
        if len(length) > 12 or int(length) > LONGEST_BODY:
            self._refuse(HTTPStatus.BAD_REQUEST, f"a body has at most {LONGEST_BODY} bytes")
            return
        body, self._has_read = self._read(int(length)), True
        if self.headers.get_content_type() != "application/json":
            self._refuse(HTTPStatus.BAD_REQUEST, "the Content-Type must be application/json")
            return
        try:
            self.server.session.control(parse(body))
        except ConfigurationError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
            return
        self._answer(HTTPStatus.NO_CONTENT, b"")

    def _other(self) -> None:
        if self._path() is not None:
            self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "GET and POST alone")

    do_HEAD = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _other  # noqa: N815

    def _path(self) -> str | None:
        """Return the path behind the token; None, after saying so, if the request is not from the page."""
        token, slash, path = self.path.removeprefix("/").partition("/")
        own = hmac.compare_digest(token.encode("utf-8", "replace"), self.server.token.encode())
        hosts = self.headers.get_all("Host") or []
        port = self.server.server_port
        origin = self.headers.get("Origin")
        if (
            not (own and slash)
            or len(hosts) != 1
            or not own_host(hosts[0], self.server.host, port)
            or (origin is not None and origin != f"http://{hosts[0]}")
        ):
            self._refuse(HTTPStatus.FORBIDDEN, "this is not the address that was printed")
            return None
        if self.server.ends.is_set():  # a connection that a browser kept open
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "the server has ended")
            return None
        return path.partition("?")[0]

    def _stream(self) -> None:
        """Send frames as they come, until the page or the session is closed."""
        session = self.server.session
        if not self.server.streams.acquire(blocking=False):
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, f"at most {MOST_STREAMS} pages can look on")
            return
        try:
            self.send_response(HTTPStatus.OK)
            self._headers("text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            number = 0
            while not session.closed and not self.server.ends.is_set():
                frame = session.wait(number, HEARTBEAT)
                if frame is None:
                    self._say(": still there\n\n")
                    continue
                number = frame.number
                self._say(f"data: {json_text(frame.data, indent=None)}\n\n")
            reason = "" if session.failure is None else _one_line(session.failure)
            self._say(f"event: end\ndata: {json.dumps(reason)}\n\n")
        finally:
            self.server.streams.release()

    def _say(self, text: str) -> None:
        self.wfile.write(text.encode())
        self.wfile.flush()

    def _read(self, length: int) -> bytes:
        parts = []
        while length > 0 and (part := self.rfile.read(min(length, 1 << 16))):
            parts.append(part)
            length -= len(part)
        return b"".join(parts)

    def _refuse(self, status: HTTPStatus, line: str) -> None:
        """Answer with a line and hang up. The rest of the body is read first, or the line would get lost."""
        length = self.headers.get("Content-Length", "")
        if not self._has_read and _is_length(length):
            self._read(min(int(length[:12]), LONGEST_REST))
        self.close_connection = True
        self._answer(status, f"{line}\n".encode())

    def _answer(self, status: HTTPStatus, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        self._headers(kind)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _headers(self, kind: str) -> None:
        self.send_header("Content-Type", kind)
        for name, value in HEADERS.items():
            self.send_header(name, value)

    def version_string(self) -> str:
        """Return what the server calls itself."""
        return "kilolayer"

    def log_message(self, format: str, *arguments: Any) -> None:
        """Print nothing."""


def _is_length(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _one_line(error: Exception) -> str:
    return str(error) if isinstance(error, KilolayerError) else type(error).__name__
