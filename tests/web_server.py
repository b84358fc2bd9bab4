"""A web server on this machine that serves one file, well or badly."""

from __future__ import annotations

import contextlib
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Site:
    """What the server serves, how, and what was asked of it.

    Attributes:
        data: The file.
        manner: ``ranges``, or how the server errs.
        target: Where a redirection leads.
        asked: Every request: path and range.
        sent_bytes: Bytes of the file that were handed to the socket.
        url: The file's address.
    """

    data: bytes
    manner: str = "ranges"
    target: str = ""
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    sent_bytes: int = 0
    url: str = ""


def _handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            wanted = self.headers["Range"]
            site.asked.append((self.path, wanted))
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                self.answer(wanted)

        def answer(self, wanted: str) -> None:  # noqa: PLR0912  # a table of manners
            first, last = (int(number) for number in wanted.removeprefix("bytes=").split("-"))
            last, size = min(last, len(site.data) - 1), len(site.data)
            part = site.data[first : last + 1]
            manner = "ranges" if self.path == "/moved.air" and site.manner == "redirect" else site.manner
            stated, status, length = f"bytes {first}-{last}/{size}", 206, len(part)
            match manner:
                case "whole":
                    status, part, length = 200, site.data, size
                case "redirect" | "circle":
                    self.send_response(302)
                    self.send_header("Location", site.target)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                case "nowhere":
                    status, part, length = 302, b"", 0
                case "empty":
                    stated, status, part, length = "bytes */0", 416, b"", 0
                case "missing":
                    status, part, length = 404, b"", 0
                case "beyond":
                    status, part, length = 416, b"", 0
                case "other range":
                    stated = f"bytes {first + 1}-{last + 1}/{size + 1}"
                case "short range":
                    stated, part, length = f"bytes {first}-{last - 1}/{size}", part[:-1], length - 1
                case "no range":
                    stated = "none"
                case "too few":
                    part, length = part[:-3], length - 3
                case "too many":
                    part, length = part + b"!", length + 1
                case "changing":
                    size += len(site.asked)
                    stated = f"bytes {first}-{last}/{size}"
                case "silent":
                    time.sleep(1)
                    return
                case "no HTTP":
                    self.wfile.write(b"what?\r\n\r\n")
                    self.close_connection = True
                    return
            self.send_response(status)
            self.send_header("Content-Range", stated)
            self.send_header("Content-Length", str(length))
            self.send_header("ETag", f'"{len(site.asked) if manner == "other tag" else 0}"')
            self.end_headers()
            if manner == "cut":
                part = part[: len(part) // 2]
                self.close_connection = True
            step = 10 if manner == "drip" else max(1, len(part))
            for start in range(0, len(part), step):
                # Counted first: whoever has read the answer to its end may look at once.
                site.sent_bytes += len(part[start : start + step])
                self.wfile.write(part[start : start + step])
                self.wfile.flush()
                if manner == "drip":
                    time.sleep(0.05)

    return Handler


@contextlib.contextmanager
def serve(data: bytes, manner: str = "ranges", *, target: str = "", certificate: Path | None = None) -> Iterator[Site]:
    """Serve ``data`` as ``/x.air`` on a free port of this machine, with TLS where there is a certificate."""
    site = Site(data, manner, target)
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(site)) as server:
        server.daemon_threads = True
        server.block_on_close = False
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        site.url = f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}/x.air"
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()
