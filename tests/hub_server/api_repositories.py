"""Endpoints of accounts and of whole repositories."""

from __future__ import annotations

import re

from tests.hub_server import cards
from tests.hub_server.access import Access
from tests.hub_server.messages import ID, Answer, Refused, Request, Route
from tests.hub_server.state import Account, Hub

__all__ = ["Keeping"]


class Keeping:
    """Endpoints that make, rename and remove repositories, and those that concern none.

    Args:
        hub: What there is.
        access: Who may see what.
        endpoint: Address of the hub origin.
    """

    def __init__(self, hub: Hub, access: Access, endpoint: str) -> None:
        self._hub = hub
        self._access = access
        self._endpoint = endpoint

    def routes(self) -> list[Route]:
        """Name the endpoints."""
        table = [
            ("whoami", "GET", "/api/whoami-v2", self._whoami),
            ("client-registry", "GET", "/api/agent-harnesses", self._registry),
            ("validate-yaml", "POST", "/api/validate-yaml", self._validate),
            ("create-repo", "POST", "/api/repos/create", self._create),
            ("delete-repo", "DELETE", "/api/repos/delete", self._delete),
            ("move-repo", "POST", "/api/repos/move", self._move),
            ("settings", "PUT", f"/api/models/{ID}/settings", self._settings),
            ("auth-check", "GET", f"/api/models/{ID}/auth-check(?P<write>/write)?", self._check),
        ]
        return [
            Route(endpoint=endpoint, methods=(method,), pattern=re.compile(pattern), answer=answer)
            for endpoint, method, pattern, answer in table
        ]

    def _whoami(self, request: Request) -> Answer:
        account = self._access.signed_in(request)
        return Answer.json(
            {
                "type": "user",
                "id": f"id-of-{account.name}",
                "name": account.name,
                "fullname": account.name,
                "isPro": False,
                "orgs": [{"type": "org", "name": name, "fullname": name} for name in account.organizations],
                "auth": {"type": "access_token", "accessToken": {"displayName": "tests", "role": account.role}},
            }
        )

    def _registry(self, _: Request) -> Answer:
        """Answer what the client asks once a day: which programs it should recognise; none."""
        return Answer.json({"standardEnvVars": [], "harnesses": {}})

    def _validate(self, request: Request) -> Answer:
        errors, warnings = cards.check(str(request.json().get("content", "")))
        told = {
            name: [{"message": text} for text in texts] for name, texts in (("errors", errors), ("warnings", warnings))
        }
        return Answer.json(told, 400 if errors else 200)

    def _create(self, request: Request) -> Answer:
        account, asked = self._writer(request), request.json()
        if asked.get("type", "model") != "model":
            raise Refused(400, "This server keeps models only")
        name = f"{asked.get('organization') or account.name}/{asked['name']}"
        with self._hub.lock:
            if name in self._hub.repositories:
                told = {"error": "You already created this model repo", "url": f"{self._endpoint}/{name}"}
                return Answer.json(told, 409, {"X-Error-Message": told["error"]})
            if not account.may_write(name):
                reason = "You don't have the rights to create a model under the namespace"
                raise Refused(403, f'{reason} "{name.split("/", maxsplit=1)[0]}"')
            self._hub.create(name, is_private=asked.get("visibility") == "private", author=account.name)
        return Answer.json({"url": f"{self._endpoint}/{name}", "name": name, "id": name})

    def _delete(self, request: Request) -> Answer:
        account, asked = self._writer(request), request.json()
        name = f"{asked.get('organization') or account.name}/{asked['name']}"
        with self._hub.lock:
            if name not in self._hub.repositories:
                raise Refused(404, "Repository not found", "RepoNotFound")
            self._own(account, name)
            del self._hub.repositories[name]
        return Answer(content=b"OK", headers={"Content-Type": "text/plain"})

    def _move(self, request: Request) -> Answer:
        account, asked = self._writer(request), request.json()
        old, new = asked["fromRepo"], asked["toRepo"]
        with self._hub.lock:
            if old not in self._hub.repositories:
                raise Refused(404, "Repository not found", "RepoNotFound")
            self._own(account, old)
            self._own(account, new)
            if new in self._hub.repositories:
                raise Refused(409, f"{new} exists")
            self._hub.rename(old, new)
        return Answer(content=b"OK", headers={"Content-Type": "text/plain"})

    def _settings(self, request: Request) -> Answer:
        asked = request.json()
        with self._hub.lock:
            repository, _ = self._access.writable(request)
            if "gated" in asked:
                repository.gated = asked["gated"] or None
            if "visibility" in asked:
                repository.is_private = asked["visibility"] == "private"
        return Answer.json(asked)

    def _check(self, request: Request) -> Answer:
        with self._hub.lock:
            if "write" in request.arguments:
                self._access.writable(request)
            else:
                self._access.content(request)
        return Answer(content=b"OK", headers={"Content-Type": "text/plain"})

    def _writer(self, request: Request) -> Account:
        account = self._access.signed_in(request)
        if account.role != "write":
            raise Refused(403, "You need to use a token with write access")
        return account

    def _own(self, account: Account, name: str) -> None:
        if not account.may_write(name):
            raise Refused(403, f"Authorization error. You have no right to write to {name}.")
