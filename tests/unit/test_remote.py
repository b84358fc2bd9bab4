"""Files on servers: what is asked, what is believed, and what is refused."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.handmade import small_adapter
from tests.web_server import serve
from ual_registry import remote
from ual_registry.air.validate import validate_file, validate_source
from ual_registry.air.write import write
from ual_registry.errors import StorageError
from ual_registry.remote import FIRST_BYTES, MAX_REQUESTS, RemoteSource, is_url

BYTES = bytes(range(256)) * 2048  # twice what the first request asks for


def fault(url: str, *, timeout_s: float = 5.0) -> StorageError:
    with pytest.raises(StorageError) as caught:
        RemoteSource(url, timeout_s=timeout_s)
    assert caught.value.context == {"url": url}
    return caught.value


def told(error: StorageError, url: str) -> tuple[str, str, str | None]:
    return error.problem_code, error.message.removeprefix(f"cannot read {url}: "), error.hint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://x/y", True),
        ("HTTP://x", True),
        ("svn+ssh://x", True),
        ("x.air", False),
        ("./https://x", False),
        ("1://x", False),
        ("a:/b", False),
        ("a b://c", False),
    ],
)
def test_an_address_has_a_scheme(text: str, expected: bool) -> None:
    assert is_url(text) is expected


def test_the_first_request_brings_the_first_bytes_and_the_size() -> None:
    with serve(BYTES) as site:
        source = RemoteSource(site.url)
        assert (source.size_bytes, source.request_count) == (len(BYTES), 1)
        assert source.read(0, 8) + source.read(8, FIRST_BYTES - 8) == BYTES[:FIRST_BYTES]
        assert site.asked == [("/x.air", f"bytes=0-{FIRST_BYTES - 1}")]
        assert site.sent_bytes == FIRST_BYTES
        source.close()


def test_what_lies_further_on_is_asked_for_and_nothing_twice() -> None:
    with serve(BYTES) as site:
        source = RemoteSource(site.url)
        assert source.read(8, FIRST_BYTES) == BYTES[8 : FIRST_BYTES + 8]
        assert source.read(FIRST_BYTES + 5, 9) == BYTES[FIRST_BYTES + 5 : FIRST_BYTES + 14]
        assert [wanted for _, wanted in site.asked[1:]] == [
            f"bytes={FIRST_BYTES}-{FIRST_BYTES + 7}",
            f"bytes={FIRST_BYTES + 5}-{FIRST_BYTES + 13}",
        ]
        with pytest.raises(StorageError) as caught:
            source.read(FIRST_BYTES, 1)
        assert told(caught.value, site.url) == (
            "remote-redirect",
            "more than 3 requests, redirections included",
            None,
        )
        assert len(site.asked) == source.request_count == MAX_REQUESTS
        source.close()


def test_what_lies_beyond_the_end_is_no_part() -> None:
    with serve(BYTES) as site:
        source = RemoteSource(site.url)
        with pytest.raises(StorageError) as caught:
            source.read(len(BYTES) - 4, 8)
        assert told(caught.value, site.url) == (
            "remote-size",
            f"8 bytes expected at {len(BYTES) - 4}, got 4",
            None,
        )
        source.close()


def test_an_empty_file_has_no_bytes() -> None:
    with serve(b"", "empty") as site:
        source = RemoteSource(site.url)
        assert (source.size_bytes, source.read(0, 0), site.asked) == (0, b"", [("/x.air", "bytes=0-262143")])
        source.close()


UNTRUE = {
    "whole": ("remote-no-ranges", "the server sends whole files only", "download the file first"),
    "missing": ("remote-status", "the server answered 404 Not Found", None),
    "beyond": ("remote-status", "the server answered 416 Requested Range Not Satisfiable", None),
    "nowhere": ("remote-status", "the server answered 302 Found", None),
    "other range": ("remote-size", "asked for 262144 bytes at 0, the server says 'bytes 1-262144/524289'", None),
    "short range": ("remote-size", "asked for 262144 bytes at 0, the server says 'bytes 0-262142/524288'", None),
    "no range": ("remote-size", "asked for 262144 bytes at 0, the server says 'none'", None),
    "too few": ("remote-size", "262144 bytes announced, got 262141", None),
    "too many": ("remote-size", "262144 bytes announced, got more", None),
    "cut": ("remote-unreachable", "the connection ended too soon", "check the address and the network"),
    "no HTTP": ("remote-unreachable", "the connection ended too soon", "check the address and the network"),
}


@pytest.mark.parametrize("manner", UNTRUE)
def test_an_answer_that_does_not_fit_is_refused(manner: str) -> None:
    with serve(BYTES, manner) as site:
        assert told(fault(site.url), site.url) == UNTRUE[manner]
        assert len(site.asked) == 1


@pytest.mark.parametrize("manner", ["changing", "other tag"])
def test_a_file_that_changes_between_requests_is_refused(manner: str) -> None:
    with serve(BYTES, manner) as site:
        source = RemoteSource(site.url)
        with pytest.raises(StorageError) as caught:
            source.read(FIRST_BYTES, 1)
        assert told(caught.value, site.url) == ("remote-size", "the file changed while it was read", "try again")
        source.close()


def test_a_server_that_says_nothing_is_left() -> None:
    with serve(BYTES, "silent") as site:
        error = fault(site.url, timeout_s=0.1)
        assert told(error, site.url) == (
            "remote-unreachable",
            "no answer in time",
            "check the address and the network",
        )


def test_a_server_that_drips_is_left_although_it_always_says_something() -> None:
    with serve(BYTES[:2000], "drip") as site:
        code, message, hint = told(fault(site.url, timeout_s=0.2), site.url)
        assert (code, message.split()[1:], hint) == (
            "remote-unreachable",
            ["of", "2000", "bytes", "came", "in", "time"],
            "try again",
        )
        assert 0 < int(message.split()[0]) < 200


def test_a_port_where_nobody_listens_is_no_connection() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/x.air"
    assert told(fault(url), url) == ("remote-unreachable", "no connection", "check the address and the network")


REFUSED = {
    "ftp://127.0.0.1/x.air": ("expected https://HOST/PATH", None),
    "file:///etc/passwd": ("expected https://HOST/PATH", None),
    "https:///x.air": ("expected https://HOST/PATH", None),
    "http:///x.air": ("expected https://HOST/PATH", None),
    "http://example.org/x.air": (
        "http:// is not safe beyond this machine",
        "use https://, or download the file",
    ),
    "https://user@example.org/x.air": ("a password may not stand in an address", None),
    "https://:secret@example.org/x.air": ("a password may not stand in an address", None),
}


@pytest.mark.parametrize("url", REFUSED)
def test_an_address_that_may_not_be_opened_is_refused_before_any_request(url: str) -> None:
    message, hint = REFUSED[url]
    assert told(fault(url), url) == ("remote-url", message, hint)


def test_an_address_that_is_none_is_refused() -> None:
    code, message, _ = told(fault("https://[x/y.air"), "https://[x/y.air")
    assert (code, message) == ("remote-unreachable", "ValueError: Invalid IPv6 URL")


def test_a_moved_file_is_followed_and_later_requests_go_there_at_once() -> None:
    with serve(BYTES, "redirect", target="/moved.air") as site:
        source = RemoteSource(site.url)
        assert source.read(FIRST_BYTES, 2) == BYTES[FIRST_BYTES : FIRST_BYTES + 2]
        assert [path for path, _ in site.asked] == ["/x.air", "/moved.air", "/moved.air"]
        source.close()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("ftp://127.0.0.1/y.air", "leads to ftp://127.0.0.1/y.air: expected https://HOST/PATH"),
        ("file:///etc/passwd", "leads to file:///etc/passwd: expected https://HOST/PATH"),
        ("http://example.org/y", "leads to http://example.org/y: http:// is not safe beyond this machine"),
        ("https://a:b@example.org/", "leads to https://a:b@example.org/: a password may not stand in an address"),
    ],
)
def test_a_redirection_may_lead_nowhere_that_a_user_may_not(target: str, message: str) -> None:
    with serve(BYTES, "redirect", target=target) as site:
        assert told(fault(site.url), site.url)[:2] == ("remote-url", message)
        assert len(site.asked) == 1


def test_a_circle_of_redirections_ends() -> None:
    with serve(BYTES, "circle", target="/x.air") as site:
        assert told(fault(site.url), site.url) == (
            "remote-redirect",
            "more than 3 requests, redirections included",
            None,
        )
        assert len(site.asked) == MAX_REQUESTS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for this machine that nobody signed."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=x -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(["openssl", *words.split(), "-keyout", path, "-out", f"{path}.crt"], check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + Path(f"{path}.crt").read_bytes())
    return path


TLS = "TLS failed: the certificate is not trusted, or the server speaks no TLS"


def test_a_server_with_a_trusted_certificate_is_read(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
    with serve(BYTES, certificate=certificate) as site:
        source = RemoteSource(site.url)
        assert source.read(5, 3) == BYTES[5:8]
        source.close()
        with serve(BYTES) as plain:
            site.manner, site.target = "redirect", plain.url
            assert told(fault(site.url), site.url)[:2] == (
                "remote-url",
                f"leads to {plain.url}: from https:// to http://",
            )
            assert plain.asked == []


def test_a_server_without_a_trusted_certificate_is_not(certificate: Path) -> None:
    with serve(BYTES, certificate=certificate) as site:
        assert told(fault(site.url), site.url)[:2] == ("remote-unreachable", TLS)
        assert site.asked == []
    with serve(BYTES) as site:
        url = site.url.replace("http:", "https:")
        assert told(fault(url), url)[:2] == ("remote-unreachable", TLS)


def test_an_adapter_on_a_server_is_checked_by_its_header_alone(tmp_path: Path) -> None:
    write(small_adapter(), tmp_path / "x.air")
    data = bytearray((tmp_path / "x.air").read_bytes())
    data[-1] ^= 1  # which only a reader of the tensors can see
    with serve(bytes(data)) as site:
        report = validate_source(RemoteSource(site.url), site.url, headers_only=True)
    (tmp_path / "x.air").write_bytes(data)
    local = validate_file(tmp_path / "x.air", headers_only=True)
    assert (report.path, report.problems, report.facts) == (site.url, (), local.facts)
    assert len(site.asked) == 1


def test_a_reason_without_words_is_the_name_of_its_kind() -> None:
    assert remote._reason(KeyError()) == "KeyError"
    assert remote._reason(KeyError("a")) == "KeyError: 'a'"


def test_the_library_for_servers_is_loaded_only_for_one() -> None:
    code = "import sys, ual_registry.remote; print('urllib3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
