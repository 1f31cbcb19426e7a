"""An HTTP proxy in front of an S3 server that makes it fail in chosen ways.

Clients reach it by its endpoint. A fault looks at a request and either lets it pass or spoils its answer.
"""

from __future__ import annotations

import http.client
import random
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from email.utils import formatdate, parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

_HOP = {"connection", "transfer-encoding", "keep-alive"}


@dataclass(frozen=True)
class Request:
    """What a client asked for: method, bucket and key with query, lower-case headers."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass(frozen=True)
class Answer:
    """What the client gets. `sent` bytes of the body are sent before the connection breaks; None for all."""

    status: int
    headers: dict[str, str]
    body: bytes
    sent: int | None = None
    slow: float = 0.0


Fault = Callable[[Request, Callable[[], Answer]], Answer | None]


def refused(code: str, status: int) -> Fault:
    """S3's own refusal, by its code; the request does not reach the server."""

    def fault(request: Request, forward: Callable[[], Answer]) -> Answer:
        body = f"<Error><Code>{code}</Code><Message>{code}, by the proxy</Message></Error>".encode()
        return Answer(status, {"Content-Type": "application/xml"}, b"" if request.method == "HEAD" else body)

    return fault


def stored_then(code: str, status: int) -> Fault:
    """The server does what it was asked, and the client hears that it did not."""

    def fault(request: Request, forward: Callable[[], Answer]) -> Answer | None:
        forward()
        return refused(code, status)(request, forward)

    return fault


def reset(request: Request, forward: Callable[[], Answer]) -> Answer | None:
    """The connection breaks without an answer."""
    return None


def changed(edit: Callable[[bytes], bytes]) -> Fault:
    """Another body than the server's, with a length that fits it and without a checksum."""

    def fault(request: Request, forward: Callable[[], Answer]) -> Answer:
        answer = forward()
        if answer.status != 200 or request.method != "GET" or "list-type" in request.path:
            return answer
        headers = {name: value for name, value in answer.headers.items() if "checksum" not in name.lower()}
        return replace(answer, headers=headers, body=edit(answer.body))

    return fault


def flipped(body: bytes) -> bytes:
    """One bit of the middle byte flipped."""
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :] if body else body


def broken_off(request: Request, forward: Callable[[], Answer]) -> Answer:
    """Half of the body, and then the connection breaks."""
    answer = forward()
    return replace(answer, sent=len(answer.body) // 2)


def slow(seconds: float) -> Fault:
    """The body comes late."""
    return lambda request, forward: replace(forward(), slow=seconds)


def clock(ahead: float) -> Fault:
    """The server's clock, in its answers, is so many seconds ahead."""

    def moved(text: str) -> str:
        return formatdate(parsedate_to_datetime(text).timestamp() + ahead, usegmt=True)

    def fault(request: Request, forward: Callable[[], Answer]) -> Answer:
        answer = forward()
        dates = ("date", "last-modified")
        headers = {
            name: moved(value) if name.lower() in dates else value for name, value in answer.headers.items()
        }
        return replace(answer, headers=headers)

    return fault


@dataclass
class _Rule:
    fault: Fault
    method: str
    part: str
    times: int
    share: float


@dataclass
class FaultProxy:
    """The proxy. `spoil` adds a fault to requests; `requests` are all that came."""

    server: str
    seed: int = 0
    requests: list[Request] = field(default_factory=list)
    _rules: list[_Rule] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._http = _Server(("127.0.0.1", 0), handler)
        self.endpoint = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self._http.shutdown()
        self._http.server_close()

    def spoil(
        self, fault: Fault, *, method: str = "", part: str = "", times: int = 1 << 30, share: float = 1.0
    ) -> None:
        """Spoil the next `times` requests of a method whose path holds `part`, or a random share of them."""
        self._rules.append(_Rule(fault, method, part, times, share))

    def heal(self) -> None:
        """Drop all faults."""
        self._rules.clear()

    def fault_for(self, request: Request) -> Fault | None:
        """The fault of a request, counted as used."""
        with self._lock:
            self.requests.append(request)
            for rule in self._rules:
                fits = rule.method in ("", request.method) and rule.part in request.path and rule.times > 0
                if fits and self._random.random() < rule.share:
                    rule.times -= 1
                    return rule.fault
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that was killed is no fault of the proxy's.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    proxy: FaultProxy
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, unquote(self.path), headers)
        fault = self.proxy.fault_for(request)

        def forward() -> Answer:
            # The server checks the signature's form only, so the host may differ.
            connection = http.client.HTTPConnection(urlsplit(self.proxy.server).netloc, timeout=60)
            kept = {name: value for name, value in headers.items() if name not in _HOP and name != "expect"}
            connection.request(self.command, self.path, body, kept)
            reply = connection.getresponse()
            data = reply.read()
            replied = {name: value for name, value in reply.getheaders() if name.lower() not in _HOP}
            connection.close()
            return Answer(reply.status, replied, data)

        answer = fault(request, forward) if fault else forward()
        if answer is None:
            self._break()
        else:
            self._send(request, answer)

    def _send(self, request: Request, answer: Answer) -> None:
        self.send_response_only(answer.status)
        headers = dict(answer.headers)
        if request.method != "HEAD":
            headers = {name: value for name, value in headers.items() if name.lower() != "content-length"}
            headers["Content-Length"] = str(len(answer.body))
        elif not any(name.lower() == "content-length" for name in headers):
            headers["Content-Length"] = "0"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if request.method != "HEAD":
            time.sleep(answer.slow)
            self.wfile.write(answer.body[: answer.sent])
            if answer.sent is not None:
                self._break()

    def _break(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _serve  # noqa: N815


@contextmanager
def running(server: str, seed: int = 0) -> Iterator[FaultProxy]:
    """A proxy in front of `server` while the context lasts."""
    proxy = FaultProxy(server, seed)
    try:
        yield proxy
    finally:
        proxy.close()
