"""Endpoints that change a repository: uploads, commits, tags, branches."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any

from tests.hub_server import cards
from tests.hub_server.access import Access
from tests.hub_server.messages import ID, Answer, Refused, Request, Route
from tests.hub_server.state import Account, File, Hub, Repository, is_large
from tests.hub_server.storage import Storage

__all__ = ["Changing"]

_STALE = "A commit has happened since. Please refresh and try again."


class Changing:
    """Endpoints that change a repository.

    Args:
        hub: What there is.
        access: Who may change what.
        storage: Where large files go.
        endpoint: Address of the hub origin.
    """

    def __init__(self, hub: Hub, access: Access, storage: Storage, endpoint: str) -> None:
        self._hub = hub
        self._access = access
        self._storage = storage
        self._endpoint = endpoint

    def routes(self) -> list[Route]:
        """Name the endpoints."""
        table = [
            ("preupload", "POST", f"/api/models/{ID}/preupload/(?P<rev>[^/]+)", self._preupload),
            ("commit", "POST", f"/api/models/{ID}/commit/(?P<rev>[^/]+)", self._commit),
            ("create-tag", "POST", f"/api/models/{ID}/tag/(?P<rev>[^/]+)", self._tag),
            ("delete-tag", "DELETE", f"/api/models/{ID}/tag/(?P<name>[^/]+)", self._untag),
            ("create-branch", "POST", f"/api/models/{ID}/branch/(?P<name>[^/]+)", self._branch),
            ("delete-branch", "DELETE", f"/api/models/{ID}/branch/(?P<name>[^/]+)", self._unbranch),
            ("lfs-batch", "POST", rf"/{ID}\.git/info/lfs/objects/batch", self._batch),
            ("lfs-verify", "POST", rf"/{ID}\.git/info/lfs/objects/verify", self._verify),
        ]
        return [
            Route(endpoint=endpoint, methods=(method,), pattern=re.compile(pattern), answer=answer)
            for endpoint, method, pattern, answer in table
        ]

    def _preupload(self, request: Request) -> Answer:
        asked = request.json()["files"]
        with self._hub.lock:
            repository, _ = self._access.writable(request)
            files = self._access.commit(repository, request.arguments["rev"]).files
        told = []
        for item in asked:
            path, large = item["path"], is_large(item["path"], item["size"], self._hub.large_bytes)
            file = files.get(path)
            oid = {} if file is None else {"oid": file.sha256 or file.blob_id}
            told.append({"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False, **oid})
        return Answer.json({"files": told})

    def _batch(self, request: Request) -> Answer:
        asked = request.json()
        with self._hub.lock:
            repository, _ = self._access.writable(request)
        verify = f"{self._endpoint}/{repository.id}.git/info/lfs/objects/verify"
        transfer, objects = self._storage.batch(asked, verify)
        return Answer.json({"transfer": transfer, "objects": objects})

    def _verify(self, request: Request) -> Answer:
        asked = request.json()
        with self._hub.lock:
            self._access.writable(request)
        if self._storage.size(asked["oid"]) != asked["size"]:
            raise Refused(422, f"No object {asked['oid']} of {asked['size']} bytes was uploaded")
        return Answer.json({"success": True})

    def _commit(self, request: Request) -> Answer:
        try:
            lines = [json.loads(line) for line in request.body.read().splitlines() if line.strip()]
        except ValueError as error:
            raise Refused(400, "Invalid ndjson in body") from error
        header = next((line["value"] for line in lines if line["key"] == "header"), None)
        if header is None:
            raise Refused(400, "A commit needs a header")
        with self._hub.lock:
            repository, account = self._access.writable(request)
            return self._committed(repository, account, request.arguments["rev"], header, lines)

    def _committed(
        self, repository: Repository, account: Account, branch: str, header: Mapping[str, str], lines: list[Any]
    ) -> Answer:
        if branch not in repository.branches:
            raise Refused(404, f"Invalid rev id: {branch}", "RevisionNotFound")
        tip, parent = repository.branches[branch], header.get("parentCommit")
        if parent and not tip.startswith(parent):
            raise Refused(412, _STALE)
        files = dict(repository.history[tip].files)
        for line in lines:
            self._apply(files, line["key"], line["value"])
        words = {"title": header["summary"], "message": header.get("description", ""), "author": account.name}
        made = repository.commit(files, branch=branch, **words)
        url = f"{self._endpoint}/{repository.id}/commit/{made.oid}"
        return Answer.json({"success": True, "commitOid": made.oid, "commitUrl": url, "hookOutput": ""})

    def _apply(self, files: dict[str, File], key: str, value: Mapping[str, Any]) -> None:
        """Apply one line of a commit to the files of its parent."""
        match key:
            case "file":
                files[value["path"]] = self._small(value)
            case "lfsFile":
                files[value["path"]] = self._large(value["oid"])
            case "deletedFile":
                if files.pop(value["path"], None) is None:
                    raise Refused(404, "A file with this name doesn't exist", "EntryNotFound")
            case "deletedFolder":
                inside = [path for path in files if path.startswith(value["path"].rstrip("/") + "/")]
                if not inside:
                    raise Refused(404, "A folder with this name doesn't exist", "EntryNotFound")
                for path in inside:
                    del files[path]

    def _small(self, value: Mapping[str, Any]) -> File:
        try:
            content = base64.b64decode(value["content"], validate=True)
        except binascii.Error as error:
            raise Refused(400, f"{value['path']} is not base64") from error
        if value["path"] == "README.md":
            errors, _ = cards.check(content.decode(errors="replace"))
            if errors:
                raise Refused(400, "Invalid metadata in README.md: " + "; ".join(errors))
        return File.small(content)

    def _large(self, sha256: str) -> File:
        size_bytes = self._storage.adopt(sha256)
        if size_bytes is None:
            raise Refused(400, f"LFS pointer pointed to a file that does not exist: {sha256}")
        return File(size_bytes=size_bytes, sha256=sha256)

    def _tag(self, request: Request) -> Answer:
        name = request.json()["tag"]
        with self._hub.lock:
            repository, _ = self._access.writable(request)
            commit = self._access.commit(repository, request.arguments["rev"])
            if name in repository.tags:
                raise Refused(409, f"Tag reference exists already: {name}")
            repository.tags[name] = commit.oid
        return Answer(content=b"OK", headers={"Content-Type": "text/plain"})

    def _untag(self, request: Request) -> Answer:
        with self._hub.lock:
            repository, _ = self._access.writable(request)
            if repository.tags.pop(request.arguments["name"], None) is None:
                raise Refused(404, f"Invalid rev id: {request.arguments['name']}", "RevisionNotFound")
        return Answer(content=b"OK", headers={"Content-Type": "text/plain"})

    def _branch(self, request: Request) -> Answer:
        start = request.json().get("startingPoint", "main")
        with self._hub.lock:
            repository, _ = self._access.writable(request)
            commit = self._access.commit(repository, start)
            if request.arguments["name"] in repository.branches:
                raise Refused(409, f"Reference already exists: refs/heads/{request.arguments['name']}")
            repository.branches[request.arguments["name"]] = commit.oid
        return Answer(content=b"OK", headers={"Content-Type": "text/plain"})

    def _unbranch(self, request: Request) -> Answer:
        name = request.arguments["name"]
        with self._hub.lock:
            repository, _ = self._access.writable(request)
            if name == "main":
                raise Refused(403, "The branch main cannot be deleted")
            if repository.branches.pop(name, None) is None:
                raise Refused(404, f"Invalid rev id: {name}", "RevisionNotFound")
        return Answer(content=b"OK", headers={"Content-Type": "text/plain"})
