"""What this process reaches the Xet store by, and how much its library holds in memory.

As the library is, it tries again for minutes, and holds the more the larger a file and the faster the network: on the
way down most of a file, on the way up as many blocks of 64 MB as it sends side by side, which may become 64. What is
set by a variable of the environment stays as it is set.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import threading
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["bound_uploads", "download_session"]

_DOWNLOADS: dict[str, Any] = {
    "client.retry_max_attempts": 4,
    "client.retry_base_delay": datetime.timedelta(seconds=1),
    "client.retry_max_duration": datetime.timedelta(seconds=25),
    "reconstruction.download_buffer_size": "32mb",
    "reconstruction.download_buffer_perfile_size": "16mb",
    "reconstruction.download_buffer_limit": "64mb",
}

_UPLOADS = {"HF_XET_CLIENT_AC_MAX_UPLOAD_CONCURRENCY": "2"}
"""As many blocks side by side as the library begins with."""

_CHOICES_OF_UPLOADS = frozenset(
    {
        *(f"HF_XET_CLIENT_AC_{bound}_UPLOAD_CONCURRENCY" for bound in ("INITIAL", "MIN", "MAX")),
        "HF_XET_FIXED_UPLOAD_CONCURRENCY",
        "HF_XET_HIGH_PERFORMANCE",
        "HF_XET_HP",
    }
)
"""Whoever sets one of these has said how much to send side by side."""

_SESSIONS: dict[int, Any] = {}  # by process, since a fork cannot go on with its parent's
_LOCK = threading.Lock()


def download_session() -> Any:
    """Return what this process fetches by."""
    from hf_xet import XetConfig, XetSession  # type: ignore[import-untyped]  # noqa: PLC0415  # only for the Hub

    with _LOCK:
        if os.getpid() not in _SESSIONS:
            _SESSIONS.clear()
            chosen = {name for name in _DOWNLOADS if f"HF_XET_{name.replace('.', '_').upper()}" in os.environ}
            own = {name: value for name, value in _DOWNLOADS.items() if name not in chosen}
            config = XetConfig()
            _SESSIONS[os.getpid()] = XetSession(config.with_config(own) if own else config)
        return _SESSIONS[os.getpid()]


def bound_uploads() -> None:
    """Let the Hub's client hold little memory while it sends, where it has not sent anything yet in this process.

    It makes its session with what the environment says at that moment, and takes no other settings.
    """
    from huggingface_hub.utils._xet import get_xet_session  # noqa: PLC0415  # only where the Hub is used

    if _CHOICES_OF_UPLOADS.isdisjoint(os.environ):
        with _LOCK, _environment(_UPLOADS):
            get_xet_session()  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables that are not set, and take them away again."""
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            os.environ.pop(name, None)
