"""Reading parts of a file on a web server by HTTP range requests (RFC 9110, section 14).

Only what a user typed is ever opened. At most ``MAX_REQUESTS`` requests are made, redirections included; a server is
believed only where its answers fit what was asked. Whatever goes wrong becomes a ``StorageError``.
Proxies are those of the environment (``HTTPS_PROXY``, ``HTTP_PROXY``, ``NO_PROXY``), as ``urllib.request`` reads them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import unquote, urljoin, urlsplit

from ual_registry.errors import StorageError, UALError

__all__ = ["FIRST_BYTES", "MAX_REQUESTS", "TIMEOUT_S", "Gate", "RemoteSource", "is_url"]

MAX_REQUESTS = 3
"""Requests for one file, redirections included."""

FIRST_BYTES = 256 * 1024
"""What the first request asks for; most headers fit."""

TIMEOUT_S = 10.0
"""Seconds to wait for a connection, for the next bytes, and for all bytes of a header of usual size."""

_BYTES_PER_S = 100_000  # how slow a server may be with larger ones
_CHUNK_BYTES = 64 * 1024
Explain = Callable[[StorageError, int | None, dict[str, str]], UALError]
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_REDIRECTS = {301, 302, 303, 307, 308}
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})\Z")


def is_url(text: str) -> bool:
    """Tell whether a word of the command line is meant as the address of a file on a server.

    >>> is_url("https://example.org/x.air"), is_url("ftp://example.org/x.air"), is_url("x.air")
    (True, True, False)
    """
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


class Gate(Protocol):
    """What every request passes."""

    def before(self, url: str) -> None:
        """Wait until a request may be sent to ``url``."""

    def after(self, url: str, status: int, headers: Mapping[str, str]) -> None:
        """Take in the answer from ``url``, names of headers in lower case."""


class RemoteSource:
    """A file on a web server; its first bytes are read when it is opened.

    Args:
        url: ``https://``, or ``http://`` of this machine.
        timeout_s: How long to wait, in seconds; see ``TIMEOUT_S``.
        first_bytes: How many bytes the first request asks for.
        headers: What to send along to the origin of ``url``; never sent to another, nor after one.
        explain: Makes another error of one of ours, of the status and of the headers of the answer where there is one.
        gate: Holds requests back; whatever it raises goes through.

    Raises:
        StorageError: The address may not be opened, or the server does not answer as it must; or what ``explain`` made.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = TIMEOUT_S,
        first_bytes: int = FIRST_BYTES,
        headers: Mapping[str, str] | None = None,
        explain: Explain | None = None,
        gate: Gate | None = None,
    ) -> None:
        import urllib3  # noqa: PLC0415  # only where a user named a server

        self.url = url
        self.request_count = 0
        self._place = url
        self._timeout_s = timeout_s
        self._headers = dict(headers or {})
        self._explain = explain
        self._gate = gate
        self._answer: tuple[int | None, dict[str, str]] = (None, {})
        self._pools: dict[str, Any] = {}
        self._faults = (urllib3.exceptions.HTTPError, OSError, ValueError)
        self._version: tuple[int, str | None] | None = None
        try:
            self._first = self._fetch(0, first_bytes)
        except BaseException:
            self.close()
            raise

    @property
    def size_bytes(self) -> int:
        """Bytes of the whole file, as the server says."""
        return self._version[0] if self._version else 0

    def close(self) -> None:
        """Close the connections."""
        for pool in self._pools.values():
            pool.clear()

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
            self._answer = (None, {})
            response = self._ask(wanted)
            told = {name.lower(): text for name, text in response.headers.items()}
            if self._gate is not None:
                self._gate.after(self._place, response.status, told)
            if response.status not in _REDIRECTS or "location" not in told:
                self._answer = (response.status, told)
                return response
            response.close()
            self._move(urljoin(self._place, told["location"]))

    def _ask(self, wanted: str) -> Any:
        if self._gate is not None:
            self._gate.before(self._place)
        headers = {"User-Agent": "ual-registry", **self._headers, "Range": wanted, "Accept-Encoding": "identity"}
        return self._pool().request(
            "GET", self._place, headers=headers, redirect=False, preload_content=False, decode_content=False
        )

    def _move(self, place: str) -> None:
        """Go to where a redirection leads; what was sent along to the first origin is forgotten beyond it."""
        if _origin(place) != _origin(self._place):
            self._headers = {}
        self._place = place

    def _pool(self) -> Any:
        """Return the connections to the place, by the proxy that the environment names for it."""
        import urllib3  # noqa: PLC0415  # only where a user named a server

        proxy = _proxy(self._place)
        if proxy not in self._pools:
            limits: dict[str, Any] = {
                "retries": False,
                "timeout": urllib3.Timeout(connect=self._timeout_s, read=self._timeout_s),
                "num_pools": MAX_REQUESTS,
            }
            if proxy:
                parts = urlsplit(proxy)
                user = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}" if parts.username else None
                headers = urllib3.make_headers(proxy_basic_auth=user)
                self._pools[proxy] = urllib3.ProxyManager(proxy, proxy_headers=headers, **limits)
            else:
                self._pools[proxy] = urllib3.PoolManager(**limits)
        return self._pools[proxy]

    def _check_place(self) -> None:
        parts = urlsplit(self._place)
        moved = "" if self._place == self.url else f"leads to {_unsigned(self._place)}: "
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

    def _fault(self, code: str, message: str, *, hint: str | None = None) -> UALError:
        error = StorageError(f"cannot read {self.url}: {message}", context={"url": self.url}, code=code, hint=hint)
        return self._explain(error, *self._answer) if self._explain else error


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _unsigned(url: str) -> str:
    """Leave out what may be a signature: a server's address may be shown, but not the right to use it."""
    return urlsplit(url)._replace(query="", fragment="").geturl()


def _proxy(url: str) -> str:
    """Return the proxy that the environment names for an address; empty where there is none."""
    from urllib.request import getproxies, proxy_bypass  # noqa: PLC0415  # brings http.client along

    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all") or ""
    if not proxy or proxy_bypass(parts.hostname or ""):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def _reason(error: Exception) -> str:
    """Say in a few words why a request failed."""
    kind = type(error).__name__
    for name, reason in _REASONS.items():
        if name in kind:
            return reason
    return f"{kind}: {error}" if str(error) else kind


_REASONS = {
    "Proxy": "the proxy does not answer",
    "NameResolution": "no such host",
    "NewConnection": "no connection",
    "Timeout": "no answer in time",
    "SSL": "TLS failed: the certificate is not trusted, or the server speaks no TLS",
    "IncompleteRead": "the connection ended too soon",
    "Protocol": "the connection ended too soon",
}
