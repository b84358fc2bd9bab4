"""Files on servers: what is sent along and to whom, by which proxy, and whose error it is."""

from __future__ import annotations

import base64
import contextlib
import http.client
import select
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.web_server import serve
from ual_registry.errors import HubError, StorageError, UALError
from ual_registry.remote import RemoteSource

BYTES = bytes(range(256)) * 16
SECRET = {"authorization": "Bearer hf_secret", "user-agent": "own/1"}


@dataclass
class Stop:
    """A server that sends on, or the file itself.

    Attributes:
        target: Where it sends on; empty: it has the file.
        seen: The headers of every request, names in lower case.
        url: Its address.
    """

    target: str = ""
    seen: list[dict[str, str]] = field(default_factory=list)
    url: str = ""


@contextlib.contextmanager
def running(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def stop(target: str = "") -> Iterator[Stop]:
    place = Stop(target)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            place.seen.append({name.lower(): value for name, value in self.headers.items()})
            if place.target and self.path != "/file":
                self.send_response(302)
                self.send_header("Location", place.target)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            first, last = (int(number) for number in self.headers["Range"].removeprefix("bytes=").split("-"))
            part = BYTES[first : last + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(BYTES)}")
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            self.wfile.write(part)

    with running(Handler) as url:
        place.url = url
        yield place


def sent(place: Stop) -> list[tuple[str | None, str | None]]:
    return [(headers.get("authorization"), headers.get("user-agent")) for headers in place.seen]


OWN, PLAIN = ("Bearer hf_secret", "own/1"), (None, "ual-registry")


def test_headers_go_to_the_origin_of_the_address() -> None:
    with stop() as hub:
        source = RemoteSource(hub.url + "/x", headers=SECRET, first_bytes=16)
        assert source.read(8, 16) == BYTES[8:24]
        source.close()
    assert sent(hub) == [OWN, OWN]


def test_headers_stay_where_a_file_moved_within_its_origin() -> None:
    with stop("/file") as hub:
        source = RemoteSource(hub.url + "/x", headers=SECRET, first_bytes=16)
        assert source.read(0, 16) == BYTES[:16]
        source.close()
    assert sent(hub) == [OWN, OWN]


def test_headers_do_not_follow_to_another_origin() -> None:
    with stop() as storage, stop(storage.url + "/file?signature=s") as hub:
        source = RemoteSource(hub.url + "/x", headers=SECRET, first_bytes=16)
        assert source.read(8, 16) == BYTES[8:24]
        source.close()
    assert (sent(hub), sent(storage)) == ([OWN], [PLAIN, PLAIN])


def test_headers_do_not_come_back_by_way_of_another_origin() -> None:
    with stop() as hub, stop() as other:
        hub.target, other.target = other.url + "/x", hub.url + "/file"
        RemoteSource(hub.url + "/x", headers=SECRET, first_bytes=16).close()
    assert (sent(hub), sent(other)) == ([OWN, PLAIN], [PLAIN])


def test_a_header_of_the_caller_cannot_change_what_is_asked_for() -> None:
    with stop() as hub:
        RemoteSource(hub.url + "/x", headers={"Range": "bytes=0-0", "Accept-Encoding": "gzip"}, first_bytes=16).close()
    assert [(seen["range"], seen["accept-encoding"]) for seen in hub.seen] == [("bytes=0-15", "identity")]


def test_the_first_request_asks_for_as_much_as_told() -> None:
    with stop() as hub:
        source = RemoteSource(hub.url + "/x", first_bytes=100)
        assert source.read(0, 100) == BYTES[:100]
        source.close()
    assert [seen["range"] for seen in hub.seen] == ["bytes=0-99"]


def test_a_signature_is_no_part_of_a_message() -> None:
    with stop("http://storage.example/file?X-Signature=secret#y") as hub, pytest.raises(StorageError) as caught:
        RemoteSource(hub.url + "/x", headers=SECRET)
    assert caught.value.message == (
        f"cannot read {hub.url}/x: leads to http://storage.example/file: http:// is not safe beyond this machine"
    )


class Watch:
    """A gate that says what passed it."""

    def __init__(self) -> None:
        self.passed: list[tuple[str, int | None]] = []

    def before(self, url: str) -> None:
        self.passed.append((url, None))

    def after(self, url: str, status: int, headers: Mapping[str, str]) -> None:
        assert "content-length" in headers
        self.passed.append((url, status))


def test_every_request_passes_a_gate() -> None:
    watch = Watch()
    with stop() as storage, stop(storage.url + "/file") as hub:
        source = RemoteSource(hub.url + "/x", first_bytes=16, gate=watch)
        assert source.read(8, 16) == BYTES[8:24]
        source.close()
    first, moved = hub.url + "/x", storage.url + "/file"
    assert watch.passed == [(first, None), (first, 302), (moved, None), (moved, 206), (moved, None), (moved, 206)]


def test_a_gate_that_stays_shut_lets_nothing_be_sent() -> None:
    class Shut(Watch):
        def before(self, url: str) -> None:
            raise KeyboardInterrupt(url)

    with stop() as hub, pytest.raises(KeyboardInterrupt):
        RemoteSource(hub.url + "/x", gate=Shut())
    assert hub.seen == []


def test_an_error_can_be_made_anothers() -> None:
    told: list[tuple[str, int | None, str | None]] = []

    def explain(error: StorageError, status: int | None, headers: dict[str, str]) -> UALError:
        told.append((error.problem_code, status, headers.get("content-length")))
        return HubError("mine")

    with serve(BYTES, "missing") as site, pytest.raises(HubError) as caught:
        RemoteSource(site.url, explain=explain)
    assert caught.value.message == "mine"
    with serve(BYTES, "cut") as site, pytest.raises(HubError):
        RemoteSource(site.url, explain=explain)
    with pytest.raises(HubError):
        RemoteSource("ftp://x/y", explain=explain)
    assert [(code, status) for code, status, _ in told] == [
        ("remote-status", 404),
        ("remote-unreachable", 206),
        ("remote-url", None),
    ]


@dataclass
class Proxy:
    """A real proxy.

    Attributes:
        asked: Method and target of every request.
        tokens: The authorization that came with each.
        known: What each said about who asks the proxy.
        url: Its address.
    """

    asked: list[tuple[str, str]] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    known: list[str | None] = field(default_factory=list)
    url: str = ""


@contextlib.contextmanager
def proxy() -> Iterator[Proxy]:
    found = Proxy()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def note(self) -> None:
            found.asked.append((self.command, self.path))
            found.tokens.append(self.headers.get("authorization"))
            found.known.append(self.headers.get("proxy-authorization"))

        def do_GET(self) -> None:
            self.note()
            parts = urlsplit(self.path)
            ahead = http.client.HTTPConnection(parts.netloc, timeout=5)
            named = {name: value for name, value in self.headers.items() if name.lower() != "proxy-connection"}
            ahead.request("GET", parts.path, headers=named)
            answer = ahead.getresponse()
            body = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            ahead.close()

        def do_CONNECT(self) -> None:
            self.note()
            host, _, port = self.path.partition(":")
            with socket.create_connection((host, int(port)), timeout=5) as ahead:
                self.send_response(200)
                self.end_headers()
                ends = {self.connection: ahead, ahead: self.connection}
                while ready := select.select(list(ends), [], [], 5)[0]:
                    for end in ready:
                        data = end.recv(65536)
                        if not data:
                            self.close_connection = True
                            return
                        ends[end].sendall(data)

    with running(Handler) as url:
        found.url = url
        yield found


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_of_the_environment_is_used(no_proxies: pytest.MonkeyPatch, name: str) -> None:
    with serve(BYTES) as site, proxy() as between:
        no_proxies.setenv(name, between.url)
        source = RemoteSource(site.url, first_bytes=16)
        assert source.read(8, 16) == BYTES[8:24]
        source.close()
        assert between.asked == [("GET", site.url), ("GET", site.url)]


def test_a_proxy_may_be_named_without_its_scheme(no_proxies: pytest.MonkeyPatch) -> None:
    with serve(BYTES) as site, proxy() as between:
        no_proxies.setenv("http_proxy", between.url.removeprefix("http://"))
        RemoteSource(site.url).close()
        assert between.asked == [("GET", site.url)]


def test_a_proxy_is_told_who_asks_where_its_address_says_so(no_proxies: pytest.MonkeyPatch) -> None:
    with serve(BYTES) as site, proxy() as between:
        no_proxies.setenv("http_proxy", between.url.replace("//", "//me:a%40b@"))
        RemoteSource(site.url).close()
        assert between.known == ["Basic " + base64.b64encode(b"me:a@b").decode()]


@pytest.mark.parametrize("spared", ["127.0.0.1", "*", "example.org, 127.0.0.1"])
def test_a_host_without_a_proxy_is_asked_itself(no_proxies: pytest.MonkeyPatch, spared: str) -> None:
    with serve(BYTES) as site, proxy() as between:
        no_proxies.setenv("HTTP_PROXY", between.url)
        no_proxies.setenv("NO_PROXY", spared)
        RemoteSource(site.url).close()
        assert (between.asked, len(site.asked)) == ([], 1)


def test_a_proxy_for_https_sees_neither_headers_nor_bytes(no_proxies: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    both = tmp_path / "both.pem"
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=x -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(["openssl", *words.split(), "-keyout", both, "-out", f"{both}.crt"], check=True, capture_output=True)
    both.write_bytes(both.read_bytes() + Path(f"{both}.crt").read_bytes())
    no_proxies.setenv("SSL_CERT_FILE", f"{both}.crt")
    with serve(BYTES, certificate=both) as site, proxy() as between:
        no_proxies.setenv("HTTPS_PROXY", between.url)
        source = RemoteSource(site.url, headers=SECRET, first_bytes=16)
        assert source.read(0, 16) == BYTES[:16]
        source.close()
        assert between.asked == [("CONNECT", urlsplit(site.url).netloc)]
        assert between.tokens == [None]


def test_a_proxy_that_is_not_there_is_told(no_proxies: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        no_proxies.setenv("HTTP_PROXY", f"http://127.0.0.1:{free.getsockname()[1]}")
    with serve(BYTES) as site, pytest.raises(StorageError) as caught:
        RemoteSource(site.url)
    assert (caught.value.problem_code, caught.value.message) == (
        "remote-unreachable",
        f"cannot read {site.url}: the proxy does not answer",
    )
    assert site.asked == []
