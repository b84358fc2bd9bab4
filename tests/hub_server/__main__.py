"""Run a Hub on this machine until it is interrupted: ``python -m tests.hub_server``."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import signal
import sys
import threading
from pathlib import Path

from tests.hub_server.server import HubSite, serve

_PORT = 8975


def main(arguments: list[str] | None = None) -> int:
    """Run a Hub, and say how a client finds it."""
    asked = _parser().parse_args(arguments)
    is_stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: is_stopped.set())
    with contextlib.ExitStack() as stack:
        try:
            site = stack.enter_context(serve(asked.folder, port=asked.port, xet=asked.xet))
        except OSError as error:
            print(f"cannot listen on port {asked.port} ({error.strerror}); --port 0 takes any", file=sys.stderr)
            return 1
        print(_told(site), flush=True)
        is_stopped.wait()
    return 0


def _parser() -> argparse.ArgumentParser:
    has_xet = importlib.util.find_spec("hf_xet") is not None
    parser = argparse.ArgumentParser(prog="python -m tests.hub_server", description=__doc__)
    parser.add_argument("--port", type=int, default=_PORT, help=f"where to listen; 0: anywhere free (default {_PORT})")
    parser.add_argument(
        "--xet", action=argparse.BooleanOptionalAction, default=has_xet, help="let large files travel by Xet too"
    )
    parser.add_argument("--folder", type=Path, help="where to keep large files; default: a folder that goes at the end")
    return parser


def _told(site: HubSite) -> str:
    plain = [] if site.xet else ["export HF_HUB_DISABLE_XET=1"]
    lines = [
        "A Hub runs on this machine. Where a client is to find it, set:",
        "",
        f"export HF_ENDPOINT={site.endpoint}",
        f"export HF_TOKEN={site.token}",
        *plain,
        "",
        "You are `tester` and may write to `tester/...` and `team/...`.",
        "Ctrl+C ends it; what was pushed is then gone.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
