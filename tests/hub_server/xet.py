"""The store of Xet: a content-addressable server over HTTP that the real hf_xet uploads to and downloads from.

hf_xet cuts files into chunks, packs chunks into xorbs and says in shards which file is made of what.
The store keeps both as they come, and answers how a file is made again.
It never looks into a chunk: where it needs bytes itself, it asks hf_xet, over a listener of its own.
"""

from __future__ import annotations

import secrets
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.hub_server.faults import Faults
from tests.hub_server.limits import Limits
from tests.hub_server.log import Log
from tests.hub_server.messages import Route
from tests.hub_server.origin import Origin
from tests.hub_server.xet_contents import XetContents
from tests.hub_server.xet_endpoints import Endpoints
from tests.hub_server.xet_formats import Chunk, XetFile

__all__ = ["Connection", "XetStore"]

VALID_S = 3600
_END_OF_TIME = 1 << 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """What a client needs to reach the store.

    Attributes:
        url: The store's address.
        token: Bearer that it demands.
        expires: When the token ends, in seconds of the epoch.
    """

    url: str
    token: str
    expires: int


class XetStore:
    """Xorbs and files, and the protocol over them.

    Args:
        folder: Where everything lies; made where it is missing.

    Attributes:
        origin: Address of the listener that clients reach; the server sets it.
        valid_s: How long the tokens live that are issued from now on, in seconds.
    """

    def __init__(self, folder: Path) -> None:
        self.origin, self.valid_s = "", VALID_S
        self._contents = XetContents(folder)
        self._own = _OwnClient(Endpoints(self._contents, self._altered, is_open=True).routes())

    def routes(self) -> tuple[Route, ...]:
        """Name the endpoints of the store."""
        return Endpoints(self._contents, self._altered).routes()

    def connection(self, kind: str, repository: str, revision: str) -> Connection:
        """Issue a token.

        Args:
            kind: ``read`` or ``write``: what the token allows.
            repository: Whose files it is for; one store serves all.
            revision: At which revision.

        Returns:
            The store's address, the token and its end.
        """
        token, expires = f"xet_{kind}_{secrets.token_hex(8)}", int(time.time()) + self.valid_s
        self._contents.admit(token, kind, expires)
        return Connection(url=self.origin, token=token, expires=expires)

    def expire_tokens(self) -> None:
        """Refuse every token that was issued so far."""
        self._contents.expire_tokens()

    def find(self, sha256: str) -> str | None:
        """Give the Xet hash of a file, where it is here."""
        return self._contents.find(sha256)

    def file(self, xet_hash: str) -> XetFile | None:
        """Say what a file is made of, where it is here."""
        return self._contents.file(xet_hash)

    def chunks(self, xorb: str) -> tuple[Chunk, ...] | None:
        """Say where the chunks of a xorb lie, where it is here."""
        return self._contents.chunks(xorb)

    def keep(self, source: Path) -> str:
        """Store a file of this machine, as if a client had uploaded it, and give its Xet hash."""
        return self._own.upload(source)

    def read(self, xet_hash: str, target: Path) -> None:
        """Make a stored file again.

        Raises:
            KeyError: The store holds no such file.
        """
        file = self._contents.file(xet_hash)
        if file is None:
            raise KeyError(xet_hash)
        self._own.download(file, target)

    def close(self) -> None:
        """Stop the store's own listener."""
        self._own.close()

    def _altered(self, file: XetFile, place: int) -> XetFile:
        """Store a copy of a file with one byte inverted, and say what it is made of."""
        with tempfile.TemporaryDirectory(dir=self._contents.folder) as folder:
            path = Path(folder) / "file"
            self._own.download(file, path)
            with path.open("r+b") as copy:
                copy.seek(place)
                inverted = copy.read(1)[0] ^ 0xFF
                copy.seek(place)
                copy.write(bytes([inverted]))
            stored = self._contents.file(self._own.upload(path))
        assert stored  # it was uploaded just now
        return stored


class _OwnClient:
    """hf_xet in the hands of the store, over a listener that meets no fault, asks for no token and keeps no log."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = routes
        self._origin: Origin | None = None
        self._session: Any = None
        self._lock = threading.Lock()

    def upload(self, source: Path) -> str:
        with self._ready().new_upload_commit(**self._access()) as commit:
            handle = commit.start_upload_file(str(source))
        return str(handle.result().xet_info.hash)

    def download(self, file: XetFile, target: Path) -> None:
        import hf_xet  # type: ignore[import-untyped]

        with self._ready().new_file_download_group(**self._access()) as group:
            group.start_download_file(hf_xet.XetFileInfo(file.hash, file.size), str(target))

    def _access(self) -> dict[str, Any]:
        url = self._origin.url if self._origin else ""
        return {"endpoint": url, "token": "own", "token_expiry_unix_secs": _END_OF_TIME}

    def _ready(self) -> Any:
        import hf_xet

        with self._lock:
            if self._origin is None:
                self._origin = Origin("own", 0, Log(), Faults(), Limits())
                self._origin.routes = self._routes
                self._origin.start()
                self._session = hf_xet.XetSession()
            return self._session

    def close(self) -> None:
        with self._lock:
            if self._origin is not None:
                self._origin.stop()
                self._origin = None
