"""Endpoints that look: models, trees, references, commits, lists."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, urlencode

from tests.hub_server.access import Access
from tests.hub_server.describing import described, entries, listed, moment
from tests.hub_server.messages import ID, Answer, Refused, Request, Route
from tests.hub_server.state import Account, Commit, Hub, Repository

__all__ = ["Looking"]


class Looking:
    """Endpoints that change nothing.

    Args:
        hub: What there is.
        access: Who may see what.
        endpoint: Address of the hub origin.
    """

    def __init__(self, hub: Hub, access: Access, endpoint: str) -> None:
        self._hub = hub
        self._access = access
        self._endpoint = endpoint
        self.page_size = 1000

    def routes(self) -> list[Route]:
        """Name the endpoints."""
        models = {
            "tree": (f"/api/models/{ID}/tree/(?P<rev>[^/]+)(?:/(?P<path>.+))?", self._tree),
            "refs": (f"/api/models/{ID}/refs", self._refs),
            "commits": (f"/api/models/{ID}/commits/(?P<rev>[^/]+)", self._commits),
            "model-info": (f"/api/models/{ID}(?:/revision/(?P<rev>[^/]+))?", self._info),
            "list-models": ("/api/models", self._list),
        }
        looked = [
            Route(endpoint=name, methods=("GET",), pattern=re.compile(pattern), answer=answer)
            for name, (pattern, answer) in models.items()
        ]
        paths = re.compile(f"/api/models/{ID}/paths-info/(?P<rev>[^/]+)")
        return [Route(endpoint="paths-info", methods=("POST",), pattern=paths, answer=self._paths), *looked]

    def _found(self, request: Request) -> tuple[Repository, Commit]:
        repository = self._access.repository(request)
        return repository, self._access.commit(repository, request.arguments.get("rev", "main"))

    def _info(self, request: Request) -> Answer:
        with self._hub.lock:
            repository, commit = self._found(request)
            told = described(repository, commit, with_blobs=request.asks("blobs"))
        expand = request.query.get("expand")
        return Answer.json({name: told[name] for name in told if name in ("_id", "id", *expand)} if expand else told)

    def _tree(self, request: Request) -> Answer:
        with self._hub.lock:
            repository, commit = self._found(request)
            everything = entries(repository, commit)
        root = request.arguments.get("path", "").rstrip("/")
        if root and everything.get(root, {}).get("type") != "directory":
            message = f"{root} does not exist on {request.arguments['rev']}"
            raise Refused(404, message, "EntryNotFound", {"X-Repo-Commit": commit.oid})
        within = [item for path, item in everything.items() if not root or path.startswith(f"{root}/")]
        if not request.asks("recursive"):
            within = [item for item in within if "/" not in item["path"][len(root) + bool(root) :]]
        if request.asks("expand"):
            within = [item | {"lastCommit": _last(repository, commit, item["path"])} for item in within]
        return self._page(request, within)

    def _paths(self, request: Request) -> Answer:
        form = parse_qs(request.body.read().decode(), keep_blank_values=True)
        with self._hub.lock:
            repository, commit = self._found(request)
            everything = entries(repository, commit)
        asked = [path.strip("/") for path in form.get("paths", [])]
        return Answer.json([everything[path] for path in asked if path in everything])

    def _refs(self, request: Request) -> Answer:
        with self._hub.lock:
            repository = self._access.repository(request)
            branches = [_reference("heads", name, oid) for name, oid in repository.branches.items()]
            tags = [_reference("tags", name, oid) for name, oid in repository.tags.items()]
        return Answer.json({"branches": branches, "converts": [], "tags": tags, "pullRequests": []})

    def _commits(self, request: Request) -> Answer:
        with self._hub.lock:
            repository, commit = self._found(request)
            line = repository.line(commit.oid)
        return self._page(request, [_commit(item) for item in line], most=50)

    def _list(self, request: Request) -> Answer:
        account = self._access.account(request)
        with self._hub.lock:
            seen = [item for item in self._hub.repositories.values() if _may_see(account, item)]
            wanted = [item for item in seen if _matches(request, item)]
            how = {"is_full": request.asks("full"), "with_card": request.asks("cardData")}
            told = [listed(item, expand=request.query.get("expand", []), **how) for item in _sorted(request, wanted)]
        return self._page(request, told)

    def _page(self, request: Request, items: list[Any], most: int = 1000) -> Answer:
        """Answer with one page, and with a link to the next where there is one."""
        size = min(int(request.first("limit") or self.page_size), self.page_size, most)
        start = int(request.first("cursor") or 0)
        headers = {}
        if start + size < len(items):
            pairs = [(key, value) for key, values in request.query.items() for value in values if key != "cursor"]
            query = urlencode([*pairs, ("cursor", str(start + size))])
            headers["Link"] = f'<{self._endpoint}{request.path}?{query}>; rel="next"'
        return Answer.json(items[start : start + size], headers=headers)


def _may_see(account: Account | None, repository: Repository) -> bool:
    return not repository.is_private or (account is not None and account.may_write(repository.id))


def _matches(request: Request, repository: Repository) -> bool:
    asked = set(request.query.get("filter", []))
    author, search, gated = (request.first(name) for name in ("author", "search", "gated"))
    told = listed(repository, is_full=True, with_card=False, expand=[])
    return (
        asked <= set(told.get("tags", []))
        and (not author or repository.id.split("/")[0] == author)
        and search.lower() in repository.id.lower()
        and (not request.first("pipeline_tag") or told.get("pipeline_tag") == request.first("pipeline_tag"))
        and (not gated or (gated.lower() == "true") == (repository.gated is not None))
    )


def _sorted(request: Request, items: list[Repository]) -> list[Repository]:
    match request.first("sort"):
        case "downloads":
            return sorted(items, key=lambda item: -item.downloads)
        case "createdAt":
            return sorted(items, key=lambda item: item.created, reverse=True)
        case "lastModified":
            return sorted(items, key=lambda item: item.commits[0].date, reverse=True)
    return items


def _reference(kind: str, name: str, oid: str) -> dict[str, str]:
    return {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": oid}


def _commit(commit: Commit) -> dict[str, Any]:
    authors = [{"user": commit.author}]
    return {
        "id": commit.oid,
        "title": commit.title,
        "message": commit.message,
        "authors": authors,
        "date": moment(commit.date),
    }


def _last(repository: Repository, commit: Commit, path: str) -> dict[str, str]:
    """Find the newest commit that changed what is at a path."""
    line = repository.line(commit.oid)
    ids = [entries(repository, item).get(path, {}).get("oid") for item in line]
    place = next((i for i, oid in enumerate(ids) if oid != ids[0]), len(line)) - 1
    return {"id": line[place].oid, "title": line[place].title, "date": moment(line[place].date)}
