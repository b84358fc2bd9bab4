"""Fetching files from the Xet store, in which the Hub keeps large files by chunks.

What the client's own way asks once per file is asked here once for all: which name a file has in the store, and what
lets us in. What comes is not verified.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ual_registry.hub.model import HubFile, Snapshot
from ual_registry.hub.xet_session import download_session

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["XetStore", "has_xet"]

_ASKED_AT_ONCE = 500
"""Files that one request asks about."""

_FILES_OF_A_GROUP = 200
"""Files that share their connections; see ``XetStore._group``."""


def has_xet() -> bool:
    """Tell whether the library of the store is there, and not switched off."""
    from huggingface_hub.utils._runtime import is_xet_available  # noqa: PLC0415  # the public name has no type

    return bool(is_xet_available())


@dataclass(frozen=True, slots=True, kw_only=True)
class XetStore:
    """The Xet store of a Hub, with what was asked about it.

    Attributes:
        api: The client of the Hub.
        endpoint: Its address.
    """

    api: Any
    endpoint: str
    _names: dict[tuple[str, str], dict[str, str | None]] = field(default_factory=dict)
    _groups: dict[tuple[int, str], _Group] = field(default_factory=dict)
    _lock: Any = field(default_factory=threading.Lock)

    def name(self, snapshot: Snapshot, file: HubFile) -> str | None:
        """Return the name of a file in the store; ``None`` where it is not there.

        One request asks about all large files of the commit, or 500 of them.

        Raises:
            Exception: What the client raises.
        """
        with self._lock:
            known = self._names.setdefault((snapshot.repository, snapshot.commit), {})
            if file.path not in known:
                wanted = _wanted(file, (each for each in snapshot.files.values() if each.path not in known))
                known |= self._ask(snapshot, wanted)
            return known[file.path]

    def _ask(self, snapshot: Snapshot, paths: list[str]) -> dict[str, str | None]:
        from huggingface_hub.utils._xet import is_valid_xet_hash  # noqa: PLC0415  # only where the Hub is used

        found = self.api.get_paths_info(snapshot.repository, paths, revision=snapshot.commit)
        names = {each.path: getattr(each, "xet_hash", None) for each in found}
        told = {path: name for path, name in names.items() if isinstance(name, str) and is_valid_xet_hash(name)}
        return {path: told.get(path) for path in paths}

    def fetch(
        self,
        snapshot: Snapshot,
        file: HubFile,
        path: Path,
        *,
        name: str,
        headers: dict[str, str],
        on_bytes: Callable[[int], None],
        begun: Callable[[Any], None],
    ) -> None:
        """Fetch a file; whatever is at ``path`` is written over.

        Args:
            snapshot: The repository at one commit.
            file: One of its files.
            path: Where to.
            name: Its name in the store.
            headers: What the Hub is asked with; the store gets neither token nor cookie.
            on_bytes: Called from any thread with the number of bytes that came.
            begun: Is given what has a ``cancel()``, soon after the first byte is asked for.

        Raises:
            Exception: What the client and its library raise.
        """
        from hf_xet import XetFileInfo  # type: ignore[import-untyped]  # noqa: PLC0415  # only where the Hub is used

        group, came = self._group(snapshot, headers), _Came(on_bytes)
        task = group.transfers.start_download_file(XetFileInfo(name, file.size_bytes), str(path.absolute()))
        number = task.task_id()
        group.watched[number] = came
        try:
            begun(task)
            task.result()
            came.tell(file.size_bytes)
        finally:
            group.watched.pop(number, None)
            came.end()

    def _group(self, snapshot: Snapshot, headers: dict[str, str]) -> _Group:
        """Return what takes in files of a commit.

        One for all files spares most of the work, since each has connections of its own; but with each report it tells
        of every file that it ever took.
        """
        from huggingface_hub.utils._xet import xet_headers_without_auth  # noqa: PLC0415  # only where the Hub is used

        route = f"{self.endpoint}/api/models/{snapshot.repository}/xet-read-token/{snapshot.commit}"
        with self._lock:
            key = (os.getpid(), route)
            group = self._groups.get(key)
            if group is None or group.taken == _FILES_OF_A_GROUP:
                way = self._way(route, headers)
                watched: dict[Any, _Came] = {}
                transfers = download_session().new_file_download_group(
                    endpoint=way.endpoint,
                    token=way.access_token,
                    token_expiry_unix_secs=way.expiration_unix_epoch,
                    token_refresh_url=route,
                    token_refresh_headers=headers,
                    custom_headers=xet_headers_without_auth(headers),
                    progress_callback=_teller(watched),
                )
                group = self._groups[key] = _Group(transfers=transfers, watched=watched)
            group.taken += 1
            return group

    @staticmethod
    def _way(route: str, headers: dict[str, str]) -> Any:
        """Return where the store is and what lets us in, as the Hub tells."""
        from huggingface_hub import get_session  # noqa: PLC0415  # only where the Hub is used
        from huggingface_hub.errors import FileMetadataError  # noqa: PLC0415  # as above
        from huggingface_hub.utils._http import hf_raise_for_status  # noqa: PLC0415  # makes the client's errors
        from huggingface_hub.utils._xet import parse_xet_connection_info_from_headers  # noqa: PLC0415  # as above

        response = get_session().get(route, headers=headers)
        hf_raise_for_status(response)
        way = parse_xet_connection_info_from_headers(response.headers)
        if way is None:
            raise FileMetadataError("it does not tell how to reach the Xet store")
        return way


@dataclass(slots=True, kw_only=True)
class _Group:
    """Files on their way together.

    Attributes:
        transfers: What the library takes them in by.
        watched: Who is told how much of a file came, by the number of its task.
        taken: How many there were.
    """

    transfers: Any
    watched: dict[Any, _Came]
    taken: int = 0


def _teller(watched: dict[Any, _Came]) -> Callable[[Any, dict[Any, Any]], None]:
    def tell(_: Any, reports: dict[Any, Any]) -> None:
        for number, came in tuple(watched.items()):
            if number in reports:
                came.tell(reports[number].bytes_completed)

    return tell


class _Came:
    """Tells how many bytes of a file are new, of reports that say how many there are."""

    def __init__(self, on_bytes: Callable[[int], None]) -> None:
        self._count = 0
        self._on_bytes = on_bytes
        self._is_open = True
        self._lock = threading.Lock()

    def tell(self, count: int) -> None:
        with self._lock:
            if self._is_open and count > self._count:
                new, self._count = count - self._count, count
                self._on_bytes(new)

    def end(self) -> None:
        """Tell nothing more; a report may come late."""
        with self._lock:
            self._is_open = False


def _wanted(file: HubFile, others: Iterable[HubFile]) -> list[str]:
    """Return which files to ask about: one, and others as far as one request goes."""
    large = [other.path for other in others if other.sha256 is not None and other.path != file.path]
    return [file.path, *large[: _ASKED_AT_ONCE - 1]]
