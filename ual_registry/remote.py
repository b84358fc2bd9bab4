"""Reading parts of a file on a web server by HTTP range requests (RFC 9110, section 14).

Only what a user typed is ever opened. At most ``MAX_REQUESTS`` requests are made, redirections included; a server is
believed only where its answers fit what was asked. Whatever goes wrong becomes a ``StorageError``.
"""

from __future__ import annotations

import re
import time
from typing import Any
from urllib.parse import urljoin, urlsplit

from ual_registry.errors import StorageError

__all__ = ["FIRST_BYTES", "MAX_REQUESTS", "TIMEOUT_S", "RemoteSource", "is_url"]

MAX_REQUESTS = 3
"""Requests for one file, redirections included."""

FIRST_BYTES = 256 * 1024
"""What the first request asks for; most headers fit."""

TIMEOUT_S = 10.0
"""Seconds to wait for a connection, for the next bytes, and for all bytes of a header of usual size."""

_BYTES_PER_S = 100_000  # how slow a server may be with larger ones
_CHUNK_BYTES = 64 * 1024
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_REDIRECTS = {301, 302, 303, 307, 308}
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})\Z")


def is_url(text: str) -> bool:
    """Tell whether a word of the command line is meant as the address of a file on a server.

    >>> is_url("https://example.org/x.air"), is_url("ftp://example.org/x.air"), is_url("x.air")
    (True, True, False)
    """
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


class RemoteSource:
    """A file on a web server; its first bytes are read when it is opened.

    Args:
        url: ``https://``, or ``http://`` of this machine.
        timeout_s: How long to wait, in seconds; see ``TIMEOUT_S``.

    Raises:
        StorageError: The address may not be opened, or the server does not answer as it must.
    """

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        import urllib3  # noqa: PLC0415  # only where a user named a server

        self.url = url
        self.request_count = 0
        self._place = url
        self._timeout_s = timeout_s
        self._pool = urllib3.PoolManager(
            retries=False, timeout=urllib3.Timeout(connect=timeout_s, read=timeout_s), num_pools=MAX_REQUESTS
        )
        self._faults = (urllib3.exceptions.HTTPError, OSError, ValueError)
        self._version: tuple[int, str | None] | None = None
        try:
            self._first = self._fetch(0, FIRST_BYTES)
        except StorageError:
            self.close()
            raise

    @property
    def size_bytes(self) -> int:
        """Bytes of the whole file, as the server says."""
        return self._version[0] if self._version else 0

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``offset``.

        Raises:
            StorageError: The server does not give them, or more requests would be needed than are allowed.
        """
        if offset + length <= len(self._first):
            return self._first[offset : offset + length]
        start = max(offset, len(self._first))
        rest = self._fetch(start, offset + length - start)
        data = self._first[offset:start] + rest
        if len(data) != length:
            raise self._fault("remote-size", f"{length} bytes expected at {offset}, got {len(data)}")
        return data

    def _fetch(self, offset: int, length: int) -> bytes:
        """Ask for a range; fewer bytes come where the file ends."""
        try:
            response = self._follow(f"bytes={offset}-{offset + length - 1}")
            try:
                return self._accept(response, offset, length)
            finally:
                response.close()
        except self._faults as error:
            raise self._fault("remote-unreachable", _reason(error), hint="check the address and the network") from error

    def _follow(self, wanted: str) -> Any:
        """Send a request, and again where the file has moved."""
        while True:
            self._check_place()
            if self.request_count == MAX_REQUESTS:
                raise self._fault("remote-redirect", f"more than {MAX_REQUESTS} requests, redirections included")
            self.request_count += 1
            response = self._pool.request(
                "GET",
                self._place,
                headers={"Range": wanted, "Accept-Encoding": "identity", "User-Agent": "ual-registry"},
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
            if response.status not in _REDIRECTS or "location" not in response.headers:
                return response
            response.close()
            self._place = urljoin(self._place, response.headers["location"])

    def _check_place(self) -> None:
        parts = urlsplit(self._place)
        moved = "" if self._place == self.url else f"leads to {self._place}: "
        if parts.username is not None or parts.password is not None:
            raise self._fault("remote-url", f"{moved}a password may not stand in an address")
        if parts.scheme == "https" and parts.hostname:
            return
        if parts.scheme != "http" or not parts.hostname:
            raise self._fault("remote-url", f"{moved}expected https://HOST/PATH")
        if parts.hostname not in _LOOPBACK:
            raise self._fault(
                "remote-url",
                f"{moved}http:// is not safe beyond this machine",
                hint="use https://, or download the file",
            )
        if moved and urlsplit(self.url).scheme == "https":
            raise self._fault("remote-url", f"{moved}from https:// to http://")

    def _accept(self, response: Any, offset: int, length: int) -> bytes:
        """Check an answer against the question, and read it."""
        if response.status == 200:
            raise self._fault("remote-no-ranges", "the server sends whole files only", hint="download the file first")
        if response.status == 416 and offset == 0 and response.headers.get("content-range") == "bytes */0":
            return b""  # an empty file has no range
        if response.status != 206:
            raise self._fault(
                "remote-status", f"the server answered {response.status} {response.reason or ''}".rstrip()
            )
        stated = response.headers.get("content-range", "")
        match = _CONTENT_RANGE.match(stated)
        first, last, size = (int(number) for number in match.groups()) if match else (0, -1, -1)
        if first != offset or last != min(offset + length, size) - 1:
            raise self._fault("remote-size", f"asked for {length} bytes at {offset}, the server says {stated!r}")
        version = (size, response.headers.get("etag"))
        if self._version not in (None, version):
            raise self._fault("remote-size", "the file changed while it was read", hint="try again")
        self._version = version
        return self._body(response, last + 1 - first)

    def _body(self, response: Any, length: int) -> bytes:
        limit_s = time.monotonic() + self._timeout_s + length / _BYTES_PER_S
        data = bytearray()
        while len(data) <= length and (chunk := response.read1(min(_CHUNK_BYTES, length + 1 - len(data)))):
            data += chunk
            if time.monotonic() > limit_s:
                came = f"{len(data)} of {length} bytes came in time"
                raise self._fault("remote-unreachable", came, hint="try again")
        if len(data) != length:
            raise self._fault(
                "remote-size", f"{length} bytes announced, got {'more' if len(data) > length else len(data)}"
            )
        return bytes(data)

    def _fault(self, code: str, message: str, *, hint: str | None = None) -> StorageError:
        return StorageError(f"cannot read {self.url}: {message}", context={"url": self.url}, code=code, hint=hint)


def _reason(error: Exception) -> str:
    """Say in a few words why a request failed."""
    kind = type(error).__name__
    for name, reason in _REASONS.items():
        if name in kind:
            return reason
    return f"{kind}: {error}" if str(error) else kind


_REASONS = {
    "NameResolution": "no such host",
    "NewConnection": "no connection",
    "Timeout": "no answer in time",
    "SSL": "TLS failed: the certificate is not trusted, or the server speaks no TLS",
    "IncompleteRead": "the connection ended too soon",
    "Protocol": "the connection ended too soon",
}
