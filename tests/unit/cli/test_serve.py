"""``ual serve``: what it refuses before anything is loaded."""

from __future__ import annotations

import socket

import pytest

from tests.commands import Ual

BASE = ("--base", "base")
PROXY = ("desk", "--proxy", "http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give --base BASE to answer with, or --proxy URL"),
        ((*BASE, "--supply", "api"), "--supply, --folder, --base-name and --name go with --proxy"),
        ((*BASE, "--name", "a=b"), "--supply, --folder, --base-name and --name go with --proxy"),
        ((*BASE, "--domain", "a=b"), "--domain needs a ROUTER, whose domains it names"),
        (("--proxy", "http://127.0.0.1:9"), "--proxy needs a ROUTER"),
        ((*PROXY, *BASE), "--base and --proxy exclude each other"),
        ((*BASE, "--domain", "banking"), "'banking': expected DOMAIN=REF"),
        ((*BASE, "--domain", "a=b", "--domain", "a=c"), "a is given twice"),
        ((*BASE, "--port", "70000"), "70000 is not in the range 0<=x<=65535"),
    ],
)
def test_options_that_do_not_go_together_are_refused(ual: Ual, arguments: tuple[str, ...], message: str) -> None:
    found = ual("serve", *arguments)
    assert found.code == 2
    assert message in found.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((*BASE, "--max-running", "0"), "limits", "max_running: expected at least 1, got 0"),
        ((*PROXY, "--supply", "api"), "upstream", "no folder is given to write them to"),
        (
            ("desk", "--proxy", "ftp://x"),
            "upstream",
            "ftp://x: expected an address that begins with http:// or https://",
        ),
    ],
)
def test_an_order_that_cannot_be_kept_is_refused(ual: Ual, arguments: tuple[str, ...], code: str, message: str) -> None:
    found = ual("serve", "--port", 0, *arguments)
    assert found.code == 7
    assert f"error [{code}]: " in found.err
    assert message in found.err


def test_a_port_that_is_taken_is_told(ual: Ual) -> None:
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        own.listen()
        port = own.getsockname()[1]
        found = ual("serve", *BASE, "--port", port)
    assert found.code == 7
    assert found.err == (
        f"error [address]: cannot listen on 127.0.0.1 port {port}: [Errno 98] Address already in use\n"
        "hint: give another --port, or 0 for a free one\n"
    )
