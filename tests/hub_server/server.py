"""The Hub on this machine: origins over one state."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.hub_server.access import Access
from tests.hub_server.api_read import Looking
from tests.hub_server.api_repositories import Keeping
from tests.hub_server.api_write import Changing
from tests.hub_server.faults import Faults
from tests.hub_server.limits import Limits
from tests.hub_server.log import Log
from tests.hub_server.objects import LargeObjects
from tests.hub_server.origin import Origin
from tests.hub_server.resolving import Resolving
from tests.hub_server.state import Account, Hub, Repository
from tests.hub_server.storage import Storage
from tests.hub_server.xet import XetStore

__all__ = ["READ_TOKEN", "TOKEN", "USER", "HubSite", "serve"]

USER = "tester"
TOKEN = "hf_loopbackWriteToken"
READ_TOKEN = "hf_loopbackReadToken"
_OTHERS = {"hf_loopbackOtherToken": Account(name="stranger")}


class HubSite:
    """A Hub that runs on this machine.

    Args:
        folder: Where large files are kept.
        port: Where the hub origin listens; 0: anywhere free. The cdn is anywhere free.
        xet: Whether large files can be had by Xet too.
        large_bytes: From this size on a file is kept outside git, whatever its name.
        part_bytes: Size of a part of an upload in parts.
        whole_bytes: Up to this size a large file is uploaded whole.

    Attributes:
        endpoint: Address of the hub origin.
        cdn: Address of the cdn origin.
        token: Token of ``tester`` that may write to ``tester/...`` and ``team/...``.
        read_token: Token of the same user that may only read.
        other_token: Token of another user.
        log: What was asked.
        faults: What goes wrong.
        limits: Budgets of requests.
        hub: What there is.
        xet: The storage by chunks, or ``None``.
        body_endpoint: Where a ``flip`` inverts a byte of a large file on its way down.
        cut_endpoint: What sends the bytes of large files down.
        upload_endpoint: What takes the bytes of large files.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        xet: bool = False,
        large_bytes: int = 10 << 20,
        part_bytes: int = 8 << 20,
        whole_bytes: int = 64 << 20,
    ) -> None:
        self.token, self.read_token, self.other_token = TOKEN, READ_TOKEN, next(iter(_OTHERS))
        self.log, self.faults, self.limits = Log(), Faults(), Limits()
        objects = LargeObjects(folder / "objects")
        self.hub = Hub(objects, large_bytes=large_bytes)
        self._add_accounts()
        self._hub_origin = Origin("hub", port, self.log, self.faults, self.limits)
        self._cdn_origin = Origin("cdn", 0, self.log, self.faults, self.limits)
        self.endpoint, self.cdn = self._hub_origin.url, self._cdn_origin.url
        self.storage = Storage(objects, part_bytes=part_bytes, whole_bytes=whole_bytes)
        self.storage.url = self.cdn
        access = Access(self.hub, self.endpoint)
        self._looking = Looking(self.hub, access, self.endpoint)
        self._resolving = Resolving(self.hub, access, self.storage, self.endpoint)
        changing = Changing(self.hub, access, self.storage, self.endpoint)
        keeping = Keeping(self.hub, access, self.endpoint)
        self._hub_origin.routes = [
            route for part in (keeping, changing, self._resolving, self._looking) for route in part.routes()
        ]
        self._cdn_origin.routes = self.storage.routes()
        self._cas_origin: Origin | None = None
        self.xet = self._made_xet(folder) if xet else None
        self.body_endpoint = "cas-reconstruction" if xet else "cdn-get"
        self.cut_endpoint = "cas-xorb-get" if xet else "cdn-get"
        self.upload_endpoint = "cas-xorb-put" if xet else "lfs-put"

    def _add_accounts(self) -> None:
        writer = Account(name=USER, organizations=("team",))
        reader = Account(name=USER, organizations=("team",), role="read")
        self.hub.accounts |= {TOKEN: writer, READ_TOKEN: reader, **_OTHERS}

    def _made_xet(self, folder: Path) -> XetStore:
        store = XetStore(folder / "xet")
        self._cas_origin = Origin("cas", 0, self.log, self.faults, self.limits)
        self._cas_origin.routes = store.routes()
        store.origin = self._cas_origin.url
        self.storage.xet = store
        self._resolving.connections = store
        self.hub.keep_large = self.storage.keep_by_xet
        return store

    def start(self) -> None:
        """Begin to serve."""
        for origin in self._origins():
            origin.start()

    def stop(self) -> None:
        """Serve nobody any more."""
        for origin in self._origins():
            origin.stop()
        if self.xet is not None:
            self.xet.close()

    def _origins(self) -> list[Origin]:
        return [self._hub_origin, self._cdn_origin, *([self._cas_origin] if self._cas_origin else [])]

    @property
    def page_size(self) -> int:
        """The most items in one page of a tree or a list."""
        return self._looking.page_size

    @page_size.setter
    def page_size(self, size: int) -> None:
        self._looking.page_size = size

    @property
    def redirects_small(self) -> bool:
        """Whether ``resolve`` sends the client on to a cache on the same origin for files in git."""
        return self._resolving.redirects_small

    @redirects_small.setter
    def redirects_small(self, redirects: bool) -> None:
        self._resolving.redirects_small = redirects

    def repo(self, repository: str) -> Repository:
        """Give a repository as it is.

        Raises:
            KeyError: There is none.
        """
        return self.hub.repositories[repository]

    def has(self, repository: str) -> bool:
        """Whether there is such a repository."""
        return repository in self.hub.repositories

    def put(
        self,
        repository: str,
        files: Mapping[str, bytes | str | Path],
        *,
        private: bool | None = None,
        gated: str | None = None,
        title: str = "put by a test",
        branch: str = "main",
        author: str = USER,
    ) -> str:
        """Commit files without a client, and give the commit; the repository is made where it is missing.

        Args:
            repository: Its id.
            files: Contents by path, beside what is there; a ``Path`` is read.
            private: Whether others cannot see it; ``None``: as it was.
            gated: ``auto`` or ``manual``; ``None``: as it was.
            title: Title of the commit.
            branch: The branch.
            author: Who commits.
        """
        contents = {path: _bytes(content) for path, content in files.items()}
        with self.hub.lock:
            found = self.hub.repositories.get(repository) or self.hub.create(repository, author=author)
            found.is_private = found.is_private if private is None else private
            found.gated = gated or found.gated
            tip = found.find(branch) or found.commits[0]
            made = {path: self.hub.file(path, content) for path, content in contents.items()}
            return found.commit({**tip.files, **made}, title=title, author=author, branch=branch).oid

    def clear_log(self) -> None:
        """Forget what was asked so far."""
        self.log.clear()


def _bytes(content: bytes | str | Path) -> bytes:
    if isinstance(content, Path):
        return content.read_bytes()
    return content.encode() if isinstance(content, str) else content


@contextmanager
def serve(folder: Path | None = None, *, port: int = 0, xet: bool = False) -> Iterator[HubSite]:
    """Run a Hub for a block; what it keeps is removed afterwards unless a folder is named."""
    with tempfile.TemporaryDirectory(prefix="hub-") as own:
        site = HubSite(folder or Path(own), port=port, xet=xet)
        site.start()
        try:
            yield site
        finally:
            site.stop()
