"""Endpoints that lead to the bytes of a file."""

from __future__ import annotations

import re
from typing import Protocol
from urllib.parse import quote

from tests.hub_server.access import Access
from tests.hub_server.messages import ID, Answer, Refused, Request, Route
from tests.hub_server.state import Commit, File, Hub, Repository
from tests.hub_server.storage import Storage, partial

__all__ = ["Connection", "Connections", "Resolving"]

_TOKENS = {kind: rf"/api/models/{ID}/xet-(?P<kind>{kind})-token/(?P<rev>[^/]+)" for kind in ("read", "write")}


class Connection(Protocol):
    """How to reach the storage by chunks."""

    @property
    def url(self) -> str:
        """Its address."""

    @property
    def token(self) -> str:
        """What lets a client in."""

    @property
    def expires(self) -> int:
        """Until when, in seconds since 1970."""


class Connections(Protocol):
    """Gives out connections to the storage by chunks."""

    def connection(self, kind: str, repository: str, revision: str) -> Connection:
        """Give a connection to ``read`` or ``write`` a repository at a revision."""


class Resolving:
    """Endpoints that lead to the bytes of a file.

    Args:
        hub: What there is.
        access: Who may read what.
        storage: Where large files are.
        endpoint: Address of the hub origin.
    """

    def __init__(self, hub: Hub, access: Access, storage: Storage, endpoint: str) -> None:
        self.connections: Connections | None = None
        self.redirects_small = False
        self._hub = hub
        self._access = access
        self._storage = storage
        self._endpoint = endpoint

    def routes(self) -> list[Route]:
        """Name the endpoints."""
        file = re.compile(rf"/{ID}/(?:resolve|raw)/(?P<rev>[^/]+)/(?P<path>.+)")
        tokens = [
            Route(endpoint=f"xet-{kind}-token", methods=("GET",), pattern=re.compile(pattern), answer=self._token)
            for kind, pattern in _TOKENS.items()
        ]
        cached = re.compile(rf"/api/resolve-cache/models/{ID}/(?P<rev>[^/]+)/(?P<path>.+)")
        return [
            *tokens,
            Route(
                endpoint="resolve-cache", methods=("HEAD", "GET"), pattern=cached, answer=self._file, budget="resolvers"
            ),
            Route(endpoint="resolve-head", methods=("HEAD",), pattern=file, answer=self._file, budget="resolvers"),
            Route(endpoint="resolve-get", methods=("GET",), pattern=file, answer=self._file, budget="resolvers"),
        ]

    def _file(self, request: Request) -> Answer:
        with self._hub.lock:
            repository = self._access.content(request)
            commit = self._access.commit(repository, request.arguments["rev"])
            path = request.arguments["path"]
            file = commit.files.get(path)
        if file is None:
            raise Refused(404, "Entry not found", "EntryNotFound", {"X-Repo-Commit": commit.oid})
        name = path.rpartition("/")[2]
        headers = {
            "X-Repo-Commit": commit.oid,
            "ETag": f'"{file.sha256 or file.blob_id}"',
            "Content-Disposition": f"inline; filename*=UTF-8''{quote(name)}",
        }
        if file.sha256 is None and self.redirects_small and "/resolve/" in request.path:
            cached = f"/api/resolve-cache/models/{repository.id}/{commit.oid}/{quote(path)}"
            return Answer(status=307, headers=headers | {"Location": cached}, content=b"Temporary Redirect")
        if file.sha256 is None:
            return partial(request, file.in_git, headers)
        return self._redirected(repository, commit, file, file.sha256, headers)

    def _redirected(
        self, repository: Repository, commit: Commit, file: File, sha256: str, headers: dict[str, str]
    ) -> Answer:
        headers |= {
            "X-Linked-Size": str(file.size_bytes),
            "X-Linked-ETag": f'"{sha256}"',
            "Location": self._storage.download(sha256),
            "Accept-Ranges": "bytes",
            "Content-Type": "text/plain; charset=utf-8",
        }
        xet_hash = repository.objects.xet_hash(sha256)
        if self.connections is not None and xet_hash is not None:
            route = f"{self._endpoint}/api/models/{repository.id}/xet-read-token/{commit.oid}"
            headers |= {"X-Xet-Hash": xet_hash, "X-Xet-Refresh-Route": route, "Link": f'<{route}>; rel="xet-auth"'}
        return Answer(status=302, headers=headers, content=b"Found. Redirecting to the storage of large files.")

    def _token(self, request: Request) -> Answer:
        kind, revision = request.arguments["kind"], request.arguments["rev"]
        with self._hub.lock:
            repository = self._access.writable(request)[0] if kind == "write" else self._access.content(request)
            if revision != "None":
                self._access.commit(repository, revision)
        if self.connections is None:
            raise Refused(404, "This repository has no Xet storage")
        found = self.connections.connection(kind, repository.id, revision)
        told = {"casUrl": found.url, "accessToken": found.token, "exp": found.expires}
        headers = dict(
            zip(("X-Xet-Cas-Url", "X-Xet-Access-Token", "X-Xet-Token-Expiration"), map(str, told.values()), strict=True)
        )
        return Answer.json(told, headers=headers)
