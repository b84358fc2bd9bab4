"""A listener on this machine that serves routes over HTTP/1.1, logs, and goes wrong where it is told to."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub_server.faults import Fault, Faults
from tests.hub_server.limits import Limits
from tests.hub_server.log import Exchange, Log
from tests.hub_server.messages import Answer, Body, BrokenOff, FilePart, Refused, Request, Route, refusal

__all__ = ["Origin"]

_PLAIN = Fault()
_SLOW_PIECE_BYTES = 1 << 12
_PIECE_BYTES = 1 << 16


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, port: int, origin: Origin) -> None:
        self.origin = origin
        self._connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def end_connections(self) -> None:
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's would ask the resolver for this machine's name
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):  # a client that goes away is no error here
            super().handle_error(request, client_address)


class Origin:
    """One origin.

    Args:
        name: ``hub``, ``cdn`` or ``cas``.
        port: Where it listens; 0: anywhere free.
        log: Where requests are noted.
        faults: What goes wrong.
        limits: Budgets of requests.
    """

    def __init__(self, name: str, port: int, log: Log, faults: Faults, limits: Limits) -> None:
        self.name = name
        self.log = log
        self.faults = faults
        self.limits = limits
        self.routes: Sequence[Route] = ()
        self._server = _Server(port, self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Serve nobody any more."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server.end_connections()

    def find(self, method: str, path: str) -> tuple[Route | None, dict[str, str]]:
        """Give the route of a path, and what its pattern takes from it."""
        for route in self.routes:
            if method in route.methods and (match := route.pattern.fullmatch(path)):
                return route, {name: unquote(value) for name, value in match.groupdict().items() if value is not None}
        return None, {}


class _Handler(BaseHTTPRequestHandler):
    """Serves one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server
    headers: Message

    def log_message(self, *_: object) -> None:
        pass

    def _serve(self) -> None:
        origin, parts = self.server.origin, urlsplit(self.path)
        route, arguments = origin.find(self.command, parts.path)
        endpoint = route.endpoint if route else ""
        exchange = origin.log.begin(origin.name, endpoint, self.command, self.path, dict(self._lower_headers()))
        fault = origin.faults.take(endpoint, self.path) or _PLAIN
        exchange.fault = None if fault is _PLAIN else str(fault)
        body = Body(self.rfile, self._length(), exchange, fault.cut_request_after)  # type: ignore[arg-type]
        request = Request(
            method=self.command,
            path=parts.path,
            query=parse_qs(parts.query, keep_blank_values=True),
            headers=self._lower_headers(),
            body=body,
            arguments=arguments,
            ignore_range=fault.ignore_range,
            flip=fault.flip,
        )
        if route and route.flips_itself:
            fault = replace(fault, flip=None)
        try:
            self._exchange(route, request, fault, exchange)
        except (BrokenOff, ConnectionError, TimeoutError):
            self._end(is_reset=fault.reset)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve

    def _lower_headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.headers.items()}

    def _length(self) -> int | None:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            return None
        return int(self.headers.get("Content-Length") or 0)

    def _exchange(self, route: Route | None, request: Request, fault: Fault, exchange: Exchange) -> None:
        if fault.call:
            fault.call(self.path)
        time.sleep(fault.delay_s)
        limits = self.server.origin.limits
        within, budget = limits.use(route.budget) if route else (True, {})
        if not within:
            request.body.drain()
            self._send(refusal(Refused(429, "Too Many Requests", headers=budget)), _PLAIN, exchange)
            return
        answer = None
        if fault.cut_request_after is not None or not fault.answers or fault.after_effect:
            answer = self._answered(route, request)
        request.body.drain()
        if fault.cut or (fault.reset and fault.cut_after is None):
            raise BrokenOff
        if answer is None or fault.status is not None:
            refused = Refused(fault.status or 500, "Fault on purpose", headers={})
            answer = refusal(refused)
        told = {**answer.headers, **budget, **fault.headers}
        headers = {name: value for name, value in told.items() if value is not None}
        content = answer.content if fault.content is None else fault.content
        self._send(replace(answer, headers=headers, content=content), fault, exchange)

    def _answered(self, route: Route | None, request: Request) -> Answer:
        if route is None:
            return refusal(Refused(404, "Not Found"))
        try:
            return route.answer(request)
        except Refused as refused:
            return refusal(refused)

    def _send(self, answer: Answer, fault: Fault, exchange: Exchange) -> None:
        exchange.status = answer.status
        self.send_response(answer.status)
        length = (
            {}
            if any(name.lower() == "content-length" for name in answer.headers)
            else {"Content-Length": str(answer.length)}
        )
        for name, value in {**answer.headers, **length}.items():
            self.send_header(name, value)
        if self.command == "HEAD" or answer.length == 0:
            self.end_headers()
        elif isinstance(answer.content, bytes) and not fault.alters_body:
            exchange.sent_bytes += len(answer.content)
            self._headers_buffer += [b"\r\n", answer.content]  # type: ignore[attr-defined]  # all in one packet
            self.flush_headers()
        else:
            self.end_headers()
            self._send_body(answer.content, fault, exchange)

    def _send_body(self, content: bytes | FilePart, fault: Fault, exchange: Exchange) -> None:
        if isinstance(content, FilePart) and not fault.alters_body:
            exchange.sent_bytes += content.length
            with content.path.open("rb") as file:
                self.connection.sendfile(file, content.start, content.length)
            return
        data = content if isinstance(content, bytes) else _read(content)
        if fault.flip is not None:
            place = fault.flip % len(data)
            data = data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]
        data = data if fault.cut_after is None else data[: fault.cut_after]
        step = _SLOW_PIECE_BYTES if fault.chunk_delay_s else _PIECE_BYTES
        for start in range(0, len(data), step):
            time.sleep(fault.chunk_delay_s)
            piece = data[start : start + step]
            exchange.sent_bytes += len(piece)
            self.wfile.write(piece)
        if fault.cut_after is not None:
            raise BrokenOff

    def _end(self, *, is_reset: bool) -> None:
        self.close_connection = True
        if not is_reset:
            return
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.connection.close()


def _read(part: FilePart) -> bytes:
    with part.path.open("rb") as file:
        file.seek(part.start)
        return file.read(part.length)
